// The ratings so far: a row a model, with its interval as a bar.

import { ask } from "./api.js";

const $ = (id) => document.getElementById(id);

function cell(text, kind = "number") {
  return Object.assign(document.createElement("td"), { textContent: text, className: kind });
}

/** The rating, and its interval in small. */
function rated({ value, low, high }) {
  const shown = cell(value.toFixed(0));
  const range = low === null ? "one prompt: no interval" : `${low.toFixed(0)} to ${high.toFixed(0)}`;
  shown.append(Object.assign(document.createElement("div"), { textContent: range, className: "quiet" }));
  return shown;
}

/** The same on the scale from `lowest` to `highest`. */
function chart({ value, low, high }, lowest, highest) {
  const place = (points) => `${(100 * (points - lowest)) / (highest - lowest || 1)}%`;
  const line = Object.assign(document.createElement("div"), { className: "line" });
  const [bar, mark] = ["bar", "mark"].map((className) => Object.assign(document.createElement("i"), { className }));
  bar.style.left = place(low ?? value);
  bar.style.width = `${(100 * ((high ?? value) - (low ?? value))) / (highest - lowest || 1)}%`;
  mark.style.left = place(value);
  line.append(bar, mark);
  const shown = cell("", "chart");
  shown.append(line);
  return shown;
}

document.querySelector("header a").search = location.search; // the rater
try {
  const told = await ask("/api/ratings");
  const ends = told.standings.flatMap(({ rating }) => [rating.low ?? rating.value, rating.high ?? rating.value, rating.value]);
  const [lowest, highest] = [Math.min(...ends), Math.max(...ends)];
  const rows = told.standings.map((one) => {
    const row = document.createElement("tr");
    const name = Object.assign(document.createElement("th"), { textContent: one.model, scope: "row" });
    row.append(name, rated(one.rating), chart(one.rating, lowest, highest));
    row.append(cell(one.wins), cell(one.losses), cell(one.both_bad ? `${one.ties} (${one.both_bad} bad)` : one.ties));
    row.append(cell(one.mean_length.toFixed(0)));
    return row;
  });
  document.querySelector("tbody").replaceChildren(...rows);
  $("table").hidden = false;
  const people = told.raters === 1 ? "1 person" : `${told.raters} people`;
  $("summary").textContent = `${told.votes} votes of ${people} on ${told.prompts} prompts.`;
} catch (error) {
  $("error").textContent = error.message;
  $("error").hidden = false;
}
