// The answer, its sources and the passages found. Words of documents become text nodes and nothing else.

const WARNINGS = { hidden: "hidden text, which a reader of the document does not see", instructions: "text that speaks to a language model, not to people" };

/** An element with a class, and children that are nodes or texts. */
export function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/**
 * The answer with a button for every citation.
 *
 * Offsets count code points. Only a mark right behind a cited claim is a citation: a "[1]" that a document wrote stays text.
 */
export function showAnswer(target, result, onCite) {
  const points = Array.from(result.answer);
  const nodes = [];
  let at = 0;
  for (const [end, citations] of grouped(result.citations, (one) => one.end)) {
    const start = Math.max(at, Math.min(...citations.map((one) => one.start)));
    const claim = make("span", "claim", points.slice(start, end).join(""));
    nodes.push(points.slice(at, start).join(""), claim);
    at = end;
    for (const [index, same] of grouped(citations, (one) => one.index)) {
      const mark = ` [${index}]`;
      const isWritten = points.slice(at, at + mark.length).join("") === mark;
      if (isWritten) at += mark.length;
      const button = make("button", "cite", `[${index}]`);
      button.type = "button";
      button.ariaLabel = `Citation ${index}: ${nameOf(same[0])}`;
      button.ariaPressed = "false";
      button.addEventListener("click", () => onCite(same, button, claim));
      nodes.push(" ", button);
    }
  }
  nodes.push(points.slice(at).join(""));
  target.replaceChildren(...nodes);
}

/** What is to be said of an answer besides its words. */
export function showAbout(target, result) {
  const lines = [];
  if (result.abstained) lines.push(make("p", "note", make("strong", "", "No answer. "), `Reason: ${result.reason || "none was given"}.`));
  for (const sentence of result.unverified) lines.push(make("p", "note", make("strong", "", "Not verified: "), sentence));
  if (result.degraded.length) lines.push(make("p", "note", make("strong", "", "Less than was asked: "), result.degraded.map(leftOut).join("; "), "."));
  const confidence = `confidence ${result.confidence.toFixed(2)}`;
  lines.push(make("p", "small", [`${result.collection}, version ${result.version}`, `by ${result.generator}`, confidence].join(" · ")));
  target.replaceChildren(...lines);
}

/** A passage with the exact spans that a citation quotes; without the passage, the quotes. */
export function showSource(target, citations, hit, back) {
  const { source } = citations[0];
  const around = hit && marked(hit, citations);
  const quote = around ? make("blockquote", "", ...around) : make("blockquote", "", ...citations.flatMap((one) => [make("mark", "", one.quote), "\n"]));
  quote.dir = "auto";
  const nodes = [...headOf(citations[0], citations.map((one) => `${one.source.start_char}–${one.source.end_char}`).join(", ")), quote];
  if (!around) nodes.push(make("p", "small", "The quote alone: the passage around it is not among those found."));
  if (source.also_in.length) nodes.push(make("p", "small", `The same text is in: ${source.also_in.join(", ")}`));
  nodes.push(back);
  target.replaceChildren(...nodes);
}

/** A passage that was found but need not be cited. */
export function showPassage(target, hit, back) {
  const quote = make("blockquote", "", hit.text);
  quote.dir = "auto";
  target.replaceChildren(...headOf(hit, `${hit.start}–${hit.end}`), quote, back);
}

/** The table of passages with score parts. */
export function showHits(target, hits, citations, onShow) {
  const isFused = hits.some((hit) => hit.bm25 !== null && hit.cosine !== null);
  const most = (part) => Math.max(...hits.map((hit) => hit[part] ?? 0), 1e-9);
  const tops = { score: most("score"), bm25: most("bm25"), cosine: most("cosine") };
  const rows = hits.map((hit, i) => {
    const button = make("button", "link", nameOf(hit));
    button.type = "button";
    button.dir = "auto";
    button.addEventListener("click", () => onShow(hit, i + 1, button));
    const numbers = new Set(citations.filter((one) => one.chunk_id === hit.chunk_id).map((one) => `[${one.index}]`));
    const cited = numbers.size ? [make("strong", "small", ` cited ${[...numbers].join(" ")}`)] : [];
    if (hit.source.flags.length) cited.push(make("strong", "small", " trust it less"));
    const parts = Object.entries(tops).map(([part, top]) => scoreCell(hit[part], top));
    const below = hit.source.headings.at(-1) ?? "";
    const place = below && below !== nameOf(hit) ? [" ", make("bdi", "small", below)] : [];
    return make("tr", "", make("td", "", button, ...place, ...cited), ...parts);
  });
  const heads = ["Document", isFused ? "Fused" : "Score", "BM25", "Cosine"].map((name) => {
    const head = make("th", "", name);
    head.scope = "col";
    return head;
  });
  target.replaceChildren(make("table", "scores", make("thead", "", make("tr", "", ...heads)), make("tbody", "", ...rows)));
}

export function nameOf(one) {
  return one.source.title || one.doc_id;
}

function scoreCell(score, top) {
  const cell = make("td", "score", score === null ? "not asked" : score.toFixed(3));
  cell.style.setProperty("--size", Math.max(0, (score ?? 0) / top));
  return cell;
}

function headOf(one, characters) {
  const { source } = one;
  const at = source.place ? [source.place] : [source.page && `page ${source.page}`, source.line && `line ${source.line}`];
  const place = [source.headings.join(" › "), ...at, `characters ${characters}`];
  const name = make("p", "name", nameOf(one));
  name.dir = "auto";
  const warnings = source.flags.map((flag) => make("p", "note", make("strong", "", "Trust it less: "), WARNINGS[flag] ?? flag, "."));
  return [name, make("p", "small", make("bdi", "", source.uri), " · ", make("bdi", "", place.filter(Boolean).join(" · "))), ...warnings];
}

/** The passage as text and marks; null if a quote is not where it should be, because the passage is of another version. */
function marked(hit, citations) {
  const points = Array.from(hit.text);
  const nodes = [];
  let at = 0;
  for (const one of [...citations].sort((a, b) => a.source.start_char - b.source.start_char)) {
    const [start, end] = [one.source.start_char - hit.start, one.source.end_char - hit.start];
    if (start < 0 || points.slice(start, end).join("") !== one.quote) return null;
    if (end <= at) continue;
    nodes.push(points.slice(at, start).join(""), make("mark", "", points.slice(Math.max(at, start), end).join("")));
    at = end;
  }
  return [...nodes, points.slice(at).join("")];
}

function grouped(values, keyOf) {
  const groups = new Map();
  for (const value of values) groups.set(keyOf(value), [...(groups.get(keyOf(value)) ?? []), value]);
  return [...groups].sort(([a], [b]) => a - b);
}

function leftOut(name) {
  return { bm25: "searched by words alone, as the vector took too long", extractive: "extracted, as the language model took too long" }[name] ?? name;
}
