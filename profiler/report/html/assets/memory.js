// Memory over the step: live bytes by category, stacked, with the layer at the chosen moment named.

const MARGIN = { top: 12, right: 14, bottom: 52, left: 64 };
const CATEGORY_COLOURS = {
  parameters: 0,
  buffers: 8,
  input: 7,
  activations: 4,
  saved: 3,
  "activation gradients": 2,
  "parameter gradients": 1,
  "optimizer state": 6,
  temporaries: 5,
  workspace: 9,
  unattributed: 9,
};

class MemoryPlot {
  constructor(content) {
    this.content = content;
    this.categories = Object.keys(content.live);
    this.totals = content.moments.map((_, place) => d3.sum(this.categories, (name) => content.live[name][place]));
    this.peak = content.moments.indexOf(content.peak.moment);
    this.svg = d3.create("svg").attr("class", "memory").attr("role", "img").attr("aria-label", this.summary());
    this.slider = el("input", { type: "range", min: 0, max: content.moments.length - 1, value: this.peak, "aria-label": "Moment of the step" });
    this.slider.addEventListener("input", () => this.choose(Number(this.slider.value)));
    this.facts = el("div", { class: "facts" });
    this.legend = el("ul", { class: "legend", "aria-label": "Colours" }, ...this.categories.map((name) => swatch(name, colourOf(name))));
    if (content.beside) this.legend.append(el("li", {}, el("span", { class: "dash", "aria-hidden": "true" }), content.names[1]));
    const back = el("button", { type: "button", onclick: () => this.choose(this.peak) }, "Go to the peak");
    this.element = el("div", {}, this.svg.node(), el("div", { class: "scrub" }, this.slider, back), this.legend, this.facts, ...this.below());
    this.svg.on("pointermove pointerdown", (event) => this.pointed(event));
  }

  summary() {
    const { peak, moments, events } = this.content;
    const thinned = moments.length < events + 1 ? `; ${integerText(moments.length)} of ${integerText(events + 1)} moments are drawn` : "";
    return `Live bytes over ${integerText(events)} events, by category. The peak is ${bytesText(peak.bytes)}, ${where(peak.path, peak.phase)}${thinned}`;
  }

  // Drawing ----------------------------------------------------------------------------------------------------------

  draw() {
    const width = Math.max(this.element.clientWidth, 300);
    const height = width < 560 ? 300 : 380;
    const { content } = this;
    const top = Math.max(content.peak.bytes, content.beside?.peak.bytes ?? 0);
    this.x = d3.scaleLinear([0, Math.max(content.events, 1)], [MARGIN.left, width - MARGIN.right]);
    this.y = d3.scaleLinear([0, top * 1.06 || 1], [height - MARGIN.bottom, MARGIN.top]);
    this.svg.attr("viewBox", `0 0 ${width} ${height}`).selectAll("*").remove();
    this.drawAreas();
    this.drawAxes(width, height);
    this.drawPhases(height);
    this.drawBeside();
    this.drawPeak(height);
    this.cursor = this.svg.append("g").attr("class", "cursor");
    this.cursor.append("line").attr("y1", MARGIN.top).attr("y2", height - MARGIN.bottom);
    this.cursor.append("circle").attr("r", 3.5);
    this.choose(Number(this.slider.value));
  }

  drawAreas() {
    const { live, moments } = this.content;
    const stacked = d3.stack().keys(this.categories).value((place, name) => live[name][place])(d3.range(moments.length));
    const area = d3
      .area()
      .curve(d3.curveStepAfter)
      .x((_, place) => this.x(moments[place]))
      .y0((range) => this.y(range[0]))
      .y1((range) => this.y(range[1]));
    this.svg
      .append("g")
      .selectAll("path")
      .data(stacked)
      .join("path")
      .attr("class", "area")
      .attr("data-category", (layer) => layer.key)
      .style("--c", (layer) => colourOf(layer.key))
      .attr("d", area);
  }

  drawAxes(width, height) {
    const [, top] = this.y.domain();
    const step = 2 ** Math.ceil(Math.log2(top / 6));
    const ticks = d3.range(0, top, step);
    const left = this.svg.append("g").attr("class", "axis").attr("transform", `translate(${MARGIN.left},0)`);
    left.call(d3.axisLeft(this.y).tickValues(ticks).tickFormat(axisBytes).tickSize(-(width - MARGIN.left - MARGIN.right)));
    const below = this.svg.append("g").attr("class", "axis below").attr("transform", `translate(0,${height - MARGIN.bottom + 20})`);
    below.call(d3.axisBottom(this.x).ticks(width / 110).tickSize(0));
    const text = this.svg.append("text").attr("class", "title").attr("x", width - MARGIN.right).attr("y", height - 4);
    text.attr("text-anchor", "end").text("events of the step");
  }

  /** A band below the areas: what the step was doing. */
  drawPhases(height) {
    const { moments, phases, events } = this.content;
    const runs = [];
    for (let place = 1; place < moments.length; place += 1) {
      const phase = GROUPED[cellOf(phases, place)] ?? cellOf(phases, place);
      if (runs.at(-1)?.phase === phase) runs.at(-1).end = moments[place];
      else runs.push({ phase, start: runs.at(-1)?.end ?? 0, end: moments[place] });
    }
    const bands = this.svg.append("g").attr("class", "phases").selectAll("g").data(runs).join("g");
    const wide = (run) => this.x(run.end) - this.x(run.start);
    bands.append("rect").attr("data-phase", (run) => run.phase).attr("y", height - MARGIN.bottom + 3).attr("height", 15);
    bands.select("rect").attr("x", (run) => this.x(run.start)).attr("width", (run) => Math.max(wide(run) - 1, 0.5));
    bands.append("title").text((run) => run.phase);
    const named = bands.filter((run) => wide(run) > 7 * run.phase.length + 4);
    named.append("text").attr("y", height - MARGIN.bottom + 14).attr("x", (run) => this.x((run.start + run.end) / 2));
    named.select("text").attr("text-anchor", "middle").text((run) => run.phase);
    this.svg.attr("data-events", events);
  }

