// Draws the steps that the page carries as JSON. Every number and every cell of every step comes from there.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const CELL = 40; // units of a cell; the page scales the picture
let current = 0;
let timer = null;

function add(parent, name, attributes, text) {
  const node = parent.appendChild(document.createElementNS(SVG, name));
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function fontSize(texts) {
  const longest = Math.max(1, ...texts.map((text) => text.length));
  return Math.min(17, 36 / (0.64 * longest));
}

// One grid of a panel: its cells stay, and what they hold changes.
function makeGrid(panel, grid, width) {
  const figure = panel.appendChild(document.createElement("figure"));
  figure.appendChild(document.createElement("figcaption")).textContent = grid.name;
  const svg = add(figure, "svg", {
    viewBox: `-2 -2 ${grid.columns * CELL + 4} ${grid.rows * CELL + 4}`,
    width: Math.min(46 * grid.columns, width), role: "img", "aria-label": grid.name,
  });
  const made = { svg, grid, rects: [], texts: [] };
  const size = fontSize(grid.texts);
  for (let n = 0; n < grid.rows * grid.columns; n++) {
    const x = (n % grid.columns) * CELL, y = Math.floor(n / grid.columns) * CELL;
    const padding = grid.padding[n] ? " padding" : "";
    const rect = add(svg, "rect", { x, y, width: CELL, height: CELL, class: "cell" + padding });
    made.rects.push(rect);
    if (grid.shades) {
      if (!padding) rect.style.fill = `rgb(${grid.shades[n]},${grid.shades[n]},${grid.shades[n]})`;
    } else {
      made.texts.push(add(svg, "text", { x: x + CELL / 2, y: y + CELL / 2, "font-size": size, class: padding }, grid.texts[n]));
    }
  }
  made.over = add(svg, "g", {});
  return made;
}

function outline(made, [, cells, box], kind, weights) {
  const [row, column, rows, columns] = box;
  const spread = cells.length < rows * columns;
  const { over, grid } = made;
  for (const [n, cell] of cells.entries()) {
    made.rects[cell].classList.add("on");
    const x = (cell % grid.columns) * CELL, y = Math.floor(cell / grid.columns) * CELL;
    if (spread) add(over, "rect", { x, y, width: CELL, height: CELL, class: "tap " + kind });
    if (weights && !grid.shades && weights[n].length <= 3)
      add(over, "text", { x: x + 32, y: y + 33, "font-size": 9, class: "weight" }, weights[n]);
  }
  add(over, "rect", {
    x: column * CELL, y: row * CELL, width: columns * CELL, height: rows * CELL,
    class: "window " + kind + (spread ? " spread" : ""),
  });
}

const half = data.flat ? 1100 : 380;
const inputs = data.input.map((grid) => makeGrid(byId("input"), grid, half / Math.sqrt(data.input.length)));
const outputs = data.output.map((grid) => makeGrid(byId("output"), grid, half / Math.sqrt(data.output.length)));
document.body.classList.toggle("flat", data.flat);

// The arithmetic of one step: a row per channel, first ⊙ kernel = product.
function drawMiddle(step) {
  const middle = byId("middle");
  middle.replaceChildren();
  const [kh, kw] = data.kernelShape;
  const [fh, fw] = data.firstShape;
  const gap = 34, head = 26, pitch = kh * CELL + 16;
  const lefts = [0, fw * CELL + gap, (fw + kw) * CELL + 2 * gap];
  const width = lefts[2] + kw * CELL + (step.rows.length > 1 ? 90 : 4);
  const height = head + step.rows.length * pitch;
  const svg = add(middle, "svg", {
    viewBox: `-2 0 ${width + 4} ${height}`, width: Math.min(width, data.flat ? 800 : 400), role: "img",
    "aria-label": "arithmetic of this step",
  });
  for (const [part, name] of data.names.entries()) {
    add(svg, "text", { x: lefts[part], y: 12, "font-size": 15, style: "text-anchor: start",
      class: ["head-first", "head-kernel", "head-product"][part] }, name);
  }
  step.rows.forEach((row, number) => {
    const top = head + number * pitch;
    const [grid, cells] = step.marks[row.mark];
    const kernel = data.kernels[row.kernel];
    const first = cells.map((cell) => data.input[grid].texts[cell]);
    const padding = cells.map((cell) => data.input[grid].padding[cell]);
    const parts = [[first, "first", fh, fw], [kernel, "kernel", kh, kw], [row.products, "product", kh, kw]];
    parts.forEach(([texts, kind, rows, columns], part) => {
      const size = fontSize(texts);
      const down = top + ((kh - rows) * CELL) / 2;
      texts.forEach((text, n) => {
        const x = lefts[part] + (n % columns) * CELL, y = down + Math.floor(n / columns) * CELL;
        const hatched = part === 0 && padding[n] ? " padding" : "";
        add(svg, "rect", { x, y, width: CELL, height: CELL, class: kind + hatched });
        add(svg, "text", { x: x + CELL / 2, y: y + CELL / 2, "font-size": size, class: hatched, "data-kind": kind }, text);
      });
    });
    const centre = top + (kh * CELL) / 2;
    add(svg, "text", { x: lefts[1] - gap / 2, y: centre, "font-size": 22, class: "sign" }, "⊙");
    add(svg, "text", { x: lefts[2] - gap / 2, y: centre, "font-size": 22, class: "sign" }, "=");
    if (step.rows.length > 1 && row.sum !== null)
      add(svg, "text", { x: lefts[2] + kw * CELL + 10, y: centre, "font-size": 16, class: "share",
        style: "text-anchor: start" }, "Σ " + row.sum);
  });
}

function show(number) {
  current = Math.max(0, Math.min(data.steps.length - 1, number));
  const step = data.steps[current];
  for (const made of [...inputs, ...outputs]) {
    made.over.replaceChildren();
    for (const rect of made.rects) rect.classList.remove("on");
  }
  outputs.forEach((made, g) => {
    const count = made.rects.length;
    for (let n = 0; n < count; n++) {
      const known = step.totals !== null || g * count + n <= current;
      if (!made.grid.padding[n]) made.rects[n].classList.toggle("unknown", !known);
      if (made.texts.length) made.texts[n].textContent = step.totals ? step.totals[g][n] : known ? made.grid.texts[n] : "";
    }
  });
  step.marks.forEach((mark, n) =>
    outline(inputs[mark[0]], mark, data.stamps ? "place" : "", data.stamps ? null : data.kernels[step.rows[n].kernel]));
  step.places.forEach((place) => outline(outputs[place[0]], place, data.stamps ? "" : "place", null));
  drawMiddle(step);
  byId("sum").textContent = step.say;
  byId("step").value = current;
  byId("step").setAttribute("aria-valuetext", `step ${current + 1}: ${step.say}`);
  byId("count").textContent = `${current + 1} / ${data.steps.length}`;
  document.body.dataset.step = current;
}

function pause() {
  clearInterval(timer);
  timer = null;
  byId("play").textContent = "▶ play";
  byId("play").setAttribute("aria-label", "Play");
  byId("sum").setAttribute("aria-live", "polite");
}

function play() {
  if (current === data.steps.length - 1) show(0);
  byId("play").textContent = "❚❚ pause";
  byId("play").setAttribute("aria-label", "Pause");
  byId("sum").setAttribute("aria-live", "off"); // nobody wants every step read out
  timer = setInterval(() => {
    show(current + 1);
    if (current === data.steps.length - 1) pause();
  }, Number(byId("speed").value));
}

const toggle = () => (timer === null ? play() : pause());
const go = (number) => { pause(); show(number); };

// The step whose place along both axes is nearest to the pointer. A window keeps its channel, a cell has its own.
function nearest(centres, at) {
  let best = 0;
  centres.forEach((centre, n) => { if (Math.abs(centre - at) < Math.abs(centres[best] - at)) best = n; });
  return best;
}

function draggable(made, number, pick) {
  const move = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(made.svg.getScreenCTM().inverse());
    const row = nearest(pick.rows, point.y / CELL), column = nearest(pick.columns, point.x / CELL);
    const layer = pick.rows.length * pick.columns.length;
    const channel = pick.keep ? Math.floor(current / layer) : number;
    go(channel * layer + row * pick.columns.length + column);
  };
  made.svg.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    made.svg.setPointerCapture(event.pointerId);
    move(event);
  });
  made.svg.addEventListener("pointermove", (event) => {
    if (made.svg.hasPointerCapture(event.pointerId)) move(event);
  });
}
inputs.forEach((made, number) => draggable(made, number, data.pickInput));
outputs.forEach((made, number) => draggable(made, number, data.pickOutput));

const keys = {
  ArrowRight: () => go(current + 1),
  ArrowLeft: () => go(current - 1),
  ArrowDown: () => go(current + data.row),
  ArrowUp: () => go(current - data.row),
  Home: () => go(0),
  End: () => go(data.steps.length - 1),
  " ": toggle,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
  if (event.target.tagName === "SELECT" || (event.key === " " && event.target.tagName === "BUTTON")) return;
  event.preventDefault();
  keys[event.key]();
});
byId("first").addEventListener("click", keys.Home);
byId("last").addEventListener("click", keys.End);
byId("next").addEventListener("click", keys.ArrowRight);
byId("back").addEventListener("click", keys.ArrowLeft);
byId("play").addEventListener("click", toggle);
byId("speed").addEventListener("change", () => { if (timer !== null) { pause(); play(); } });
byId("step").max = data.steps.length - 1;
byId("step").addEventListener("input", (event) => go(Number(event.target.value)));
byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
});
show(0);
