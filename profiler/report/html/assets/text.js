"use strict";
// Figures in words, and elements. Names are data: they become text nodes and attribute values, never markup.

const report = JSON.parse(document.getElementById("data").textContent);

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const DECIMAL = ["", "k", "M", "G", "T", "P", "E"];
const SECONDS = [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]];

/** `el("a", {href: "#x", class: "link", onclick: f}, "text", child)` */
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** With thousands separators. Integers that a number cannot hold come as strings of digits. */
function integerText(value) {
  return (typeof value === "string" ? BigInt(value) : value).toLocaleString("en-US");
}

/** 302.0 M, 4.00 MiB: two decimals below ten, one above, none without a unit. */
function scaled(value, base, units) {
  let left = Number(value);
  let place = 0;
  while (Math.abs(left) >= base && place < units.length - 1) {
    left /= base;
    place += 1;
  }
  if (place === 0) return `${integerText(value)} ${units[0]}`.trim();
  return `${left.toFixed(Math.abs(left) < 10 ? 2 : 1)} ${units[place]}`;
}

const bytesText = (value) => scaled(value, 1024, BINARY);
const flopsText = (value) => scaled(value, 1000, DECIMAL);
const shareText = (value) => `${(100 * value).toFixed(value < 0.1 ? 2 : 1)} %`;

function secondsText(value) {
  const [unit, name] = SECONDS.find(([least]) => Math.abs(value) >= least) ?? SECONDS.at(-1);
  return value === 0 ? "0 s" : `${Number((value / unit).toPrecision(4))} ${name}`;
}

const ROUNDED = { integer: integerText, bytes: bytesText, flops: flopsText, seconds: secondsText, share: shareText };

/** A figure of a kind of column: rounded with its unit, or exact without. */
function figureText(value, kind, exact = false) {
  if (typeof value === "number" && !Number.isInteger(value)) {
    return exact || !(kind in ROUNDED) ? String(exact ? value : Number(value.toPrecision(4))) : ROUNDED[kind](value);
  }
  return exact || !(kind in ROUNDED) ? integerText(value) : ROUNDED[kind](value);
}

const pathText = (path) => path || "(model)";

/** What one cell of a column is: a figure, a word, or null. */
function cellOf(column, row) {
  const cell = column.cells[row];
  return column.words === undefined || cell === null ? cell : column.words[cell];
}

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

let lastId = 0;
const newId = (what) => `${what}-${(lastId += 1)}`;

/** A group of buttons of which one is pressed: `choices` are [value, text, disabled, title]. */
function buttons(label, choices, chosen, changed) {
  const group = el("div", { class: "buttons", role: "group", "aria-label": label });
  for (const [value, text, disabled, title] of choices) {
    const button = el("button", { type: "button", "aria-pressed": String(value === chosen), disabled, title }, text);
    button.addEventListener("click", () => {
      for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
      changed(value);
    });
    group.append(button);
  }
  return group;
}

/** A labelled menu. */
function menu(label, choices, chosen, changed) {
  const id = newId("menu");
  const options = choices.map(([value, text]) => el("option", { value, selected: value === chosen }, text));
  const select = el("select", { id, onchange: () => changed(select.value) }, ...options);
  return el("span", { class: "field" }, el("label", { for: id }, label), select);
}

function checkbox(label, changed) {
  const box = el("input", { type: "checkbox", onchange: () => changed(box.checked) });
  return el("label", { class: "check" }, box, label);
}
