// The roofline: FLOPs per second over FLOPs per byte, both in logarithms, below what the machine can do.

const ROOF_MARGIN = { top: 24, right: 16, bottom: 42, left: 70 };
const BOUND_COLOURS = { compute: 0, memory: 1, overhead: 9 };

class RooflinePlot {
  constructor(content) {
    this.content = content;
    this.points = pointsOf(content.table);
    const left = content.table.length - this.points.length;
    this.svg = d3.create("svg").attr("class", "roofline").attr("role", "img").attr("aria-label", this.summary());
    this.facts = el("div", { class: "facts" });
    const bounds = Object.keys(BOUND_COLOURS).filter((bound) => this.points.some((point) => point.bound === bound));
    const legend = el("ul", { class: "legend", "aria-label": "Colours" }, ...bounds.map((bound) => swatch(`bound by ${bound}`, boundColour(bound))));
    const note = left ? `${integerText(left)} rows without products, or without a time, are in the table alone.` : "";
    const options = { name: "Roofline", menus: ["phase", "bound"] };
    const table = new Table(content.table, options);
    this.element = el("div", {}, this.svg.node(), legend, el("p", { class: "status" }, note), this.facts, folded("The figures", table.element));
    this.svg.on("pointermove pointerdown", (event) => this.pointed(event));
  }

  summary() {
    return `${integerText(this.points.length)} modules and phases below the machine's roofline; the table below has their figures`;
  }

  draw() {
    const width = Math.max(this.element.clientWidth, 300);
    const height = width < 560 ? 320 : 430;
    const { peaks, slopes } = this.content;
    const [top, steepest] = [Math.max(...Object.values(peaks)), Math.max(...Object.values(slopes))];
    const ridge = top / Math.min(...Object.values(slopes));
    const across = [...this.points.map((point) => point.intensity), ridge * 4, top / steepest / 4];
    const up = [...this.points.map((point) => point.rate), top * 2];
    this.x = d3.scaleLog(widened(across), [ROOF_MARGIN.left, width - ROOF_MARGIN.right]);
    this.y = d3.scaleLog(widened(up), [height - ROOF_MARGIN.bottom, ROOF_MARGIN.top]);
    this.svg.attr("viewBox", `0 0 ${width} ${height}`).selectAll("*").remove();
    this.drawAxes(width, height);
    this.drawSlopes(top);
    this.drawPeaks();
    this.drawPoints();
    if (this.points.length) this.tell(this.points[0]);
  }

  drawAxes(width, height) {
    const below = this.svg.append("g").attr("class", "axis").attr("transform", `translate(0,${height - ROOF_MARGIN.bottom})`);
    below.call(d3.axisBottom(this.x).tickValues(powersOfTen(this.x)).tickFormat(d3.format(",~r")).tickPadding(8).tickSize(-(height - ROOF_MARGIN.top - ROOF_MARGIN.bottom)));
    const left = this.svg.append("g").attr("class", "axis").attr("transform", `translate(${ROOF_MARGIN.left},0)`);
    left.call(d3.axisLeft(this.y).tickValues(powersOfTen(this.y)).tickFormat((value) => flopsText(value).replace(".00", "").replace(".0", "")).tickSize(-(width - ROOF_MARGIN.left - ROOF_MARGIN.right)));
    const titles = [
      ["FLOPs of products per byte moved", width - ROOF_MARGIN.right, height - 6, "end"],
      ["FLOPs per second", 4, 10, "start"],
    ];
    for (const [text, x, y, anchor] of titles) {
      this.svg.append("text").attr("class", "title").attr("x", x).attr("y", y).attr("text-anchor", anchor).text(text);
    }
  }

  /** Bytes per second: lines that rise one for one, up to the highest peak. */
  drawSlopes(top) {
    const [first] = this.x.domain();
    const [bottom] = this.y.domain();
    for (const [name, rate] of Object.entries(this.content.slopes)) {
      const start = Math.max(first, bottom / rate);
      const end = top / rate;
      this.roof(name, `${bytesText(Math.round(rate))}/s`, [start, start * rate], [end, top], "slope");
    }
  }

