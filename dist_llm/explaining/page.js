"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const options = [...document.querySelectorAll("[role=option]")];
const text = byId("text");
const radios = [...document.querySelectorAll("[name=head]")];
const n = options.length;
const longest = Math.max(...data.lengths.flat());
const triangle = n * (n + 1) / 2; // weights of a head: those of a later token are none

// What a click or a key has chosen, and what is shown: that, or what the pointer is on.
let kept = {
  token: options.findIndex((option) => option.tabIndex === 0),
  head: radios.findIndex((radio) => radio.checked),
};
let seen = { ...kept };
let weights = null; // a byte each, 255 times the square root

const root = (head, query, key) => weights[head * triangle + query * (query + 1) / 2 + key] / 255;
const weight = (head, query, key) => root(head, query, key) ** 2;
const named = (head) => `layer ${Math.floor(head / data.heads) + 1}, head ${head % data.heads + 1}`;
const count = (number) => number.toLocaleString("en");
const percent = (p) => (p >= 0.1 ? `${Math.round(100 * p)} %` : p >= 0.0005 ? `${(100 * p).toFixed(1)} %` : "< 0.1 %");

// Elements

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function written(text) {
  const parts = text.split(/([␣⏎⇥]+)/).map((part, i) => (i % 2 ? element("i", {}, part) : part));
  return element("b", { className: "piece" }, ...parts);
}

const piece = (token) => written(data.pieces[data.tokens[token]]);

function row(shown, share, note = "") {
  const bar = element("span", { className: "bar" });
  bar.style.setProperty("--x", share);
  const words = note ? element("span", {}, shown, " ", element("small", {}, note)) : element("span", {}, shown);
  return element("li", { className: note ? "found" : "" }, words, bar, element("span", {}, percent(share)));
}

// What belongs to the token

function showSurprise({ token }) {
  byId("chosen").replaceChildren(...piece(token).childNodes);
  if (token === 0) {
    byId("surprise").textContent = "The first: nothing stands before it to predict it from.";
    return;
  }
  const [likeliest, chance] = [data.likely[token - 1][0], data.probabilities[token - 1][0]];
  const better = ["; the first was ", written(data.pieces[likeliest]), ` with ${percent(chance)}.`];
  byId("surprise").replaceChildren(
    element("b", {}, `${data.bits[token].toFixed(1)} bits`),
    ` of surprise at place ${token}: it was number ${count(data.ranks[token])} of what the model expected, with `,
    percent(2 ** -data.bits[token]), ...(data.ranks[token] === 1 ? ["."] : better),
  );
}

function showNext({ token }) {
  const [follows, bits, rank] = [data.tokens, data.bits, data.ranks].map((of) => of[token + 1]);
  const rows = data.likely[token].map((likely, i) =>
    row(written(data.pieces[likely]), data.probabilities[token][i], likely === follows ? "in the text" : ""));
  if (follows !== undefined && !data.likely[token].includes(follows))
    rows.push(row(piece(token + 1), 2 ** -bits, `in the text, number ${count(rank)}`));
  byId("next").replaceChildren(...rows);
}

function showResidual({ token }) {
  const bars = byId("residual").querySelectorAll(".bar");
  for (const [i, bar] of bars.entries()) {
    bar.style.setProperty("--x", data.lengths[token][i] / longest);
    bar.nextElementSibling.textContent = data.lengths[token][i].toPrecision(3);
  }
  const length = data.stream[token].toPrecision(3);
  byId("stream").textContent = `Added up, as vectors, they are the last residual stream, of length ${length}.`;
}

function showClocks({ token }) {
  for (const clock of byId("clocks").children) {
    const turns = token * clock.dataset.turn;
    clock.querySelector(".clock").style.setProperty("--phase", turns % 1);
    const figure = turns < 0.1 && turns ? turns.toPrecision(1) : turns.toFixed(2);
    clock.querySelector(".figure").textContent = `${figure} turns`;
  }
}

// What belongs to token and head

function showAttention({ token, head }) {
  if (!weights) return;
  for (const [key, option] of options.entries()) {
    const share = key <= token ? root(head, token, key) : 0;
    option.style.setProperty("--attended", share > 0.1 ? share : 0); // from 1 % on
  }
  byId("head-title").textContent = named(head).replace("l", "L");
  const line = byId("map").querySelector(".row").style;
  line.setProperty("--top", token / n);
  line.setProperty("--height", 1 / n);
  line.setProperty("--width", (token + 1) / n);
  const keys = [...Array(token + 1).keys()].sort((a, b) => weight(head, token, b) - weight(head, token, a));
  byId("attended").replaceChildren(...keys.slice(0, 5).map((key) => row(piece(key), weight(head, token, key))));
}

