// What /metrics tells, as charts and as a table.

import { request } from "./stream.js";
import { element } from "./text.js";

const EVERY = 2000; // milliseconds
const KEPT = 61; // samples: two minutes
const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const SVG = "http://www.w3.org/2000/svg";

const whole = (value) => value.toFixed(0);
const SERIES = [
  { name: "Requests running", now: (at) => at("llamacpp:requests_processing"), show: whole },
  { name: "Requests waiting", now: (at) => at("llamacpp:requests_deferred"), show: whole },
  { name: "Tokens per second", now: rate("llamacpp:tokens_predicted_total"), show: (value) => value.toFixed(1) },
  { name: "Time to first token", now: mean("gollama_time_to_first_token_seconds"), show: (value) => `${(value * 1000).toFixed(0)} ms` },
  { name: "KV in use", now: (at) => at("gollama_kv_usage_ratio", Math.max), show: (value) => `${(value * 100).toFixed(1)} %`, top: 1 },
  { name: "Model memory", now: memory, show: (value) => `${(value / 2 ** 20).toFixed(0)} MiB` },
];

function rate(name) {
  return (at, before, seconds) => {
    const [now, then] = [at(name), before?.(name)];
    return now === null || then == null ? null : Math.max(0, now - then) / seconds;
  };
}

// of what was answered between two readings; nothing new where nothing was
function mean(name) {
  return (at, before) => {
    const count = at(`${name}_count`) - (before?.(`${name}_count`) ?? 0);
    return count > 0 ? (at(`${name}_sum`) - (before?.(`${name}_sum`) ?? 0)) / count : null;
  };
}

// a busy engine may not have told; then the last value stays
function memory(at) {
  const parts = ["weights", "context", "compute"].map((part) => at(`gollama_${part}_bytes`));
  return parts.includes(null) ? null : parts.reduce((sum, part) => sum + part);
}

// A function that gives the sum, or what `merge` makes, of a metric's samples over all models; null where there are none.
export function parse(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const parts = LINE.exec(line);
    if (!parts || !Number.isFinite(Number(parts[3]))) continue;
    if (!found.has(parts[1])) found.set(parts[1], []);
    found.get(parts[1]).push(Number(parts[3]));
  }
  return (name, merge = (...values) => values.reduce((sum, value) => sum + value, 0)) => (found.has(name) ? merge(...found.get(name)) : null);
}

class Chart {
  #samples = [];
  #value = element("span", { textContent: "–" });
  #most = element("small");
  #line = document.createElementNS(SVG, "polyline");
  #cells = [element("td"), element("td"), element("td")];

  constructor(series, charts, rows) {
    this.series = series;
    const svg = document.createElementNS(SVG, "svg");
    for (const [name, value] of [["viewBox", "0 0 120 40"], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) svg.setAttribute(name, value);
    svg.append(this.#line);
    charts.append(element("figure", {}, element("figcaption", {}, element("span", { textContent: series.name }), element("b", {}, this.#value, this.#most)), svg));
    rows.append(element("tr", {}, element("th", { scope: "row", textContent: series.name }), ...this.#cells));
  }

  add(value) {
    this.#samples.push(value ?? this.#samples.at(-1) ?? null);
    if (this.#samples.length > KEPT) this.#samples.shift();
    const known = this.#samples.filter((sample) => sample !== null);
    if (!known.length) return;
    const [least, most, last] = [Math.min(...known), Math.max(...known), known.at(-1)];
    const { show, top = most || 1 } = this.series;
    this.#value.textContent = show(last);
    this.#most.textContent = ` scale ${show(top)}`;
    [last, least, most].forEach((one, at) => { this.#cells[at].textContent = show(one); });
    const first = KEPT - this.#samples.length;
    const points = this.#samples.map((sample, at) => (sample === null ? "" : `${(first + at) * 2},${38 - (36 * sample) / top}`));
    this.#line.setAttribute("points", points.filter(Boolean).join(" "));
  }
}

export function watchMetrics(charts, rows, note) {
  const all = SERIES.map((series) => new Chart(series, charts, rows));
  const usual = note.textContent;
  let before = null;
  let then = 0;

  async function poll() {
    try {
      const at = parse(await (await request("metrics")).text());
      const now = performance.now();
      for (const chart of all) chart.add(chart.series.now(at, before, (now - then) / 1000));
      [before, then] = [at, now];
      note.textContent = usual;
    } catch (error) {
      before = null;
      note.textContent = `There are no metrics: ${error.message}`;
    }
  }

  async function run() {
    if (!document.hidden && charts.offsetParent) await poll(); // nobody asks for what nobody sees
    setTimeout(run, EVERY);
  }
  run();
  return poll;
}
