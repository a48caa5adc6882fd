// What stands in each section. Each is drawn after the browser has had time to paint what is there already.

const DRAWN = {
  modules(content, host) {
    const icicle = new Icicle(content);
    host.append(icicle.element);
    onWidth(host, () => icicle.measure && icicle.draw());
  },
  memory(content, host) {
    const plot = new MemoryPlot(content);
    host.append(plot.element);
    onWidth(host, () => plot.draw());
  },
  roofline(content, host) {
    const plot = new RooflinePlot(content);
    host.append(plot.element);
    onWidth(host, () => plot.draw());
  },
  theory(content, host) {
    const options = { name: "Theory against run", pressed: "verdict", menus: ["phase", "quantity"] };
    host.append(new Table(content.table, options).element);
    if (!content.not_compared.length) return;
    const left = new Table(content.not_compared, { name: "Modules that were not compared" });
    host.append(folded(`Not compared: ${integerText(content.not_compared.length)} modules`, left.element));
  },
  claims(content, host) {
    const options = { name: "The walkthrough's claims", pressed: "verdict", menus: ["arithmetic", "section", "phase"] };
    host.append(new Table(content, options).element);
  },
  ledger(content, host) {
    host.append(new Table(content, { name: "Ledger", menus: ["phase", "type"] }).element);
  },
  environment(content, host) {
    host.append(new Table(content, { name: "Environment", search: false }).element);
  },
};

/** Now, and whenever the width changes. */
function onWidth(host, draw) {
  let last = null;
  new ResizeObserver(() => {
    if (host.clientWidth !== last) draw();
    last = host.clientWidth;
  }).observe(host);
}

function drawAll(left) {
  const [next, ...later] = left;
  if (!next) {
    document.documentElement.dataset.drawn = "";
    return;
  }
  const [id, content] = next;
  DRAWN[id](content, document.querySelector(`#${id} > .body`));
  setTimeout(() => drawAll(later));
}

requestAnimationFrame(() => setTimeout(() => drawAll(Object.entries(report))));