function draw(canvas, head) {
  const context = canvas.getContext("2d");
  const [red, green, blue] = getComputedStyle(document.documentElement).getPropertyValue("--series-0").trim().slice(1)
    .match(/../g).map((hex) => parseInt(hex, 16));
  canvas.width = canvas.height = n;
  canvas.style.imageRendering = n > canvas.clientWidth ? "auto" : "pixelated";
  const image = context.createImageData(n, n);
  for (let query = 0; query < n; query += 1)
    for (let key = 0; key <= query; key += 1)
      image.data.set([red, green, blue, 255 * root(head, query, key)], 4 * (query * n + key));
  context.putImageData(image, 0, 0);
}

function drawMaps() {
  for (const [head, radio] of radios.entries()) draw(radio.nextElementSibling, head);
  draw(byId("map").firstElementChild, seen.head);
}

// Choosing

function show(change) {
  const before = seen;
  seen = { ...seen, ...change };
  options[before.token].classList.remove("chosen");
  options[seen.token].classList.add("chosen");
  for (const part of [showSurprise, showNext, showResidual, showClocks, showAttention]) part(seen);
  if (weights && before.head !== seen.head) draw(byId("map").firstElementChild, seen.head);
}

function keep(change) {
  options[kept.token].tabIndex = -1;
  options[kept.token].ariaSelected = "false";
  kept = { ...kept, ...change };
  options[kept.token].tabIndex = 0;
  options[kept.token].ariaSelected = "true";
  radios[kept.head].checked = true;
  show(kept);
  const { offsetTop } = options[kept.token];
  if (offsetTop < text.scrollTop || offsetTop + 30 > text.scrollTop + text.clientHeight)
    text.scrollTop = offsetTop - text.clientHeight / 2;
}

function inNextLine(token, down) {
  const box = (option) => option.getClientRects()[0];
  const from = box(options[token]);
  const beyond = options.filter((option) => (down ? box(option).top > from.top + 3 : box(option).top < from.top - 3));
  const distance = (option) => 1000 * Math.abs(box(option).top - from.top) + Math.abs(box(option).left - from.left);
  return beyond.length ? options.indexOf(beyond.reduce((a, b) => (distance(b) < distance(a) ? b : a))) : token;
}

text.addEventListener("pointerover", ({ target }) => {
  const token = options.indexOf(target.closest("[role=option]"));
  if (token >= 0) show({ token });
});
text.addEventListener("pointerleave", () => show(kept));
text.addEventListener("click", ({ target }) => {
  const token = options.indexOf(target.closest("[role=option]"));
  if (token >= 0) keep({ token });
});
text.addEventListener("keydown", (event) => {
  const { token } = kept;
  const moves = {
    ArrowLeft: token - 1, ArrowRight: token + 1, Home: 0, End: n - 1,
    ArrowUp: inNextLine(token, false), ArrowDown: inNextLine(token, true),
  };
  if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keep({ token: Math.min(Math.max(moves[event.key], 0), n - 1) });
  options[kept.token].focus();
});

const maps = byId("maps");
maps.addEventListener("pointerover", ({ target }) => {
  const radio = target.closest("label")?.querySelector("input");
  show({ ...kept, head: radio ? Number(radio.value) : kept.head });
});
maps.addEventListener("pointerleave", () => show(kept));
maps.addEventListener("change", ({ target }) => keep({ head: Number(target.value) }));
maps.addEventListener("keydown", (event) => { // up and down: the same head of another layer
  const head = kept.head + data.heads * ({ ArrowUp: -1, ArrowDown: 1 }[event.key] ?? 0);
  if (head === kept.head) return;
  event.preventDefault();
  if (!radios[head]) return;
  keep({ head });
  radios[head].focus();
});

const map = byId("map");
const atRest = byId("pair").textContent;
const unpoint = () => options.forEach((option) => option.classList.remove("pointed"));
map.addEventListener("pointermove", (event) => {
  const box = map.getBoundingClientRect();
  const place = (share) => Math.min(Math.max(Math.floor(share * n), 0), n - 1);
  const [query, key] = [place((event.clientY - box.top) / box.height), place((event.clientX - box.left) / box.width)];
  unpoint();
  show({ token: query });
  if (key > query) byId("pair").textContent = "No token looks ahead.";
  else {
    options[key].classList.add("pointed");
    const share = percent(weight(seen.head, query, key));
    byId("pair").replaceChildren(piece(query), " looks back to ", piece(key), `: ${share}`);
  }
});
map.addEventListener("pointerleave", () => {
  unpoint();
  byId("pair").textContent = atRest;
  show(kept);
});
map.addEventListener("click", () => keep({ token: seen.token }));

keep(kept);
(async () => {
  const packed = Uint8Array.from(atob(data.attention), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  weights = new Uint8Array(await new Response(stream).arrayBuffer());
  drawMaps();
  show(kept);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMaps);
})();
