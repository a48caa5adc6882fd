// An icicle of the module tree: a column for each level, each module as tall as its part. It is a tree for screen
// readers and the keyboard: arrows go about in it, Enter looks inside, Escape comes back.

const LEAST_HEIGHT = 6; // of a cell, in pixels: neighbours that are smaller are bundled
const BUNDLE_HEIGHT = 17;
const LABEL_HEIGHT = 13;
const LINE_HEIGHT = 18;
const FIRST_COLUMN = 0.55; // of the others' width: it has one cell
const COLOURED_TYPES = 9;

class Icicle {
  constructor(content) {
    this.content = content;
    this.nodes = treeOf(content);
    this.colours = coloursOf(this.nodes);
    this.measures = content.measures.filter((measure) => Object.keys(measure.phases).length);
    this.measure = this.measures[0];
    this.phase = "";
    this.views = [partOf(this.nodes[0])]; // the model, and what was chosen inside it, outermost first
    this.cells = [];
    this.crumbs = el("ol", { class: "crumbs", "aria-label": "Shown module" });
    this.tree = el("div", { class: "icicle", role: "tree", "aria-label": "Modules by size; arrows move, Enter looks inside, Escape comes back" });
    this.facts = el("div", { class: "facts" });
    this.note = el("p", { class: "status", role: "status" });
    this.legend = el("ul", { class: "legend", "aria-label": "Colours" });
    this.phaseMenu = el("span", {});
    this.element = el("div", {}, this.controls(), this.crumbs, this.tree, this.note, this.legend, this.facts);
    this.tree.addEventListener("keydown", (event) => this.pressed(event));
    this.tree.addEventListener("pointerleave", () => this.tell(this.focused()));
    if (this.measure) this.drawPhases();
  }

  // What is measured -------------------------------------------------------------------------------------------------

  controls() {
    const choices = this.content.measures.map((measure) => {
      const there = this.measures.includes(measure);
      return [measure.name, measure.label, !there, there ? null : "this run has none"];
    });
    const changed = (name) => {
      this.measure = this.measures.find((measure) => measure.name === name);
      this.drawPhases();
      this.restart();
    };
    return el("div", { class: "controls" }, buttons("Sized by", choices, this.measure?.name, changed), this.phaseMenu);
  }

  drawPhases() {
    const phases = Object.keys(this.measure.phases);
    if (!phases.includes(this.phase)) this.phase = "";
    const choices = [["", "all phases"], ...phases.map((phase) => [phase, phase])];
    const changed = (phase) => {
      this.phase = phase;
      this.restart();
    };
    this.phaseMenu.replaceChildren(phases.length > 1 ? menu("in", choices, this.phase, changed) : "");
  }

  /** A module's figure with all inside it, in the chosen phase or in all of them. */
  value(node, measure = this.measure, phase = this.phase) {
    const phases = phase ? [measure.phases[phase]] : Object.values(measure.phases);
    return phases.reduce((sum, figures) => sum + Number(figures[node.index] ?? 0), 0);
  }

  words(value) {
    return figureText(value, this.measure.kind);
  }

  /** The chosen module again, which may be bundled in other ways now. */
  restart() {
    this.views = this.views.filter((part) => !part.members);
    this.draw();
  }

  // What is drawn ----------------------------------------------------------------------------------------------------

  get width() {
    return this.tree.clientWidth || 900;
  }

  get height() {
    return this.tree.clientHeight || 460;
  }

  draw() {
    const root = this.layout();
    this.cells = root.descendants();
    this.cells.forEach((cell, place) => (cell.place = place));
    d3.select(this.tree)
      .selectAll("div.cell")
      .data(this.cells, (cell) => cell.data.key)
      .join((enter) => this.entered(enter))
      .each((cell, place, elements) => this.drawCell(cell, elements[place]))
      .order();
    this.setCurrent(0);
    this.drawCrumbs();
    this.drawLegend();
    this.tell(this.cells[0]);
    this.note.textContent = this.noteOf(root);
  }

