// Pictures of the run: for each kind and name the newest, and a slider over the steps of older ones.

const KINDS = { openloop: "Open-loop prediction of", eval: "Evaluation, environment" };
const make = (tag, parent, properties = {}) => Object.assign(parent.appendChild(document.createElement(tag)), properties);
const shown = new Map();
let asked = 0;

// Look for new ones, but not more often than every two seconds.
export async function lookForMedia(section, parent) {
  if (Date.now() - asked < 2000) return;
  asked = Date.now();
  let pictures;
  try {
    const answer = await fetch("/api/media");
    if (!answer.ok) return;
    pictures = await answer.json();
  } catch { return; }
  const groups = new Map();
  for (const picture of pictures) {
    const key = `${picture.kind} ${picture.name}`;
    groups.set(key, [...groups.get(key) ?? [], picture]);
  }
  for (const [key, group] of groups) {
    if (!shown.has(key)) shown.set(key, new Film(parent, group[0]));
    shown.get(key).take(group);
  }
  for (const [key, film] of shown) if (!groups.has(key)) { film.figure.remove(); shown.delete(key); }
  section.hidden = groups.size === 0;
}

class Film {
  constructor(parent, { kind, name }) {
    this.title = `${KINDS[kind]} ${name}`;
    this.figure = make("figure", parent);
    make("h3", this.figure, { textContent: this.title });
    this.image = make("img", this.figure);
    this.slider = make("input", this.figure, { type: "range", min: 0, max: 0, value: 0, step: 1 });
    this.slider.setAttribute("aria-label", `${this.title}: step`);
    this.caption = make("figcaption", this.figure);
    this.pictures = [];
    this.slider.addEventListener("input", () => this.show());
  }

  // Whoever looks at the newest goes on to those that come; whoever looks at an older one stays there.
  take(pictures) {
    const at = Number(this.slider.value), file = this.pictures[at]?.file, newest = at >= this.pictures.length - 1;
    const kept = pictures.findIndex((picture) => picture.file === file), last = pictures.length - 1;
    this.pictures = pictures;
    this.slider.max = last;
    this.slider.disabled = last === 0;
    this.slider.value = newest || kept < 0 ? last : kept;
    this.show();
  }

  show() {
    const at = Number(this.slider.value), { step, file } = this.pictures[at], count = this.pictures.length;
    const said = `step ${step.toLocaleString("en")}`, source = `/media/${encodeURIComponent(file)}`;
    if (this.image.getAttribute("src") !== source) this.image.src = source;
    this.image.alt = `${this.title} at ${said}`;
    this.slider.setAttribute("aria-valuetext", said);
    this.caption.textContent = at === count - 1 ? `${said}, the newest of ${count}` : `${said}, ${at + 1} of ${count}`;
  }
}
