// The runs beside this one, and the returns of those that are ticked in one chart.
import { Chart, short } from "/chart.js";

const MOST_POINTS = 4000;
// Curves by the name of their run.
const compared = new Map();
let asked = 0, listed = false;

// The returns of a run as [step, value], thinned out when there are too many.
class Curve {
  constructor(name) { Object.assign(this, { name, next: 0, points: [] }); }

  // What its records have gained.
  async readOn() {
    for (;;) {
      const answer = await fetch(`/api/runs/${encodeURIComponent(this.name)}/records?since=${this.next}`);
      if (!answer.ok) throw new Error(await answer.text());
      const next = Number(answer.headers.get("lucid-next")), lines = (await answer.text()).split("\n").filter(Boolean);
      if (next === this.next) return;
      if (next < this.next) this.points = [];
      this.next = next;
      lines.forEach((line) => this.take(line));
      if (this.points.length > MOST_POINTS) this.points = this.points.filter((_, i) => i % 2);
    }
  }

  take(line) {
    let record;
    try { record = JSON.parse(line); } catch { return; }
    while (this.points.length && this.points.at(-1)[0] > record.step) this.points.pop();
    if (typeof record["episode/return"] === "number") this.points.push([record.step, record["episode/return"]]);
  }
}

let chart, parent, look;

export function offerRuns(button, list, place) {
  parent = place;
  chart = new Chart(place, "Return of episodes, by run", () => new Map([...compared].map(([name, curve]) => [name, curve.points])));
  show();
  look = async () => {
    const answer = await fetch("/api/runs");
    if (answer.ok) list.replaceChildren(...(await answer.json()).map(row));
    return list.children.length > 0;
  };
  button.addEventListener("click", look);
  look().then((some) => { listed = some; }, () => {});
}

// Curves of runs that go on grow, but are not asked for more often than every five seconds. A new run is listed once it has records.
export async function followRuns() {
  if (Date.now() - asked < 5000) return;
  asked = Date.now();
  listed ||= await look().catch(() => false);
  await Promise.allSettled([...compared.values()].map((curve) => curve.readOn()));
  chart.draw();
}

function show() {
  parent.hidden = compared.size === 0;
  chart.draw();
}

function row(run) {
  const item = document.createElement("li"), label = document.createElement("label"), tick = document.createElement("input");
  const told = `${run.name}${run.own ? " (this one)" : ""}: step ${short(run.step ?? NaN)}, last return ${short(run.last_return ?? NaN)}`;
  const note = document.createTextNode(` ${told}`);
  tick.type = "checkbox";
  tick.checked = compared.has(run.name);
  tick.addEventListener("change", async () => {
    if (!tick.checked) compared.delete(run.name);
    else {
      // Kept at once, so that a list that is drawn again meanwhile has the tick.
      const curve = new Curve(run.name);
      compared.set(run.name, curve);
      try { await curve.readOn(); } catch (error) {
        compared.delete(run.name);
        tick.checked = false;
        note.textContent = ` ${told} – not read: ${error.message}`;
      }
    }
    show();
  });
  label.append(tick, note);
  item.append(label);
  return item;
}
