// Curves over environment steps on a canvas: zoomed by drag or keys, reset by a double click or Escape.

const LEFT = 56, BOTTOM = 22, TOP = 8, RIGHT = 8;

export const short = (x) => {
  const size = Math.abs(x);
  if (!Number.isFinite(x)) return "–";
  if (size >= 1e9 || (size > 0 && size < 1e-3)) return x.toExponential(1);
  if (size >= 1e6) return `${+(x / 1e6).toPrecision(4)}M`;
  return size >= 1e4 ? `${+(x / 1e3).toPrecision(4)}k` : `${+x.toPrecision(4)}`;
};

export class Chart {
  // `pick` gives a Map from a curve's name to its points [step, value], oldest first.
  constructor(parent, title, pick) {
    this.pick = pick;
    this.view = null;
    this.drag = null;
    const make = (tag, to) => to.appendChild(document.createElement(tag));
    const figure = make("figure", parent);
    make("h3", figure).textContent = title;
    this.title = title;
    this.canvas = make("canvas", figure);
    this.legend = make("figcaption", figure);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.listen();
  }

  listen() {
    const at = (event) => this.step(event.clientX - this.canvas.getBoundingClientRect().left);
    this.canvas.addEventListener("pointerdown", (e) => { this.drag = [at(e), at(e)]; this.canvas.setPointerCapture(e.pointerId); });
    this.canvas.addEventListener("pointermove", (e) => { if (this.drag) { this.drag[1] = at(e); this.draw(); } });
    this.canvas.addEventListener("pointercancel", () => { this.drag = null; this.draw(); });
    this.canvas.addEventListener("pointerup", () => {
      const [a, b] = this.drag ?? [0, 0], [low, high] = this.range;
      if (Math.abs(a - b) > (high - low) / 50) this.view = [Math.min(a, b), Math.max(a, b)];
      this.drag = null;
      this.draw();
    });
    this.canvas.addEventListener("dblclick", () => { this.view = null; this.draw(); });
    this.canvas.addEventListener("keydown", (e) => this.key(e));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  key(event) {
    const [low, high] = this.range, width = high - low, middle = (low + high) / 2;
    const views = {
      "+": [middle - width / 4, middle + width / 4], "=": [middle - width / 4, middle + width / 4],
      "-": [middle - width, middle + width], Escape: null,
      ArrowLeft: [low - width / 4, high - width / 4], ArrowRight: [low + width / 4, high + width / 4],
    };
    if (!(event.key in views)) return;
    event.preventDefault();
    this.view = views[event.key];
    this.draw();
  }

  step(x) {
    const [low, high] = this.range;
    return low + (x - LEFT) / Math.max(1, this.canvas.clientWidth - LEFT - RIGHT) * (high - low);
  }

  draw() {
    const curves = this.pick(), all = [...curves.values()].flat();
    const steps = all.map((p) => p[0]);
    const bounds = (list, pad) => {
      let low = Infinity, high = -Infinity;
      for (const x of list) { low = Math.min(low, x); high = Math.max(high, x); }
      if (low > high) return [0, 1];
      const room = high > low ? (high - low) * pad : Math.abs(low) * 0.1 || 1;
      return [low - room, high + room];
    };
    this.range = this.view ?? bounds(steps, 0);
    const inside = all.filter((p) => p[0] >= this.range[0] && p[0] <= this.range[1]);
    this.values = bounds(inside.map((p) => p[1]), 0.05);
    this.paint(curves);
    const newest = [...curves].map(([name, points]) => [name, points.at(-1)?.[1]]);
    this.legend.replaceChildren(...newest.map(([name, value], i) => {
      const item = document.createElement("span"), swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = `var(--s${i % 8})`;
      item.append(swatch, `${name} ${short(value)}`);
      return item;
    }));
    this.canvas.setAttribute("aria-label", `${this.title}: ${newest.map(([n, v]) => `${n} ${short(v)}`).join(", ") || "no numbers yet"}`);
  }

  paint(curves) {
    const { clientWidth: w, clientHeight: h } = this.canvas, scale = devicePixelRatio || 1;
    if (!w) return;
    this.canvas.width = w * scale;
    this.canvas.height = h * scale;
    const c = this.canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const x = (s) => LEFT + (s - this.range[0]) / (this.range[1] - this.range[0]) * (w - LEFT - RIGHT);
    const y = (v) => h - BOTTOM - (v - this.values[0]) / (this.values[1] - this.values[0]) * (h - BOTTOM - TOP);
    c.scale(scale, scale);
    c.font = "12px system-ui, sans-serif";
    c.strokeStyle = color("--line");
    c.fillStyle = color("--dim");
    for (let i = 0; i <= 4; i++) {
      const v = this.values[0] + (this.values[1] - this.values[0]) * i / 4, s = this.range[0] + (this.range[1] - this.range[0]) * i / 4;
      c.beginPath(); c.moveTo(LEFT, y(v)); c.lineTo(w - RIGHT, y(v)); c.stroke();
      c.textAlign = "right"; c.fillText(short(v), LEFT - 5, y(v) + 4);
      c.textAlign = i === 0 ? "left" : i === 4 ? "right" : "center"; c.fillText(short(Math.round(s)), x(s), h - 5);
    }
    c.save(); c.beginPath(); c.rect(LEFT, 0, w - LEFT - RIGHT, h - BOTTOM); c.clip();
    [...curves.values()].forEach((points, i) => {
      c.strokeStyle = c.fillStyle = color(`--s${i % 8}`); c.lineWidth = 1.5; c.beginPath();
      points.forEach((p, j) => j ? c.lineTo(x(p[0]), y(p[1])) : c.moveTo(x(p[0]), y(p[1])));
      c.stroke();
      if (points.length === 1) c.fillRect(x(points[0][0]) - 2, y(points[0][1]) - 2, 4, 4);
    });
    if (this.drag) { c.globalAlpha = 0.2; c.fillStyle = color("--accent"); c.fillRect(x(this.drag[0]), 0, x(this.drag[1]) - x(this.drag[0]), h); }
    c.restore();
  }
}
