// The processes of the run and what flows between them, as a drawing.
import { lags, state } from "/actors.js";

const NS = "http://www.w3.org/2000/svg", ROW = 26, MOST = 12;

const add = (parent, tag, attributes, text) => {
  const node = parent.appendChild(document.createElementNS(NS, tag));
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};

function box(svg, x, y, width, lines) {
  add(svg, "rect", { x, y, width, height: 8 + 16 * lines.length, rx: 4, class: "process" });
  lines.forEach((line, i) => add(svg, "text", { x: x + 8, y: y + 17 + 16 * i }, line));
}

const worst = (actors) => actors.reduce((most, a) => Math.max(most, a.lag_updates), 0);
const row = (a) => ({ late: lags(a), lag: `${a.lag_updates} updates`, text: `actor ${a.index}: ${state(a)}` });

// A row for each of a few actors; of many, rows for those that lag most, and one for all in the same state.
function rows(actors) {
  if (actors.length <= MOST) return actors.map(row);
  const late = actors.filter(lags).sort((a, b) => b.silent - a.silent || b.lag_updates - a.lag_updates || a.index - b.index);
  const groups = new Map();
  for (const a of late.splice(MOST - 4)) groups.set("more lag", [...groups.get("more lag") ?? [], a]);
  for (const a of actors.filter((a) => !lags(a))) groups.set(state(a), [...groups.get(state(a)) ?? [], a]);
  const grouped = [...groups].sort(([a], [b]) => a < b ? -1 : 1)
    .map(([name, all]) => ({ late: name === "more lag", lag: `up to ${worst(all)} updates`, text: `${all.length} actors: ${name}` }));
  return [...late.map(row), ...grouped];
}

// Launcher above the learner; actors beside it, their lag on the arrows.
export function draw(parent, report) {
  const all = rows(report.actors), height = Math.max(150, ROW * all.length + 12);
  const svg = document.createElementNS(NS, "svg"), middle = Math.max(92, height / 2);
  svg.setAttribute("viewBox", `0 0 640 ${height}`);
  svg.setAttribute("role", "img");
  const lag = report.actors.length ? `largest lag ${worst(report.actors)} updates` : "no actors";
  svg.setAttribute("aria-label", `Launcher, learner and ${report.actors.length} actors; ${lag}`);
  box(svg, 4, 6, 130, ["launcher"]);
  add(svg, "line", { x1: 69, y1: 30, x2: 69, y2: middle - 20, class: "flow" });
  box(svg, 4, middle - 20, 150, ["learner", `version ${report.version}`]);
  const top = (height - ROW * all.length) / 2;
  all.forEach(({ late, lag, text }, i) => {
    const y = top + ROW * i, mark = late ? "late" : "";
    add(svg, "line", { x1: 154, y1: middle, x2: 390, y2: y + 11, class: `flow ${mark}` });
    add(svg, "text", { x: 384, y: y + 8, "text-anchor": "end", class: `lag ${mark}` }, lag);
    add(svg, "rect", { x: 390, y, width: 244, height: 22, rx: 4, class: `process ${mark}` });
    add(svg, "text", { x: 398, y: y + 16 }, text);
  });
  parent.replaceChildren(svg);
}
