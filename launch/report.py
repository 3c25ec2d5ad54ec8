"""A page about a run, to be read by people: what it learnt, how its writing got better, and what it knows.

    python -m launch.report --workdir=runs/course

writes `runs/course/report.html`, one file without outside parts, and `recall.json` for a run on the school. Several runs on one
page: `launch.lecture`.
"""

import html
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import flags

from data_pipeline.errors import UserError
from launch import cli
from launch.compare_runs import read_run
from launch.report_page import Chapter, heading, number, page, table, words
from launch.report_practice import practice_chapter
from launch.report_reading import reading_chapter
from launch.report_taste import pleasing_chapter, rankings_chapter


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of the run.")


def main(_: list[str]) -> None:
    """Measure recall where the run learnt the school, then write the page."""
    if not flags.FLAGS.workdir:
        raise UserError("--workdir is missing: name the folder of a run, such as --workdir=runs/course")
    workdir = Path(flags.FLAGS.workdir).expanduser()

    from launch.workdir import read_config, sources_of

    cli.remember_compilations(Path(cli.CACHE))
    config = read_config(workdir)
    last = read_run(workdir).steps[-1:]
    if last and "school" in sources_of(config) and not last[0].keys() & {"right", "reward"}:
        measure_recall(workdir, config)
    chapter = run_chapter(workdir, workdir)
    path = workdir / "report.html"
    path.write_text(report(chapter, config), encoding="utf-8")
    print(f"wrote {path}")


def measure_recall(workdir: Path, config: dict[str, Any]) -> None:
    """Ask the newest model for facts of the school, told and never told: a `Recall` for each frequency in recall.json."""
    from tqdm import tqdm

    from launch.workdir import load_model, school_of
    from lm.recall import school_recall

    school = school_of(config)
    model, tokenizer, _ = load_model(workdir)
    with tqdm(desc="asking for facts", unit=" sentences") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        recall = [asdict(entry) for entry in school_recall(model, tokenizer, school, on_progress=progress)]
    (workdir / "recall.json").write_text(json.dumps(recall, indent=2) + "\n")


def run_chapter(folder: Path, into: Path) -> Chapter:
    """What to tell of a run, by the stage that its steps are of; figures are drawn in the folder `into`.

    Raises `UserError` when there is no run, it has made no step, or a file of it is damaged.
    """
    from launch.workdir import read_documents, sources_of

    run = read_run(folder)
    if not run.steps:
        raise UserError(f"{folder} has no steps yet: train first (python -m launch.train)")
    what = ", ".join(sources_of(run.config))
    try:
        if "right" in run.steps[-1]:
            return practice_chapter(run, into, what)
        if "reward" in run.steps[-1]:
            return pleasing_chapter(run, into, what)
        if "pair_accuracy" in run.steps[-1]:
            return rankings_chapter(run, into, what)
        return reading_chapter(run, into, what, read_documents(run.config))
    except json.JSONDecodeError as error:
        raise UserError(f"{folder}: a file of the run is damaged ({error}): restore it") from None


def report(chapter: Chapter, config: dict[str, Any]) -> str:
    """The whole page about one run."""
    name = chapter.folder.name
    facts = "; ".join(filter(None, [chapter.went_in, f"{chapter.steps} steps in {chapter.time}", chapter.came_out]))
    parts = [
        f"<h1>{html.escape(name)}</h1>",
        f"<p class=note>{html.escape(facts)}.</p>",
        chapter.html("chapter"),
        "<section><h2>The model</h2>",
        "<p class=note>Every part and its shape; those of <code>blocks</code> are stacked, a layer each.</p>",
        _model(config["model"]),
        heading("The experiment"),
        f"<pre>{html.escape(json.dumps(config, indent=2))}</pre></section>",
    ]
    return page(name, parts)


def _model(values: dict[str, Any]) -> str:
    from launch.workdir import model_config
    from lm.model.summary import parameter_count, parameter_shapes

    shapes = parameter_shapes(model_config(values))
    rows = [
        [words(name), words(" x ".join(map(str, shape))), number(f"{math.prod(shape):,}")]
        for name, shape in shapes.items()
    ]
    rows.append([words("all"), words(""), number(f"{parameter_count(shapes):,}")])
    return table(["part", "shape", "parameters"], rows)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
