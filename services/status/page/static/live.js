// Pages of one model or node: the parts come from the service, which htmx puts in their places.
import * as connection from "./connection.js";
import { duration, size } from "./words.js";

const by = (id) => document.getElementById(id);

document.body.addEventListener("htmx:sseOpen", (event) => {
  connection.live();
  const { source } = event.detail;
  source.addEventListener("stale", (message) => connection.stale(message.data));
  for (const [name, mayLogIn] of [["expired", true], ["ended", false]]) {
    source.addEventListener(name, (message) => {
      source.close();
      connection.over(message.data, mayLogIn);
    });
  }
});
document.body.addEventListener("htmx:sseError", async (event) => {
  connection.lost();
  if (!(await connection.stillWelcome())) event.detail.source?.close();
});
document.body.addEventListener("htmx:sseMessage", () => {
  connection.heard();
  measure();
});

// What a part that is fetched says instead of its content.
document.body.addEventListener("htmx:responseError", (event) => {
  event.detail.target.textContent = event.detail.xhr.responseText;
});

// What the page has seen of the throughput since it was opened, at most ten minutes of it.
const MOST = 600;
const times = [];
const rates = [];
let plot;

function measure() {
  const rate = Number(document.querySelector("[data-bytes-per-second]")?.dataset.bytesPerSecond ?? 0);
  if (!rate && !rates.some(Boolean)) return;
  times.push(Date.now() / 1000);
  rates.push(rate);
  if (times.length > MOST) {
    times.shift();
    rates.shift();
  }
  if (times.length < 3) return;
  by("throughput").hidden = false;
  if (plot) plot.setData([times, rates]);
  else draw();
}

function draw() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const font = `11px ${style.getPropertyValue("--font").trim()}`;
  const axis = { stroke: colour("ink-faint"), font, grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
  plot?.destroy();
  plot = new uPlot(
    {
      width: by("chart").clientWidth,
      height: 140,
      padding: [8, 26, 0, 0],
      cursor: { show: false },
      legend: { show: false },
      scales: {
        x: { range: (_, first, last) => [Math.min(first, last - 60), last] },
        y: { range: (_, __, most) => [0, Math.max(most * 1.15, 1)] },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 26,
          splits: (_, __, first, last) => [0, 1, 2, 3, 4].map((part) => last - (part * (last - first)) / 4),
          values: (_, ticks) => ticks.map((at) => (times.at(-1) - at < 1 ? "now" : `−${duration(times.at(-1) - at)}`)),
        },
        { ...axis, values: (_, ticks) => ticks.map((at) => (at ? `${size(Math.round(at))}/s` : "0")), size: 84, space: 30, incrs: Array.from({ length: 50 }, (_, power) => 2 ** power) },
      ],
      series: [{}, { stroke: colour("moving"), width: 1.5, fill: colour("moving-pale"), points: { show: false } }],
    },
    [times, rates],
    by("chart"),
  );
}

addEventListener("resize", () => plot && draw());
document.addEventListener("themechange", () => plot && draw());
setInterval(measure, 1000);

const manifest = by("manifest");
manifest?.addEventListener("toggle", async () => {
  if (!manifest.open) return;
  const answer = await fetch(manifest.dataset.address).catch(() => null);
  by("yaml").textContent = answer ? await answer.text() : "The service does not answer.";
});
by("copy")?.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(by("yaml").textContent);
    by("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(by("yaml"));
    by("copy").textContent = "Selected";
  }
  setTimeout(() => (by("copy").textContent = "Copy"), 1500);
});
