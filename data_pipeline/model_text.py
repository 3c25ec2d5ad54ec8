"""Text asked of a model, and JSON read out of it.

A `Writer` is any model as a function: ours, or one behind an OpenAI-compatible address. It may write nonsense, refuse or hang
up: what it wrote is kept as it is, what it could not write is set aside, and reading JSON out of it is lenient.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.resumable import Row, begin, do_rows, patiently, write_rows, write_whole
from data_pipeline.set_aside import SetAside

Writer = Callable[[list[str]], list[str]]
"""Prompts -> what the model writes to each, in the same order."""

# Rows in a row that fail before it is the writer that is taken to be broken, and not the rows.
FAILURES = 8

# Places in one text where JSON is looked for in vain: enough for prose with braces, and an end to a page of them.
TRIES = 100

WORD = re.compile(r"\w+")


def written_about(
    folder: Path,
    documents: Sequence[Document],
    prompt: Callable[[str], str],
    write: Writer,
    settings: Row,
    set_aside: SetAside,
    *,
    batch: int,
    name: str,
) -> list[tuple[Document, str]]:
    """What `write` wrote to the prompt about each document, as `written` does; `folder` holds written.jsonl and settings.json.

    Raises `UserError` for documents with one id, and for a folder that was begun with other documents or settings.
    """
    found: dict[str, Document] = {}
    digest = hashlib.sha256()
    for document in documents:
        if document.id in found:
            raise UserError(f"two documents have the id {document.id!r}: give each its own")
        found[document.id] = document
        digest.update(json.dumps([document.id, document.text]).encode())
    begin(folder / "settings.json", {**settings, "documents": digest.hexdigest()[:16]})
    prompts = [(key, prompt(document.text)) for key, document in found.items()]
    texts = written(folder / "written.jsonl", prompts, write, set_aside, batch=batch, name=name)
    return [(found[key], text) for key, text in texts.items()]


def written(
    path: Path, prompts: Sequence[tuple[str, str]], write: Writer, set_aside: SetAside, *, batch: int, name: str
) -> dict[str, str]:
    """What `write` wrote to each of `prompts` (id, prompt), by id; rows {"id", "text"} in `path`, which a later run goes on with.

    A batch that fails is asked again one by one. One whose connection fails is tried again a few times (`patiently`); what still
    fails is set aside, and tried again by the next run. Raises `UserError` where `FAILURES` of them fail one after another.
    """
    failures = 0

    def work(some: list[tuple[str, str]]) -> list[Row]:
        nonlocal failures
        try:
            texts = _asked(write, [prompt for _, prompt in some])
            failures = 0
            return [{"id": key, "text": text} for (key, _), text in zip(some, texts, strict=True)]
        except UserError:
            raise
        except Exception as error:
            if len(some) > 1:
                return [row for one in some for row in work([one])]
            key, prompt = some[0]
            failures += 1
            reason = f"{type(error).__name__}: {error}"
            if failures >= FAILURES:
                raise UserError(f"{name}: {failures} rows failed one after another, the last with {reason}") from error
            set_aside.add(key, f"the writer failed ({type(error).__name__})", f"{reason}\n{prompt}".encode())
            return []

    return {key: row["text"] for key, row in do_rows(path, prompts, work, batch=batch, name=name).items()}


def _asked(write: Writer, prompts: list[str]) -> list[str]:
    texts = patiently(lambda: write(prompts))
    if len(texts) != len(prompts) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"the writer returned {len(texts)} texts for {len(prompts)} prompts")
    return [writable(text) for text in texts]


def finish(folder: Path, made: str, rows: list[Row], documents: int, set_aside: SetAside) -> Row:
    """Write MADE.jsonl and summary.json, which is returned: how many documents, of these rows, and set aside for what."""
    write_rows(folder / f"{made}.jsonl", rows)
    summary = {"documents": documents, made: len(rows), "set_aside": dict(set_aside.counts.most_common())}
    write_whole(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    return summary


def writable(text: str) -> str:
    """The same text, with a question mark for half a surrogate pair, which cannot be written, sent or tokenized."""
    return text.encode("utf-8", "replace").decode()


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects in `text`, whatever stands around them: prose, a code fence, a list that was cut short."""
    decoder = json.JSONDecoder()
    place = text.find("{")
    for _ in range(TRIES):
        if place < 0:
            return
        try:
            found, end = decoder.raw_decode(text, place)
            yield found
        except (ValueError, RecursionError):
            end = place + 1
        place = text.find("{", end)


def words(text: str) -> list[str]:
    """The words and numbers of `text`, whatever their case."""
    return WORD.findall(text.casefold())


def support(text: str, document: str) -> float:
    """The share of the telling words of `text` that `document` has too; 0 where it has none.

    Telling are different words of four letters or more, and numbers: the others are in any document.
    """
    said = {word for word in words(text) if len(word) >= 4 or any(letter.isdigit() for letter in word)}
    return len(said & set(words(document))) / len(said) if said else 0.0
