// The page about a run: what the launcher tells, as it comes; everything shown is set as text.
import { bytes, showActors, showHosts } from "/actors.js";
import { Chart, short } from "/chart.js";
import { lookForMedia } from "/media.js";
import { draw } from "/picture.js";
import { followRuns, offerRuns } from "/runs.js";

const $ = (id) => document.getElementById(id);
const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
const percent = (x) => `${Math.round(100 * x)}%`;
const time = (s) => s < 60 ? `${Math.floor(s)} s` : s < 3600 ? `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
const MOST_RECORDS = 4000;

// Records of metrics.jsonl, thinned out when there are too many to draw, and the returns of evaluations, which few records have.
const history = { next: 0, records: [], evaluations: [], busy: false };
const thinned = (list) => list.length > MOST_RECORDS ? list.filter((_, i) => i % 2) : list;
const starting = (prefix) => () => {
  const names = new Set(history.records.flatMap((r) => Object.keys(r).filter((name) => name.startsWith(prefix))));
  return these([...names].sort().map((name) => [name, name.slice(prefix.length)]))();
};
const named = (name) => history.records.filter((r) => typeof r[name] === "number").map((r) => [r.step, r[name]]);
const these = (names) => () => new Map(names.map(([name, label]) => [label, named(name)]).filter(([, p]) => p.length));
const charts = [
  ["Return of episodes", these([["episode/return", "mean"]])],
  ["Return of evaluations", () => new Map(history.evaluations.length ? [["mean", history.evaluations]] : [])],
  ["Losses", starting("train/loss/"), true],
  ["Lag of actors, updates", these([["lag/updates/median", "median"], ["lag/updates/p95", "95%"], ["lag/updates/max", "largest"]])],
  ["Rates, each second", these([["env/steps_per_s", "steps"], ["learner/updates_per_s", "updates"]])],
].map(([title, pick, scaled]) => new Chart($("charts"), title, pick, scaled));
// Not every run evaluates.
const evaluations = charts[1].figure;
evaluations.hidden = true;

async function readOn() {
  if (history.busy) return;
  history.busy = true;
  try {
    for (;;) {
      const answer = await fetch(`/api/records?since=${history.next}`);
      if (!answer.ok) break;
      const next = Number(answer.headers.get("lucid-next"));
      if (next === history.next) break;
      if (next < history.next) [history.records, history.evaluations] = [[], []];
      history.next = next;
      (await answer.text()).split("\n").filter(Boolean).forEach(take);
    }
    evaluations.hidden &&= !history.evaluations.length;
    charts.forEach((chart) => chart.draw());
  } catch { /* The connection's state is shown; the next report tries again. */ } finally { history.busy = false; }
}

// What a run did after the checkpoint from which it went on later is left out.
function take(line) {
  let record;
  try { record = JSON.parse(line); } catch { return; }
  while (history.records.at(-1)?.step > record.step) history.records.pop();
  while (history.evaluations.at(-1)?.[0] > record.step) history.evaluations.pop();
  history.records.push(record);
  history.records = thinned(history.records);
  const { "eval/step": step, "eval/return": mean } = record;
  if (typeof mean !== "number") return;
  history.evaluations.push([step, mean]);
  history.evaluations = thinned(history.evaluations);
}

function showReport(r) {
  const [phase, detail] = typeof r.phase === "string" ? [r.phase, null] : Object.entries(r.phase)[0];
  $("phase").textContent = detail ? `${phase} (${r.replay.steps} of ${detail.need} steps)` : phase;
  const done = Math.max(r.target_steps ? r.steps / r.target_steps : 0, r.target_minutes ? r.elapsed / 60 / r.target_minutes : 0);
  $("progress").value = Math.min(1, done);
  $("progress").hidden = !(r.target_steps || r.target_minutes);
  const mean = r.returns.length ? r.returns.reduce((a, b) => a + b, 0) / r.returns.length : NaN;
  const lags = r.actors.map((a) => a.lag_updates).sort((a, b) => a - b);
  tiles({
    "Environment steps": `${r.steps.toLocaleString("en")}${r.target_steps ? ` of ${short(r.target_steps)}` : ""}`,
    "Steps, updates each second": `${short(r.steps_per_s)}, ${short(r.updates_per_s)}`,
    Updates: r.updates.toLocaleString("en"), Episodes: r.episodes.toLocaleString("en"),
    "Return, last and mean": `${short(r.returns.at(-1) ?? NaN)}, ${short(mean)}`,
    Replay: `${short(r.replay.steps)} of ${short(r.replay.cap)} steps, ${bytes(r.replay.bytes)} of ${bytes(r.replay.cap_bytes)}`,
    "Replay on disk": bytes(r.replay.disk_bytes), "Replay ratio": short(r.replay_ratio),
    "Learner waits": percent(r.learner_waits), "Actors wait": percent(r.actors_wait),
    "Lag, median and most": lags.length ? `${lags[Math.floor((lags.length - 1) / 2)]}, ${lags.at(-1)} updates` : "no actors",
    "Memory, learner and actors": `${bytes(r.rss)}, ${bytes(r.actors.reduce((sum, a) => sum + a.rss, 0))}`,
    "Published snapshot": r.version.toLocaleString("en"), "Since the start": time(r.elapsed),
    ...(r.evaluation && { Evaluation: evaluation(r.evaluation) }),
  });
  if (document.activeElement !== $("count") && !$("count").dataset.touched) $("count").value = Math.max(1, r.actors.filter((a) => !a.host).length);
  evaluations.hidden &&= !r.evaluation;
  showActors(r.actors);
  showHosts(r.hosts);
  draw($("picture"), r);
  warn(r.warnings);
}

function evaluation({ last, running }) {
  const done = last && `return ${short(last.mean)} ± ${short(last.std)} over ${last.episodes} episodes, version ${last.version} (update ${last.update}), ${time(last.age)} ago`;
  const now = running && `now version ${running.version}, ${running.played} of ${running.episodes}`;
  return [done, now].filter(Boolean).join("; ") || "none has ended yet";
}

function tiles(values) {
  $("tiles").replaceChildren(...Object.entries(values).map(([name, value]) => {
    const tile = document.createElement("div");
    tile.append(make("dt", name), make("dd", value));
    return tile;
  }));
}

function warn(messages) {
  if (!messages.length) return;
  const list = $("warnings");
  if (!list.querySelector(".new")) list.replaceChildren();
  for (const message of messages) list.prepend(Object.assign(make("li", `${new Date().toLocaleTimeString()} ${message}`), { className: "new" }));
  while (list.children.length > 200) list.lastChild.remove();
}

async function ask(request) {
  $("answer").textContent = "asked …";
  try {
    const headers = { "content-type": "application/json" };
    const answer = await fetch("/api/ask", { method: "POST", headers, body: JSON.stringify(request) });
    const text = await answer.text();
    const said = answer.ok ? JSON.parse(text) : { refused: text };
    $("answer").textContent = said.done ?? `refused: ${said.refused}`;
  } catch (error) { $("answer").textContent = `not reached: ${error.message}`; }
}

$("asks").addEventListener("click", (event) => {
  const request = event.target.dataset.ask;
  if (request === "stop") {
    $("question").textContent = "Save and end this run?";
    $("confirm").returnValue = "no";
    $("confirm").showModal();
  } else if (request) ask(request);
});
$("confirm").addEventListener("close", () => { if ($("confirm").returnValue === "yes") ask("stop"); });
$("count").addEventListener("input", () => { $("count").dataset.touched = "yes"; });
$("scale").addEventListener("submit", (event) => {
  event.preventDefault();
  delete $("count").dataset.touched;
  ask({ scale: { actors: Number($("count").value) } });
});

async function showConfig() {
  const answer = await fetch("/api/config");
  if (!answer.ok) return;
  const { run, config, differences } = await answer.json();
  $("run").textContent = run;
  document.title = `${run} – Lucid`;
  $("config").textContent = config;
  const lines = differences.map((d) => make("li", `${d.key} = ${d.value}, not ${d.default}`));
  $("differences").replaceChildren(...(lines.length ? lines : [make("li", "all defaults")]));
}

// Whether words come: the launcher may be there while the learner says nothing.
let heard = Date.now(), connected = "connecting";
function showConnection(now) {
  connected = now ?? connected;
  const quiet = Math.floor((Date.now() - heard) / 1000);
  $("connection").textContent = connected === "live" && quiet >= 5 ? `connected, no word from the learner for ${quiet} s` : connected;
}
const clock = setInterval(() => showConnection(), 1000);

const events = new EventSource("/api/events");
events.onopen = () => { heard = Date.now(); showConnection("live"); };
events.onerror = () => showConnection(events.readyState === EventSource.CLOSED
  ? "not let in: open the address in page.url in the run folder, or load this page again" : "not connected; trying again");
events.onmessage = ({ data }) => {
  const word = JSON.parse(data);
  if (word.report) {
    heard = Date.now();
    showConnection();
    showReport(word.report);
    readOn();
    lookForMedia($("media"), $("films"));
    followRuns();
  }
  if (word.end !== undefined) {
    events.close();
    clearInterval(clock);
    $("phase").textContent = "ended";
    showConnection(word.end);
  }
};
offerRuns($("look"), $("runs"), $("compared"));
showConfig().catch(() => {});
readOn();
lookForMedia($("media"), $("films"));
