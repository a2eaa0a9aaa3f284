"use strict";
// Symbols with a background by a value, and a card about the one that is pointed at. Every text is set as text, never as markup.

const byId = id => document.getElementById(id);

function make(parent, name, text = "", attributes = {}) {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function visible(text) {
  return text.replace(/ /g, "\u2423").replace(/\n/g, "\u21b5").replace(/\t/g, "\u21e5") || "\u2205";
}

function heat(nll) {  // from nothing at 0 to full at 8 nats
  const share = Math.min(1, Math.max(0, nll) / 8);
  return share < 0.03 ? "" : `rgb(222 84 24 / ${(0.08 + 0.8 * share).toFixed(3)})`;
}

function signed(value) {  // blue below 0, orange above
  const share = Math.min(1, Math.abs(value));
  return share < 0.03 ? "" : `rgb(${value < 0 ? "58 124 226" : "222 124 24"} / ${(0.85 * share).toFixed(3)})`;
}

class Coloured {
  // holder: where the text goes; card: where a symbol is told about; tell(card, index): writes it.
  constructor(holder, card, tell) {
    Object.assign(this, { holder, card, tell, spans: [], chosen: -1 });
    holder.tabIndex = 0;
    const point = event => {
      const index = event.target.dataset && event.target.dataset.at;
      if (index !== undefined && Number(index) !== this.chosen) this.choose(Number(index));
    };
    holder.addEventListener("mousemove", point);  // not mouseover: text that scrolls below the pointer is not pointed at
    holder.addEventListener("click", point);
    holder.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.choose(Math.min(this.spans.length - 1, Math.max(0, this.chosen + step)), true);
    });
  }

  clear() {
    this.holder.replaceChildren();
    this.card.replaceChildren();
    this.spans = [];
    this.chosen = -1;
  }

  push(piece) {  // a line break is shown, and breaks the line
    const text = piece.replace(/\n/g, "\u21b5\n");
    this.spans.push(make(this.holder, "span", text, { "data-at": this.spans.length }));
  }

  colour(colour) {
    this.spans.forEach((span, index) => { span.style.background = colour(index); });
  }

  choose(index, scroll = false) {
    if (!this.spans[index]) return;
    if (this.spans[this.chosen]) this.spans[this.chosen].classList.remove("chosen");
    this.chosen = index;
    this.spans[index].classList.add("chosen");
    if (scroll) this.spans[index].scrollIntoView({ block: "center" });
    this.card.replaceChildren();
    this.tell(this.card, index);
  }
}

function tellExpected(card, symbol, nll, rank, expected) {  // expected: pairs of a symbol and its probability
  const head = make(card, "p");
  make(head, "b", visible(symbol));
  const share = Math.exp(-nll);
  head.append(` ${nll.toFixed(2)} nats, probability ${percent(share)}, ${rank === 1 ? "the likeliest" : `${rank - 1} were likelier`}`);
  const list = make(card, "ol", "", { class: "expected" });
  for (const [text, probability] of expected) {
    const item = make(list, "li");
    make(item, "code", visible(text));
    make(item, "i", "", { style: `width: ${(100 * probability).toFixed(1)}%` });
    make(item, "span", percent(probability));
  }
}

function percent(share) {
  return share >= 0.1 ? `${(100 * share).toFixed(0)} %` : share >= 0.001 ? `${(100 * share).toFixed(1)} %` : "below 0.1 %";
}

function themed() {  // as the system is, until the button is used
  const button = byId("theme"), root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark() ? "light" : "dark"; };
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  name();
}
