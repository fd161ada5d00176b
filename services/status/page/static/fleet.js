// The page of the fleet: keeps a copy of the matrix current, filters it, and moves in it.
import * as connection from "./connection.js";
import { Matrix } from "./matrix.js";
import { count, duration, size } from "./words.js";

const by = (id) => document.getElementById(id);
const [box, list, empty, loading, inspector] = ["matrix", "list", "empty", "loading", "inspector-text"].map(by);
const matrix = new Matrix(box, by("canvas"), by("extent"));
const filter = by("filter");
const onlyButtons = [...document.querySelectorAll("[data-only]")];
const SHOWN = {
  nothing: "not meant for this node",
  moving: "downloading",
  waiting: "waiting",
  ready: "ready",
  failed: "failed",
  unreachable: "unreachable",
  leftover: "no longer wanted",
  evicted: "evicted",
};
const [STATE, READY, DESIRED, FAILED, MOVING, RATE, LEFT, ETA, REASON, WHY] = Array(10).keys();
let models = [];
let lines = [];
let fitted = false;
let view = "matrix";
try {
  view = localStorage.getItem("view") ?? (matchMedia("(max-width: 44rem)").matches ? "list" : "matrix");
} catch {
  // Without storage the page begins with the matrix.
}

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const addressOf = (model) =>
  `/models/${[model.plural, model.namespace, model.title].filter(Boolean).map(encodeURIComponent).join("/")}`;

function takeAll(message) {
  models = message.models.map(([plural, namespace, title, bytes], number) => ({
    number,
    plural,
    namespace,
    title,
    bytes,
    name: namespace ? `${namespace}/${title}` : title,
    key: `${plural}/${namespace}/${title}`,
  }));
  lines = message.lines;
  models.forEach(name);
  matrix.show(models, message.nodes, message.cells.map(bytesOf), message.codes);
  loading.hidden = true;
  if (!fitted && message.nodes.length) {
    matrix.fit();
    fitted = true;
  }
  choose();
}

function takeChanges(message) {
  for (const [row, line] of message.lines ?? []) {
    lines[row] = line;
    name(models[row]);
  }
  for (const [row, cells] of message.rows ?? []) matrix.setRow(row, bytesOf(cells));
  const cells = message.cells ?? [];
  for (let at = 0; at < cells.length; at += 3) matrix.set(cells[at], cells[at + 1], cells[at + 2]);
  matrix.draw();
  if (filter.value || only()) choose();
  else tell();
}

// What stands beside a row.
function name(model) {
  const line = lines[model.number];
  const partly = line[READY] < line[DESIRED] && !line[MOVING] ? "waiting" : "moving";
  model.colour = line[FAILED] ? "failed" : line[STATE] === "Ready" && line[READY] === line[DESIRED] ? "ready" : line[STATE] === "Failed" ? "failed" : partly;
  model.figures = line[DESIRED] ? `${count(line[READY])}/${count(line[DESIRED])}` : "";
}

const only = () => onlyButtons.find((button) => button.getAttribute("aria-pressed") === "true")?.dataset.only ?? "";

function isState(number, wanted) {
  const line = lines[number];
  switch (wanted) {
    case "failed":
    case "failing":
      return line[FAILED] > 0 || line[STATE] === "Failed";
    case "moving":
    case "downloading":
      return line[MOVING] > 0;
    case "waiting":
      return line[READY] + line[FAILED] + line[MOVING] < line[DESIRED] || (line[STATE] === "Creating" && !line[MOVING]);
    case "ready":
      return line[STATE] === "Ready" && line[READY] === line[DESIRED];
    default:
      return false;
  }
}

// Which rows and columns the filter leaves.
function choose() {
  let rows = models.map((model) => model.number);
  let columns = matrix.nodes.map((_, number) => number);
  for (const term of filter.value.toLowerCase().split(/\s+/).filter(Boolean)) {
    if (term.startsWith("node:")) {
      columns = columns.filter((number) => matrix.nodes[number].toLowerCase().includes(term.slice(5)));
    } else if (term.startsWith("is:")) rows = rows.filter((number) => isState(number, term.slice(3)));
    else rows = rows.filter((number) => `${models[number].name} ${lines[number][REASON]}`.toLowerCase().includes(term));
  }
  if (only()) rows = rows.filter((number) => isState(number, only()));
  const same = String(rows) === String(matrix.rows) && String(columns) === String(matrix.columns);
  if (!same) {
    matrix.hovered = null;
    matrix.select(rows, columns);
    box.scrollTop = 0;
  }
  tell();
}

