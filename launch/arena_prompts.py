"""What everybody in an arena is asked, as --prompts names it.

school:TOPIC          what measures a topic of the school (school/worked_examples.py)
school:LABELLING[/KIND], gym:TASK, countdown, parity, jokes
                      held-out problems (data_pipeline/problems.py)
PATH or GLOB          a prompt a line, or rows of JSONL with a prompt; with --judge=verifier rows with answers (problem_rows.py)
"""

import random
from collections.abc import Iterator

from data_pipeline.errors import UserError
from data_pipeline.problem import Problem
from data_pipeline.problem_rows import read_problems
from data_pipeline.problems import GYM, SCHOOL, ProblemsConfig, asked, prepare_problems
from data_pipeline.school import worked_examples
from data_pipeline.school.problems import LABELLINGS
from data_pipeline.school.world import SchoolConfig
from data_pipeline.set_aside import SetAside
from data_pipeline.verifiers import NotJudged, SchoolAnswer
from launch.ranking.prompts import read_prompts

ALONE = ("countdown", "parity", "jokes")


def prompts(source: str, count: int, set_aside: SetAside, *, verified: bool) -> list[Problem]:
    """At most `count` prompts, no two alike, in an order that a larger count goes on with.

    Rows that are none go to `set_aside`. `verified`: each has a verifier. Raises `UserError` for a source that cannot be found,
    and where no prompt is left.
    """
    found: dict[str, Problem] = {}
    for problem in _read(source, count, set_aside, verified):
        found.setdefault(asked(problem), problem)
    if not found:
        raise UserError(f"--prompts={source} holds no prompt: {set_aside.summary()}")
    shuffled = list(found.values())
    random.Random(f"prompts/{source}").shuffle(shuffled)  # a source may have its kinds one after another
    return shuffled[:count]


def _read(source: str, count: int, set_aside: SetAside, verified: bool) -> Iterator[Problem]:
    topic = source.removeprefix(SCHOOL)
    if source.startswith(SCHOOL) and topic.partition("/")[0] not in LABELLINGS:
        for question in worked_examples.questions(SchoolConfig(), topic):
            yield Problem(question.id, question.turns, SchoolAnswer(question), question.kind)
    elif source.startswith((SCHOOL, GYM)) or source in ALONE:
        yield from prepare_problems(ProblemsConfig((source,), count=1, held_out=count), set_aside.path).held_out
    elif verified:
        yield from (problem for problem, _ in read_problems(source, set_aside))
    else:
        for number, turns in enumerate(read_prompts(source, set_aside)):
            yield Problem(f"{source}:{number}", turns, NotJudged(), "prompt")
