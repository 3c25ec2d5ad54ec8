"""Factual questions with their answers: given as pairs, or written by a model that reads documents."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.files import is_unicode
from data_pipeline.judges import Claim, normalised
from data_pipeline.locked import locked
from data_pipeline.model_text import Writer, finish, json_objects, words, written_about
from data_pipeline.resumable import Row
from data_pipeline.set_aside import SetAside

PROMPT_VERSION = "questions-1"  # to be raised when the prompt changes

PROMPT = """Read this text.

<text>
{text}
</text>

Write {count} questions about facts that the text states, each with its answer. A question must make sense to somebody who has not
seen the text: give full names. An answer is at most a few words, taken from the text. Write nothing but JSON:
[{{"question": "...", "answer": "..."}}]"""

QUESTION_LENGTH = (8, 300)  # characters
ANSWER_LENGTH = 100


@dataclass(frozen=True)
class Question:
    """A question, the right answer, and the document that says so, where it came from one."""

    id: str
    question: str
    gold: str
    document: str = ""


def questions_from_pairs(pairs: Iterable[tuple[str, str]]) -> list[Question]:
    """The same questions and right answers, with ids that follow from the questions. Raises `UserError` where one comes twice."""
    found = [Question(_id(question), question, gold) for question, gold in pairs]
    check_ids(found)
    return found


def check_ids(questions: Sequence[Question]) -> None:
    """Raise `UserError` where two questions have the same id."""
    seen: dict[str, Question] = {}
    for each in questions:
        if before := seen.get(each.id):
            raise UserError(f"two questions have the id {each.id}: {before.question!r} and {each.question!r}")
        seen[each.id] = each


def questions_from_documents(
    documents: Sequence[Document], write: Writer, folder: Path, *, model: str, count: int = 3, batch: int = 16
) -> Row:
    """At most `count` questions about each document, written by the model `write`, which is called `model` in what is stored.

    In `folder`: written.jsonl (what the model wrote, as it is), questions.jsonl (each a `Question`), set_aside.jsonl (what is no
    question, is too long, is not answered by the document, or came before), and summary.json, which is returned: how many of
    each. Killed and called again, it goes on. Raises `UserError` for a folder with other documents or settings, and where the
    writer fails again and again.
    """
    settings = {"model": model, "count": count, "prompt": PROMPT_VERSION}
    with locked(folder):
        set_aside = SetAside(folder / "set_aside.jsonl")
        texts = written_about(
            folder,
            documents,
            lambda text: PROMPT.format(text=text, count=count),
            write,
            settings,
            set_aside,
            batch=batch,
            name="writing questions",
        )
        found: dict[str, Question] = {}
        for document, text in texts:
            for each in _parsed(document, text, count, set_aside):
                if each.id in found:
                    set_aside.add(document.id, "a question that came before", each.question.encode())
                found.setdefault(each.id, each)
        return finish(folder, "questions", [asdict(each) for each in found.values()], len(documents), set_aside)


def _parsed(document: Document, text: str, count: int, set_aside: SetAside) -> list[Question]:
    found: list[Question] = []
    for item in _items(text):
        question, answer = item.get("question"), item.get("answer")
        if isinstance(answer, int | float) and not isinstance(answer, bool):
            answer = str(answer)
        if reason := _fault(question, answer, document):
            set_aside.add(document.id, reason, json.dumps(item).encode())
        elif isinstance(question, str) and isinstance(answer, str):
            found.append(Question(_id(question), question.strip(), answer.strip(), document.id))
    if not found:
        set_aside.add(document.id, "nothing usable written", text.encode())
    return found[:count]


def _items(text: str) -> list[dict[str, Any]]:
    """Objects in the text; where one holds a list of them, such as {"questions": [...]}, those."""
    found: list[dict[str, Any]] = []
    for item in json_objects(text):
        lists = [value for value in item.values() if isinstance(value, list)]
        inner = [each for values in lists for each in values if isinstance(each, dict)]
        found += inner if inner and "question" not in item else [item]
    return found


def _fault(question: Any, answer: Any, document: Document) -> str | None:
    if not isinstance(question, str) or not isinstance(answer, str) or not words(question) or not words(answer):
        return "no question with an answer"
    if not is_unicode(question + answer):
        return "text with half a surrogate pair"
    if not QUESTION_LENGTH[0] <= len(question.strip()) <= QUESTION_LENGTH[1]:
        return f"a question shorter than {QUESTION_LENGTH[0]} or longer than {QUESTION_LENGTH[1]} characters"
    if len(answer.strip()) > ANSWER_LENGTH:
        return f"an answer longer than {ANSWER_LENGTH} characters"
    return (
        "an answer that the document does not hold" if not normalised(Claim(question, answer, document.text)) else None
    )


def _id(question: str) -> str:
    return hashlib.sha256(" ".join(words(question)).encode("utf-8", "surrogatepass")).hexdigest()[:12]
