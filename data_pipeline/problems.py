"""From named sources to practice problems: those to practise on, and those that are only ever measured.

school:LABELLING[/KIND]   word problems of the school (school/problems.py), perhaps of one kind; levels by size
gym:TASK[?SETTINGS]       any task of reasoning-gym, scored by the task itself; perhaps by levels (gym_settings.py)
jokes                     requests for jokes, of which the rater's taste is the measure and nobody the judge (taste.py)
prompts:PATH              rows with a prompt, or lines of text, and no answer, for reward models (prompts.py)
countdown                 reach a number from others
parity                    an odd or an even number of ones
PATH, GLOB, tfds:NAME     rows, see problem_rows.py
"""

import dataclasses
import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline import countdown, gym, parity
from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.problem import Problem
from data_pipeline.problem_rows import read_problems
from data_pipeline.prompts import read_prompts
from data_pipeline.school import jokes
from data_pipeline.school import problems as school_problems
from data_pipeline.school.world import SchoolConfig
from data_pipeline.school.world import check as check_school
from data_pipeline.set_aside import SetAside
from data_pipeline.verifiers import GymAnswer, JokeRater, NotJudged, SchoolAnswer

SCHOOL, GYM, PROMPTS = "school:", "gym:", "prompts:"
VERSION = 1  # raised whenever the same source would give other problems


@dataclass
class ProblemsConfig:
    """What is practised."""

    sources: tuple[str, ...] = ("school:either",)  # see above
    count: int = 2_000  # problems to practise, of each source, at most
    held_out: int = 300  # that are measured, of each source, at most
    seed: int = 0  # of sources that make their problems
    school: SchoolConfig = field(default_factory=SchoolConfig)
    held_out_sources: tuple[str, ...] = ()
    """Rows that are only measured, as the test file of a data set is; the rows of `sources` are then all practised, but for
    those that say themselves that they are held out."""
    system: str = ""  # the system message before every problem that has none of its own


@dataclass(frozen=True)
class ProblemSets:
    """Problems in two splits that share no question."""

    train: tuple[Problem, ...]
    held_out: tuple[Problem, ...]
    fingerprint: str  # changes when the problems do


def check_problems(config: ProblemsConfig) -> None:
    """Raise `UserError` for values that make no sense."""
    if not config.sources:
        raise UserError("data.problems.sources is empty: name at least one source, such as school:either or countdown")
    for name in ("count", "held_out"):
        if getattr(config, name) < 1:
            raise UserError(f"data.problems.{name}={getattr(config, name)}: must be at least 1")
    if not 0 <= config.seed < 2000:
        raise UserError(f"data.problems.seed={config.seed}: must be from 0 to 1999")
    for source in config.sources:
        if source.startswith(SCHOOL):
            labelling, _, kind = source.removeprefix(SCHOOL).partition("/")
            if labelling not in school_problems.LABELLINGS:
                raise UserError(
                    f"data.problems.sources: {source}: choose school: and {', '.join(school_problems.LABELLINGS)}"
                )
            if kind and kind not in school_problems.KINDS:
                raise UserError(f"data.problems.sources: {source}: the kinds are {', '.join(school_problems.KINDS)}")
    check_school(config.school)


def prepare_problems(config: ProblemsConfig, set_aside: Path) -> ProblemSets:
    """The problems of all sources, always the same. Rows that are none are counted, and kept in the file `set_aside`.

    Raises `UserError` for a source that cannot be found or has too few problems, and for a question in both splits.
    """
    check_problems(config)
    train: list[Problem] = []
    held_out: list[Problem] = []
    aside = SetAside(set_aside)
    for source in config.held_out_sources:
        measured = [problem for problem, _ in read_problems(source, aside)]
        if not measured:
            raise UserError(f"{source} has no problem to measure with: {aside.summary()}")
        held_out += measured[: config.held_out]
    for source in config.sources:
        found, hidden = _split(source, config, aside)
        if not found or not (hidden or config.held_out_sources):
            raise UserError(
                f"{source} has {len(found)} problems to practise and {len(hidden)} held out: both need some"
            )
        train += found[: config.count]
        held_out += hidden[: config.held_out]
    if aside.counts:
        print(aside.summary(), flush=True)
    if both := {asked(each) for each in train} & {asked(each) for each in held_out}:
        raise UserError(f"{len(both)} questions are both practised and held out, such as {min(both)[:80]!r}")
    identity = [
        VERSION,
        dataclasses.asdict(config),
        [each.id for each in train],
        [asked(each) for each in train + held_out],
    ]
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    practised, secret = (tuple(told_first(config.system, each) for each in split) for split in (train, held_out))
    return ProblemSets(practised, secret, fingerprint)


