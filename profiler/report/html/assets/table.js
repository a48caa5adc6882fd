// Tables that are sorted by a heading, filtered by words and menus, and drawn a page at a time.

const FIRST_ROWS = 40;
const MORE_ROWS = 400;
const NUMERIC = new Set(["integer", "bytes", "flops", "number", "share", "seconds"]);

/**
 * `options`: `name` for those who cannot see it; `menus`, columns that get a menu; `pressed`, one that gets buttons;
 * `search`, whether there is a field; `rounding`, whether figures can be rounded.
 */
class Table {
  constructor(content, options) {
    this.content = content;
    this.options = { menus: [], search: true, ...options };
    this.chosen = new Map(); // column name -> the word that rows must have
    this.query = "";
    this.sorted = null; // {column, descending}
    this.most = FIRST_ROWS;
    this.exact = true;
    this.everything = false;
    this.status = el("p", { class: "status", role: "status" });
    this.head = el("tr");
    this.body = el("tbody");
    this.below = el("div", { class: "more" });
    this.element = el("div", { class: "table" }, this.controls(), this.status, this.frame(), this.below);
    this.status.hidden = !this.options.search;
    this.drawHead();
    this.draw();
  }

  /** Those that are drawn as columns; one with `note` stands below its row instead. */
  get columns() {
    return this.content.columns.filter((column) => !column.note && (this.everything || !column.more));
  }

  // Controls ---------------------------------------------------------------------------------------------------------

  controls() {
    const { columns, length } = this.content;
    const { menus, pressed, search } = this.options;
    if (!search) return null;
    const found = [this.searchField()];
    for (const name of menus) found.push(this.menuOf(columns.find((column) => column.name === name)));
    const { content } = this;
    if (content.inclusive) {
      found.push(checkbox("With modules inside", (on) => this.change({ content: on ? content.inclusive : content })));
    }
    if (columns.some((column) => column.kind === "bytes" || column.kind === "flops")) {
      found.push(checkbox("Round figures", (on) => this.change({ exact: !on })));
    }
    if (columns.some((column) => column.more)) {
      found.push(checkbox("All columns", (on) => this.change({ everything: on })));
    }
    const row = el("div", { class: "controls" }, ...found.filter(Boolean));
    if (pressed && length) row.prepend(this.buttonsOf(columns.find((column) => column.name === pressed)));
    return row;
  }

  searchField() {
    const id = newId("filter");
    const field = el("input", { id, type: "search", placeholder: "Filter", autocomplete: "off", spellcheck: "false" });
    field.addEventListener("input", () => this.change({ query: field.value, most: FIRST_ROWS }));
    return el("span", { class: "field" }, el("label", { for: id }, "Rows with"), field);
  }

  /** How many rows have each word of a column. */
  counted(column) {
    const times = new Map();
    for (let row = 0; row < this.content.length; row += 1) {
      const word = cellOf(column, row);
      if (word !== null) times.set(word, (times.get(word) ?? 0) + 1);
    }
    return [...times];
  }

  menuOf(column) {
    if (!column) return null;
    const words = this.counted(column);
    if (words.length < 2) return null;
    const choices = words.map(([word, times]) => [`=${word}`, `${word || "(none)"} (${integerText(times)})`]);
    return menu(column.label, [["", "all"], ...choices], "", (value) => this.choose(column.name, value));
  }

  buttonsOf(column) {
    const choices = this.counted(column).map(([word, times]) => [`=${word}`, `${word} ${integerText(times)}`]);
    const all = ["", `all ${integerText(this.content.length)}`];
    return buttons(column.label, [all, ...choices], "", (value) => this.choose(column.name, value));
  }

  choose(name, value) {
    if (value) this.chosen.set(name, value.slice(1));
    else this.chosen.delete(name);
    this.change({ most: FIRST_ROWS });
  }

  change(changes) {
    Object.assign(this, changes);
    if ("everything" in changes) this.drawHead();
    this.draw();
  }

  // Which rows -------------------------------------------------------------------------------------------------------

  rows() {
    const found = [];
    const wanted = this.wanted();
    for (let row = 0; row < this.content.length; row += 1) if (wanted.every((holds) => holds(row))) found.push(row);
    return this.sorted ? this.inOrder(found) : found;
  }

  /** A condition for each word of the query and each menu. */
  wanted() {
    const words = this.query.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = this.content.columns.filter((column) => column.words);
    const found = words.map((word) => {
      const hits = texts.map((column) => [
        column.cells,
        column.words.map((text) => (column.kind === "path" ? pathText(text) : text).toLowerCase().includes(word)),
      ]);
      return (row) => hits.some(([cells, hit]) => cells[row] !== null && hit[cells[row]]);
    });
    for (const [name, word] of this.chosen) {
      const column = this.content.columns.find((each) => each.name === name);
      found.push((row) => cellOf(column, row) === word);
    }
    return found;
  }

