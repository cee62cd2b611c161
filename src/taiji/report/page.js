"use strict";
// What a page lets one look through. All text is set as text, never as markup; where a server hands
// the page out, rows come from it, else they stand in the page. Figures are computed as Python does.

const island = JSON.parse(document.getElementById("island").textContent);

const make = (tag, text, kind) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
};
const isolated = (text) => {
  const node = make("bdi", text);
  return node;
};
const parts = (root, name) =>
  Object.fromEntries([...root.querySelectorAll(`[data-${name}]`)].map((n) => [n.dataset[name], n]));
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
const fixed = (value, digits) => (value === null ? "–" : value.toFixed(digits));

// `part` of `whole` in per cent, one digit, halves to even: rendering.share_text in integers.
const shareText = (part, whole) => {
  if (!whole) return "0.0 %";
  let tenths = Math.floor((1000 * part) / whole);
  const rest = 1000 * part - tenths * whole;
  if (2 * rest > whole || (2 * rest === whole && tenths % 2)) tenths += 1;
  return `${Math.floor(tenths / 10)}.${tenths % 10} %`;
};

function slider(root, data) {
  const raw = bytes(data.perplexity);
  const view = new DataView(raw.buffer);
  const may = bytes(data.may);
  const ppl = Float64Array.from(may, (_, n) => view.getFloat64(8 * n, true));
  const known = [...may.keys()].filter((n) => may[n] && ppl[n] > 0);
  if (!known.length) return;
  const sorted = Float64Array.from(known, (n) => ppl[n]).sort();
  const low = Math.log(sorted[0]) - 0.01;
  const high = Math.log(sorted[sorted.length - 1]) + 0.01;
  const at = parts(root, "r");
  const below = (limit) => {
    let from = 0, to = sorted.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if (sorted[middle] < limit) from = middle + 1; else to = middle;
    }
    return from;
  };
  const show = (limit) => {
    const kept = below(limit), was = below(data.limit);
    at.limit.textContent = limit.toFixed(4);
    at.kept.textContent = thousands(kept);
    at.all.textContent = thousands(may.length);
    at.share.textContent = shareText(kept, may.length);
    const more = kept - was;
    at.moved.textContent =
      more === 0 ? "As the run kept them." : more > 0
        ? `${thousands(more)} more than the run kept:` : `${thousands(-more)} of those that the run kept would go:`;
    const [a, b] = limit < data.limit ? [limit, data.limit] : [data.limit, limit];
    const moved = data.texts.filter(([row]) => ppl[row] >= a && ppl[row] < b);
    moved.sort(([x], [y]) => Math.abs(ppl[x] - data.limit) - Math.abs(ppl[y] - data.limit));
    at.chains.replaceChildren(...moved.slice(0, 12).map((chain) => card(chain, more > 0)));
    const rest = Math.abs(more) - Math.min(moved.length, 12);
    if (rest > 0) at.chains.append(make("p", `and ${thousands(rest)} more`, "muted"));
  };
  const card = ([row, user, target, text], gained) => {
    const box = make("div", undefined, `side ${gained ? "kept" : "rejected"}`);
    const head = make("header");
    head.append(make("span", gained ? "would be kept" : "would go", `pill ${gained ? "kept" : "rejected"}`));
    head.append(make("span", `PPL ${ppl[row].toFixed(4)}`));
    const who = make("div", undefined, "small muted");
    who.append(isolated(user), " bought next: ", isolated(target));
    const told = make("div", text, "text");
    told.dir = "auto";
    box.append(head, who, told);
    return box;
  };
  const place = (limit) => {
    const clamped = Math.min(high, Math.max(low, Math.log(limit)));
    at.range.value = Math.round((1000 * (clamped - low)) / (high - low));
  };
  at.range.addEventListener("input", () => {
    const limit = Math.exp(low + (at.range.value / 1000) * (high - low));
    at.number.value = limit;
    show(limit);
  });
  at.number.addEventListener("input", () => {
    const limit = Number(at.number.value);
    if (limit > 0) { place(limit); show(limit); }
  });
  at.reset.addEventListener("click", () => {
    at.number.value = data.limit;
    place(data.limit);
    show(data.limit);
  });
  at.reset.click();
  root.hidden = false;
}