  layout() {
    const levels = this.width < 560 ? 3 : 5;
    const top = this.views.at(-1);
    const value = this.valueOf(top);
    const scale = value ? this.height / value : 0;
    const root = d3.hierarchy(this.shown(top, value, levels - 1, scale), (part) => part.shown);
    root.each((cell) => (cell.value = cell.data.value));
    return d3.partition().size([this.height, 100])(root);
  }

  /** The first column narrower, the others as wide as that leaves. */
  across(percent) {
    const levels = this.cells[0].height + 1;
    const column = 100 / (levels - 1 + FIRST_COLUMN);
    const place = (percent * levels) / 100;
    return levels === 1 ? percent : column * (Math.min(place, 1) * FIRST_COLUMN + Math.max(place - 1, 0));
  }

  valueOf(part) {
    if (part.members) return d3.sum(part.members, (member) => member.value ?? this.value(member.node));
    return this.value(part.node);
  }

  /** A part with its value, and what is visible inside it. */
  shown(part, value, levels, scale) {
    const top = part === this.views.at(-1);
    const inside = levels > 0 && (top || !part.members) ? this.bundled(this.inside(part, value), scale) : [];
    return { ...part, value, shown: inside.map((each) => this.shown(each, each.value, levels - 1, scale)) };
  }

  /** The parts of a part, those without anything left out, in the model's order; what a module does itself at the end. */
  inside(part, value) {
    if (part.own) return [];
    if (part.members) return part.members;
    const found = part.node.children.map((child) => ({ ...partOf(child), value: this.value(child) }));
    const own = value - d3.sum(found, (each) => each.value);
    if (found.length && own > 1e-9 * value) found.push({ ...partOf(part.node), key: `${part.key}\n`, own: true, value: own });
    return found.filter((each) => each.value > 0);
  }

  /** Neighbours that are too small to be seen, together; nothing where that is all there is. */
  bundled(parts, scale) {
    const found = [];
    const runs = d3.groups(parts, runsOf((part) => part.value * scale < LEAST_HEIGHT));
    for (const [, run] of runs) {
      const small = run.length > 1 && run[0].value * scale < LEAST_HEIGHT;
      found.push(...(small ? inBundles(run, scale) : run));
    }
    return found.length === 1 && found[0].members ? [] : found;
  }

  entered(enter) {
    const cells = enter.append("div").attr("class", "cell").attr("role", "treeitem").attr("tabindex", -1);
    cells.append("span").attr("class", "name");
    cells.append("span").attr("class", "figure");
    cells.on("click", (event, cell) => this.enter(cell));
    cells.on("pointerenter", (event, cell) => this.tell(cell));
    cells.on("focus", (event, cell) => this.tell(cell));
    return cells;
  }

  drawCell(cell, element) {
    const { data } = cell;
    const siblings = cell.parent ? cell.parent.children : [cell];
    const opens = this.opens(cell);
    element.style.setProperty("--c", this.colourOf(data));
    const height = Math.max(cell.x1 - cell.x0, 1);
    element.style.top = `${(100 * cell.x0) / this.height}%`;
    element.style.height = `${(100 * height) / this.height}%`;
    element.style.lineHeight = `${Math.min(height - 1, LINE_HEIGHT)}px`;
    element.style.left = `${this.across(cell.y0)}%`;
    element.style.width = `${this.across(cell.y1) - this.across(cell.y0)}%`;
    element.dataset.path = data.node.path;
    element.classList.toggle("leaf", !data.node.children.length);
    element.classList.toggle("own", Boolean(data.own));
    element.classList.toggle("bare", height < LABEL_HEIGHT);
    element.classList.toggle("opens", opens && !cell.children);
    element.firstChild.textContent = nameOf(data, cell === this.cells[0]);
    element.lastChild.textContent = `${this.words(data.value)}`;
    element.setAttribute("aria-level", cell.depth + 1);
    element.setAttribute("aria-setsize", siblings.length);
    element.setAttribute("aria-posinset", siblings.indexOf(cell) + 1);
    element.setAttribute("aria-label", this.spoken(cell));
    if (opens) element.setAttribute("aria-expanded", String(Boolean(cell.children)));
    else element.removeAttribute("aria-expanded");
  }

