"""What is asked of a model: a `Task`, and its examples, made of the rows of a file by templates."""

import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from data_pipeline.errors import UserError
from data_pipeline.files import is_unicode
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_rows

KINDS = ("text", "choice", "generate")


@dataclass
class Task:
    """One evaluation. A template such as "Q: {question} A:" takes its fields from a row ("{answers[text]}": from within one)."""

    name: str = "task"
    """Its results are NAME.jsonl."""
    kind: str = "generate"
    """text: bits per byte | choice: the likeliest of given continuations | generate: what is written equals the answer."""
    source: str = ""
    """Files of JSONL or JSON (a path or a glob, also .gz and .zst) or tfds:NAME[:SPLIT]; for text, whatever can be trained on."""
    limit: int = 0
    """Only the first so many examples; 0: all."""
    seed: int = 0
    """Of the shots, and of what is sampled."""

    prompt: str = "{question}"
    """Template of what the model is given. (choice and generate)"""
    answer: str = " {answer}"
    """Template of what rightly follows the prompt: with it shots are written. For choice, see `right`."""
    shots: int = 0
    """Solved examples before the prompt, drawn for each example."""
    shots_source: str = ""
    """Where they are from, such as the training split; it must not hold the examples of `source`."""
    separator: str = "\n\n"
    """Stands between the solved examples, and before the prompt."""

    choices: str = ""
    """The field that lists the choices, such as "choices" or "choices.text". (choice)"""
    choice: str = " {choice}"
    """Template of a choice as it follows the prompt."""
    right: str = "{answer}"
    """Template of the right choice: its text, its number from 0, or its letter from A, as `right_is` says."""
    right_is: str = "text"
    """text | number | letter"""

    max_tokens: int = 256
    """How much is written at most. (generate)"""
    stop: tuple[str, ...] = ()
    """What ends an answer, besides the end of the document; it is no part of it."""
    extract: str = ""
    """A regular expression: its first group, or all that it matches, is the answer in a text; empty: the whole text."""
    take: str = "last"
    """first | last: which of several matches."""
    samples: int = 1
    """Answers to each example."""
    temperature: float = 0.0
    """0: always the likeliest token."""


@dataclass(frozen=True)
class Example:
    """A row, put into words."""

    where: str
    prompt: str
    answer: str  # what rightly follows the prompt
    choices: tuple[str, ...] = ()  # for choice: what may follow it
    right: int = 0  # which of them


def check_task(task: Task) -> None:
    """Raise `UserError` for the first value that makes no sense."""
    if not re.fullmatch(r"[\w.-]+", task.name):
        raise UserError(f"name={task.name!r}: a file is named after it, so letters, digits, dots, - and _ only")
    for name, allowed in (("kind", KINDS), ("right_is", ("text", "number", "letter")), ("take", ("first", "last"))):
        if getattr(task, name) not in allowed:
            raise UserError(f"{name}={getattr(task, name)!r}: choose one of {', '.join(allowed)}")
    if not task.source:
        raise UserError("source is empty: name the file of the examples, such as --config.source=test.jsonl")
    for name, least in (("limit", 0), ("shots", 0), ("samples", 1), ("max_tokens", 1)):
        if getattr(task, name) < least:
            raise UserError(f"{name}={getattr(task, name)}: must be at least {least}")
    if not 0 <= task.seed < 2**32:
        raise UserError(f"seed={task.seed}: must be at least 0 and below 2^32")
    if task.shots and not task.shots_source:
        raise UserError(f"shots={task.shots}: shots_source must name what they are drawn from, such as train.jsonl")
    if task.shots and task.shots_source == task.source:
        raise UserError("shots_source is the source: an example would be its own solution; give a training split")
    if task.kind == "choice" and not task.choices:
        raise UserError("choices is empty: name the field that lists them")
    if not task.temperature >= 0:
        raise UserError(f"temperature={task.temperature}: must be 0 (greedy) or more")
    if task.samples > 1 and not task.temperature:
        raise UserError(f"samples={task.samples} at temperature 0 are all the same: set temperature")
    for name in ("prompt", "answer", "choice", "right"):
        try:
            list(string.Formatter().parse(getattr(task, name)))
        except ValueError as error:
            raise UserError(f"{name}={getattr(task, name)!r} is no template ({error}): braces are doubled") from None
    try:
        re.compile(task.extract)
    except re.error as error:
        raise UserError(f"extract={task.extract!r} is no regular expression ({error})") from None


