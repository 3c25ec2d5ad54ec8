// The ranking page: who ranks, what there is to rank, and the keys. The order itself is in order.js.

import { dragByHandle } from "./drag.js";
import { markdown } from "./markdown.js";
import { give, groups, move, restore, whole } from "./order.js";

const $ = (id) => document.getElementById(id);
const WAIT = 1000; // milliseconds until one asks again for what is being written

let state = null; // the server's: launch/ranking/session.py
let cards = []; // as order.js has them, each with its `view`
let busy = false; // something is being saved

/** GET without a body, else POST of JSON. Throws an Error whose message can be shown as it is. */
async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : {});
  } catch {
    throw new Error("The server cannot be reached, so nothing was saved. Is launch.rank still running? Then try again.");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error?.message ?? `The server answered ${response.status} ${response.statusText}.`);
}

/** Sends what somebody did, and shows what comes next. */
async function send(path, body, done) {
  if (busy) return;
  busy = true;
  try {
    show(await (await ask(path, { rater: state.rater, ...body })).json());
    $("status").textContent = done;
  } catch (error) {
    showError(error.message);
  }
  busy = false;
}

function save() {
  if (!state?.task) return;
  const missing = cards.filter(({ place }) => place === null).length;
  if (missing) return showError(`${missing === 1 ? "One response has" : `${missing} responses have`} no place yet.`);
  send("/api/rankings", { task: state.task.id, order: groups(cards) }, "Saved.");
}

const skip = () => state?.task && send("/api/skips", { task: state.task.id }, "Skipped.");
const undo = () => state?.last && send("/api/undos", { id: state.last }, "Undone.");

/** The page for a state. */
function show(next) {
  const same = state?.task && state.task.id === next.task?.id && !next.order; // a name was given again
  state = next;
  showError("");
  $("status").textContent = "";
  $("welcome").hidden = true;
  for (const id of ["bar", "progress", "help"]) $(id).hidden = false;
  $("who").textContent = state.rater;
  const done = state.ranked + state.skipped;
  $("count").textContent = `${done} of ${state.total}`;
  $("progress").max = state.total || 1;
  $("progress").value = done;
  $("undo").disabled = !state.last;
  for (const id of ["skip", "save"]) $(id).disabled = !state.task;
  $("work").hidden = !state.task;
  $("rest").hidden = Boolean(state.task);
  if (state.task) {
    if (!same) showTask(state.task);
  } else if (state.waiting) {
    $("rest").textContent = "The next responses are being written. They will appear here.";
    setTimeout(() => state.waiting && load(state.rater), WAIT);
  } else {
    const skipped = state.skipped ? ` and passed over ${state.skipped}` : "";
    $("rest").textContent = `That was all, thank you. You ranked ${state.ranked}${skipped}.`;
  }
}

function showTask(task) {
  const alone = task.prompt.length === 1;
  $("prompt").replaceChildren(
    ...task.prompt.flatMap(({ role, text }) => [
      element("h2", "quiet", alone ? "Prompt" : { user: "User", assistant: "Assistant", system: "System" }[role]),
      element("p", "said", text),
    ]),
  );
  $("most").textContent = task.responses.length;
  cards = task.responses.map(({ index, text }) => ({ index, text, place: null }));
  for (const card of cards) card.view = cardView(card, cards.length);
  if (state.order) cards = restore(cards, state.order);
  $("cards").replaceChildren();
  draw();
  scrollTo({ top: 0 });
  cards[0].view.focus({ preventScroll: true });
}

/** A response on a card: its place and handle at the left, buttons for fingers at the right. */
function cardView(card, count) {
  const view = element("li", "card");
  view.tabIndex = 0;
  const place = element("select", "place");
  place.append(new Option("–", ""), ...Array.from({ length: count }, (_, i) => new Option(i + 1, i + 1)));
  place.tabIndex = -1; // the number keys do the same
  place.addEventListener("change", () => change(give(cards, card, Number(place.value) || null), card));
  const handle = element("div", "handle");
  handle.title = "Drag to order";
  handle.append(place, element("span", "grip"));
  const buttons = element("div", "buttons");
  for (const [text, name, by] of [["▲", "better", -1], ["▼", "worse", 1]]) {
    const button = element("button", "plain", text);
    button.type = "button";
    button.tabIndex = -1;
    button.setAttribute("aria-label", `Move: ${name}`);
    button.addEventListener("click", () => change(move(cards, card, cards.indexOf(card) + by), card));
    buttons.append(button);
  }
  view.append(handle, element("p", "said", card.text), buttons);
  return view;
}

