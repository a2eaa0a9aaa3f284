// The page of src/score.py: the text by surprise or by a cell of the state.

const data = JSON.parse(byId("data").textContent);
const states = data.states.map(state => ({ ...state, values: new Int8Array(Uint8Array.from(atob(state.values), c => c.charCodeAt(0)).buffer) }));

const text = new Coloured(byId("text"), byId("card"), (card, index) => {
  const expected = data.likeliest[index].map((id, k) => [data.labels[id], data.probability[index][k]]);
  tellExpected(card, data.labels[data.ids[index]], data.nll[index], data.rank[index], expected);
  const value = chosenValue(index);
  if (state()) make(card, "p", `${byId("mode").selectedOptions[0].textContent}, cell ${byId("cell").value}: ${value === null ? "not on this page" : value.toFixed(2)}`);
  mark(index);
});

make(text.holder, "b", data.lead.replace(/\n/g, "\u21b5\n"), { class: "begin" });
const begins = new Map(data.begins);
data.pieces.forEach((piece, index) => {
  if (begins.has(index)) make(text.holder, "b", `${index && !data.pieces[index - 1].endsWith("\n") ? "\n" : ""}${begins.get(index)}: `, { class: "begin" });
  text.push(piece);
});

const mode = byId("mode");
states.forEach((each, number) => {
  for (let layer = 0; layer < each.layers; layer++)
    make(mode, "option", `${each.name}${each.layers > 1 ? `, layer ${layer + 1}` : ""}`, { value: `${number} ${layer}` });
});

function state() {
  if (mode.value === "surprise") return null;
  const [number, layer] = mode.value.split(" ").map(Number);
  return { ...states[number], layer };
}

function chosenValue(index) {
  const chosen = state();
  if (!chosen) return data.nll[index];
  if (index >= chosen.steps) return null;
  const cell = Math.min(chosen.cells, Math.max(1, Math.round(Number(byId("cell").value)) || 1)) - 1;
  return chosen.values[(index * chosen.layers + chosen.layer) * chosen.cells + cell] / 127;
}

function show() {
  const chosen = state();
  byId("which").hidden = !chosen;
  if (chosen) byId("cell").max = chosen.cells;
  text.colour(index => { const value = chosenValue(index); return value === null ? "" : chosen ? signed(value) : heat(value); });
  line(byId("trace"), data.pieces.map((_, index) => [index, chosenValue(index)]).filter(([, value]) => value !== null),
    chosen ? [-1, 1] : null, chosen ? "cell" : "nats", "symbol on this page");
  if (text.chosen >= 0) mark(text.chosen);
}

const SVG = "http://www.w3.org/2000/svg", WIDTH = 900, HEIGHT = 130, LEFT = 44, BELOW = 32;

function draw(parent, name, attributes, words = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = words;
  parent.append(element);
  return element;
}

function line(holder, points, range, unit, axis) {  // a curve with its lowest and highest values
  holder.replaceChildren();
  const svg = draw(holder, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT + BELOW}`, role: "img", "aria-label": unit });
  const xs = points.map(point => point[0]), ys = points.map(point => point[1]);
  const [low, high] = range || [ys.reduce((a, b) => Math.min(a, b), 0), ys.reduce((a, b) => Math.max(a, b), 1e-9)];
  const x = value => LEFT + (WIDTH - LEFT - 8) * (value - xs[0]) / ((xs[xs.length - 1] - xs[0]) || 1);
  const y = value => 8 + (HEIGHT - 16) * (high - value) / ((high - low) || 1);
  for (const value of [low, (low + high) / 2, high]) {
    draw(svg, "line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) });
    draw(svg, "text", { class: "tick", x: LEFT - 4, y: y(value) + 4, "text-anchor": "end" }, Number(value.toPrecision(2)));
  }
  draw(svg, "text", { class: "tick", x: LEFT, y: HEIGHT + 14 }, xs[0].toLocaleString("en"));
  draw(svg, "text", { class: "tick", x: WIDTH, y: HEIGHT + 14, "text-anchor": "end" }, xs[xs.length - 1].toLocaleString("en"));
  draw(svg, "text", { class: "tick", x: WIDTH / 2, y: HEIGHT + 14, "text-anchor": "middle" }, `${axis} (y: ${unit})`);
  draw(svg, "path", { class: "way", d: points.map(([a, b], k) => `${k ? "L" : "M"}${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("") });
  svg.place = x;
}

function mark(index) {
  const svg = byId("trace").querySelector("svg");
  svg.querySelectorAll(".mark").forEach(old => old.remove());
  draw(svg, "line", { class: "mark", x1: svg.place(index), x2: svg.place(index), y1: 0, y2: HEIGHT });
}

function jump(parent, at, words) {
  if (at === null) return make(parent, "span", words, { class: "soft" });
  const button = make(parent, "button", words, { type: "button" });
  button.addEventListener("click", () => text.choose(at, true));
  return button;
}

function tellPlace(row, place) {
  const words = make(row, "td", "", { class: "text" });
  make(words, "code", `\u2026${place.before}`);
  make(words, "mark", visible(place.piece));
  make(row, "td", place.expected, { class: "text" });
}

for (const place of data.worst) {
  const row = make(byId("worst"), "tr");
  jump(make(row, "th"), place.at, place.place);
  make(row, "td", place.nll.toFixed(2));
  tellPlace(row, place);
}
for (const one of data.cases) {
  const row = make(byId("cases"), "tr");
  jump(make(row, "th"), one.at, one.name);
  make(row, "td", one.nll.toFixed(3));
  make(row, "td", one.steps.toLocaleString("en"));
  tellPlace(row, one.worst);
}
byId("by-case").hidden = !data.cases.length;
byId("curve-title").textContent = data.curve.title;
line(byId("curve"), data.curve.points, null, "nats", data.cases.length ? "step" : "place in the text");
mode.addEventListener("input", show);
byId("cell").addEventListener("input", () => { show(); if (text.chosen >= 0) text.choose(text.chosen); });
themed();
show();
