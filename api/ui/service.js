// What goes over the wire: questions as a stream, searches, lists, and errors in one shape.

const TITLES = {
  400: "The question was not taken", 401: "A key is needed", 403: "This key may not do that", 404: "Not found",
  413: "Too large", 422: "The question was not taken", 429: "Too many requests", 503: "The service is busy", 504: "It took too long",
};

/** Why there is no answer, for people. */
export class Fault extends Error {
  constructor(status, told, requestId, retryAfter) {
    super(told.detail ?? told.message ?? "The service gave no reason.");
    this.status = status;
    this.title = TITLES[status] ?? told.title ?? "The service failed";
    this.requestId = told.request_id ?? requestId ?? "";
    if (retryAfter) this.message += ` Try again in ${retryAfter} s.`;
  }
}

/** A value kept in this tab; browsers that keep nothing at all only forget it on reload. */
const kept = new Map();
const PREFIX = "ragwatt-";
export function recall(name) {
  try {
    return sessionStorage.getItem(PREFIX + name) ?? "";
  } catch {
    return kept.get(name) ?? "";
  }
}
export function keep(name, value) {
  kept.set(name, value);
  try {
    sessionStorage.setItem(PREFIX + name, value);
  } catch { /* it is in the map */ }
}

export async function call(path, body, signal) {
  const headers = {};
  const key = recall("key");
  if (key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault(0, { title: "The service cannot be reached", detail: "Is it still running? Check, then ask again." });
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Fault(response.status, told.error ?? told, response.headers.get("x-request-id"), response.headers.get("retry-after"));
}

/** Yields {requestId}, then {words} as they come, then {result}. */
export async function* ask(question, mode, collection, signal) {
  const messages = [{ role: "user", content: question }];
  const response = await call("v1/chat/completions", { model: `ragwatt-${mode}`, stream: true, messages, rag: { collection } }, signal);
  const requestId = response.headers.get("x-request-id");
  yield { requestId };
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new Fault(200, event.error, requestId);
    const words = event.choices[0]?.delta.content;
    if (words) yield { words };
    if (event.rag) yield { result: event.rag };
  }
  throw new Fault(200, { title: "The answer broke off", detail: "The connection ended before the answer did. Ask again." }, requestId);
}

/** The data of server-sent events; lines that are comments keep the connection alive and say nothing. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) if (block.startsWith("data: ")) yield block.slice(6);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