/** Another order of the cards. */
function change(next, card) {
  cards = next;
  showError("");
  $("status").textContent = "";
  draw();
  card.view.focus({ preventScroll: true });
  card.view.scrollIntoView({ block: "nearest" });
}

/** Puts the cards where they belong; they glide there. */
function draw() {
  const list = $("cards");
  const tops = new Map([...list.children].map((view) => [view, view.getBoundingClientRect().top]));
  if (cards.some(({ view }, i) => list.children[i] !== view)) list.append(...cards.map(({ view }) => view));
  for (const { view, place } of cards) {
    const from = tops.has(view) ? tops.get(view) - view.getBoundingClientRect().top : 0;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (from && !calm) view.animate([{ transform: `translateY(${from}px)` }, {}], { duration: 160, easing: "ease-out" });
    const tied = place !== null && cards.filter((other) => other.place === place).length > 1;
    const select = view.querySelector(".place");
    select.value = place ?? "";
    const told = place === null ? "no place yet" : `place ${place} of ${cards.length}${tied ? ", tied" : ""}`;
    select.setAttribute("aria-label", `Place: ${told}`);
    view.setAttribute("aria-label", `Response, ${told}`);
    view.classList.toggle("placed", place !== null);
    view.classList.toggle("tied", tied);
  }
  $("save").classList.toggle("early", !whole(cards));
}

function keyPressed(event) {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || $("manual").open || target.matches("input")) return;
  if (event.key === "Enter" && target.matches("button, select")) return; // that is what it is for
  const act = { Enter: save, s: skip, u: undo }[event.key];
  if (act && !event.repeat) {
    event.preventDefault();
    return act();
  }
  if (!state?.task) return;
  const view = target.closest(".card");
  const card = cards.find((each) => each.view === view) ?? cards.find(({ place }) => place === null) ?? cards[0];
  const place = Number(event.key);
  if (place >= 1 && place <= cards.length) {
    event.preventDefault();
    const after = [...cards.slice(cards.indexOf(card) + 1), ...cards];
    const next = after.find((each) => each.place === null && each !== card) ?? card;
    change(give(cards, card, place), next);
  } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    event.preventDefault();
    change(move(cards, card, cards.indexOf(card) + (event.key === "ArrowUp" ? -1 : 1)), card);
  }
}

function element(tag, name, text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

function showError(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
  if (message) $("error").scrollIntoView({ block: "nearest" });
}

/** Goes on where a rater was. */
async function load(rater) {
  try {
    show(await (await ask(`/api/state?rater=${encodeURIComponent(rater)}`)).json());
    history.replaceState(null, "", `?rater=${encodeURIComponent(state.rater)}`);
  } catch (error) {
    showError(error.message);
    if (!state) $("welcome").hidden = false;
    else if (state.waiting) setTimeout(() => load(rater), WAIT);
  }
}

async function start() {
  document.addEventListener("keydown", keyPressed);
  $("save").addEventListener("click", save);
  $("skip").addEventListener("click", skip);
  $("undo").addEventListener("click", undo);
  $("help").addEventListener("click", () => $("manual").showModal());
  $("enter").addEventListener("submit", (event) => (event.preventDefault(), load($("name").value)));
  dragByHandle($("cards"), ".handle", (view, to) => {
    const card = cards.find((each) => each.view === view);
    change(move(cards, card, to), card);
  });
  try {
    const told = await (await ask("/api/instructions")).text();
    for (const id of ["instructions", "manual-text"]) $(id).replaceChildren(...markdown(told));
  } catch (error) {
    showError(error.message);
  }
  const rater = new URLSearchParams(location.search).get("rater");
  if (rater) return load(rater);
  $("welcome").hidden = false;
  $("name").focus({ preventScroll: true });
}

start();