  drawBeside() {
    const { beside } = this.content;
    if (!beside) return;
    const line = d3
      .line()
      .curve(d3.curveStepAfter)
      .x((_, place) => this.x(beside.moments[place]))
      .y((bytes) => this.y(bytes));
    this.svg.append("path").attr("class", "beside").attr("d", line(beside.live));
  }

  drawPeak() {
    const { peak } = this.content;
    const x = this.x(peak.moment);
    const mark = this.svg.append("g").attr("class", "peak");
    mark.append("circle").attr("cx", x).attr("cy", this.y(peak.bytes)).attr("r", 3.5);
    const left = x > (this.x.range()[0] + this.x.range()[1]) / 2;
    const text = mark.append("text").attr("y", this.y(peak.bytes) - 6).attr("x", x + (left ? -7 : 7));
    text.attr("text-anchor", left ? "end" : "start").text(`peak ${bytesText(peak.bytes)}`);
  }

  // Choosing a moment ------------------------------------------------------------------------------------------------

  pointed(event) {
    const [x] = d3.pointer(event, this.svg.node());
    this.choose(d3.bisectRight(this.content.moments, this.x.invert(x)) - 1);
  }

  choose(place) {
    const { content } = this;
    const chosen = Math.min(Math.max(place, 0), content.moments.length - 1);
    const [path, phase, operator] = [content.paths, content.phases, content.operators].map((column) => cellOf(column, chosen));
    const said = phase === null ? "before the step" : where(path, phase);
    this.slider.value = chosen;
    this.slider.setAttribute("aria-valuetext", `event ${integerText(content.moments[chosen])}, ${said}: ${bytesText(this.totals[chosen])} live`);
    this.cursor.select("line").attr("transform", `translate(${this.x(content.moments[chosen])},0)`);
    this.cursor.select("circle").attr("cx", this.x(content.moments[chosen])).attr("cy", this.y(this.totals[chosen]));
    this.tell(chosen, said, operator);
  }

  tell(place, said, operator) {
    const { content } = this;
    const change = content.changes[place];
    const what = change ? ` ${change > 0 ? "+" : "−"}${bytesText(Math.abs(change))} ${cellOf(content.changed, place)}` : "";
    const held = this.categories.filter((name) => content.live[name][place]).map((name) => [name, content.live[name][place]]);
    const other = this.besideAt(content.moments[place]);
    const figures = [["live", this.totals[place]], ...(other === null ? [] : [[content.names[1], other]]), ...held];
    this.facts.replaceChildren(
      el("p", {}, el("strong", { class: "layer" }, said), ` event ${integerText(content.moments[place])}`, operator ? ` · ${operator}` : "", what && ` ·${what}`),
      el("dl", {}, ...figures.map(([name, size]) => el("div", {}, el("dt", {}, name), el("dd", { title: `${integerText(size)} B` }, bytesText(size))))),
    );
  }

  besideAt(moment) {
    const { beside } = this.content;
    return beside ? beside.live[Math.max(d3.bisectRight(beside.moments, moment) - 1, 0)] : null;
  }

  // Tables behind the picture ----------------------------------------------------------------------------------------

  below() {
    const { content } = this;
    const bill = new Table(content.bill, { name: "What was live at the peak", menus: ["category"] });
    const found = [folded(`The bill at the peak: ${bytesText(content.peak.bytes)}, ${where(content.peak.path, content.peak.phase)}`, bill.element)];
    if (content.beside) found.unshift(new Table(this.peaks(), { name: "Both peaks by category", search: false }).element);
    const said = [
      ...content.reserved.map(([name, size]) => `${name}: ${bytesText(size)} beyond what was asked for, at the peak`),
      ...content.notes,
    ];
    if (said.length) found.push(el("ul", { class: "notes" }, ...said.map((note) => el("li", {}, note))));
    return found;
  }

  peaks() {
    const { peak, beside, names } = this.content;
    const kinds = [...new Set([...Object.keys(peak.categories), ...Object.keys(beside.peak.categories)])];
    const rows = ["at the peak", ...kinds, "the most without workspaces"];
    const figures = (of) => [of.bytes, ...kinds.map((name) => of.categories[name] ?? 0), of.framework_bytes];
    const column = (name, label, of) => ({ name, label, kind: "bytes", cells: figures(of) });
    const first = { name: "category", label: "category", kind: "words", words: rows, cells: rows.map((_, place) => place) };
    return { columns: [first, column("this", names[0], peak), column("beside", names[1], beside.peak)], length: rows.length };
  }
}

/** Autograd's own sums come between the nodes of backward: one band for both. */
const GROUPED = { accumulation: "backward", recompute: "backward" };

const where = (path, phase) => `${pathText(path)}, ${phase}`;
const colourOf = (category) => d3.schemeObservable10[CATEGORY_COLOURS[category] ?? 9];
const axisBytes = (value) => (value ? bytesText(value).replace(/\.0+ /, " ") : "0");

function folded(title, ...content) {
  return el("details", {}, el("summary", {}, title), ...content);
}
