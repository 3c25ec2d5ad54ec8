// The playground's state and wiring: a list of turns, each a prompt and its answer, and a composer for the next.

import { listModels, tokenize, useKey, write } from "./api.js";
import { appendTokens, element, inspectTokens, partBox } from "./tokens.js";

const $ = (id) => document.getElementById(id);
const turns = []; // {prompt, answer, parts, view}
let models = [];
let writing = null; // the AbortController of the answer that is being written
let counting = null; // the one of the draft's token count

const mode = () => document.querySelector("input[name=mode]:checked").value;
const nearEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 120;
const scrollToEnd = () => scrollTo({ top: document.documentElement.scrollHeight });

/** Sends the draft and shows the answer as it comes. */
async function send() {
  const prompt = $("draft").value;
  if (writing || !$("model").value || (mode() === "chat" && !prompt.trim())) return;
  if (!$("seed").reportValidity()) return;
  const seed = $("seed").value === "" ? crypto.getRandomValues(new Uint32Array(1))[0] : $("seed").valueAsNumber;
  const content = mode() === "chat" ? { messages: conversation(prompt) } : { prompt };
  const settings = {
    model: $("model").value,
    temperature: $("temperature").valueAsNumber,
    top_p: $("top-p").valueAsNumber,
    max_tokens: $("length").valueAsNumber,
    seed,
  };
  const turn = { prompt, answer: "", parts: [], view: turnView(prompt, settings.model) };
  turns.push(turn);
  setDraft("");
  begin(new AbortController());
  let tokens = 0;
  let reason = "stopped";
  const started = performance.now();
  try {
    const { messages } = content;
    const read = await tokenize({ model: settings.model, ...(messages ? { messages } : { text: prompt }) }, writing.signal);
    for await (const chunk of write({ ...content, ...settings }, writing.signal)) {
      const follow = nearEnd();
      if (!tokens) appendTokens(turn.view.read, named(chunk.promptIds, read));
      const early = ({ at }) => chunk.text && at <= [...turn.answer].length; // before this text
      const [before, after] = [chunk.parts.filter(early), chunk.parts.filter((part) => !early(part))];
      turn.answer += chunk.text;
      turn.parts.push(...chunk.parts);
      tokens += chunk.tokens.length;
      reason = chunk.reason ?? reason;
      turn.view.answer.append(...before.map(partBox));
      appendTokens(turn.view.answer, chunk.tokens);
      turn.view.answer.append(...after.map(partBox));
      if (follow) scrollToEnd();
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      showError(error.message);
      reason = "failed";
    }
  }
  end();
  if (!tokens && reason !== "stop") return takeBack(turn);
  const rate = tokens / ((performance.now() - started) / 1000);
  const why = { stop: "came to its end", length: "length reached", stopped: "stopped by you", failed: "failed" }[reason];
  const facts = [`${tokens} tokens`, `${rate.toFixed(0)} per second`, why ?? reason];
  const bent = `temperature ${settings.temperature}, top-p ${settings.top_p}, seed ${seed}`;
  const follow = nearEnd();
  turn.view.facts.textContent = `${facts.join(" · ")} · ${bent}`;
  turn.view.again.addEventListener("click", () => again(turn));
  turn.view.again.hidden = false;
  if (follow) scrollToEnd();
  $("status").textContent = `${tokens} tokens written, ${why ?? reason}.`;
}

/** What a chat sends: the system prompt, the turns so far, and the new prompt. */
function conversation(prompt) {
  const system = $("system").value.trim() ? [{ role: "system", content: $("system").value }] : [];
  const before = turns.flatMap((turn) => [
    { role: "user", content: turn.prompt },
    { role: "assistant", content: turn.answer, ...(turn.parts.length ? { parts: turn.parts } : {}) },
  ]);
  return [...system, ...before, { role: "user", content: prompt }];
}

/** The tokens that the server says it read. It begins a text with a token that is not the text's. */
function named(ids, tokens) {
  const known = new Map(tokens.map((token) => [token.id, token]));
  return ids.map((id) => ({ text: "", ...(known.get(id) ?? { id, piece: "<start>", special: true }) }));
}

/** The elements of a turn, put on the page. */
function turnView(prompt, model) {
  const view = {
    article: element("article", `turn ${mode()}`),
    read: element("div", "tokens read"),
    answer: element("div", "tokens answer"),
    facts: element("span", "facts quiet"),
    again: element("button", "plain", mode() === "chat" ? "Try again" : "Go on from here"),
  };
  view.again.type = "button";
  view.again.hidden = true;
  const foot = element("footer", "row");
  foot.append(view.facts, view.again);
  const title = element("h2", "who asked", mode() === "chat" ? "You" : "Prompt");
  const readTitle = element("h2", "who read-title", "All that the model reads");
  view.article.append(title, element("p", "prompt", prompt), readTitle, view.read);
  view.article.append(element("h2", "who", model), view.answer, foot);
  $("turns").append(view.article);
  return view;
}

