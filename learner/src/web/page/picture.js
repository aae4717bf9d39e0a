// The processes of the run and what flows between them, as a drawing.

const NS = "http://www.w3.org/2000/svg", ROW = 26, MOST = 12;

const add = (parent, tag, attributes, text) => {
  const node = parent.appendChild(document.createElementNS(NS, tag));
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};

function box(svg, x, y, width, lines, kind) {
  add(svg, "rect", { x, y, width, height: 8 + 16 * lines.length, rx: 4, class: kind });
  lines.forEach((line, i) => add(svg, "text", { x: x + 8, y: y + 17 + 16 * i }, line));
}

// Launcher above the learner; the actors that lag most beside it, their lag on the arrows.
export function draw(parent, report, state) {
  const actors = [...report.actors].sort((a, b) => b.lag_updates - a.lag_updates || a.index - b.index).slice(0, MOST);
  const rest = report.actors.length - actors.length, height = Math.max(150, ROW * (actors.length + (rest ? 1 : 0)) + 12);
  const svg = document.createElementNS(NS, "svg"), middle = Math.max(92, height / 2);
  svg.setAttribute("viewBox", `0 0 640 ${height}`);
  svg.setAttribute("role", "img");
  const worst = actors.length ? `largest lag ${actors[0].lag_updates} updates` : "no actors";
  svg.setAttribute("aria-label", `Launcher, learner and ${report.actors.length} actors; ${worst}`);
  box(svg, 4, 6, 130, ["launcher"], "process");
  add(svg, "line", { x1: 69, y1: 30, x2: 69, y2: middle - 20, class: "flow" });
  box(svg, 4, middle - 20, 150, ["learner", `version ${report.version}`], "process");
  actors.forEach((actor, i) => {
    const y = 6 + ROW * i, late = actor.pid === 0 || actor.lag_versions >= 2 ? "late" : "";
    add(svg, "line", { x1: 154, y1: middle, x2: 390, y2: y + 11, class: `flow ${late}` });
    add(svg, "text", { x: 384, y: y + 8, "text-anchor": "end", class: `lag ${late}` }, `${actor.lag_updates} updates`);
    add(svg, "rect", { x: 390, y, width: 244, height: 22, rx: 4, class: `process ${late}` });
    add(svg, "text", { x: 398, y: y + 16 }, `actor ${actor.index}: ${state(actor)}`);
  });
  if (rest) add(svg, "text", { x: 398, y: 6 + ROW * actors.length + 16 }, `… and ${rest} that lag less`);
  parent.replaceChildren(svg);
}
