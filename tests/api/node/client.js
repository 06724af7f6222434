// Everything that applications do with OpenAI's client, told as JSON: what came back, or the class of the error.
import OpenAI from "openai";

const { url, keys, model, embedder, question } = JSON.parse(process.argv[2]);
const client = (key) => new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const good = client(keys.good);
const user = (content) => [{ role: "user", content }];
const chat = (change = {}, by = good) => by.chat.completions.create({ model, messages: user(question), ...change });

async function streamed(change = {}) {
  const stream = await chat({ stream: true, stream_options: { include_usage: true }, ...change });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function listed() {
  const names = [];
  for await (const one of good.models.list()) names.push(one.id);
  return names;
}

const embedded = async (change = {}) =>
  (await good.embeddings.create({ model: embedder, input: ["the moon", "a diesel engine"], ...change })).data.map((one) => one.embedding);

const calls = {
  models: listed,
  model: () => good.models.retrieve(`${model}/library`),
  chat: () => chat(),
  stream: () => streamed(),
  embeddings: () => embedded(), // the client asks for base64, and unpacks it
  float: () => embedded({ encoding_format: "float" }),
  base64: () => embedded({ encoding_format: "base64" }),
  blank: () => chat({ messages: user("  ") }),
  wrong_key: () => chat({}, client("rag_wrong")),
  scope: () => chat({}, client(keys.ingest)),
  unknown_model: () => chat({ model: "gpt-4o" }),
  stream_of_unknown_model: () => streamed({ model: "gpt-4o" }),
  two_answers: () => chat({ n: 2 }),
  large: () => chat({ messages: user("x".repeat(1_000_000)) }),
  limit: async () => [await chat({}, client(keys.limited)), await chat({}, client(keys.limited))],
  failed_model: () => chat({ model: "ragwatt-generative" }),
  failed_in_stream: () => streamed({ model: "ragwatt-generative" }),
};

const told = {};
for (const [name, call] of Object.entries(calls)) {
  try {
    told[name] = { value: await call() };
  } catch (error) {
    const kinds = Object.entries(OpenAI).filter(([, kind]) => typeof kind === "function" && error.constructor === kind);
    told[name] = { error: { kind: kinds[0]?.[0] ?? String(error), status: error.status, code: error.code, request_id: error.requestID } };
  }
}
console.log(JSON.stringify(told));
