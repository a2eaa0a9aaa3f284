// A generator in the browser: weights, codec, steps and draws. No step needs anything but this page.

const model = JSON.parse(byId("model").textContent);

function numbers(text) {  // the upper 24 bits of float32, the lowest byte first, in base64
  const letters = atob(text), bytes = new Uint8Array(letters.length / 3 * 4);
  for (let k = 0, n = 1; k < letters.length; k++, n += k % 3 ? 1 : 2) bytes[n] = letters.charCodeAt(k);
  return new Float32Array(bytes.buffer);
}

const weights = {};
{
  const values = numbers(byId("weights").textContent);
  let first = 0;
  for (const [name, shape] of model.weights) {
    const size = shape.reduce((a, b) => a * b, 1);
    weights[name] = { values: values.subarray(first, first + size), rows: shape[0], columns: shape[1] || 1 };
    first += size;
  }
  if (model.tied) weights["head.weight"] = weights["reader.weight"];
}

function product(matrix, x, into) {  // into += matrix x
  const { values, rows, columns } = matrix;
  for (let r = 0, k = 0; r < rows; r++) {
    let sum = 0;
    for (let c = 0; c < columns; c++, k++) sum += values[k] * x[c];
    into[r] += sum;
  }
  return into;
}

const sigmoid = x => 1 / (1 + Math.exp(-x));
const H = model.hidden, gates = model.kind === "lstm" ? 4 : 3;

class Generator {
  constructor() {
    this.inputs = new Map();  // of the first layer by id, computed when first needed
    this.restart();
  }

  restart() {
    this.h = model.layers.map(() => new Float64Array(H));
    this.c = model.layers.map(() => new Float64Array(H));
  }

  first(id) {
    if (!this.inputs.has(id)) {
      const own = weights["core.weight_ih_l0"], into = Float64Array.from(weights["core.bias_ih_l0"].values);
      if (model.embedded) {
        const table = weights["reader.weight"];
        product(own, table.values.subarray(id * table.columns, (id + 1) * table.columns), into);
      } else for (let r = 0; r < own.rows; r++) into[r] += own.values[r * own.columns + id];
      this.inputs.set(id, into);
    }
    return this.inputs.get(id);
  }

  step(id) {  // reads a symbol, and returns the logits of the next one
    let x = null;
    model.layers.forEach((_, layer) => {
      const bias = weights[`core.bias_ih_l${layer}`].values;
      const input = layer ? product(weights[`core.weight_ih_l${layer}`], x, Float64Array.from(bias)) : this.first(id);
      const own = product(weights[`core.weight_hh_l${layer}`], this.h[layer], Float64Array.from(weights[`core.bias_hh_l${layer}`].values));
      x = this.h[layer] = (model.kind === "lstm" ? this.lstm : this.gru).call(this, layer, input, own);
    });
    return product(weights["head.weight"], x, Float64Array.from(weights["head.bias"].values));
  }

  lstm(layer, input, own) {  // gates in PyTorch's order i, f, g, o
    const c = this.c[layer], h = new Float64Array(H);
    for (let k = 0; k < H; k++) {
      c[k] = sigmoid(input[H + k] + own[H + k]) * c[k] + sigmoid(input[k] + own[k]) * Math.tanh(input[2 * H + k] + own[2 * H + k]);
      h[k] = sigmoid(input[3 * H + k] + own[3 * H + k]) * Math.tanh(c[k]);
    }
    return h;
  }

  gru(layer, input, own) {  // gates in PyTorch's order r, z, n
    const h = new Float64Array(H);
    for (let k = 0; k < H; k++) {
      const z = sigmoid(input[H + k] + own[H + k]);
      const n = Math.tanh(input[2 * H + k] + sigmoid(input[k] + own[k]) * own[2 * H + k]);
      h[k] = (1 - z) * n + z * this.h[layer][k];
    }
    return h;
  }
}

function shares(logits, temperature = 1) {
  let largest = -Infinity;
  for (const logit of logits) largest = Math.max(largest, logit);
  const values = logits.map(logit => Math.exp((logit - largest) / temperature));
  const sum = values.reduce((a, b) => a + b, 0);
  return values.map(value => value / sum);
}

function draw(logits, temperature, minP, random) {  // never the unknown symbol
  const known = Float64Array.from(logits);
  known[0] = -Infinity;
  if (temperature === 0) return known.indexOf(known.reduce((a, b) => Math.max(a, b)));
  const p = shares(known, temperature), least = minP * p.reduce((a, b) => Math.max(a, b), 0);
  let left = random() * p.reduce((sum, value) => sum + (value >= least ? value : 0), 0), last = 1;
  for (let id = 1; id < p.length; id++) {
    if (p[id] < least) continue;
    last = id;
    left -= p[id];
    if (left <= 0) break;
  }
  return last;
}

