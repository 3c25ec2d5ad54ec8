"""Rows of other people's data sets as problems, told by their keys.

    question or problem, and answer or solution   a sum, as GSM8K ("#### 42") and MATH (boxed) have it; judged by math-verify
    question, choices, answer                     multiple choice; the answer is a letter, an index or the words
    question or prompt, and tests                 code, with a list of tests that it does not see

A row's `held_out` says which split it belongs to; else the file does where there is one for what is held out
(`data.problems.held_out_sources`), and a hash of its question where there is none.
"""

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.final_answer import final_answer, stated
from data_pipeline.problem import Problem
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_rows
from data_pipeline.verifiers import Choice, CodeTests, MathAnswer

QUESTIONS, ANSWERS = ("question", "problem", "prompt"), ("answer", "solution")


def read_problems(source: str, set_aside: SetAside) -> Iterator[tuple[Problem, bool | None]]:
    """Problems of a file, a glob or tfds:NAME, and whether each is held out (None: the row does not say).

    Rows that are none go to `set_aside`. Raises `UserError` where the source cannot be read, or math-verify is missing.
    """
    for where, row in read_rows(source, set_aside):
        try:
            yield problem_of(where, row), row.get("held_out")
        except ValueError as error:
            set_aside.add(where, str(error), json.dumps(row, default=str).encode())


def problem_of(where: str, row: dict[str, Any]) -> Problem:
    """One row, found at `where`, as a problem. Raises `ValueError` with the reason why it is none."""
    question = next((row[name] for name in QUESTIONS if isinstance(row.get(name), str) and row[name].strip()), None)
    if question is None:
        raise ValueError(f"no question (under {', '.join(QUESTIONS)})")
    if "tests" in row:
        tests = row["tests"]
        if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
            raise ValueError("tests is no list of texts")
        gold = row.get("answer") if isinstance(row.get("answer"), str) else None
        return Problem(where, (said("user", question),), CodeTests(tuple(tests)), "code", gold=gold)
    answer = next((row[name] for name in ANSWERS if row.get(name) not in (None, "")), None)
    if answer is None:
        raise ValueError(f"no answer (under {', '.join(ANSWERS)})")
    if "choices" in row:
        return _choice(where, question, row["choices"], answer)
    need_math()
    # Of a solution what it states; an answer by itself as it is, commas and all: (1, 2) is no 12.
    right = str(answer).strip() if stated(str(answer)) is None else final_answer(str(answer))
    if not right:
        raise ValueError("an answer without a word")
    return Problem(
        where, (said("user", question),), MathAnswer(right), "math", gold=f"The answer is \\boxed{{{right}}}."
    )


def _choice(where: str, question: str, choices: Any, answer: Any) -> Problem:
    if not isinstance(choices, list) or not 2 <= len(choices) <= 26:
        raise ValueError("choices is no list of 2 to 26")
    words = tuple(str(choice) for choice in choices)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(words)]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(words):
        letter = letters[answer]
    elif isinstance(answer, str) and answer.strip() in letters and len(answer.strip()) == 1:
        letter = answer.strip()
    elif words.count(str(answer)) == 1:
        letter = letters[words.index(str(answer))]
    else:
        raise ValueError("the answer is none of the choices")
    listed = "\n".join(f"{name}. {word}" for name, word in zip(letters, words, strict=True))
    asked = said("user", f"{question}\n{listed}\nAnswer with the letter.")
    return Problem(where, (asked,), Choice(letter, words), "choice", gold=letter)


def need_math() -> None:
    """Raise `UserError` unless math-verify is there."""
    if importlib.util.find_spec("math_verify") is None:
        raise UserError('problems with answers in mathematics need math-verify: pip install "trivium[math]"')
