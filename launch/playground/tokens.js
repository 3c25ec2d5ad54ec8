// Tokens on the page: as text, or in colours with their ids; and what the model thought of each, on hover or focus.
// Whatever a model or a person wrote goes to the page as textContent, never as HTML.

const SIGNS = { " ": "·", "\n": "↵", "\t": "→" };
const known = new WeakMap(); // a token's element -> the token

/** Creates an element with a class and a text. */
export function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** A piece with its spaces, newlines and tabs in sight. */
function visible(piece) {
  return piece.replace(/[ \n\t]/g, (character) => SIGNS[character]);
}

/** Adds tokens ({id, piece, text, special, logprob, alternatives}) to the end of a container. */
export function appendTokens(container, tokens) {
  let count = container.querySelectorAll(".token").length;
  for (const token of tokens) {
    const span = element("span", "token");
    span.append(
      element("span", "text", token.text),
      element("span", "piece", visible(token.piece)),
      element("span", "id", String(token.id ?? "")),
    );
    span.tabIndex = count ? -1 : 0; // one stop of the Tab key; arrows move within
    span.classList.add(`colour-${count++ % 5}`);
    span.classList.toggle("special", Boolean(token.special ?? (!token.text && token.piece.startsWith("<"))));
    known.set(span, token);
    container.append(span);
    if (token.piece.includes("\n")) container.append(element("br", ""));
  }
}

/** What an assistant did besides writing text, as a small box. */
export function partBox(part) {
  const values = Object.values(part.arguments ?? {});
  const told = values.length === 1 && typeof values[0] === "string" ? values[0] : JSON.stringify(part.arguments);
  const [title, text] = {
    thinking: ["thinks", part.text],
    tool_call: [`calls ${part.name}`, told],
    broken_call: [`calls something: ${part.problem}`, part.text],
    tool_result: ["gets", part.text],
  }[part.type];
  const box = element("div", `part ${part.type}`);
  box.append(element("span", "quiet", title), element("code", "", text));
  return box;
}

/** Makes hovering, focusing and the arrow keys show tokens in `inspector`. */
export function inspectTokens(inspector) {
  let shown = null;
  const hide = () => (inspector.hidden = true);
  const tokenAt = (target) => (target instanceof Element ? target.closest(".token") : null);
  const follow = (event) => {
    const span = tokenAt(event.target);
    if (!span) return hide();
    shown = span;
    fill(inspector, span);
    place(inspector, span);
  };
  for (const type of ["mouseover", "focusin", "click"]) document.addEventListener(type, follow);
  document.addEventListener("scroll", () => !inspector.hidden && place(inspector, shown), true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const span = tokenAt(event.target);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!span || !step) return;
    const inSight = [...span.parentElement.querySelectorAll(".token")].filter((one) => one.getClientRects().length);
    const next = inSight[inSight.indexOf(span) + step];
    if (!next) return;
    event.preventDefault();
    span.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

/** Shows a token in the inspector. */
function fill(inspector, span) {
  const token = known.get(span);
  const head = element("p", "head");
  head.append(element("b", "", visible(token.piece)), element("span", "quiet", token.id === undefined ? "" : `id ${token.id}`));
  inspector.replaceChildren(head, ...bars(token));
  inspector.hidden = false;
  span.setAttribute("aria-describedby", inspector.id);
}

/** Puts the inspector below (or, without room, above) the token's element. */
function place(inspector, span) {
  const line = span.getClientRects()[0] ?? span.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = inspector;
  const fits = line.bottom + height + 8 < innerHeight;
  inspector.style.left = `${Math.max(8, Math.min(line.left, document.documentElement.clientWidth - width - 8))}px`;
  inspector.style.top = `${fits ? line.bottom + 6 : Math.max(8, line.top - height - 6)}px`;
}

/** A bar for each token that could have stood here, the chosen one among them, and one for all others together. */
function bars(token) {
  if (token.logprob == null) return [element("p", "quiet", "Part of the prompt: it was given, not drawn.")];
  const rows = token.alternatives.map(({ piece, logprob }) => ({ piece, p: Math.exp(logprob) }));
  const chosen = rows.find(({ piece }) => piece === token.piece);
  if (!chosen) rows.push({ piece: token.piece, p: Math.exp(token.logprob) });
  rows.sort((a, b) => b.p - a.p);
  const rest = 1 - rows.reduce((sum, { p }) => sum + p, 0);
  const list = element("ol", "bars");
  for (const { piece, p } of rows) list.append(bar(visible(piece), p, piece === token.piece ? "chosen" : ""));
  if (rest > 0.0005) list.append(bar("all others", rest, "others"));
  return [element("p", "quiet", `${percent(Math.exp(token.logprob))}, before temperature and top-p`), list];
}

function bar(name, probability, className) {
  const row = element("li", className);
  const track = element("span", "track");
  const fill = element("span", "fill");
  fill.style.width = `${100 * probability}%`;
  track.append(fill);
  row.append(element("span", "name", name), track, element("span", "percent", percent(probability)));
  return row;
}

function percent(probability) {
  return probability < 0.001 ? "< 0.1%" : `${(100 * probability).toFixed(1)}%`;
}