  /** Of its type, for one module without any inside; otherwise the style's own. */
  colourOf(part) {
    const single = !part.own && !part.members && !part.node.children.length;
    return (single && this.colours.get(part.node.type)) || "";
  }

  spoken(cell) {
    const { data } = cell;
    const type = data.members || data.own ? "" : `, ${data.node.type}`;
    return `${fullName(data)}${type}: ${this.words(data.value)} ${this.measure.label}, ${this.part(cell)} of the model`;
  }

  part(cell) {
    const whole = this.value(this.nodes[0]);
    return whole ? shareText(cell.data.value / whole) : "none";
  }

  opens(cell) {
    return !cell.data.own && Boolean(cell.data.members || cell.data.node.children.length) && cell.data.value > 0;
  }

  noteOf(root) {
    if (!root.value) return `No ${this.measure.label} here.`;
    const left = this.views.at(-1).members ? 0 : this.views.at(-1).node.children.filter((child) => !this.value(child)).length;
    return left ? `${integerText(left)} modules directly inside have none and are not drawn.` : "";
  }

  drawCrumbs() {
    const items = this.views.map((part, place) => {
      const last = place === this.views.length - 1;
      const name = place ? nameOf(part) : pathText("");
      if (last) return el("li", { "aria-current": "true" }, name);
      return el("li", {}, el("button", { type: "button", onclick: () => this.leave(place + 1) }, name));
    });
    this.crumbs.replaceChildren(...items);
  }

  drawLegend() {
    const here = new Set(this.cells.map((cell) => cell.data).filter((part) => !part.members && !part.own).map((part) => part.node));
    const types = new Set([...here].filter((node) => !node.children.length && this.colours.has(node.type)).map((node) => node.type));
    this.legend.replaceChildren(
      ...[...this.colours.keys()].filter((type) => types.has(type)).map((type) => swatch(type, this.colours.get(type))),
    );
  }

  // Going about ------------------------------------------------------------------------------------------------------

  /** Into a cell; out of the one that is shown already. */
  enter(cell) {
    if (cell === this.cells[0]) this.leave(this.views.length - 1);
    else if (this.opens(cell)) {
      this.views = [...this.views.slice(0, -1), ...cell.ancestors().reverse().map((each) => plainPart(each.data))];
      this.redrawn();
    }
  }

  /** Back to the first `count` of the modules that were gone into. */
  leave(count) {
    if (count < 1 || count === this.views.length) return;
    this.views = this.views.slice(0, count);
    this.redrawn();
  }

  redrawn() {
    const had = this.tree.contains(document.activeElement);
    this.draw();
    if (had) this.elementOf(this.cells[0]).focus();
  }

  elementOf(cell) {
    return this.tree.children[cell.place];
  }

  /** The one cell that Tab comes to. */
  setCurrent(place) {
    this.current = place;
    [...this.tree.children].forEach((element, number) => (element.tabIndex = number === place ? 0 : -1));
  }

  focused() {
    return this.cells[this.current];
  }

  pressed(event) {
    const from = this.cells.find((cell) => this.elementOf(cell) === document.activeElement);
    if (!from || event.altKey || event.ctrlKey || event.metaKey) return;
    const level = this.cells.filter((cell) => cell.depth === from.depth);
    const place = level.indexOf(from);
    const goes = {
      ArrowRight: () => from.children?.[0] ?? this.enter(from),
      ArrowLeft: () => from.parent ?? this.leave(this.views.length - 1),
      ArrowDown: () => level[place + 1],
      ArrowUp: () => level[place - 1],
      Home: () => level[0],
      End: () => level.at(-1),
      Enter: () => this.enter(from),
      " ": () => this.enter(from),
      Escape: () => this.leave(this.views.length - 1),
      Backspace: () => this.leave(this.views.length - 1),
    }[event.key];
    if (!goes) return;
    event.preventDefault();
    const to = goes();
    if (to) {
      this.setCurrent(to.place);
      this.elementOf(to).focus();
    }
  }

  // What is said of a cell -------------------------------------------------------------------------------------------

