// The processes of the run and what flows between them, as a drawing.
import { doing, lags } from "/actors.js";

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
const row = (a) => ({ late: lags(a), lag: `${a.lag_updates} updates`, text: `actor ${a.index}${a.host ? ` on ${a.host}` : ""}: ${doing(a)}` });

// One row for many actors that do the same.
function group(what, actors, late = false) {
  const most = worst(actors), plural = what.replace(/^acts/, "act").replace(/^waits/, "wait");
  return { late, lag: `${most ? "up to " : ""}${most} updates`, text: `${actors.length} ${actors.length === 1 ? `actor ${what}` : `actors ${plural}`}` };
}

// A row for each of a few actors; of many, rows for those that lag most, and one for all that do the same.
function rows(actors) {
  if (actors.length <= MOST) return actors.map(row);
  const late = actors.filter(lags).sort((a, b) => b.silent - a.silent || b.lag_updates - a.lag_updates || a.index - b.index);
  const rest = late.splice(MOST - 4), groups = new Map();
  for (const a of actors.filter((a) => !lags(a))) groups.set(doing(a), [...groups.get(doing(a)) ?? [], a]);
  const calm = [...groups].sort(([a], [b]) => a < b ? -1 : 1).map(([what, all]) => group(what, all));
  return [...late.map(row), ...(rest.length ? [group("lag too", rest, true)] : []), ...calm];
}

// The evaluation actor, which counts among no others.
const evaluation = ({ pid, running }) => ({
  late: pid === 0, apart: true, lag: running ? `version ${running.version}` : "",
  text: `evaluation: ${pid === 0 ? "not running" : running ? `${running.played} of ${running.episodes} episodes` : "waits for the next"}`,
});

// Launcher above the learner; actors beside it, their lag on the arrows where there is room.
export function draw(parent, report) {
  const all = [...rows(report.actors), ...(report.evaluation ? [evaluation(report.evaluation)] : [])];
  const height = Math.max(110, ROW * all.length + 12), middle = Math.max(76, height / 2);
  const width = Math.min(800, Math.max(340, parent.clientWidth)), wide = width >= 560;
  const [learner, actors] = wide ? [150, width * 0.6] : [112, 136];
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("width", width);
  svg.setAttribute("role", "img");
  const lag = report.actors.length ? `largest lag ${worst(report.actors)} updates` : "no actors";
  svg.setAttribute("aria-label", `Launcher, learner${report.evaluation ? ", evaluation actor" : ""} and ${report.actors.length} actors; ${lag}`);
  box(svg, 2, 6, learner - 20, ["launcher"]);
  add(svg, "line", { x1: 60, y1: 30, x2: 60, y2: middle - 20, class: "flow" });
  box(svg, 2, middle - 20, learner, ["learner", `version ${report.version}`]);
  const top = (height - ROW * all.length) / 2;
  all.forEach(({ late, apart, lag, text }, i) => {
    const y = top + ROW * i, mark = [late && "late", apart && "apart"].filter(Boolean).join(" ");
    add(svg, "line", { x1: learner + 2, y1: middle, x2: actors, y2: y + 11, class: `flow ${mark}` });
    if (wide) add(svg, "text", { x: actors - 6, y: y + 15, "text-anchor": "end", class: `lag ${mark}` }, lag);
    add(svg, "rect", { x: actors, y, width: width - actors - 4, height: 22, rx: 4, class: `process ${mark}` });
    add(svg, "text", { x: actors + 8, y: y + 16 }, text);
  });
  parent.replaceChildren(svg);
}
