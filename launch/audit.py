"""Can these problems be practised? What every source of problems must pass before a model is rewarded by it.

    python -m launch.audit --problems=school:either,countdown,gym:chain_sum
    python -m launch.audit --problems=problems.jsonl --count=500

For each source: the problems' own answers score 1; what garbage is paid (its floor); how often the answer can be read in the
prompt; verifiers that fail; questions asked twice. No question is in both splits. Exit code 2, with what is wrong, where a gate
fails: a gold answer that does not score 1, a floor above --floor, a prompt that gives its answer away, a verifier that fails.
"""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from data_pipeline.errors import UserError
from data_pipeline.final_answer import MARK, final_answer, first_sentence
from data_pipeline.problem import Problem, Response
from data_pipeline.problems import ProblemsConfig, asked, prepare_problems
from data_pipeline.verifying import Verifiers
from launch import cli

COLUMNS = (
    "source",
    "problems",
    "held out",
    "gold is 1",
    "no gold",
    "garbage",
    "in the prompt",
    "given away",
    "twice",
    "failed",
)


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_list("problems", [], "Sources, as in data.problems.sources.")
    flags.DEFINE_integer("count", 200, "Problems of each split that are looked at.", lower_bound=1)
    flags.DEFINE_float("floor", 0.05, "What garbage may be paid on average.", lower_bound=0.0)
    flags.DEFINE_integer("workers", 2, "Processes that verify.", lower_bound=1)
    flags.DEFINE_float("seconds", 5.0, "For one verdict.", lower_bound=0.1)


@dataclass(frozen=True)
class Audit:
    """What was found of one source: shares of its problems, but for the counts."""

    source: str
    train: int
    held_out: int
    gold: float  # of those that have one, how many score 1
    without: float  # have no gold answer
    garbage: float  # the mean score of answers that answer nothing
    in_prompt: float  # have an answer of two characters or more that stands in the prompt as a word
    given_away: int  # prompts that hold the whole gold answer, or state it as an answer is stated
    twice: int  # questions that are asked again in the same split
    failed: float  # of all verdicts


def main(_: list[str]) -> None:
    """Audit every source, tell what was found, fail where a gate does."""
    options = flags.FLAGS
    if not options.problems:
        raise UserError("--problems is missing: name sources, such as --problems=school:either,countdown")
    verifiers = Verifiers(options.workers, options.seconds)
    try:
        found = [audit(source, options.count, verifiers) for source in options.problems]
    finally:
        verifiers.close()
    show(found)
    wrong = [problem for each in found for problem in failures(each, options.floor)]
    if wrong:
        raise UserError("not fit to be practised: " + "; ".join(wrong))
    print("fit to be practised")


def audit(source: str, count: int, verifiers: Verifiers) -> Audit:
    """Look at the first `count` problems of each split. Raises `UserError` as `prepare_problems` does."""
    with tempfile.TemporaryDirectory() as folder:
        sets = prepare_problems(ProblemsConfig((source,), count, count), Path(folder) / "set_aside.jsonl")
    problems = [*sets.train, *sets.held_out]
    golden = [(each, Response(each.gold)) for each in problems if each.gold is not None]
    garbage = [(each, Response(text)) for each in problems for text in garbage_for(each, problems)]
    right, paid = verifiers.check(golden), verifiers.check(garbage)
    twice = sum(len(split) - len({asked(each) for each in split}) for split in (sets.train, sets.held_out))
    answers = [(each, final_answer(each.gold)) for each in problems if each.gold is not None]
    shown = [len(answer) > 1 and answer.lower() in asked(each).split() for each, answer in answers]
    return Audit(
        source,
        len(sets.train),
        len(sets.held_out),
        _mean([each.score == 1 for each in right]) if right else 1.0,
        1 - len(golden) / len(problems),
        _mean([each.score for each in paid]),
        _mean(shown) if shown else 0.0,
        sum(given_away(question_of(each), each.gold) for each in problems if each.gold is not None),
        twice,
        _mean([each.failed for each in (*right, *paid)]),
    )


def garbage_for(problem: Problem, others: Sequence[Problem]) -> list[str]:
    """Answers that must not pay: nothing, a refusal, noise, the question again, and the answer of another problem."""
    texts = ["", "I don't know.", "987654321", "?" * 40, problem.turns[-1].text]
    other = random.Random(problem.id).choice(others)
    if other.gold is not None and problem.gold is not None and final_answer(other.gold) != final_answer(problem.gold):
        texts.append(other.gold)
    return texts


def question_of(problem: Problem) -> str:
    """What is asked, as it is written."""
    return "\n".join(turn.text for turn in problem.turns)


def given_away(prompt: str, gold: str) -> bool:
    """Whether the prompt holds all of a gold answer of several words, or has the answer behind "answer:", "####" or in a box."""
    if len(gold.split()) > 1 and gold in prompt:
        return True
    answer = final_answer(gold)
    stated = (first_sentence(prompt[mark.end() :].partition("}")[0]) for mark in MARK.finditer(prompt))
    return bool(answer) and answer in stated


def failures(found: Audit, floor: float) -> list[str]:
    """What is wrong with a source, in words."""
    wrong = []
    if found.gold < 1:
        wrong.append(f"{found.source}: {1 - found.gold:.1%} of its own answers do not score 1")
    if found.garbage > floor:
        wrong.append(f"{found.source}: garbage is paid {found.garbage:.3f} on average (--floor={floor:g})")
    if found.given_away:
        wrong.append(f"{found.source}: {found.given_away} prompts give their answer away")
    if found.failed:
        wrong.append(f"{found.source}: its verifier fails on {found.failed:.1%}")
    return wrong


def show(found: Sequence[Audit]) -> None:
    """A table, a line a source."""
    from launch.compare_runs import table

    rows = [
        [
            each.source,
            str(each.train),
            str(each.held_out),
            f"{each.gold:.1%}",
            f"{each.without:.1%}",
            f"{each.garbage:.3f}",
            f"{each.in_prompt:.1%}",
            str(each.given_away),
            str(each.twice),
            f"{each.failed:.1%}",
        ]
        for each in found
    ]
    print(table(list(COLUMNS), rows))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
