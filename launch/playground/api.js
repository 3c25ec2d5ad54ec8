// Talks to the server (launch/serve.py): OpenAI's protocol, with the token ids that this server adds to it.

const ALTERNATIVES = 8; // how many likely tokens to ask for at every place
const LOOKAHEAD = 4; // characters; see `shares`

let apiKey = "";

/** The key that is sent from now on, for a server that wants one. */
export function useKey(key) {
  apiKey = key;
}

/** The models that can be chosen: [{id, context_length, style}]. */
export async function listModels() {
  return (await (await ask("/v1/models")).json()).data;
}

/** The tokens of {model, text} or {model, messages}: [{id, piece, special}]. */
export async function tokenize(body, signal) {
  const { ids, pieces, special } = await (await ask("/tokenize", body, signal)).json();
  return ids.map((id, i) => ({ id, piece: pieces[i], special: special[i] }));
}

/**
 * Streams an answer. `request` holds `prompt` (completion) or `messages` (chat), and the sampling parameters.
 * Yields {promptIds (with the first), text, tokens: [{id, piece, text, logprob, alternatives: [{piece, logprob}]}], parts,
 * reason}; `parts` are the server's: what it did besides writing text, such as calling a tool (launch/server/messages.py).
 */
export async function* write(request, signal) {
  const chat = "messages" in request;
  const wanted = chat ? { logprobs: true, top_logprobs: ALTERNATIVES } : { logprobs: ALTERNATIVES };
  const body = { ...request, ...wanted, stream: true, return_token_ids: true };
  const response = await ask(chat ? "/v1/chat/completions" : "/v1/completions", body, signal);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    const choice = chunk.choices?.[0];
    if (!choice) continue; // a chunk with the usage alone
    const text = (chat ? choice.delta?.content : choice.text) ?? "";
    const promptIds = choice.prompt_token_ids ?? chunk.prompt_token_ids;
    const parts = choice.delta?.parts ?? [];
    yield { promptIds, text, tokens: tokensOf(choice, text), parts, reason: choice.finish_reason };
  }
  throw new Error("The server ended the answer in the middle.");
}

/** GET without a body, else POST of JSON. Throws an Error whose message can be shown as it is. */
async function ask(path, body, signal) {
  const headers = apiKey ? { Authorization: `Bearer ${apiKey}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is launch.serve still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  const error = new Error(told.error?.message ?? `The server answered ${response.status} ${response.statusText}.`);
  throw Object.assign(error, { status: response.status });
}

/** The data of each server-sent event in a stream of bytes. */
async function* events(body) {
  let rest = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
  }
}

/** The tokens of a choice. Their `text`s, joined, are the text. */
function tokensOf(choice, text) {
  const listed = choice.logprobs?.content ?? fromCompletion(choice.logprobs);
  if (!listed.length) return text ? [{ piece: text, text, alternatives: [] }] : [];
  const texts = shares(text, listed.map((one) => one.token));
  return listed.map((one, i) => ({
    id: choice.token_ids?.[i],
    piece: one.token,
    text: texts[i],
    logprob: one.logprob,
    alternatives: one.top_logprobs.map((other) => ({ piece: other.token, logprob: other.logprob })),
  }));
}

/** The lists of /v1/completions in the form of /v1/chat/completions. */
function fromCompletion(logprobs) {
  return (logprobs?.tokens ?? []).map((token, i) => ({
    token,
    logprob: logprobs.token_logprobs[i],
    top_logprobs: Object.entries(logprobs.top_logprobs?.[i] ?? {}).map(([token, logprob]) => ({ token, logprob })),
  }));
}

/**
 * Shares a text among the tokens it came with. A piece is mostly found where the one before it ended; but what ended the
 * answer is no part of the text, white space is left out before the first word, and a character may be spread over several
 * pieces ("\\xe2", "\\x98\\x83"), so it is looked for a little ahead. What is skipped belongs to the piece before.
 */
function shares(text, pieces) {
  const found = pieces.map(() => "");
  let at = 0;
  pieces.forEach((piece, i) => {
    const bare = text.startsWith(piece, at) ? piece : piece.trimStart() || piece;
    const start = text.slice(0, at + LOOKAHEAD + bare.length).indexOf(bare, at);
    if (start < 0) return;
    found[Math.max(i - 1, 0)] += text.slice(at, start);
    found[i] += bare;
    at = start + bare.length;
  });
  found[found.length - 1] += text.slice(at);
  return found;
}