  /** What is not known comes last, whichever way. */
  inOrder(rows) {
    const column = this.columns.find((each) => each.name === this.sorted.name);
    if (!column) return rows;
    const sign = this.sorted.descending ? -1 : 1;
    const numeric = NUMERIC.has(column.kind);
    const keys = new Map(rows.map((row) => [row, cellOf(column, row)]));
    return rows.sort((one, other) => {
      const [a, b] = [keys.get(one), keys.get(other)];
      if (a === null || b === null) return (a === null) - (b === null) || one - other;
      return sign * compared(a, b, numeric) || one - other;
    });
  }

  sortBy(column) {
    const numbers = NUMERIC.has(column.kind) || column.kind === "value";
    if (this.sorted?.name !== column.name) this.sorted = { name: column.name, descending: numbers };
    else if (this.sorted.descending === numbers) this.sorted = { name: column.name, descending: !numbers };
    else this.sorted = null;
    for (const heading of this.head.children) heading.setAttribute("aria-sort", this.directionOf(heading.dataset.name));
    this.draw();
  }

  directionOf(name) {
    if (this.sorted?.name !== name) return "none";
    return this.sorted.descending ? "descending" : "ascending";
  }

  // Drawing ----------------------------------------------------------------------------------------------------------

  frame() {
    const table = el("table", {}, el("caption", { class: "unseen" }, this.options.name), el("thead", {}, this.head), this.body);
    return el("div", { class: "frame", tabindex: "0", role: "region", "aria-label": this.options.name }, table);
  }

  drawHead() {
    this.head.replaceChildren(
      ...this.columns.map((column) => {
        const button = el("button", { type: "button", onclick: () => this.sortBy(column) }, column.label);
        const sort = this.directionOf(column.name);
        return el("th", { scope: "col", class: column.kind, "data-name": column.name, "aria-sort": sort }, button);
      }),
    );
  }

  draw() {
    const rows = this.rows();
    const columns = this.columns;
    const [first] = columns;
    const drawn = rows.slice(0, this.most);
    this.body.replaceChildren(
      ...drawn.flatMap((row) => [
        el("tr", {}, ...columns.map((column) => this.cell(column, row, column === first ? "th" : "td"))),
        ...this.notes(row, columns.length),
      ]),
    );
    this.say(drawn.length, rows.length);
    this.below.replaceChildren(...this.moreButtons(drawn.length, rows.length));
  }

  notes(row, width) {
    const notes = this.content.columns.filter((column) => column.note).map((column) => cellOf(column, row));
    return notes.filter((note) => note !== null).map((note) => el("tr", { class: "note" }, el("td", { colspan: width }, el("span", {}, note))));
  }

  say(drawn, found) {
    if (!this.options.search) return;
    const whole = this.content.length;
    const of = found === whole ? `${integerText(whole)} rows` : `${integerText(found)} of ${integerText(whole)} rows`;
    this.status.textContent = drawn < found ? `${of}, the first ${integerText(drawn)} shown` : of;
  }

  moreButtons(drawn, found) {
    const left = found - drawn;
    if (!left) return [];
    const next = Math.min(left, MORE_ROWS);
    const more = el("button", { type: "button", onclick: () => this.change({ most: this.most + next }) });
    more.textContent = `Show ${integerText(next)} more`;
    const all = el("button", { type: "button", onclick: () => this.change({ most: Infinity }) });
    all.textContent = `Show all ${integerText(found)}`;
    return next < left ? [more, all] : [more];
  }

  cell(column, row, tag) {
    const value = cellOf(column, row);
    const scope = tag === "th" ? "row" : null;
    if (value === null) return el(tag, { scope, class: `${column.kind} none` }, "–");
    if (column.name === "verdict") return el(tag, { class: "words" }, el("span", { class: "verdict", "data-verdict": value }, value));
    return el(tag, { scope, class: `${column.kind} of-${column.name}` }, this.wordsOf(column, value));
  }

  wordsOf(column, value) {
    if (column.kind === "path") return pathText(value);
    if (typeof value === "number" || NUMERIC.has(column.kind)) {
      const unit = column.kind === "seconds" || column.kind === "share";
      return figureText(value, column.kind, this.exact && !unit && column.kind !== "value");
    }
    return value;
  }
}

/** Numbers before words, where a column has both. */
function compared(a, b, numeric) {
  if (numeric) return Number(a) - Number(b);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}
