"""Prompts that several models are to answer, so that their answers can be compared.

school:TOPIC              what measures a topic of the school (school/worked_examples.py)
school:LABELLING[/KIND], gym:TASK, countdown, parity
                          the held-out problems of problems.py
PATH, GLOB, tfds:NAME     rows: "messages" up to the last of the user, or a text under prompt, question, problem or instruction

None of the first two kinds was trained on. They come with a verifier; so do rows with answers where verifiers are wanted.
"""

import json
import random
from collections.abc import Iterator
from typing import Any

from data_pipeline.chat_formats import conversation_of
from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.problem import Problem, Response, Verdict
from data_pipeline.problem_rows import read_problems
from data_pipeline.problems import GYM, SCHOOL, ProblemsConfig, asked, prepare_problems
from data_pipeline.school import worked_examples
from data_pipeline.school.problems import LABELLINGS
from data_pipeline.school.world import SchoolConfig
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_rows
from data_pipeline.verifiers import SchoolAnswer

TEXTS = ("prompt", "question", "problem", "instruction")


def unverified(response: Response) -> Verdict:  # noqa: ARG001
    """The verifier of prompts without answers. Raises `UserError`."""
    raise UserError("these prompts come without answers, so nothing can verify one")


def read_prompts(source: str, count: int, set_aside: SetAside, *, verified: bool) -> list[Problem]:
    """At most `count` prompts, no two alike, in an order that a larger count goes on with.

    Rows that are none go to `set_aside`. `verified`: every prompt has a verifier. Raises `UserError` for a source that cannot be
    found, and where no prompt is left.
    """
    found: dict[str, Problem] = {}
    for problem in _read(source, count, set_aside, verified):
        if asked(problem) in found:
            set_aside.add(problem.id, "a prompt that was there before", problem.turns[-1].text.encode())
        found.setdefault(asked(problem), problem)
    if not found:
        raise UserError(f"{source} holds no prompts{f': {set_aside.summary()}' if set_aside.counts else ''}")
    prompts = list(found.values())
    random.Random(f"prompts/{source}").shuffle(prompts)  # a source may have its kinds one after another
    return prompts[:count]


def _read(source: str, count: int, set_aside: SetAside, verified: bool) -> Iterator[Problem]:
    topic = source.removeprefix(SCHOOL)
    if source.startswith(SCHOOL) and topic.partition("/")[0] not in LABELLINGS:
        for question in worked_examples.questions(SchoolConfig(), topic):
            yield Problem(question.id, question.turns, SchoolAnswer(question), question.kind)
    elif source.startswith((SCHOOL, GYM)) or source in ("countdown", "parity"):
        yield from prepare_problems(ProblemsConfig((source,), count=1, held_out=count), set_aside.path).held_out
    elif verified:
        yield from (problem for problem, _ in read_problems(source, set_aside))
    else:
        for where, row in read_rows(source, set_aside):
            try:
                yield _prompt(where, row)
            except ValueError as error:
                set_aside.add(where, str(error), json.dumps(row, default=str).encode())


def _prompt(where: str, row: dict[str, Any]) -> Problem:
    """One row as a prompt without a verifier. Raises `ValueError` with the reason why it is none."""
    if text := next((row[key] for key in TEXTS if isinstance(row.get(key), str) and row[key].strip()), None):
        return Problem(where, (said("user", text),), unverified, "prompt")
    messages = row["messages"] if isinstance(row.get("messages"), list) else []
    places = [i for i, each in enumerate(messages) if _of_user(each)]
    if not places:
        raise ValueError(f"no prompt (under {', '.join(TEXTS)}, or messages of a user)")
    # The reader of conversations leaves out a user's turn that nobody answers.
    answered = [*messages[: places[-1] + 1], {"role": "assistant", "content": "."}]
    return Problem(where, conversation_of(where, {**row, "messages": answered}).turns[:-1], unverified, "prompt")


def _of_user(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") == "user"