function seeded(seed) {  // mulberry32
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// The codec: a text as ids, and ids as text.

const known = new Map(model.symbols.map((symbol, k) => [symbol, k + 1]));
const between = model.between || " ";

function encode(text) {
  if (model.codec === "bytes") return Array.from(new TextEncoder().encode(text), byte => byte + 1);
  let parts = Array.from(text);
  if (model.codec === "words") parts = text.replace(/\n/g, " <eos> ").split(/\s+/).filter(part => part);
  if (model.codec === "symbols") parts = (between === " " ? text.split(/\s+/) : text.split(between.trim() || between).map(part => part.trim())).filter(part => part);
  return parts.map(part => known.has(part) ? known.get(part) : model.unknown);
}

function label(id) {
  if (id === model.end) return "(end)";
  if (model.codec !== "bytes") return id ? model.symbols[id - 1] : "\ufffd";
  return id > 32 && id < 128 ? String.fromCharCode(id - 1) : id === 11 ? "\n" : `\\x${(id - 1).toString(16).padStart(2, "0")}`;
}

class Pieces {  // the text of ids, one after the other
  constructor() {
    this.before = "";
    this.decoder = new TextDecoder("utf-8");
  }

  of(id) {
    if (id === model.end) { this.before = ""; return "\n"; }
    if (model.codec === "bytes") return this.decoder.decode(Uint8Array.of(id ? id - 1 : 255), { stream: true }) || "\u00b7";
    const text = label(id);
    if (model.codec === "characters") return text;
    const line = model.codec === "words" && text === "<eos>", piece = line ? "\n" : this.before + text;
    this.before = line ? "" : between;
    return piece;
  }
}

// The page.

const net = new Generator(), MOST = 20000;
let logits = null, pieces = new Pieces(), read = [];
let working = 0;  // the number of the work that goes on now; a stop or other work makes it another one

const text = new Coloured(byId("text"), byId("card"), (card, index) => {
  const { id, nll, rank, expected } = read[index];
  if (nll === null) make(card, "p", `${visible(label(id))}: the first symbol, which nothing predicts`);
  else tellExpected(card, label(id), nll, rank, expected);
});

function take(id) {  // reads a symbol and shows it
  let told = { id, nll: null, rank: 0, expected: [] };
  if (logits) {
    const p = shares(logits), order = Array.from(p.keys()).sort((a, b) => p[b] - p[a]);
    told = { id, nll: -Math.log(p[id]), rank: order.indexOf(id) + 1, expected: order.slice(0, 5).map(k => [label(k), p[k]]) };
  }
  read.push(told);
  text.push(pieces.of(id));
  text.spans[text.spans.length - 1].style.background = told.nll === null ? "" : heat(told.nll);
  if (id === model.end && !model.joined) net.restart();
  logits = net.step(id);
}

function* given(prompt) {  // reads a text from its beginning, a symbol each time
  text.clear();
  net.restart();
  [logits, pieces, read] = [null, new Pieces(), []];
  if (model.end !== null) logits = net.step(model.end);
  const ids = encode(prompt);
  for (const id of (ids.length || model.end !== null ? ids : [encode("\n")[0] || 1]).slice(0, MOST)) yield take(id);
}

function* drawn() {  // writes on, a symbol each time
  const temperature = number("temperature"), minP = number("min-p"), random = seeded(number("seed"));
  for (let left = Math.min(number("length"), MOST - read.length); left > 0; left--) yield take(draw(logits, temperature, minP, random));
  byId("seed").value = number("seed") + 1;
}

function summarise() {
  const scored = read.filter(each => each.nll !== null), mean = scored.reduce((sum, each) => sum + each.nll, 0) / scored.length;
  byId("summary").textContent = scored.length ? `${scored.length.toLocaleString("en")} symbols, ${mean.toFixed(3)} nats each (perplexity ${Math.exp(mean).toFixed(2)})` : "";
}

function number(name) {  // what a person has typed, put back to the nearest value that is allowed
  const box = byId(name), typed = box.value.trim() === "" ? NaN : Number(box.value);
  const value = Number.isFinite(typed) ? typed : Number(box.defaultValue);
  const low = box.min === "" ? -Infinity : Number(box.min), high = box.max === "" ? Infinity : Number(box.max);
  box.value = Math.min(high, Math.max(low, box.step === "1" ? Math.round(value) : value));
  return Number(box.value);
}

function work(...parts) {  // in pieces that leave the page alive; other work takes its place
  const mine = ++working, steps = (function* () { for (const part of parts) yield* part; })();
  for (const name of ["length", "temperature", "min-p", "seed"]) number(name);
  byId("stop").hidden = false;
  const frame = () => {
    if (mine !== working) return;
    const until = performance.now() + 14;
    let over = false;
    while (!over && performance.now() < until) over = steps.next().done;
    text.holder.scrollTop = text.holder.scrollHeight;
    summarise();
    if (over) stop(); else requestAnimationFrame(frame);
  };
  frame();
}

function stop() {
  working++;
  byId("stop").hidden = true;
}

byId("write").addEventListener("click", () => work(given(byId("prompt").value), drawn()));
byId("more").addEventListener("click", () => {
  if (byId("stop").hidden) work(...(logits ? [] : [given(byId("prompt").value)]), drawn());
});
byId("score").addEventListener("click", () => work(given(byId("prompt").value)));
byId("stop").addEventListener("click", stop);
themed();