def told_first(system: str, problem: Problem) -> Problem:
    """A problem after a system message, unless there is none, or it has its own."""
    if not system or problem.turns[0].role == "system":
        return problem
    return dataclasses.replace(problem, turns=(said("system", system), *problem.turns))


def asked(problem: Problem) -> str:
    """What a problem says, but for case and spaces."""
    return " ".join("\n".join(turn.text for turn in problem.turns).lower().split())


def _split(source: str, config: ProblemsConfig, aside: SetAside) -> tuple[list[Problem], list[Problem]]:
    if source.startswith(SCHOOL):
        labelling, _, kind = source.removeprefix(SCHOOL).partition("/")
        both = [list(_of_school(config.school, labelling, kind, held_out)) for held_out in (False, True)]
        return both[0], both[1]
    if source.startswith(GYM):
        return _of_gym(source.removeprefix(GYM), config)
    if source == "countdown":
        secret = countdown.problems(config.held_out, "held_out", set())
        return countdown.problems(config.count, str(config.seed), {each.turns[-1].text for each in secret}), secret
    if source == "jokes":
        both = [_jokes(config.school, held_out) for held_out in (False, True)]
        return both[0], both[1]
    if source.startswith(PROMPTS):
        asks = read_prompts(source.removeprefix(PROMPTS), aside)
        found = [Problem(f"{source}/{i}", turns, NotJudged(), "prompts") for i, turns in enumerate(asks)]
        return [each for each in found if not _by_hash(asked(each))], [each for each in found if _by_hash(asked(each))]
    if source == "parity":
        return parity.problems(held_out=False, count=config.count), parity.problems(
            held_out=True, count=config.held_out
        )
    read = list(read_problems(source, aside))
    by_hash = not config.held_out_sources
    secret = [each for each, held in read if (by_hash and _by_hash(asked(each)) if held is None else held)]
    hidden = {asked(each) for each in secret}
    return [each for each, _ in read if asked(each) not in hidden], secret


def _by_hash(text: str) -> bool:
    """Whether a tenth of all texts, always the same one, holds this."""
    return hashlib.sha256(text.encode()).digest()[0] < 26


def _of_school(config: SchoolConfig, labelling: str, kind: str, held_out: bool) -> Iterable[Problem]:
    way: school_problems.Labelling = next(each for each in school_problems.LABELLINGS if each == labelling)
    count = school_problems.HELD_OUT if held_out else school_problems.TRAIN
    for problem, question in school_problems.with_questions(config, way, held_out=held_out, count=count):
        if kind in ("", problem.kind):
            level = (question.size * school_problems.SIZES - 1) // (2 * config.largest_number)
            answer = f"{school_problems.capital(problem.answer)}."
            yield Problem(question.id, question.turns, SchoolAnswer(question), problem.kind, level, answer)


def _jokes(config: SchoolConfig, held_out: bool) -> list[Problem]:
    """Requests that no worked example answers."""
    split = "held_out/" if held_out else ""
    found = jokes.prompts(config, held_out=held_out)[0 if held_out else jokes.TRAIN :]
    return [
        Problem(f"jokes:{split}{number}", (said("user", words),), JokeRater(words), "jokes")
        for number, (words, _, _) in enumerate(found)
    ]


def _of_gym(name: str, config: ProblemsConfig) -> tuple[list[Problem], list[Problem]]:
    """Evenly over the levels; held-out items, which no worked example is made of either, first. A level may have fewer."""
    task, both = name.partition("?")[0], []
    for part, drawn in zip(("", "held_out/"), gym.split(name, config.count, config.held_out, config.seed), strict=True):
        problems = [_gym_problem(f"gym:{part}{name}/{number}", task, each) for number, each in enumerate(drawn)]
        if any(each.level for each in drawn):  # or the easy ones would come first
            random.Random(f"{name}/{part}").shuffle(problems)
        both.append(problems)
    return both[0], both[1]


def _gym_problem(id: str, task: str, drawn: gym.Drawn) -> Problem:
    item, answer = drawn.item, drawn.item["answer"]
    gold = None if answer is None else f"The answer is {answer}" if "\n" not in str(answer) else str(answer)
    verifier = GymAnswer(task, item, drawn.settings)
    return Problem(id, (said("user", item["question"]),), verifier, task, drawn.level, gold)