function figure(id, text, small = "", alarm = false) {
  const place = by(id);
  if (place.dataset.text === `${text}${small}`) return;
  place.dataset.text = `${text}${small}`;
  place.dataset.alarm = alarm;
  place.textContent = text;
  if (small) {
    const minor = document.createElement("small");
    minor.textContent = small;
    place.append(minor);
  }
}

// The figures, the list and what a screen reader is told.
function tell() {
  const sum = (index) => lines.reduce((total, line) => total + line[index], 0);
  const isReady = lines.filter((line) => line[STATE] === "Ready").length;
  const [rate, left, failed, moving] = [sum(RATE), sum(LEFT), sum(FAILED), sum(MOVING)];
  figure("figure-models", count(isReady), ` / ${count(models.length)}`);
  figure("figure-copies", count(sum(READY)), ` / ${count(sum(DESIRED))}`);
  figure("figure-moving", count(moving));
  figure("figure-failed", count(failed), "", failed > 0);
  figure("figure-rate", rate ? `${size(rate)}/s` : "–");
  by("figure-left").textContent = rate ? `${size(left)} left, about ${duration(left / rate)}` : moving ? `${size(left)} left` : "nothing is moving";
  const isFiltered = filter.value || only();
  by("shown").textContent = isFiltered ? `${count(matrix.rows.length)} of ${count(models.length)} models, ${count(matrix.columns.length)} nodes` : `${count(matrix.nodes.length)} nodes`;
  empty.hidden = Boolean(matrix.rows.length && (matrix.columns.length || view === "list"));
  if (!empty.hidden) sayEmpty(isFiltered);
  box.setAttribute("aria-rowcount", matrix.rows.length);
  box.setAttribute("aria-colcount", matrix.columns.length + 1);
  if (view === "list") fillList();
  speak();
}

function sayEmpty(isFiltered) {
  const title = document.createElement("b");
  const text = document.createElement("p");
  if (isFiltered) {
    title.textContent = "Nothing matches the filter";
    text.textContent = "Esc clears it.";
  } else if (models.length) {
    title.textContent = "No node yet";
    text.textContent = "The models are here, but no node holds one or is meant to. The list says why.";
  } else {
    title.textContent = "No models to see";
    text.textContent = "There are none yet, or your account may not watch them in any namespace.";
  }
  empty.replaceChildren(title, text);
}

const element = (tag, className = "", text = "") => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
};

// A row per model; rows are kept and changed, so that what is selected or focused stays so.
const rowsByKey = new Map();

function rowOf(model) {
  let row = rowsByKey.get(model.key);
  if (!row) {
    const line = element("tr");
    const [head, state, nodes, progress, why] = ["th", "td", "td", "td", "td"].map((tag) => element(tag));
    head.scope = "row";
    const link = element("a", "", model.name);
    link.href = addressOf(model);
    head.append(link);
    const shown = element("span", "state");
    const word = element("span");
    shown.append(element("span", "dot"), word);
    state.append(shown);
    nodes.className = "right nowrap";
    const [figures, failed] = [element("span", "number"), element("span", "bad detail")];
    nodes.append(figures, failed);
    const box = element("span", "progress");
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    bar.setAttribute("class", "bar bar-moving");
    bar.setAttribute("viewBox", "0 0 1000 10");
    bar.setAttribute("preserveAspectRatio", "none");
    bar.setAttribute("aria-hidden", "true");
    for (const [name, width] of [["bar-track", 1000], ["bar-fill", 0]]) {
      const part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      part.setAttribute("class", name);
      part.setAttribute("width", width);
      part.setAttribute("height", 10);
      bar.append(part);
    }
    const text = element("span", "faint nowrap");
    box.append(bar, text);
    progress.append(box);
    why.className = "why-cell wide-only";
    const sentence = element("span");
    why.append(sentence);
    line.append(head, state, nodes, progress, why);
    row = { line, shown, word, nodes: figures, failed, box, fill: bar.lastChild, text, sentence };
    rowsByKey.set(model.key, row);
  }
  return row;
}

