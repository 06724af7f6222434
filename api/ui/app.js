// The page: what is asked, what is shown, and what may happen meanwhile.
import { nameOf, showAbout, showAnswer, showHits, showPassage, showSource, make } from "./answer.js";
import { scaled, seconds, showCost } from "./cost.js";
import { Fault, ask, call, keep, recall } from "./service.js";

const MODES = {
  standard: "standard: words and meaning", eco: "eco: words alone, no model runs",
  auto: "auto: a language model where it pays", generative: "generative: a language model writes",
};
const part = (id) => document.getElementById(id);
const question = part("question");
let asking = null; // the controller of the question in flight
let shown = null; // the answer on the page
let hits = null; // the promise of its passages
let nOpened = 0; // what an earlier opening hears late is of no interest

function say(text) {
  part("status").textContent = text;
}

function showFault(error) {
  const isOurs = error instanceof Fault;
  part("fault-title").textContent = isOurs ? error.title : "This page failed";
  part("fault-detail").textContent = error.message;
  part("fault-id").textContent = error.requestId ? `Request ${error.requestId}` : "";
  part("fault").hidden = false;
  if (error.requestId) part("request-id").textContent = error.requestId;
  if (error.status === 401) askForKey();
}

function askForKey() {
  part("key-form").hidden = false;
  part("key").focus();
}

async function open() {
  const mine = ++nOpened;
  part("fault").hidden = part("empty").hidden = true;
  part("key-form").hidden = !recall("key");
  try {
    const [collections, models] = await Promise.all(["v1/collections", "v1/models"].map(async (path) => (await call(path)).json()));
    if (mine !== nOpened) return;
    offer("collection", collections.data.map(({ name }) => [name, name]));
    const known = new Set(models.data.map(({ id }) => id));
    offer("mode", Object.entries(MODES).filter(([name]) => known.has(`ragwatt-${name}`)));
    part("collection").onchange = () => describe(collections.data);
    describe(collections.data);
    part("empty").hidden = collections.data.length > 0;
  } catch (error) {
    if (mine === nOpened) showFault(error);
  }
}

function offer(id, choices) {
  const before = part(id).value;
  part(id).replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  if (choices.some(([value]) => value === before)) part(id).value = before;
}

function describe(collections) {
  const found = collections.find(({ name }) => name === part("collection").value);
  part("facts").textContent = found
    ? `${found.n_documents} documents, ${found.n_chunks} passages, version ${found.version}. `
    : "";
}

async function submit() {
  const text = question.value.trim();
  if (asking || !text) return;
  const mine = new AbortController();
  const mode = part("mode").value;
  begin(mine);
  try {
    for await (const { requestId, words, result } of ask(text, mode, part("collection").value, mine.signal)) {
      if (requestId) part("request-id").textContent = requestId;
      if (words) part("answer").append(words);
      if (result) finish(text, mode, result);
    }
  } catch (error) {
    if (error.name === "AbortError") say("Stopped. The service ends its work too.");
    else {
      say("");
      showFault(error);
    }
    if (!shown && !part("answer").hasChildNodes()) part("result").hidden = true;
  } finally {
    end();
  }
}

function begin(controller) {
  asking = controller;
  shown = hits = null;
  part("fault").hidden = part("source").hidden = part("cost").hidden = part("found").hidden = true;
  for (const id of ["answer", "about", "hits", "passage"]) part(id).replaceChildren();
  part("answer").ariaBusy = "true";
  part("result").hidden = part("stop").hidden = false;
  part("ask").ariaDisabled = "true";
  say("Looking for the answer…");
}

function end() {
  asking = null;
  if (document.activeElement === part("stop")) question.focus();
  part("stop").hidden = true;
  part("ask").ariaDisabled = "false";
  part("answer").ariaBusy = "false";
}

function finish(text, mode, result) {
  shown = { ...result, asked: text, mode };
  showAnswer(part("answer"), result, cite);
  showAbout(part("about"), result);
  showCost(part("figures"), result.measurement);
  part("cost").hidden = part("found").hidden = false;
  const { wall_s, energy_j } = result.measurement;
  const n = new Set(result.citations.map((one) => one.index)).size;
  const head = result.abstained ? "No answer" : `Answered from ${n} source${n === 1 ? "" : "s"}`;
  const joules = energy_j ? `, ${scaled(energy_j.value, "J")[0]} (${energy_j.method})` : "";
  say(`${head} in ${seconds(wall_s)}${joules}.${result.shared ? " Another request asked the same and bears the cost." : ""}`);
  if (part("found").open) find();
}

/** Passages are searched for only when somebody looks at them: it takes another search, and that one costs joules too. */
async function find() {
  if (!shown || hits) return;
  const answer = shown;
  const body = { query: answer.question || answer.asked, collection: answer.collection, mode: answer.mode === "eco" ? "bm25" : "hybrid" };
  part("hits").replaceChildren(make("p", "small", "Searching…"));
  hits = call("v1/search", body).then((response) => response.json());
  try {
    const found = await hits;
    if (answer !== shown) return;
    if (!found.hits.length) part("hits").replaceChildren(make("p", "", "None."));
    else showHits(part("hits"), found.hits, answer.citations, passage);
    const joules = found.measurement.energy_j;
    if (joules) part("hits").append(make("p", "small", `Showing them took one more search: ${scaled(joules.value, "J")[0]} (${joules.method}).`));
  } catch (error) {
    if (answer === shown) part("hits").replaceChildren(make("p", "note", `${error.title ?? "Error"}: ${error.message}`));
  }
}

async function cite(citations, button, claim) {
  select(button, claim);
  const answer = shown;
  find();
  const found = await hits.catch(() => ({ hits: [] }));
  if (answer !== shown || button.ariaPressed !== "true") return;
  const hit = found.hits.find((one) => one.chunk_id === citations[0].chunk_id);
  present(`Source [${citations[0].index}]`, button);
  showSource(part("passage"), citations, found.version === answer.version ? hit : undefined, backTo(button, "Back to the answer"));
}

function passage(hit, rank, button) {
  select(button);
  present(`Passage ${rank} of those found`, button);
  showPassage(part("passage"), hit, backTo(button, "Back to the list"));
}

function select(button, claim) {
  for (const one of document.querySelectorAll("[aria-pressed]")) one.ariaPressed = String(one === button);
  for (const one of document.querySelectorAll(".claim")) one.classList.toggle("selected", one === claim);
}

function present(title) {
  part("source-title").textContent = title;
  part("source").hidden = false;
  part("source-title").focus({ preventScroll: true });
  part("source").scrollIntoView({ block: "nearest" });
}

function backTo(button, text) {
  const back = make("button", "quiet", text);
  back.type = "button";
  back.addEventListener("click", () => button.focus());
  return back;
}

part("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  part("ask-form").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") asking?.abort();
});
part("stop").addEventListener("click", () => asking?.abort());
part("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keep("key", part("key").value);
  part("key").value = "";
  say("The key is in use.");
  open();
});
part("forget").addEventListener("click", () => {
  keep("key", "");
  say("The key is forgotten.");
  open();
});
part("found").open = recall("found") !== "closed";
part("found").addEventListener("toggle", () => {
  keep("found", part("found").open ? "open" : "closed");
  if (part("found").open) find();
});
open();