  tell(cell) {
    if (!cell) return;
    const { data } = cell;
    const { node } = data;
    const said = data.members ? `${integerText(data.members.length)} modules` : [node.type, node.output].filter(Boolean).join(" · ");
    const facts = data.members || data.own ? [] : this.measures.map((measure) => this.factsOf(node, measure));
    const share = el("div", {}, el("dt", {}, `${this.measure.label}, of the model`), el("dd", {}, this.part(cell)));
    this.facts.replaceChildren(
      el("p", {}, el("strong", {}, fullName(data)), said ? ` ${said}` : ""),
      el("dl", {}, share, ...facts.filter(Boolean)),
    );
  }

  /** A measure over all phases, and below it phase by phase. */
  factsOf(node, measure) {
    const known = Object.entries(measure.phases).filter(([, figures]) => figures[node.index] !== null);
    if (!known.length) return null;
    const parts = known.map(([phase, figures]) => `${phase} ${figureText(figures[node.index], measure.kind)}`);
    return el(
      "div",
      {},
      el("dt", {}, measure.label),
      el("dd", {}, figureText(this.value(node, measure, ""), measure.kind)),
      ...(parts.length > 1 ? parts.map((part) => el("dd", { class: "part" }, part)) : []),
    );
  }
}

/** Modules as nodes, each with its children. */
function treeOf(content) {
  const nodes = content.paths.map((path, index) => ({
    index,
    path,
    name: path.slice(path.lastIndexOf(".") + 1),
    type: cellOf(content.types, index),
    output: cellOf(content.outputs, index),
    children: [],
  }));
  content.parents.forEach((parent, index) => {
    if (parent === null) return;
    const within = nodes[parent].path;
    nodes[index].name = within ? nodes[index].path.slice(within.length + 1) : nodes[index].path;
    nodes[parent].children.push(nodes[index]);
  });
  return nodes;
}

/** A colour for each of the most frequent types of modules that have none inside, and one for all others. */
function coloursOf(nodes) {
  const leaves = nodes.filter((node) => !node.children.length);
  const types = d3.rollups(leaves, (found) => found.length, (node) => node.type).sort((a, b) => b[1] - a[1]);
  return new Map(types.slice(0, COLOURED_TYPES).map(([type], place) => [type, d3.schemeObservable10[place]]));
}

const partOf = (node) => ({ key: node.path, node });
const plainPart = ({ key, node, members, own }) => ({ key, node, members, own });

/** A number for each item, the same for neighbours of which the same holds. */
function runsOf(holds) {
  let [number, last] = [0, null];
  return (item) => {
    const now = holds(item);
    if (now !== last) number += 1;
    last = now;
    return number;
  };
}

/** In as many bundles as have room for a label, of about one size. */
function inBundles(parts, scale) {
  const whole = d3.sum(parts, (part) => part.value);
  const count = Math.max(1, Math.floor((whole * scale) / BUNDLE_HEIGHT));
  let before = 0;
  const numbered = d3.groups(parts, (part) => {
    const number = Math.floor(((before + part.value / 2) / whole) * count);
    before += part.value;
    return number;
  });
  return numbered.map(([, members]) => (members.length > 1 ? bundleOf(members) : members[0]));
}

function bundleOf(members) {
  const [first, last] = [members[0], members.at(-1)];
  return { key: `${first.key}\n${last.key}`, node: first.node, members, value: d3.sum(members, (member) => member.value) };
}

/** A part's name within the module around it; in full for the one that is shown. */
function nameOf(part, full = false) {
  if (part.members || full) return fullName(part);
  return part.own ? "itself" : part.node.name || pathText("");
}

function fullName(part) {
  if (part.members) return `${nameOf(part.members[0])} … ${nameOf(part.members.at(-1))} (${integerText(part.members.length)})`;
  return part.own ? `${pathText(part.node.path)}, itself` : pathText(part.node.path);
}

function swatch(name, colour) {
  const sign = el("span", { class: "swatch", "aria-hidden": "true" });
  sign.style.setProperty("--c", colour);
  return el("li", {}, sign, name);
}