  drawPeaks() {
    const [first, last] = this.x.domain();
    const steepest = Math.max(...Object.values(this.content.slopes));
    for (const [name, rate] of Object.entries(this.content.peaks)) {
      this.roof(name, `${flopsText(Math.round(rate))}/s`, [Math.max(rate / steepest, first), rate], [last, rate], "peak");
    }
  }

  roof(name, rate, from, to, kind) {
    const [x1, y1, x2, y2] = [this.x(from[0]), this.y(from[1]), this.x(to[0]), this.y(to[1])];
    const mark = this.svg.append("g").attr("class", `roof ${kind}`).attr("data-name", name);
    mark.append("line").attr("x1", x1).attr("y1", y1).attr("x2", x2).attr("y2", y2);
    const text = mark.append("text").text(`${name} ${rate}`);
    if (kind === "peak") text.attr("x", x2).attr("y", y2 - 4).attr("text-anchor", "end");
    else text.attr("transform", `translate(${x1 + 8},${y1 - 10}) rotate(${(Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI})`);
  }

  drawPoints() {
    const longest = d3.max(this.points, (point) => point.seconds);
    const size = d3.scaleSqrt([0, longest], [2.5, 16]);
    this.svg
      .append("g")
      .selectAll("circle")
      .data(this.points)
      .join("circle")
      .attr("class", "point")
      .attr("data-path", (point) => point.path)
      .style("--c", (point) => boundColour(point.bound))
      .attr("cx", (point) => this.x(point.intensity))
      .attr("cy", (point) => this.y(point.rate))
      .attr("r", (point) => size(point.seconds));
    this.ring = this.svg.append("circle").attr("class", "ring").attr("r", 0);
    this.size = size;
  }

  pointed(event) {
    const [x, y] = d3.pointer(event, this.svg.node());
    const nearest = d3.least(this.points, (point) => Math.hypot(this.x(point.intensity) - x, this.y(point.rate) - y));
    if (nearest) this.tell(nearest);
  }

  tell(point) {
    this.ring.attr("cx", this.x(point.intensity)).attr("cy", this.y(point.rate)).attr("r", this.size(point.seconds) + 3);
    const facts = [
      ["bound by", point.bound],
      ["achieved", `${flopsText(Math.round(point.rate))}/s`],
      ["FLOPs per byte", String(Number(point.intensity.toPrecision(4)))],
      ["took", secondsText(point.seconds)],
      ["at least", secondsText(point.least)],
      ["of the roof", shareText(point.share)],
    ];
    this.facts.replaceChildren(
      el("p", {}, el("strong", {}, where(point.path, point.phase))),
      el("dl", {}, ...facts.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)))),
    );
  }
}

/** Rows that have a place in the picture: with products, bytes and seconds. */
function pointsOf(table) {
  const columns = Object.fromEntries(table.columns.map((column) => [column.name, column]));
  const names = { path: "path", phase: "phase", bound: "bound", intensity: "intensity", rate: "rate", seconds: "seconds", least: "least_seconds", share: "share" };
  const found = d3.range(table.length).map((row) =>
    Object.fromEntries(Object.entries(names).map(([key, name]) => [key, cellOf(columns[name], row)])),
  );
  return found.filter((point) => point.intensity > 0 && point.rate > 0);
}

/** From the least to the most, to whole powers of ten. */
function widened(values) {
  const [least, most] = d3.extent(values);
  return [10 ** Math.floor(Math.log10(least)), 10 ** Math.ceil(Math.log10(most))];
}

function powersOfTen(scale) {
  const [least, most] = scale.domain().map((value) => Math.round(Math.log10(value)));
  return d3.range(least, most + 1).map((power) => Number(`1e${power}`));
}

const boundColour = (bound) => d3.schemeObservable10[BOUND_COLOURS[bound] ?? 9];