def read_examples(task: Task, set_aside: SetAside) -> list[Example]:
    """The examples of a task, each prompt with its shots before it. Rows that do not suit the templates are set aside.

    Raises `UserError` when there are none, or fewer to draw shots from than there are shots.
    """
    examples = list(_examples(task, task.source, set_aside, task.limit))
    if not examples:
        raise UserError(f"{task.source} holds no examples that can be used: {set_aside.summary()}")
    if not task.shots:
        return examples
    pool = list(_examples(task, task.shots_source, set_aside))
    if len(pool) < task.shots:
        raise UserError(f"{task.shots_source} holds {len(pool)} examples: too few for shots={task.shots}")
    shown = []
    for number, example in enumerate(examples):
        shots = random.Random(f"shots/{task.seed}/{number}").sample(pool, task.shots)
        before = "".join(shot.prompt + shot.answer + task.separator for shot in shots)
        shown.append(Example(example.where, before + example.prompt, example.answer, example.choices, example.right))
    return shown


def _examples(task: Task, source: str, set_aside: SetAside, limit: int = 0) -> Iterator[Example]:
    made = 0
    for where, row in read_rows(source, set_aside):
        if limit and made >= limit:
            return
        try:
            example = make_example(task, where, row)
        except ValueError as error:
            set_aside.add(where, str(error), repr(row).encode("utf-8", "backslashreplace"))
        else:
            made += 1
            yield example


def make_example(task: Task, where: str, row: dict[str, Any]) -> Example:
    """One row in words. Raises ValueError, saying why, for a row that does not suit the task."""
    prompt = fill(task.prompt, row)
    if task.kind == "generate":
        answer = fill(task.answer, row)
        if not extract(task, answer):
            raise ValueError("row whose answer holds nothing that `extract` finds")
        return Example(where, prompt, answer)
    texts = _choices(task, row)
    right = fill(task.right, row)
    if task.right_is == "text":
        number = texts.index(right) if right in texts else -1
    elif task.right_is == "letter":
        number = ord(right) - ord("A") if len(right) == 1 else -1
    else:
        number = int(right) if re.fullmatch(r"\d+", right) else -1
    if not 0 <= number < len(texts):
        raise ValueError("row whose right answer is none of its choices")
    choices = tuple(fill(task.choice, {**row, "choice": text}) for text in texts)
    if not all(choices):
        raise ValueError("row with an empty choice")
    return Example(where, prompt, choices[number], choices, number)


def _choices(task: Task, row: dict[str, Any]) -> list[str]:
    value: Any = row
    for name in task.choices.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError(f"row without a list of choices in {task.choices}")
    return [str(item) for item in value]


def fill(template: str, row: dict[str, Any]) -> str:
    """The template with its fields taken from a row. Raises ValueError where one is missing, or is no text and no number."""
    parts = []
    for text, name, _, _ in string.Formatter().parse(template):
        parts.append(text)
        if name is None:
            continue
        try:
            value, _ = string.Formatter().get_field(name, (), row)
        except (KeyError, IndexError, TypeError, AttributeError):
            value = None
        if not isinstance(value, str | int | float):
            raise ValueError(f"row without {name}")
        if isinstance(value, str) and not is_unicode(value):
            raise ValueError("text with half a surrogate pair")
        parts.append(str(value))
    return "".join(parts)


def extract(task: Task, text: str) -> str:
    """The answer in a text, without space around it; empty where there is none."""
    if not task.extract:
        return text.strip()
    found = list(re.finditer(task.extract, text))
    if not found:
        return ""
    match = found[0 if task.take == "first" else -1]
    return ((match[1] if match.re.groups else match[0]) or "").strip()


def same_answer(one: str, other: str) -> bool:
    """Whether two answers are equal: as numbers where both are numbers (1,000 is 1000.0), else letter by letter."""
    try:
        return float(one.replace(",", "")) == float(other.replace(",", ""))
    except ValueError:
        return one == other
