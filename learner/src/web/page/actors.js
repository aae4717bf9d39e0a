// The tables of actors and of other hosts, and what is said of one.

const $ = (id) => document.getElementById(id);
const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
// Versions behind, and seconds without a word, from which on an actor is pointed out.
const LAGGING = 2, SILENT = 5;
// Versions behind of which an actor is pointed out now: where all are behind, only those far more than the others.
let limit = LAGGING;

export const bytes = (n) => { let i = 0; while (n >= 1024 && i < 4) { n /= 1024; i++; } return `${+n.toPrecision(3)} ${["B", "KiB", "MiB", "GiB", "TiB"][i]}`; };
const silent = (a) => a.pid !== 0 && a.silent >= SILENT;
export const lags = (a) => a.pid === 0 || silent(a) || a.lag_versions >= limit;
export const doing = (a) => a.pid === 0 ? "restarting" : silent(a) ? `not heard of for ${Math.floor(a.silent)} s`
  : a.waits_for ? `waits for ${a.waits_for}` : "acts";
const state = (a) => a.pid === 0 || silent(a) || !lags(a) ? doing(a) : `${doing(a)}, lags`;
const rank = (a) => !lags(a) ? 2 : a.pid === 0 || silent(a) ? 0 : 1;

const COLUMNS = [
  ["actor", (a) => a.index], ["state", state], ["host", (a) => a.host ?? ""], ["lag", (a) => a.lag_versions], ["updates behind", (a) => a.lag_updates],
  ["age, s", (a) => a.lag_seconds, (x) => x.toFixed(2)], ["snapshot", (a) => a.version], ["steps", (a) => a.steps],
  ["steps/s", (a) => a.steps_per_s, (x) => x.toFixed(1)], ["ack, ms", (a) => a.ack_ms, (x) => x.toFixed(1)],
  ["memory", (a) => a.rss, bytes], ["restarts", (a) => a.restarts],
];
let actors = [], sorted = 0, down = false;

COLUMNS.forEach(([name], i) => {
  const head = document.createElement("th"), button = make("button", name);
  head.scope = "col";
  button.addEventListener("click", () => { down = sorted === i && !down; sorted = i; show(); });
  head.append(button);
  $("columns").append(head);
});
for (const id of ["first", "lagging"]) $(id).addEventListener("change", show);

export function showActors(told) {
  const behind = told.map((a) => a.lag_versions).sort((a, b) => a - b);
  limit = behind.length > 2 ? Math.max(LAGGING, 2 * behind[Math.floor((behind.length - 1) / 2)] + 1) : LAGGING;
  actors = told;
  show();
}

function show() {
  const value = COLUMNS[sorted][1], first = $("first").checked ? rank : () => 0;
  const rows = actors.filter((a) => !$("lagging").checked || lags(a));
  const order = (a, b) => (value(a) > value(b) ? 1 : value(a) < value(b) ? -1 : a.index - b.index) * (down ? -1 : 1);
  rows.sort((a, b) => first(a) - first(b) || order(a, b));
  [...$("columns").children].forEach((head, i) => head.setAttribute("aria-sort", i !== sorted ? "none" : down ? "descending" : "ascending"));
  $("shown").textContent = `${rows.length} of ${actors.length}, ${actors.filter(lags).length} lagging`;
  $("actors").replaceChildren(...rows.map((actor) => {
    const row = document.createElement("tr");
    row.className = lags(actor) ? "late" : "";
    row.append(...COLUMNS.map(([, of, text]) => make("td", (text ?? String)(of(actor)))));
    return row;
  }));
}

const HOSTS = [
  ["host", (h) => h.name], ["state", (h) => h.away === null ? "takes part" : `away for ${Math.floor(h.away)} s`],
  ["actors", (h, of) => of.length], ["updates behind", (h, of) => of.reduce((most, a) => Math.max(most, a.lag_updates), 0)],
  ["round trip, ms", (h) => h.round_trip_ms.toFixed(1)], ["to it", (h) => `${bytes(h.sent_per_s)}/s`], ["from it", (h) => `${bytes(h.received_per_s)}/s`],
  ["sent", (h) => bytes(h.sent)], ["received", (h) => bytes(h.received)],
];
$("links").append(...HOSTS.map(([name]) => Object.assign(make("th", name), { scope: "col" })));

// Nothing for a run without other hosts.
export function showHosts(hosts) {
  $("others").hidden = !hosts.length;
  $("hosts").replaceChildren(...hosts.map((host) => {
    const row = document.createElement("tr"), own = actors.filter((a) => a.host === host.name);
    row.className = host.away === null ? "" : "late";
    row.append(...HOSTS.map(([, of]) => make("td", of(host, own))));
    return row;
  }));
}
