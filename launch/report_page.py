"""How the pages about runs look: one style sheet, chapters, tables and figures as HTML. A page has no outside parts."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.compare_runs import Run
from launch.figures import DPI
from lm.metrics import duration

# A figure is drawn dark on white. Multiplied, its white is the paper's; in the dark it is inverted, and hues turned back.
STYLE = """
:root { color-scheme: light dark; --paper: #fffdf8; --ink: #23211e; --quiet: #6a655d; --line: #e2ddd2; --raised: #f6f2e9;
  --accent: #8a3b12; --right: #e2f1df; --wrong: #f8e6e2; --serif: Charter, "Bitstream Charter", Cambria, Georgia, serif;
  --sans: system-ui, "Segoe UI", Roboto, sans-serif }
* { box-sizing: border-box }
html { scroll-padding-top: 3.5rem; -webkit-text-size-adjust: 100% }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.0625rem/1.6 var(--serif); counter-reset: figure }
main { max-width: 56rem; margin: 0 auto; padding: 1rem 1.25rem 5rem }
h1, h2, h3 { line-height: 1.2; text-wrap: balance }
h1 { font-size: 2.25rem; margin: 2rem 0 .5rem }
h2 { font-size: 1.75rem; margin: 0 0 .75rem }
h3 { font-size: 1.1875rem; margin: 2.5rem 0 .5rem }
p, figcaption { max-width: 42rem }
a { color: var(--accent) }
section { margin-top: 3rem; padding-top: 2.5rem; border-top: 1px solid var(--line) }
.note, figcaption, .of { color: var(--quiet) }
.note, figcaption, table, nav { font-size: .875rem; line-height: 1.5; font-family: var(--sans) }
nav { position: sticky; top: 0; z-index: 1; background: var(--paper); border-bottom: 1px solid var(--line) }
nav div { max-width: 56rem; margin: 0 auto; padding: .6rem 1.25rem; display: flex; gap: 1.25rem; overflow-x: auto }
nav a { white-space: nowrap; text-decoration: none }
figure { margin: 1.5rem 0 }
img { display: block; width: min(100%, var(--width)); height: auto; mix-blend-mode: multiply }
figcaption { margin-top: .5rem }
figcaption::before { counter-increment: figure; content: "Figure " counter(figure) ". "; font-weight: 600; color: var(--ink) }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse }
th, td { text-align: left; padding: .4rem 1.25rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 600; vertical-align: bottom }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.text { white-space: pre-wrap; overflow-wrap: break-word }
th.number { white-space: normal }
.right, .wrong { padding-left: .6rem; border-bottom: 2px solid var(--paper) } .right { background: var(--right) }
.wrong { background: var(--wrong) }
.prompt { color: var(--quiet) }
code, pre { font: .8125rem/1.5 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; white-space: pre-wrap }
code span { display: inline-block; word-break: break-all }
blockquote { margin: 1rem 0; padding: .75rem 1.25rem; max-width: 42rem; background: var(--raised);
  border-left: 3px solid var(--accent) }