function fillList() {
  const wanted = matrix.rows.map((number) => {
    const [model, line] = [models[number], lines[number]];
    const row = rowOf(model);
    row.shown.className = `state state-${model.colour}`;
    row.word.textContent = line[STATE];
    row.nodes.textContent = model.figures || "–";
    row.failed.textContent = line[FAILED] ? `${count(line[FAILED])} failed` : "";
    const total = line[DESIRED] * model.bytes;
    const isMoving = line[MOVING] > 0 && total > 0;
    row.box.hidden = !isMoving;
    if (isMoving) {
      const percent = Math.max(0, Math.min(99, Math.floor((100 * (total - line[LEFT])) / total)));
      row.fill.setAttribute("width", percent * 10);
      row.text.textContent = [`${percent} %`, line[RATE] ? `${size(line[RATE])}/s` : "", line[ETA] ? duration(line[ETA]) : ""].filter(Boolean).join(" · ");
    }
    row.sentence.textContent = row.sentence.title = line[WHY];
    return row.line;
  });
  const body = by("rows");
  if (body.children.length !== wanted.length || wanted.some((line, at) => body.children[at] !== line)) body.replaceChildren(...wanted);
  if (rowsByKey.size > 2 * models.length + 100) rowsByKey.clear();
}

// The cell that is chosen, for a screen reader, which sees no canvas.
function speak() {
  const model = models[matrix.rows[matrix.row]];
  const node = matrix.nodes[matrix.columns[matrix.column]];
  if (!model || !node) return;
  const code = matrix.cells[model.number][matrix.columns[matrix.column]];
  const kind = matrix.nameOf(code);
  by("spoken-row").setAttribute("aria-rowindex", matrix.row + 1);
  by("spoken-cell").setAttribute("aria-colindex", matrix.column + 2);
  by("spoken-model").textContent = model.name;
  by("spoken-cell").textContent = `${model.name} on ${node}: ${SHOWN[kind]}${kind === "moving" ? ` ${code - matrix.codes.moving} percent` : ""}`;
  box.setAttribute("aria-activedescendant", "spoken-cell");
}

// The line below the matrix: at once what is known here, and after a moment what the service says.
let asked = 0;
let timer;

function inspect(place) {
  clearTimeout(timer);
  asked += 1;
  const model = models[matrix.rows[place?.row]];
  if (!model) return;
  const node = matrix.nodes[matrix.columns[place.column]];
  const line = lines[model.number];
  const text = node
    ? `on ${node}: ${SHOWN[matrix.nameOf(matrix.cells[model.number][matrix.columns[place.column]])]}`
    : [`${line[READY]} of ${line[DESIRED]} nodes`, line[WHY]].filter(Boolean).join(" · ");
  inspector.replaceChildren(element("span", "strong", model.name), element("span", "faint inspector-why", text));
  if (!node) return;
  const mine = asked;
  timer = setTimeout(async () => {
    const answer = await fetch(`/cell${addressOf(model)}?node=${encodeURIComponent(node)}`, { headers: { Accept: "text/html", "HX-Request": "true" } }).catch(() => null);
    if (!answer?.ok || mine !== asked) return;
    // The service's own markup, in which it has escaped all that others have said.
    const fragment = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (mine === asked) inspector.replaceChildren(...fragment.body.childNodes);
  }, 180);
}

function open(place, node) {
  const model = models[matrix.rows[place?.row]];
  const name = matrix.nodes[matrix.columns[place?.column]];
  if (node && name) location.assign(`/nodes/${encodeURIComponent(name)}`);
  else if (model && !node) location.assign(addressOf(model));
}

function setView(wanted) {
  view = wanted;
  try {
    localStorage.setItem("view", view);
  } catch {
    // It begins anew next time.
  }
  box.hidden = view !== "matrix";
  list.hidden = view !== "list";
  by("zoom").hidden = by("inspector").hidden = view === "list";
  by("as-matrix").setAttribute("aria-pressed", view === "matrix");
  by("as-list").setAttribute("aria-pressed", view === "list");
  if (models.length) tell();
  matrix.draw();
}

