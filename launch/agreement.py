"""Do several answers to the same question agree? Where a fact was told, and where it never was (map row 10).

    python -m launch.train --config=experiments/pretrain/agreement.py --workdir=runs/school
    python -m launch.agreement --workdir=runs/school

Facts of the school are asked for by the beginning of a sentence ("Ada Holt loves to eat"), several times at temperature 1.

    agreement   the probability that two of a fact's answers name the same value
    correct     the share of answers that name the fact's own

Writes agreement.csv and agreement.png into the run's folder.
"""

import csv
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from data_pipeline.errors import UserError
from data_pipeline.school.world import SchoolConfig, probe
from data_pipeline.tokenizer import Tokenizer
from launch import cli

if TYPE_CHECKING:  # JAX is imported late
    from lm.evaluation.estimate import Estimate
    from lm.inference.engine import Engine

STOPS = (".", ",", "\n", " and ")  # what may follow a value in the school's documents
MAX_TOKENS = 12  # of a value: an occupation and its article, spelled in pieces


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of a run on the school.")
    flags.DEFINE_integer("step", None, "Which checkpoint of the run; the newest unless given.")
    flags.DEFINE_integer("samples", 8, "Answers to each question.")
    flags.DEFINE_integer("facts", 120, "How many facts of each frequency are asked for, at most.")
    flags.DEFINE_integer("seed", 0, "The same seed gives the same answers.")


@dataclass(frozen=True)
class Group:
    """The facts of one frequency; an example is a fact."""

    frequency: int
    agreement: "Estimate"
    correct: "Estimate"
    example: tuple[str, list[str]]  # a question and its answers


def main(_: list[str]) -> None:
    """Ask, print the table, draw the figure."""
    options = flags.FLAGS
    if not options.workdir:
        raise UserError("--workdir is missing: name the folder of a run on the school, such as --workdir=runs/course")
    for name, least in (("samples", 2), ("facts", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise UserError(f"--{name}={getattr(options, name)}: must be at least {least}")
    workdir = Path(options.workdir).expanduser()

    from launch.recitation import data_config
    from launch.workdir import load_model, read_config

    data = data_config(read_config(workdir)["data"])
    if "school" not in data.sources:
        raise UserError(f"{workdir} did not learn the school but {', '.join(data.sources)}: name a run that did")

    from tqdm import tqdm

    from lm.inference.engine import Engine

    cli.remember_compilations(Path(cli.CACHE))
    model, tokenizer, step = load_model(workdir, options.step)
    engine = Engine(model, slots=128, symbols=tokenizer.vocab_size, token_bytes=tokenizer.token_bytes)
    with tqdm(desc="asking", unit=" answers", delay=1) as bar:
        groups = measure(engine, tokenizer, data.school, options.samples, options.facts, options.seed, bar.update)
    print(f"{workdir} at step {step}, {options.samples} answers to each question\n{report(groups)}\n")
    for group in (groups[0], groups[-1]):
        question, answers = group.example
        print(f"told in {group.frequency} documents: {question!r} -> {', '.join(map(repr, answers))}")
    write_csv(workdir / "agreement.csv", groups)
    draw(workdir / "agreement.png", groups)
    print(f"wrote {workdir / 'agreement.csv'} and {workdir / 'agreement.png'}")


def measure(
    engine: "Engine",
    tokenizer: Tokenizer,
    school: SchoolConfig,
    samples: int,
    per_frequency: int,
    seed: int,
    on_progress: Callable[[int], Any] | None = None,
) -> list[Group]:
    """Ask for at most `per_frequency` facts of each frequency, the never told first. `on_progress` counts answers."""
    from lm.evaluation.evaluate import completion_text
    from lm.inference.generate import generate
    from lm.inference.requests import Request, Update
    from lm.recall import facts_of_each_frequency

    asked = facts_of_each_frequency(school, per_frequency, random.Random(school.seed))
    requests = [
        Request(
            (tokenizer.document_start, *tokenizer.encode(probe(fact)[0])),
            MAX_TOKENS,
            seed=(seed + number) % 2**32,
            samples=samples,
            stop_tokens=(tokenizer.document_start,),
            stop_strings=STOPS,
        )
        for number, fact in enumerate(asked)
    ]

    def progress(_: int, update: Update) -> None:
        if on_progress and update.reason:
            on_progress(1)

    answers = [
        [completion_text(one, tokenizer, STOPS).strip() for one in completions]
        for completions in generate(engine, requests, progress)
    ]
    groups = []
    for frequency, members in itertools.groupby(zip(asked, answers, strict=True), lambda pair: pair[0].frequency):
        pairs = list(members)
        right = [probe(fact)[1].strip() for fact, _ in pairs]
        groups.append(
            Group(
                frequency,
                agreement([given for _, given in pairs]),
                correct([given for _, given in pairs], right),
                (probe(pairs[0][0])[0], pairs[0][1]),
            )
        )
    return groups


def agreement(answers: Sequence[Sequence[str]]) -> "Estimate":
    """The share of pairs of answers to the same question that are equal; answers (questions, at least 2)."""
    from lm.evaluation.estimate import share

    pairs = [[one == other for one, other in itertools.combinations(given, 2)] for given in answers]
    return share("agreement", [sum(same) / len(same) for same in pairs])


def correct(answers: Sequence[Sequence[str]], right: Sequence[str]) -> "Estimate":
    """The share of answers that are right."""
    from lm.evaluation.estimate import share

    return share("correct", [given.count(wanted) / len(given) for given, wanted in zip(answers, right, strict=True)])


def report(groups: Sequence[Group]) -> str:
    """A row for each frequency, with 95% intervals over facts."""
    from launch.compare_runs import table

    rows = [
        [str(group.frequency or "never"), str(group.correct.examples)]
        + [f"{one.value:.1%} [{one.low:.0%}, {one.high:.0%}]" for one in (group.agreement, group.correct)]
        for group in groups
    ]
    return table(["told in", "facts", "agreement", "correct"], rows)


def write_csv(file: Path, groups: Sequence[Group]) -> None:
    """A line for each frequency."""
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["told_in", "facts", "agreement", "low", "high", "correct", "correct_low", "correct_high"])
        for group in groups:
            a, c = group.agreement, group.correct
            writer.writerow([group.frequency, a.examples, a.value, a.low, a.high, c.value, c.low, c.high])


def draw(path: Path, groups: Sequence[Group]) -> None:
    """Both shares against how often a fact was told."""
    from launch.figures import estimates_figure

    estimates_figure(
        path,
        [str(group.frequency or "never") for group in groups],
        {
            "two answers agree": [group.agreement for group in groups],
            "an answer is right": [group.correct for group in groups],
        },
        xlabel="documents that tell the fact",
        ylabel="share",
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
