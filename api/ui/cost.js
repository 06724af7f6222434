// What an answer cost: tokens, joules, grams and seconds, each with how it is known, in words.
import { make } from "./answer.js";

const METHODS = {
  measured: "read from an energy counter",
  apportioned: "a share of what an energy counter read",
  modelled: "CPU seconds times a price per second, not read from a meter",
  assumed: "rests on a constant that nobody confirmed",
};
const TOKENS = { context: "packed", prompt: "read by a model", completion: "written", saved: "found, not sent" };
const PREFIXES = [[1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];

/** All figures of a measurement. */
export function showCost(target, measurement) {
  target.replaceChildren(
    ...tokens(measurement.tokens),
    ...figure("Energy", measurement.energy_j, "J", ""),
    ...figure("Carbon", measurement.carbon_g, "g", " CO₂e", "energy times the emissions of the grid"),
    ...(measurement.assumed.length ? [make("p", "small", `Taken as usual, as nobody set it: ${measurement.assumed.join(", ")}`)] : []),
    ...stages(measurement),
    basis(measurement),
  );
}

/** Seconds for people. */
export function seconds(value) {
  return value >= 1 ? `${plain(value)} s` : `${plain(value * 1000)} ms`;
}

/** A number with the prefix that keeps it short, and others in the same unit. */
export function scaled(value, unit, ...others) {
  const [factor, prefix] = PREFIXES.find(([least]) => value >= least) ?? [1, ""];
  return [`${plain(value / factor)} ${prefix}${unit}`, ...others.map((other) => plain(other / factor))];
}

function plain(value) {
  return String(Number(value.toPrecision(3)));
}

function tokens(counts) {
  const most = Math.max(1, ...Object.keys(TOKENS).map((name) => counts[name]));
  const rows = Object.entries(TOKENS).map(([name, meaning]) => {
    const head = make("th", "", `${name} `, make("span", "small", meaning));
    head.scope = "row";
    return make("tr", name, head, make("td", "grow", bar(0, counts[name] / most)), make("td", "number", String(counts[name])));
  });
  return [make("h3", "", "Tokens"), make("table", "bars", make("tbody", "", ...rows))];
}

function figure(name, found, unit, of, meaning) {
  if (!found) return [make("h3", "", name), make("p", "", "Not known: there is no power model of this machine.")];
  const [value, lo, hi] = scaled(found.value, unit, found.lo, found.hi);
  const track = bar(found.lo / (found.hi || 1), (found.hi - found.lo) / (found.hi || 1), found.value / (found.hi || 1));
  const said = make("p", "figure", make("strong", "", value + of), ` between ${lo} and ${hi}`);
  return [make("h3", "", name), said, track, make("p", "small", `${found.method}: ${meaning ?? METHODS[found.method] ?? ""}`)];
}

/** Stages are drawn one after the other, as they began; wall-clock time does not hold that of stages inside. */
function stages({ stages: found, wall_s, cpu_s, cache, energy_j }) {
  const inside = found.reduce((sum, stage) => sum + stage.wall_s, 0);
  const whole = Math.max(wall_s, inside, 1e-9);
  let at = 0;
  const rows = [...found, { name: "between stages", wall_s: Math.max(0, wall_s - inside), energy_j: null }].map((stage) => {
    const head = make("th", "", stage.name);
    head.scope = "row";
    const span = bar(at / whole, stage.wall_s / whole);
    at += stage.wall_s;
    const joules = stage.energy_j === null ? "" : scaled(stage.energy_j, "J")[0];
    return make("tr", "", head, make("td", "grow", span), make("td", "number", seconds(stage.wall_s)), make("td", "number", joules));
  });
  const heads = ["Stage", "One after the other", "Time", energy_j ? "Energy" : ""].map((name) => {
    const head = make("th", "", name);
    head.scope = "col";
    return head;
  });
  const sum = `${seconds(wall_s)} in all, ${seconds(cpu_s)} of a CPU, cache ${cache}`;
  return [
    make("h3", "", "Latency"), make("p", "small", sum),
    make("table", "bars waterfall", make("thead", "", make("tr", "", ...heads)), make("tbody", "", ...rows)),
  ];
}

/** What the figures rest on, for whoever wants to check them. */
function basis(measurement) {
  const found = measurement.energy_j;
  const lines = [];
  const add = (name, text) => text && lines.push(make("dt", "", name), make("dd", "", text));
  const short = (one, unit) => one && `${scaled(one.value, unit)[0]} (${scaled(one.value, unit, one.lo, one.hi).slice(1).join(" to ")}, ${one.method})`;
  if (found) {
    add("Price of a CPU second", found.source);
    add("Covers", found.boundary);
    for (const [name, part] of Object.entries(measurement.energy_parts_j)) add(`Energy, ${name}`, short(part, "J"));
    add("Carbon from", measurement.carbon_g.source);
    add("Hardware", short(measurement.embodied_g, "g CO₂e"));
    add("Carbon with hardware", short(measurement.sci, "g CO₂e"));
  }
  add("Saved by the cache", short(measurement.saved_j, "J"));
  add("Left out", measurement.not_modelled.join(", "));
  add("Notes", measurement.notes.join("; "));
  add("Most memory so far", `${plain(measurement.peak_rss_bytes / 1e6)} MB`);
  return make("details", "", make("summary", "", "What these figures rest on"), make("dl", "small", ...lines));
}

/** A bar that says nothing its row does not say in digits. */
function bar(from, size, tick) {
  const track = make("div", "bar", make("i", ""));
  track.ariaHidden = "true";
  if (size) size = Math.max(size, 0.006); // a sliver that can be seen
  if (tick !== undefined) track.append(make("b", ""));
  for (const [name, value] of Object.entries({ from, size, tick: tick ?? 0 })) track.style.setProperty(`--${name}`, value);
  return track;
}
