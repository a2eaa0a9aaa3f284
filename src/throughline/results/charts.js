"use strict";
// Draws the charts of the page as SVG: lines with bands, and bars with whiskers. Every text is set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function add(parent, name, attributes = {}, text = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  parent.append(element);
  return element;
}

function scale(values, from, to, log) {  // a function from values to places, and round values between them
  let low = Math.min(...values), high = Math.max(...values);
  if (log) [low, high] = [Math.log10(low), Math.log10(high)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const place = value => from + (to - from) * ((log ? Math.log10(value) : value) - low) / (high - low);
  return { place, ticks: log ? logTicks(low, high) : linearTicks(low, high) };
}

function linearTicks(low, high) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(digit => power * digit >= rough);
  const ticks = [];
  for (let n = 0, first = Math.ceil(low / step - 1e-9); n < 12 && (first + n) * step <= high + 1e-9 * step; n++)
    ticks.push(Number(((first + n) * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high) {
  if (high - low < 1) return linearTicks(10 ** low, 10 ** high);
  const digits = high - low < 3 ? [1, 2, 5] : [1], ticks = [];
  for (let k = Math.floor(low); k <= high; k++)
    for (const digit of digits) {
      const tick = digit * 10 ** k;
      if (Math.log10(tick) >= low - 1e-9 && Math.log10(tick) <= high + 1e-9) ticks.push(tick);
    }
  return ticks;
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${Number((value / 1e9).toPrecision(3))}G`;
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  return `${Number(value.toPrecision(4))}`;
}

const SHAPES = [
  (x, y) => ["circle", { cx: x, cy: y, r: 3.5 }],
  (x, y) => ["rect", { x: x - 3.2, y: y - 3.2, width: 6.4, height: 6.4 }],
  (x, y) => ["path", { d: `M${x},${y - 4.5}l4.5,4.5l-4.5,4.5l-4.5,-4.5z` }],
  (x, y) => ["path", { d: `M${x},${y - 4.5}l4.5,8h-9z` }],
  (x, y) => ["path", { d: `M${x - 4},${y - 4}l8,8m0,-8l-8,8`, "stroke-width": 2 }],
  (x, y) => ["path", { d: `M${x - 4.5},${y}h9m-4.5,-4.5v9`, "stroke-width": 2 }],
  (x, y) => ["path", { d: `M${x},${y + 4.5}l4.5,-8h-9z` }],
];

function frame(holder, height, label) {
  const width = Math.max(240, holder.clientWidth);
  const svg = add(holder, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  return [svg, width];
}

function pointAt(target, text, holder) {  // the figures of what the pointer is at
  const tip = holder.querySelector(".tip");
  target.addEventListener("pointerenter", () => {
    tip.textContent = text;
    tip.hidden = false;
    const box = target.getBoundingClientRect(), around = holder.getBoundingClientRect();
    const left = Math.min(box.left - around.left + box.width / 2 + 8, around.width - tip.offsetWidth);
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${box.top - around.top - tip.offsetHeight - 6}px`;
  });
  target.addEventListener("pointerleave", () => { tip.hidden = true; });
  add(target, "title", {}, text);
}

function bars(holder, view, series) {
  const words = series.map(s => s.label.split(" "));
  let common = 0;  // words that all names begin with
  while (series.length > 1 && words.every(w => w.length > common + 1 && w[common] === words[0][common])) common++;
  const labels = words.map(w => w.slice(common).join(" "));
  const names = 1.15 * Math.min(30, Math.max(...labels.map(label => label.length))), row = 38, top = 6;
  const [svg, width] = frame(holder, top + row * series.length + 44, view.x_title);
  const left = Math.min(names * 6.4 + 12, width * 0.4), right = width - 70, bottom = top + row * series.length;
  const ends = series.flatMap(s => [s.low[0], s.high[0]]);
  const from = view.zero ? 0 : Math.min(...ends) - 0.25 * (Math.max(...ends) - Math.min(...ends) || Math.abs(ends[0]) || 1);
  const { place, ticks } = scale([from, ...ends], left, right, false);
  for (const tick of ticks.filter(t => t >= from)) {
    add(svg, "line", { class: "grid", x1: place(tick), x2: place(tick), y1: top, y2: bottom });
    add(svg, "text", { class: "tick", x: place(tick), y: bottom + 16, "text-anchor": "middle" }, short(tick));
  }
  add(svg, "text", { class: "title", x: (left + right) / 2, y: bottom + 36, "text-anchor": "middle" }, view.x_title);
  series.forEach((s, number) => {
    const y = top + row * number + row / 2, x = place(s.y[0]);
    const most = Math.min(30, Math.floor((left - 12) / 6.4)), label = labels[number];
    const name = label.length > most ? `${label.slice(0, most - 1)}…` : label;
    add(svg, "text", { class: "name", x: left - 8, y: y + 4, "text-anchor": "end" }, name);
    const bar = add(svg, "g", { class: "bar" });
    add(bar, "rect", { x: Math.min(place(from), x), y: y - 11, width: Math.abs(x - place(from)), height: 22, fill: s.colour, rx: 2 });
    const [low, high] = [place(s.low[0]), place(s.high[0])];
    add(bar, "path", { class: "whisker", d: `M${low},${y - 6}v12M${low},${y}H${high}M${high},${y - 6}v12` });
    add(svg, "text", { class: "value", x: right + 8, y: y + 4 }, s.shown[0]);
    pointAt(bar, `${s.label}: ${s.shown[0]}, seeds ${s.seeds[0]}`, holder);
  });
}

function lines(holder, view, series) {
  const [svg, width] = frame(holder, 340, view.y_title);
  const left = 58, right = width - 14, top = 14, bottom = 290;
  const kinds = view.names;  // names in place of numbers
  const y = scale(series.flatMap(s => [...s.low, ...s.high]), bottom, top, view.log_y);
  const x = kinds ? null : scale(series.flatMap(s => s.x), left, right, view.log_x);
  const across = value => kinds ? left + (right - left) * (kinds.indexOf(value) + 0.5) / kinds.length : x.place(value);
  for (const tick of y.ticks) {
    add(svg, "line", { class: "grid", x1: left, x2: right, y1: y.place(tick), y2: y.place(tick) });
    add(svg, "text", { class: "tick", x: left - 6, y: y.place(tick) + 4, "text-anchor": "end" }, short(tick));
  }
  const every = Math.ceil((kinds || x.ticks).length / Math.max(3, Math.floor((right - left) / 56)));
  (kinds || x.ticks).forEach((tick, number) => {
    const at = across(tick);
    add(svg, "line", { class: "grid", x1: at, x2: at, y1: top, y2: bottom });
    if (number % every === 0)
      add(svg, "text", { class: "tick", x: at, y: bottom + 16, "text-anchor": "middle" }, kinds ? tick : short(tick));
  });
  add(svg, "text", { class: "xtitle", x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle" }, view.x_title);
  add(svg, "text", { class: "title", transform: `translate(13,${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, view.y_title);
  for (const s of series) {
    const group = add(svg, "g", { class: "line", color: s.colour });
    const at = s.x.map(across), path = values => values.map((v, k) => `${at[k]},${y.place(v)}`).join("L");
    if (s.x.length > 1) {
      const back = s.low.map((v, k) => `${at[k]},${y.place(v)}`).reverse().join("L");
      if (s.low.some((v, k) => v !== s.high[k])) add(group, "path", { class: "band", d: `M${path(s.high)}L${back}z`, fill: s.colour });
      add(group, "path", { class: "way", d: `M${path(s.y)}`, stroke: s.colour, "stroke-dasharray": s.dash });
    }
    s.y.forEach((value, k) => {
      const [shape, attributes] = SHAPES[s.symbol % SHAPES.length](at[k], y.place(value));
      const point = add(group, "g", { class: "point" });
      add(point, shape, { ...attributes, fill: s.colour, stroke: s.colour });
      add(point, "circle", { class: "reach", cx: at[k], cy: y.place(value), r: 9 });
      const where = kinds ? s.x[k] : short(s.x[k]);
      pointAt(point, `${s.label}: ${s.shown[k]} at ${where}, seeds ${s.seeds[k]}`, holder);
    });
  }
}

const charts = JSON.parse(document.getElementById("specs").textContent);
const hidden = new Set(), root = document.documentElement;

function draw(chart) {
  const holder = document.getElementById(chart.key), view = chart.views[chart.view];
  holder.replaceChildren();
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  holder.append(tip);
  const series = view.series.filter(s => !(chart.of_members && hidden.has(s.label)));
  if (series.length) (view.bars ? bars : lines)(holder, view, series);
}

function paint(theme) {
  root.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "light" : "dark";
}

document.getElementById("theme").onclick = () => paint(root.dataset.theme === "dark" ? "light" : "dark");
for (const chip of document.querySelectorAll(".chip[data-member]"))
  chip.onclick = () => {
    const member = chip.dataset.member, shown = hidden.delete(member);
    if (!shown) hidden.add(member);
    chip.setAttribute("aria-pressed", shown);
    charts.filter(chart => chart.of_members).forEach(draw);
  };
for (const button of document.querySelectorAll(".view"))
  button.onclick = () => {
    const chart = charts.find(chart => chart.key === button.dataset.chart);
    chart.view = Number(button.dataset.view);
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
    draw(chart);
  };
for (const folded of document.querySelectorAll("details")) folded.ontoggle = () => charts.forEach(draw);

const dark = matchMedia("(prefers-color-scheme: dark)");
dark.onchange = () => paint(dark.matches ? "dark" : "light");
let before;
onbeforeprint = () => {
  before = root.dataset.theme;
  paint("light");
  for (const folded of document.querySelectorAll("details")) folded.open = true;
};
onafterprint = () => paint(before);
let width = innerWidth;
onresize = () => { if (innerWidth !== width) { width = innerWidth; charts.forEach(draw); } };
paint(dark.matches ? "dark" : "light");
charts.forEach(draw);