.outcome { width: 100% } .outcome .first td { border-bottom: 0; padding-bottom: 0 }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #141414; --ink: #e4e1da; --quiet: #a19c92; --line: #35322d; --raised: #201e1b; --accent: #e39a6c;
    --right: #1c3320; --wrong: #3b2220 }
  img { filter: invert(.92) hue-rotate(180deg); mix-blend-mode: normal }
}
@media (max-width: 40rem) {
  h1 { font-size: 1.75rem } h2 { font-size: 1.5rem }
  img { min-width: calc(var(--width) * .54) }
  .stacked tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--line) }
  .stacked tr:has(th) { display: none }
  .stacked td { display: block; border: 0; padding: .15rem 0; text-align: left }
  .stacked td[data-of]::before { content: attr(data-of) " "; color: var(--quiet); display: block; font-size: .75rem }
}
@media print {
  :root { --paper: #fff; --ink: #000; --quiet: #444; --line: #ccc }
  body { font-size: 10.5pt } nav { display: none } main { padding: 0; max-width: none }
  figure, tr, blockquote { break-inside: avoid } h2, h3, p { break-after: avoid }
}
"""
NUMBER = "<td class=number>"


@dataclass(frozen=True)
class Chapter:
    """What a page tells of a run, or of an arena. `parts` are HTML, all else is plain text; empty is what is not known."""

    folder: Path
    title: str
    intro: str
    went_in: str
    came_out: str
    parts: list[str]
    steps: str = ""
    time: str = ""
    command: str = ""

    def html(self, name: str) -> str:
        """The chapter under its heading, to be found as #NAME."""
        head = f"<section id={name}><h2>{html.escape(self.title)}</h2><p>{html.escape(self.intro)}</p>"
        return "\n".join([head, *self.parts, "</section>"])


def how_long(run: Run) -> dict[str, str]:
    """The fields of a `Chapter` that every run has: steps, time and command."""
    last = run.steps[-1]
    dollars = f", ${last['dollars']:,.2f}" if "dollars" in last else ""
    steps, time = f"{run.last_step:,} of {run.config['steps']:,}", duration(last["seconds"]) + dollars
    return {"steps": steps, "time": time, "command": command_of(run.folder)}


def command_of(folder: Path) -> str:
    """The command that made a folder, where it was kept."""
    file = folder / "command.txt"
    return file.read_text(encoding="utf-8").strip() if file.exists() else ""


def page(title: str, parts: Sequence[str], top: str = "") -> str:
    """A whole page; `top` stands above the column, over its whole width."""
    head = '<meta charset=utf-8><meta name=viewport content="width=device-width, initial-scale=1">'
    start = f"<!doctype html><html lang=en>{head}<title>{html.escape(title)}</title><style>{STYLE}</style>"
    return "\n".join([start, top, "<main>", *parts, "</main>"]) + "\n"


def heading(text: str, note: str = "") -> str:
    """The heading of a part, with a line or two on what it shows."""
    return f"<h3>{html.escape(text)}</h3>" + (f"<p class=note>{html.escape(note)}</p>" if note else "")


def figure(path: Path, caption: str) -> str:
    """A picture (PNG), inside the page, at a size at which its letters are about as large as the page's."""
    data = path.read_bytes()
    width = int.from_bytes(data[16:20], "big") * 100 / DPI  # an inch is 100 pixels
    caption = html.escape(caption)
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    image = f'<img style="--width:{width:.0f}px" alt="{caption}" src="{source}">'
    return f"<figure><div class=wide>{image}</div><figcaption>{caption}</figcaption></figure>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, stacked: bool = False) -> str:
    """A table of one row or more of cells, HTML as from `number` and `words`.

    Stacked: on a phone, the cells of a row stand below each other.
    """
    head = "".join(
        f"<th{' class=number' if cell.startswith(NUMBER) else ''}>{html.escape(name)}"
        for name, cell in zip(header, rows[0], strict=True)
    )
    body = [
        "<tr>"
        + "".join(
            cell.replace("<td", f'<td data-of="{html.escape(name)}"', 1) if stacked and name else cell
            for name, cell in zip(header, row, strict=True)
        )
        for row in rows
    ]
    kind = " class=stacked" if stacked else ""
    return "\n".join([f"<div class=wide><table{kind}><tr>{head}", *body, "</table></div>"])


def number(text: str) -> str:
    """A cell that is a number."""
    return NUMBER + html.escape(text)


def words(text: str, note: str = "", kind: str = "", title: str = "") -> str:
    """A cell that is text, with a quiet note below it; `kind` is a class such as `right`, `title` is told when pointed at."""
    pointed = f' title="{html.escape(title)}"' if title else ""
    return f'<td class="text {kind}"{pointed}>{html.escape(text)}{_below(note)}'


def quoted(text: str, note: str = "") -> str:
    """A text that stands out, with a quiet note below it."""
    return f"<blockquote>{html.escape(text)}{_below(note)}</blockquote>"


def _below(note: str) -> str:
    return f"<br><span class=note>{html.escape(note)}</span>" if note else ""