const place = () => ({ row: matrix.row, column: matrix.column });

function move(row, column) {
  matrix.hovered = null;
  matrix.moveTo(row, column);
  speak();
  inspect(place());
}

box.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { row, column, rows, columns, visibleRows } = matrix;
  const moves = {
    ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column],
    ArrowLeft: [row, column - 1],
    ArrowRight: [row, column + 1],
    PageUp: [row - visibleRows, column],
    PageDown: [row + visibleRows, column],
    Home: [row, 0],
    End: [row, columns.length - 1],
  };
  if (event.key in moves && rows.length) {
    event.preventDefault();
    move(...moves[event.key]);
  } else if (event.key === "Enter") open(place(), event.shiftKey);
  else if (event.key === "n" || event.key === "N") open(place(), true);
});
box.addEventListener("focus", () => rowsReady() && inspect(place()));
const rowsReady = () => matrix.rows.length > 0;
box.addEventListener("pointermove", (event) => {
  const found = matrix.at(event.clientX, event.clientY);
  if (found?.row === matrix.hovered?.row && found?.column === matrix.hovered?.column) return;
  matrix.hovered = found;
  matrix.draw();
  if (found) inspect(found);
});
box.addEventListener("pointerleave", () => {
  matrix.hovered = null;
  matrix.draw();
});
box.addEventListener("click", (event) => {
  const found = matrix.at(event.clientX, event.clientY);
  if (!found) return;
  if (found.column < 0) open(found, false);
  else move(found.row, found.column);
});
box.addEventListener("dblclick", (event) => open(matrix.at(event.clientX, event.clientY), event.shiftKey));

filter.addEventListener("input", choose);
for (const button of onlyButtons) {
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    for (const each of onlyButtons) each.setAttribute("aria-pressed", each === button && pressed);
    choose();
  });
}
by("smaller").addEventListener("click", () => matrix.resize(-1));
by("larger").addEventListener("click", () => matrix.resize(1));
by("as-matrix").addEventListener("click", () => setView("matrix"));
by("as-list").addEventListener("click", () => setView("list"));
by("help").addEventListener("click", () => by("keys").showModal());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || by("keys").open) return;
  if (event.key === "Escape") {
    filter.value = "";
    for (const each of onlyButtons) each.setAttribute("aria-pressed", false);
    choose();
    box.focus();
    return;
  }
  if (event.target === filter) {
    if (event.key === "Enter" || event.key === "ArrowDown") {
      event.preventDefault();
      (view === "matrix" ? box : (list.querySelector("a") ?? list)).focus();
    }
    return;
  }
  const keys = {
    "/": () => filter.select(),
    "?": () => by("keys").showModal(),
    v: () => setView(view === "matrix" ? "list" : "matrix"),
    "+": () => matrix.resize(1),
    "=": () => matrix.resize(1),
    "-": () => matrix.resize(-1),
  };
  if (!(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});
document.addEventListener("themechange", () => matrix.repaint());

let source;
let pause = 1000;

function connect() {
  // Whichever of a return to the tab and a pause after an error comes first.
  source?.close();
  source = new EventSource("/fleet/stream");
  const on = (name, take) =>
    source.addEventListener(name, (event) => {
      take(event.data);
      connection.heard();
    });
  source.addEventListener("open", () => {
    pause = 1000;
    connection.live();
  });
  on("fleet", (data) => takeAll(JSON.parse(data)));
  on("cells", (data) => takeChanges(JSON.parse(data)));
  on("stale", connection.stale);
  on("expired", (why) => end(why, true));
  on("ended", (why) => end(why, false));
  source.addEventListener("error", async () => {
    connection.lost();
    source.close();
    if (!(await connection.stillWelcome())) return;
    setTimeout(connect, pause);
    pause = Math.min(10_000, pause * 2);
  });
}

function end(why, mayLogIn) {
  source.close();
  connection.over(why, mayLogIn);
}

addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", (event) => event.persisted && connect());
// A tab that nobody looks at costs the service nothing, and takes none of the few connections of a browser.
let hiding;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => source.close(), 60_000);
  else if (source.readyState === EventSource.CLOSED) connect();
});
// For the benchmark, and for whoever looks into a console.
globalThis.ome = { matrix };
setView(view);
connect();
