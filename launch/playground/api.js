// Talks to the server (launch/serve.py): OpenAI's protocol, with the token ids that this server adds to it.

const ALTERNATIVES = 8; // how many likely tokens to ask for at every place

/** The models that can be chosen: [{id, ...}]. */
export async function listModels() {
  return (await (await ask("/v1/models")).json()).data;
}

/** The tokens of {model, text} or {model, messages}: [{id, piece, special}]. */
export async function tokenize(body, signal) {
  return (await (await ask("/tokenize", body, signal)).json()).tokens;
}

/**
 * Streams an answer. `request` holds `prompt` (completion) or `messages` (chat), and the sampling parameters.
 * Yields {text, tokens: [{id, piece, text, logprob, alternatives: [{piece, logprob}]}], reason}.
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
    yield { text, tokens: tokensOf(choice, text), reason: choice.finish_reason };
  }
  throw new Error("The server ended the answer in the middle.");
}

/** GET without a body, else POST of JSON. Throws an Error whose message can be shown as it is. */
async function ask(path, body, signal) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, body ? { ...post, signal } : {});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is launch.serve still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error?.message ?? `The server answered ${response.status} ${response.statusText}.`);
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

/** The tokens of a choice. Their `text`s, joined, are the text, though a character may be spread over several tokens. */
function tokensOf(choice, text) {
  const listed = choice.logprobs?.content ?? fromCompletion(choice.logprobs);
  if (!listed.length) return text ? [{ piece: text, text, alternatives: [] }] : [];
  const whole = listed.map((one) => one.token).join("") === text;
  return listed.map((one, i) => ({
    id: choice.token_ids?.[i],
    piece: one.token,
    text: whole ? one.token : i === listed.length - 1 ? text : "",
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