const PAGE = 25;

// Rows that stand in the page, chosen as the server chooses them.
function inPage(data) {
  const place = Object.fromEntries(data.columns.map((name, n) => [name, n]));
  return async (asked) => {
    const words = asked.words.toLowerCase();
    const found = data.rows.filter((row) =>
      (!words || row[place.answer].toLowerCase().includes(words) || row[place.completion].toLowerCase().includes(words))
      && (!asked.user || row[place.user].startsWith(asked.user))
      && (!asked.from || row[place.step] >= Number(asked.from))
      && (!asked.to || row[place.step] <= Number(asked.to))
      && (!asked.rung || row[place.rung] === asked.rung)
      && (!asked.status || row[place.status] === asked.status)
      && (asked.semantic === "" || row[place.semantic] >= Number(asked.semantic))
      && (asked.preference === "" || (row[place.preference] !== null && row[place.preference] >= Number(asked.preference))));
    return { rows: found.slice(asked.page * PAGE, (asked.page + 1) * PAGE), found: found.length };
  };
}

const fromServer = (url) => async (asked) => {
  const answer = await fetch(`${url}?${new URLSearchParams({ ...asked, size: PAGE })}`);
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
  return answer.json();
};

function browser(root, data) {
  const wanted = parts(root, "f"), at = parts(root, "b");
  const ask = data.source ? fromServer(data.source) : inPage(data);
  const place = Object.fromEntries(data.columns.map((name, n) => [name, n]));
  for (const name of ["rung", "status"]) {
    const values = data[`${name}s`] || [...new Set(data.rows.map((row) => row[place[name]]))].sort();
    wanted[name].append(...values.map((value) => { const o = make("option", value); o.value = value; return o; }));
  }
  let page = 0, turn = 0;
  const line = (row) => {
    const tr = make("tr");
    tr.tabIndex = 0;
    const value = (name) => row[place[name]];
    const user = make("td", undefined, "name");
    if (data.users) {
      const link = make("a");
      link.href = data.users + encodeURIComponent(value("user"));
      link.append(isolated(value("user")));
      user.append(link);
    } else user.append(isolated(value("user")));
    const answer = make("td", undefined, "title"), target = make("td", undefined, "title");
    answer.append(isolated(value("answer") || "(none)"));
    target.append(isolated(value("target")));
    tr.append(make("td", value("step")), user, answer, target, make("td", fixed(value("semantic"), 3)),
      make("td", fixed(value("preference"), 3)), make("td", fixed(value("format"), 2)),
      make("td", value("rung"), "name"), make("td", value("status"), "name"));
    const open = () => {
      if (tr.nextSibling && tr.nextSibling.className === "whole") return tr.nextSibling.remove();
      const whole = make("tr", undefined, "whole"), cell = make("td", value("completion"));
      cell.colSpan = 9;
      cell.dir = "auto";
      whole.append(cell);
      tr.after(whole);
    };
    tr.addEventListener("click", (event) => { if (event.target.closest("a") === null) open(); });
    tr.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target === tr) open(); });
    return tr;
  };
  const show = async () => {
    const mine = ++turn;
    const asked = Object.fromEntries(Object.entries(wanted).map(([name, field]) => [name, field.value.trim()]));
    try {
      const { rows, found } = await ask({ ...asked, page });
      if (mine !== turn) return; // an older answer that came late
      at.rows.replaceChildren(...rows.map(line));
      const pages = Math.max(1, Math.ceil(found / PAGE));
      at.count.textContent = `${thousands(found)} rollouts`;
      at.place.textContent = `page ${thousands(page + 1)} of ${thousands(pages)}`;
      at.back.disabled = page === 0;
      at.on.disabled = page + 1 >= pages;
    } catch (error) {
      at.count.textContent = `no answer: ${error.message}`;
    }
  };
  const shown = data.rows ? data.rows.length : data.total;
  at.note.textContent = shown < data.total
    ? `of ${thousands(shown)} spread over the ${thousands(data.total)} of the run; taiji ui looks through all`
    : `of ${thousands(data.total)}; a row opens to its whole text`;
  let wait;
  for (const field of Object.values(wanted))
    field.addEventListener("input", () => { page = 0; clearTimeout(wait); wait = setTimeout(show, data.source ? 200 : 0); });
  at.back.addEventListener("click", () => { page -= 1; show(); });
  at.on.addEventListener("click", () => { page += 1; show(); });
  show();
  root.hidden = false;
}

