// Curves over environment steps on a canvas: zoomed by drag, wheel or keys, read under the pointer, linear or logarithmic.

const LEFT = 56, BOTTOM = 22, TOP = 8, RIGHT = 8, COLORS = 8;

export const short = (x) => {
  const size = Math.abs(x);
  if (!Number.isFinite(x)) return "–";
  if (size >= 1e9 || (size > 0 && size < 1e-3)) return x.toExponential(1);
  if (size >= 1e6) return `${+(x / 1e6).toPrecision(4)}M`;
  return size >= 1e4 ? `${+(x / 1e3).toPrecision(4)}k` : `${+x.toPrecision(4)}`;
};

const make = (tag, parent, text = "") => Object.assign(parent.appendChild(document.createElement(tag)), { textContent: text });

// Round numbers within bounds: some five, or powers of ten where a logarithmic axis spans several.
function ticks([low, high], log) {
  if (log && Math.floor(Math.log10(high)) - Math.ceil(Math.log10(low)) >= 1) {
    const first = Math.ceil(Math.log10(low)), count = Math.floor(Math.log10(high)) - first + 1, skip = Math.ceil(count / 6);
    return Array.from({ length: Math.ceil(count / skip) }, (_, i) => 10 ** (first + i * skip));
  }
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((n) => n * power >= rough) * power, first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

function bounds(list) {
  let low = Infinity, high = -Infinity;
  for (const x of list) { low = Math.min(low, x); high = Math.max(high, x); }
  return low > high ? null : [low, high];
}

export class Chart {
  // `pick` gives a Map from a curve's name to its points [step, value], oldest first. `scaled`: a logarithmic scale is offered, and
  // taken unless someone chooses, where all values are positive.
  constructor(parent, title, pick, scaled = false) {
    Object.assign(this, { title, pick, scaled, chosen: null, view: null, drag: null, at: null, waiting: false, hidden: new Set() });
    const figure = this.figure = make("figure", parent), head = make("div", figure);
    head.className = "charthead";
    make("h3", head, title);
    const label = make("label", head), box = make("input", label);
    box.type = "checkbox";
    label.append(" log scale");
    label.hidden = !scaled;
    box.addEventListener("change", () => { this.chosen = box.checked; this.draw(); });
    this.box = box;
    this.whole = make("button", head, "Whole run");
    this.whole.addEventListener("click", () => { this.show(null); this.canvas.focus(); });
    this.canvas = make("canvas", figure);
    this.legend = make("figcaption", figure);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.legend.addEventListener("click", ({ target }) => this.toggle(target.closest("button")?.dataset.name));
    this.listen();
    this.draw();
  }

  listen() {
    const on = (name, act, options) => this.canvas.addEventListener(name, act, options);
    on("pointerdown", (e) => {
      if (e.button !== 0) return;
      this.drag = [this.step(e), this.step(e)];
      this.canvas.setPointerCapture(e.pointerId);
    });
    on("pointermove", (e) => { this.at = this.step(e); if (this.drag) this.drag[1] = this.at; this.soon(); });
    on("pointerleave", () => { this.at = null; this.soon(); });
    on("pointercancel", () => { this.drag = null; this.soon(); });
    on("pointerup", () => {
      const [a, b] = this.drag ?? [0, 0], [low, high] = this.range;
      this.drag = null;
      this.show(Math.abs(a - b) > (high - low) / 50 ? [Math.min(a, b), Math.max(a, b)] : this.view);
    });
    on("dblclick", () => this.show(null));
    on("wheel", (e) => {
      // Who only scrolls past is let pass.
      if (!e.ctrlKey && !e.metaKey && document.activeElement !== this.canvas) return;
      e.preventDefault();
      this.zoom(Math.exp(Math.max(-1, Math.min(1, e.deltaY / 300))), this.step(e));
    }, { passive: false });
    on("keydown", (e) => this.key(e));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  key(event) {
    const [low, high] = this.range, move = (part) => [low + part * (high - low), high + part * (high - low)];
    const acts = {
      "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
      0: () => this.show(null), Escape: () => this.show(null),
      ArrowLeft: () => this.show(move(-0.25)), ArrowRight: () => this.show(move(0.25)),
    };
    if (!(event.key in acts) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    acts[event.key]();
  }

  toggle(name) {
    if (name === undefined) return;
    if (!this.hidden.delete(name)) this.hidden.add(name);
    this.draw();
  }

  // Around a step that stays where it is.
  zoom(factor, at = (this.range[0] + this.range[1]) / 2) {
    this.show(this.range.map((edge) => at + (edge - at) * factor));
  }

  // Of the whole range, the part between two steps; null, or as much as there is: all of it.
  show(view) {
    const [low, high] = this.full, width = view && Math.max(view[1] - view[0], (high - low) / 1e4);
    if (!view || width >= high - low) this.view = null;
    else {
      const from = Math.min(Math.max(view[0], low), high - width);
      this.view = [from, from + width];
    }
    this.draw();
  }

  step(event) {
    const [low, high] = this.range, x = event.clientX - this.canvas.getBoundingClientRect().left;
    return low + (x - LEFT) / Math.max(1, this.canvas.clientWidth - LEFT - RIGHT) * (high - low);
  }

  soon() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const picked = this.pick(), curves = [...picked].map(([name, points], i) => ({ name, points, i })).filter((c) => !this.hidden.has(c.name));
    const all = curves.flatMap((c) => c.points), [low, high] = bounds(all.map((p) => p[0])) ?? [0, 1];
    this.full = high > low ? [low, high] : [low - 1, low + 1];
    this.range = this.view ?? this.full;
    const positive = all.length > 0 && all.every((p) => p[1] > 0);
    this.log = this.scaled && (this.chosen ?? positive);
    const shown = (p) => p[0] >= this.range[0] && p[0] <= this.range[1] && (!this.log || p[1] > 0);
    const on = this.log ? Math.log10 : (v) => v, off = this.log ? (v) => 10 ** v : (v) => v;
    const [least, most] = (bounds(all.filter(shown).map((p) => p[1])) ?? [this.log ? 1 : 0, this.log ? 10 : 1]).map(on);
    const room = most > least ? (most - least) * 0.05 : Math.abs(least) * 0.1 || 0.5;
    this.values = [off(least - room), off(most + room)];
    this.box.checked = this.log;
    this.whole.hidden = !this.view;
    this.paint(curves, on);
    this.explain(picked);
  }

  // The value of each curve under the pointer, or its newest.
  explain(picked) {
    const at = this.at, value = (points) => (at === null ? points : points.filter((p) => p[0] <= at)).at(-1)?.[1];
    const rows = [...picked].map(([name, points]) => [name, value(points)]);
    const texts = rows.map(([name, v]) => `${name} ${short(v ?? NaN)}`), steps = this.range.map((s) => short(Math.round(s)));
    while (this.legend.children.length > rows.length) this.legend.lastChild.remove();
    rows.forEach(([name], i) => {
      const item = this.legend.children[i] ?? make("button", this.legend);
      item.dataset.name = name;
      item.setAttribute("aria-pressed", String(!this.hidden.has(name)));
      const swatch = document.createElement("span");
      swatch.className = `swatch${i >= COLORS ? " dashed" : ""}`;
      swatch.style.borderColor = `var(--s${i % COLORS})`;
      item.replaceChildren(swatch, texts[i]);
    });
    this.canvas.dataset.steps = this.range.join(" ");
    this.canvas.dataset.scale = this.log ? "log" : "linear";
    const where = `steps ${steps.join(" to ")}${this.log ? ", log scale" : ""}`;
    this.canvas.setAttribute("aria-label", `${this.title}, ${where}: ${texts.join(", ") || "no numbers yet"}`);
  }

  paint(curves, on) {
    const { clientWidth: w, clientHeight: h } = this.canvas, scale = devicePixelRatio || 1;
    if (!w) return;
    this.canvas.width = w * scale;
    this.canvas.height = h * scale;
    const c = this.canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim(), [least, most] = this.values.map(on);
    const x = (s) => LEFT + (s - this.range[0]) / (this.range[1] - this.range[0]) * (w - LEFT - RIGHT);
    const y = (v) => h - BOTTOM - (on(v) - least) / (most - least) * (h - BOTTOM - TOP);
    c.scale(scale, scale);
    c.font = "12px system-ui, sans-serif";
    this.axes(c, x, y, w, h, color);
    c.save();
    c.beginPath(); c.rect(LEFT, 0, w - LEFT - RIGHT, h - BOTTOM); c.clip();
    c.lineWidth = 1.5;
    for (const { points, i } of curves) {
      const drawn = this.log ? points.filter((p) => p[1] > 0) : points;
      c.strokeStyle = c.fillStyle = color(`--s${i % COLORS}`);
      c.setLineDash(i >= COLORS ? [6, 3] : []);
      c.beginPath();
      drawn.forEach((p, j) => j ? c.lineTo(x(p[0]), y(p[1])) : c.moveTo(x(p[0]), y(p[1])));
      c.stroke();
      if (drawn.length === 1) c.fillRect(x(drawn[0][0]) - 2, y(drawn[0][1]) - 2, 4, 4);
    }
    c.setLineDash([]);
    this.pointer(c, x, h, color);
    c.restore();
  }

  axes(c, x, y, w, h, color) {
    c.strokeStyle = color("--line");
    c.fillStyle = color("--dim");
    c.textAlign = "right";
    for (const v of ticks(this.values, this.log)) {
      c.beginPath(); c.moveTo(LEFT, y(v)); c.lineTo(w - RIGHT, y(v)); c.stroke();
      c.fillText(short(v), LEFT - 5, y(v) + 4);
    }
    for (const s of ticks(this.range, false)) {
      const half = c.measureText(short(s)).width / 2;
      c.textAlign = "center";
      c.fillText(short(s), Math.min(Math.max(x(s), LEFT + half), w - RIGHT - half), h - 5);
    }
  }

  pointer(c, x, h, color) {
    if (this.at === null) return;
    c.strokeStyle = color("--dim"); c.lineWidth = 1;
    c.beginPath(); c.moveTo(x(this.at), 0); c.lineTo(x(this.at), h); c.stroke();
    c.textAlign = "left"; c.fillStyle = color("--dim");
    if (!this.drag) return c.fillText(`step ${short(Math.round(this.at))}`, x(this.at) + 4, 14);
    c.globalAlpha = 0.2; c.fillStyle = color("--accent");
    c.fillRect(x(this.drag[0]), 0, x(this.drag[1]) - x(this.drag[0]), h);
  }
}
