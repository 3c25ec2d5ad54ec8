// The ballot: one prompt, two answers, a vote by key or button, and who they were once it is cast.

import { ask } from "./api.js";

const $ = (id) => document.getElementById(id);
const KEYS = { 1: "left", ArrowLeft: "left", 2: "right", ArrowRight: "right", t: "tie", b: "both_bad", s: "skip" };
let state = null; // the server's; null until somebody has a name
let busy = false;

/** Shows the state that the server is in. */
function show(next) {
  state = next;
  $("enter").hidden = true;
  $("who").hidden = false;
  $("name").textContent = state.rater;
  $("count").textContent = `${state.done} of ${state.total}`;
  $("progress").hidden = false;
  $("progress").max = state.total || 1;
  $("progress").value = state.done;
  $("ballot").hidden = !state.ballot;
  $("end").hidden = Boolean(state.ballot);
  $("choices").hidden = false;
  for (const button of document.querySelectorAll("[data-outcome]")) button.disabled = !state.ballot;
  $("undo").disabled = !state.last;
  if (!state.ballot) return;
  $("prompt").replaceChildren(...state.prompt.map(turnView));
  for (const side of ["left", "right"]) {
    $(side).textContent = state[side] || "no words";
    $(side).classList.toggle("nothing", !state[side]);
  }
  scrollTo({ top: 0 });
}

function turnView({ role, text }) {
  const turn = document.createElement("div");
  turn.className = `turn ${role}`;
  const who = document.createElement("h2");
  who.textContent = { user: "Prompt", assistant: "Answered before", system: "System" }[role];
  const words = document.createElement("div");
  words.className = "text";
  words.textContent = text;
  turn.append(who, words);
  return turn;
}

/** Who they were, in a line. */
function reveal({ outcome, left, right }) {
  const names = [left, right].map((name) => Object.assign(document.createElement("b"), { textContent: name }));
  const [better, worse] = outcome === "right" ? names.reverse() : names;
  const words = {
    left: ["You preferred ", better, " over ", worse, "."],
    right: ["You preferred ", better, " over ", worse, "."],
    tie: ["A tie of ", better, " and ", worse, "."],
    both_bad: ["Both bad: ", better, " and ", worse, "."],
    skip: ["Skipped."],
  };
  $("said").replaceChildren(...words[outcome]);
}

/** Asks the server one thing at a time; what goes wrong is told, and after a conflict the state is fetched again. */
async function attempt(path, body) {
  if (busy) return null;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    const next = await ask(path, body);
    show(next);
    $("error").hidden = true;
    return next;
  } catch (error) {
    $("error").textContent = error.message;
    $("error").hidden = false;
    if (error.status === 409) await ask(stateOf(state.rater)).then(show, () => {});
    return null;
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

const stateOf = (rater) => `/api/state?rater=${encodeURIComponent(rater)}`;

async function vote(outcome) {
  if (!state?.ballot) return;
  const next = await attempt("/api/votes", { rater: state.rater, ballot: state.ballot, outcome });
  if (next) reveal(next.voted);
}

async function undo() {
  if (!state?.last) return;
  if (await attempt("/api/undos", { rater: state.rater, id: state.last })) $("said").textContent = "Taken back: vote again.";
}

/** Goes on where a rater was; the address keeps who that is. */
async function load(rater) {
  const next = await attempt(stateOf(rater));
  if (!next) return ($("enter").hidden = Boolean(state));
  history.replaceState(null, "", `?rater=${encodeURIComponent(next.rater)}`);
  for (const link of document.links) link.search = location.search; // ratings lead back to the same rater
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  load($("rater").value);
});
for (const button of document.querySelectorAll("[data-outcome]")) {
  button.addEventListener("click", () => vote(button.dataset.outcome));
}
$("undo").addEventListener("click", undo);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !state) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "u") undo();
  else if (KEYS[key]) vote(KEYS[key]);
  else return;
  event.preventDefault();
});

const named = new URLSearchParams(location.search).get("rater");
if (named) load(named);
else {
  $("enter").hidden = false;
  $("rater").focus();
}
