// The runs beside this one, and the returns of those that are ticked in one chart.
import { Chart, short } from "/chart.js";

const MOST_POINTS = 4000;
const compared = new Map();

// All returns of a run as [step, value], thinned out when there are too many.
async function returns(name) {
  let points = [];
  for (let next = 0, before = -1; next !== before;) {
    before = next;
    const answer = await fetch(`/api/runs/${encodeURIComponent(name)}/records?since=${next}`);
    if (!answer.ok) throw new Error(await answer.text());
    next = Number(answer.headers.get("lucid-next"));
    for (const line of (await answer.text()).split("\n").filter(Boolean)) {
      let record;
      try { record = JSON.parse(line); } catch { continue; }
      while (points.length && points.at(-1)[0] > record.step) points.pop();
      if (typeof record["episode/return"] === "number") points.push([record.step, record["episode/return"]]);
    }
    if (points.length > MOST_POINTS) points = points.filter((_, i) => i % 2);
  }
  return points;
}

export function offerRuns(button, list, parent) {
  const chart = new Chart(parent, "Return of episodes, by run", () => compared);
  button.addEventListener("click", async () => {
    const answer = await fetch("/api/runs");
    if (!answer.ok) return;
    list.replaceChildren(...(await answer.json()).map((run) => row(run, chart)));
  });
}

function row(run, chart) {
  const item = document.createElement("li"), label = document.createElement("label"), tick = document.createElement("input");
  const told = `${run.name}${run.own ? " (this one)" : ""}: step ${short(run.step ?? NaN)}, last return ${short(run.last_return ?? NaN)}`;
  const note = document.createTextNode(` ${told}`);
  tick.type = "checkbox";
  tick.checked = compared.has(run.name);
  tick.addEventListener("change", async () => {
    compared.delete(run.name);
    try {
      if (tick.checked) compared.set(run.name, await returns(run.name));
    } catch (error) { note.textContent = ` ${told} – not read: ${error.message}`; }
    if (!tick.checked) compared.delete(run.name);
    chart.draw();
  });
  label.append(tick, note);
  item.append(label);
  return item;
}
