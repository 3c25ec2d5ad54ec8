// The ratings so far: a row a model, with its interval as a bar.

import { ask } from "./api.js";

const $ = (id) => document.getElementById(id);

function cell(text, kind = "number") {
  return Object.assign(document.createElement("td"), { textContent: text, className: kind });
}

/** The interval on the scale from `low` to `high`, with a mark at the rating itself. */
function chart({ value, low, high }, lowest, highest) {
  const place = (points) => `${(100 * (points - lowest)) / (highest - lowest || 1)}%`;
  const chart = cell("", "chart");
  const line = Object.assign(document.createElement("div"), { className: "line" });
  const mark = Object.assign(document.createElement("i"), { className: "mark" });
  mark.style.left = place(value);
  if (low !== null) {
    const bar = Object.assign(document.createElement("i"), { className: "bar" });
    bar.style.left = place(low);
    bar.style.width = `${(100 * (high - low)) / (highest - lowest || 1)}%`;
    line.append(bar);
    chart.append(line, `${low.toFixed(0)} to ${high.toFixed(0)}`);
  } else {
    chart.append(line, "one prompt cannot say");
  }
  line.append(mark);
  return chart;
}

try {
  const told = await ask("/api/ratings");
  const ends = told.standings.flatMap(({ rating }) => [rating.low ?? rating.value, rating.high ?? rating.value, rating.value]);
  const [lowest, highest] = [Math.min(...ends), Math.max(...ends)];
  const rows = told.standings.map((one) => {
    const row = document.createElement("tr");
    const name = Object.assign(document.createElement("th"), { textContent: one.model, scope: "row" });
    row.append(name, cell(one.rating.value.toFixed(0)), chart(one.rating, lowest, highest));
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