/** Chat: asks for another answer to the last message. Completion: puts the text so far back, to be continued. */
function again(turn) {
  if (writing) return;
  if (mode() === "chat") {
    takeBack(turn);
    send();
  } else {
    setDraft(turn.prompt + turn.answer);
    $("draft").focus();
  }
}

/** Undoes the last turn: its prompt goes back to where it was written. */
function takeBack(turn) {
  if (turns.at(-1) !== turn) return; // the page was cleared meanwhile
  turn.view.article.remove();
  turns.pop();
  setDraft(turn.prompt);
  $("welcome").hidden = turns.length > 0;
}

function setDraft(text) {
  $("draft").value = text;
  draftChanged();
}

function begin(controller) {
  writing = controller;
  showError("");
  $("welcome").hidden = true;
  $("turns").setAttribute("aria-busy", "true");
  $("status").textContent = "Writing.";
  $("send").hidden = true;
  $("stop").hidden = false;
  scrollToEnd();
}

function end() {
  writing = null;
  $("turns").removeAttribute("aria-busy");
  $("send").hidden = false;
  $("stop").hidden = true;
}

function clear() {
  writing?.abort();
  turns.length = 0;
  $("turns").replaceChildren();
  showError("");
  $("welcome").hidden = false;
}

function showError(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

/** Counts, and in the token view shows, the tokens of what is being typed, once the typing pauses. */
async function draftChanged() {
  counting?.abort();
  const { signal } = (counting = new AbortController());
  const text = $("draft").value;
  await new Promise((done) => setTimeout(done, 200));
  if (signal.aborted) return;
  let tokens = [];
  try {
    if (text) tokens = await tokenize({ model: $("model").value, text }, signal);
  } catch {
    return; // sending the draft will tell
  }
  $("draft-count").textContent = text ? `${tokens.length} tokens` : "";
  $("draft-tokens").replaceChildren();
  appendTokens($("draft-tokens"), tokens);
}

/** The page follows the mode: another conversation, other words. */
function modeChanged() {
  clear();
  const chat = mode() === "chat";
  const base = models.find(({ id }) => id === $("model").value)?.style === "plain";
  document.body.classList.toggle("chat", chat);
  $("draft-label").textContent = chat ? "Message" : "Prompt";
  $("draft").placeholder = chat ? "Say something" : "The beginning of a text";
  $("send").textContent = chat ? "Send" : "Write";
  $("welcome").textContent = chat
    ? `Say something below. The whole conversation is sent each time: it is all that the model remembers.${
        base ? " This is a base model, never taught to converse: it is shown a dialogue, and goes on with it." : ""
      }`
    : "A language model goes on from whatever text it is given. Begin one below, and point at any token of the answer to see what else could have stood there.";
}

/** An answer is at most as long as the model's context. What was written before stays. */
function modelChanged() {
  const model = models.find(({ id }) => id === $("model").value);
  $("length").max = model?.context_length ?? 512;
  $("length").dispatchEvent(new Event("input"));
  if (!turns.length) modeChanged();
  draftChanged();
}

function wire() {
  $("composer").addEventListener("submit", (event) => (event.preventDefault(), send()));
  $("stop").addEventListener("click", () => writing?.abort());
  $("clear").addEventListener("click", clear);
  $("draft").addEventListener("input", draftChanged);
  $("model").addEventListener("change", modelChanged);
  $("key").addEventListener("change", start);
  $("mode").addEventListener("change", modeChanged);
  const showTokens = () => document.body.classList.toggle("show-tokens", $("show-tokens").checked);
  $("show-tokens").addEventListener("change", showTokens);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
    if (event.key === "Escape") writing?.abort();
  });
  for (const output of document.querySelectorAll("output")) {
    const slider = $(output.htmlFor.value);
    const tell = () => (output.value = slider.value);
    slider.addEventListener("input", tell);
    tell();
  }
  const wide = matchMedia("(min-width: 56rem)"); // the same width as in style.css
  const unfold = () => ($("settings").open = wide.matches);
  wide.addEventListener("change", unfold);
  unfold();
  showTokens();
  modeChanged();
  inspectTokens($("inspector"));
}

async function start() {
  showError("");
  useKey($("key").value);
  try {
    models = await listModels();
    $("model").replaceChildren(...models.map(({ id }) => new Option(id, id)));
    modelChanged();
  } catch (error) {
    showError(error.message);
    if (error.status === 401) {
      $("key-field").hidden = false;
      $("settings").open = true;
      $("key").focus();
    }
  }
  $("send").disabled = !$("model").value;
}

wire();
start();
