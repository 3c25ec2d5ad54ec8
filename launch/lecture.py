"""A model's whole schooling on one page: what every stage read, what came of it, and what to look at.

    python -m launch.lecture --runs=runs/course,runs/assistant,runs/practice,runs/reward,runs/rlhf,runs/arena \
        --out=runs/lecture.html

A chapter a folder, in the order given; what kind of run it is, or that it is an arena, is found from its files, which are only
read. What each knows is what `launch.report` measured. The page is one file without outside parts.
"""

import html
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from data_pipeline.errors import UserError
from launch import cli
from launch.report_page import Chapter, page


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_list("runs", [], "The folders of runs and arenas, in the order in which they are told.")
    flags.DEFINE_string("out", None, "The page to write.")


def main(_: list[str]) -> None:
    """Write the page."""
    if not flags.FLAGS.runs:
        raise UserError("--runs is missing: name folders, such as --runs=runs/course,runs/assistant")
    if not flags.FLAGS.out:
        raise UserError("--out is missing: name the page, such as --out=runs/lecture.html")
    out = Path(flags.FLAGS.out).expanduser()
    with tempfile.TemporaryDirectory() as into:
        chapters = [chapter_of(Path(name).expanduser(), Path(into)) for name in flags.FLAGS.runs]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(lecture(chapters), encoding="utf-8")
    print(f"wrote {out}")


def chapter_of(folder: Path, into: Path) -> Chapter:
    """What to tell of a run or an arena; figures are drawn in the folder `into`. Raises `UserError` when it is neither."""
    from launch.report import run_chapter
    from launch.report_arena import arena_chapter

    if not folder.is_dir():
        raise UserError(f"--runs: there is no folder {folder}: make it first (make course), or leave it out")
    if (folder / "config.json").exists():
        return run_chapter(folder, into)
    if not any(folder.glob("*/ratings.json")):
        raise UserError(f"--runs: {folder} holds no run and no arena with ratings: check its name, or leave it out")
    try:
        return arena_chapter(folder, into)
    except json.JSONDecodeError as error:
        raise UserError(f"{folder}: a file of the arena is damaged ({error}): let it be judged again") from None


def lecture(chapters: Sequence[Chapter]) -> str:
    """The whole page: a contents bar, the outcome of every chapter in a table, and the chapters."""
    links = "".join(f"<a href=#{name}>{html.escape(one.title)}</a>" for name, one in _named(chapters))
    parts = [
        "<h1>A model's schooling</h1>",
        "<p>A language model is taught as people are: it reads, it imitates worked examples, and it practises. This page is told "
        "from the files that its training left, a chapter a stage.</p>",
        _outcomes(chapters),
        *(one.html(name) for name, one in _named(chapters)),
    ]
    return page("A model's schooling", parts, f"<nav><div>{links}</div></nav>")


def _named(chapters: Sequence[Chapter]) -> list[tuple[str, Chapter]]:
    return [(f"chapter-{place}", one) for place, one in enumerate(chapters, 1)]


def _outcomes(chapters: Sequence[Chapter]) -> str:
    """What went into every chapter and what came out, and the command below where it is known."""
    rows = []
    for name, one in _named(chapters):
        told = {"went in": one.went_in, "came out": one.came_out, "steps": one.steps, "time": one.time}
        cells = "".join(f'<td data-of="{of}">{html.escape(text)}' if text else "<td>" for of, text in told.items())
        first = f"<a href=#{name}>{html.escape(one.title)}</a><br><span class=of>{html.escape(str(one.folder))}</span>"
        rows.append(f"<tr{' class=first' if one.command else ''}><td>{first}{cells}")
        if one.command:
            command = "\n".join(
                " ".join(f"<span>{html.escape(word)}</span>" for word in line.split(" "))
                for line in one.command.splitlines()
            )
            rows.append(f"<tr><td><td colspan=4><code>{command}</code>")
    head = "<tr><th>chapter<th>what went in<th>what came out<th>steps<th>time"
    return "\n".join(["<div class=wide><table class='outcome stacked'>", head, *rows, "</table></div>"])


if __name__ == "__main__":
    define_flags()
    cli.run(main)
