// The ballot: one prompt, two answers, a vote by key or button, and who they were once it is cast.

import { ask } from "./api.js";

const $ = (id) => document.getElementById(id);
const KEYS = { 1: "left", ArrowLeft: "left", 2: "right", ArrowRight: "right", t: "tie", b: "both_bad", s: "skip" };
let rater = localStorage.getItem("rater") ?? "";
let ballot = null;
let busy = false;

/** Shows what the server says comes next. */
function show(next) {
  ballot = next.ballot;
  $("progress").textContent = `${next.done} of ${next.total}`;
  $("ballot").hidden = !ballot;
  $("end").hidden = Boolean(ballot);
  $("choices").hidden = false;
  for (const button of document.querySelectorAll("[data-outcome]")) button.disabled = !ballot;
  $("undo").disabled = !next.done;
  if (!ballot) return;
  $("prompt").replaceChildren(...next.prompt.map(turnView));
  for (const side of ["left", "right"]) {
    $(side).textContent = next[side] || "no words";
    $(side).classList.toggle("nothing", !next[side]);
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
function reveal({ voted, left, right }) {
  const names = [left, right].map((name) => Object.assign(document.createElement("b"), { textContent: name }));
  const [better, worse] = voted === "right" ? names.reverse() : names;
  const words = {
    left: ["You preferred ", better, " over ", worse, "."],
    right: ["You preferred ", better, " over ", worse, "."],
    tie: ["A tie of ", better, " and ", worse, "."],
    both_bad: ["Both bad: ", better, " and ", worse, "."],
    skip: ["Skipped."],
  };
  $("last").replaceChildren(...words[voted]);
}

/** One request at a time; what goes wrong is told, and the ballot is loaded again if it was another one. */
async function attempt(work) {
  if (busy) return;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    await work();
    $("error").hidden = true;
  } catch (error) {
    $("error").textContent = error.message;
    $("error").hidden = false;
    if (error.status === 409) show(await ask(`/api/next?rater=${encodeURIComponent(rater)}`).catch(() => ({ ballot: null })));
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

const vote = (outcome) =>
  attempt(async () => {
    if (!ballot) return;
    const told = await ask("/api/vote", { rater, ballot, outcome });
    reveal(told);
    show(told.next);
  });

const undo = () =>
  attempt(async () => {
    show(await ask("/api/undo", { rater }));
    $("last").textContent = "Taken back: vote again.";
  });

/** Begins, or goes on, as this rater; without a name it is asked for. */
function enter(name) {
  rater = name;
  $("enter").hidden = Boolean(name);
  $("who").hidden = !name;
  $("name").textContent = name;
  if (name) {
    localStorage.setItem("rater", name);
    return attempt(async () => show(await ask(`/api/next?rater=${encodeURIComponent(name)}`)));
  }
  ballot = null;
  for (const id of ["ballot", "end", "choices"]) $(id).hidden = true;
  $("progress").textContent = "";
  $("last").textContent = "";
  $("rater").focus();
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("rater").value.trim();
  if (name) enter(name);
});
$("leave").addEventListener("click", () => {
  localStorage.removeItem("rater");
  $("rater").value = rater;
  enter("");
});
for (const button of document.querySelectorAll("[data-outcome]")) {
  button.addEventListener("click", () => vote(button.dataset.outcome));
}
$("undo").addEventListener("click", undo);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || $("choices").hidden) return;
  if (event.target.closest("input")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "u") undo();
  else if (KEYS[key]) vote(KEYS[key]);
  else return;
  event.preventDefault();
});

enter(rater);