function cardFilter(root) {
  const at = parts(root, "c");
  const cards = [...document.querySelectorAll("details.card")];
  const kinds = ["taught", "rewarded", "asked", "tail"];
  const show = () => {
    const words = at.words.value.trim().toLowerCase();
    const needed = kinds.filter((kind) => at[kind].checked);
    let number = 0;
    for (const card of cards) {
      const has = card.dataset.parts.split(" ");
      card.hidden = !(needed.every((kind) => has.includes(kind)) && card.textContent.toLowerCase().includes(words));
      number += !card.hidden;
    }
    at.count.textContent = `${number} of ${cards.length}`;
  };
  root.addEventListener("input", show);
  show();
  root.hidden = false;
}

// A line for each series over steps, in the page's own colours.
function curves(title, series) {
  const box = make("figure"), caption = make("figcaption");
  caption.append(make("b", title));
  const NS = "http://www.w3.org/2000/svg", W = 340, H = 150, M = 34;
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", title);
  const all = Object.values(series).flat();
  const xs = all.map((p) => p[0]), ys = all.map((p) => p[1]);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const px = (x) => M + ((W - M - 8) * (x - x0)) / (x1 - x0 || 1);
  const py = (y) => H - 18 - ((H - 30) * (y - y0)) / (y1 - y0 || 1);
  const colours = ["var(--semantic)", "var(--preference)", "var(--kept)", "var(--rejected)"];
  const add = (tag, attributes, text) => {
    const node = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    svg.append(node);
  };
  Object.entries(series).forEach(([name, points], n) => {
    add("polyline", { points: points.map(([x, y]) => `${px(x)},${py(y)}`).join(" "), fill: "none", stroke: colours[n % 4], "stroke-width": 2 });
    caption.append(" ", Object.assign(make("span", `${name} ${points[points.length - 1][1].toPrecision(3)}`), { className: `series s${n % 4}` }));
  });
  add("text", { x: 0, y: 14, class: "tick" }, y1.toPrecision(3));
  add("text", { x: 0, y: H - 18, class: "tick" }, y0.toPrecision(3));
  add("text", { x: M, y: H - 2, class: "tick" }, `step ${x0} to ${x1}`);
  box.append(caption, svg);
  return box;
}

function live(root, url) {
  const at = parts(root, "live");
  const ask = async () => {
    let next = 3000;
    try {
      const answer = await fetch(url);
      const state = await answer.json();
      if (!state.stage) {
        if (!root.hidden) location.reload(); // it has finished: its figures are in the page now
        next = 10000;
      } else {
        at.stage.textContent = state.stage;
        at.words.textContent = state.words;
        const drawn = Object.entries(state.curves).filter(([, series]) => Object.keys(series).length);
        at.charts.replaceChildren(...drawn.map(([title, series]) => curves(title, series)));
        at.latest.hidden = !state.rollouts.length;
        at.latest.querySelector("tbody").replaceChildren(...state.rollouts.map(([step, user, answered, semantic, preference]) => {
          const tr = make("tr"), who = make("td", undefined, "name"), what = make("td", undefined, "title"), link = make("a");
          link.href = state.users + encodeURIComponent(user);
          link.append(isolated(user));
          who.append(link);
          what.append(isolated(answered || "(none)"));
          tr.append(make("td", step), who, what, make("td", fixed(semantic, 3)), make("td", fixed(preference, 3)));
          return tr;
        }));
        root.hidden = false;
      }
    } catch {
      next = 10000; // the server has gone; it may come back
    }
    setTimeout(ask, next);
  };
  ask();
}

const here = (id) => document.getElementById(id);
if (here("what-if-r") && island.chains) slider(here("what-if-r"), island.chains);
if (here("browser") && island.rollouts) browser(here("browser"), island.rollouts);
if (here("card-filter")) cardFilter(here("card-filter"));
if (here("live") && island.live) live(here("live"), island.live);
