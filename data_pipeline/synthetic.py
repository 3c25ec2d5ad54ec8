"""Conversations about documents, written by a model: ours, or any behind an OpenAI-compatible address.

What a model writes is not taken on trust. A conversation is kept if it can be read, is of a sensible length, says in its answers
what the document says, and is not one that was written before; all others are counted by reason and set aside. In the folder:

    written.jsonl          {"id": the document's, "text"}: what the model wrote, as it is
    conversations.jsonl    {"id", "messages", "document", "model", "prompt"}, to be finetuned on
    set_aside.jsonl        {"where", "reason", "raw"}
    summary.json           how many of each
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_pipeline.document import Document
from data_pipeline.files import is_unicode
from data_pipeline.locked import locked
from data_pipeline.model_text import Writer, finish, json_objects, support, words, written_about
from data_pipeline.resumable import Row
from data_pipeline.set_aside import SetAside

PROMPT_VERSION = "conversations-1"  # to be raised when the prompt changes

PROMPT = """Read this text.

<text>
{text}
</text>

Write a conversation between a curious user and a helpful assistant about what the text says. The user has not seen the text and
gives full names. The assistant answers from the text alone, shortly and in whole sentences. Write nothing but JSON:
[{{"role": "user", "content": "..."}}, {{"role": "assistant", "content": "..."}}]"""

Message = dict[str, str]


@dataclass(frozen=True)
class SyntheticConfig:
    """Which conversations are kept. Lengths are in characters."""

    most_turns: int = 12
    """The user's and the assistant's together."""
    shortest: int = 2
    """Of one turn."""
    longest: int = 2000
    """Of one turn."""
    support: float = 0.6
    """The share of the telling words of the assistant's answers that the document must hold (`model_text.support`)."""


def synthesize(
    documents: Sequence[Document],
    write: Writer,
    folder: Path,
    config: SyntheticConfig = SyntheticConfig(),
    *,
    model: str,
    batch: int = 16,
) -> Row:
    """Write the files above, one conversation at most for each document, and return the summary.

    `model` is the name of the writer in what is stored. Killed and called again, it goes on and asks nothing twice, but for what
    the writer failed at. Raises `UserError` for a folder with other documents or settings, and where the writer fails again and
    again.
    """
    settings = {**asdict(config), "model": model, "prompt": PROMPT_VERSION}
    with locked(folder):
        set_aside = SetAside(folder / "set_aside.jsonl")
        texts = written_about(
            folder,
            documents,
            lambda text: PROMPT.format(text=text),
            write,
            settings,
            set_aside,
            batch=batch,
            name="writing conversations",
        )
        rows: dict[str, Row] = {}  # by what they say
        for document, text in texts:
            messages = read_messages(text)
            same = " ".join(word for message in messages for word in words(message["content"]))
            reason = fault(messages, document, config) or ("a conversation that came before" if same in rows else None)
            if reason:
                set_aside.add(document.id, reason, text.encode())
                continue
            rows[same] = {
                "id": f"synthetic/{document.id}",
                "messages": messages,
                "document": document.id,
                "model": model,
                "prompt": PROMPT_VERSION,
            }
        return finish(folder, "conversations", list(rows.values()), len(documents), set_aside)


def read_messages(text: str) -> list[Message]:
    """The turns in what a model wrote: a list of them, or one in an object. Other keys and objects are left out; none: []."""
    objects: list[Any] = list(json_objects(text))
    for item in objects:
        if isinstance(inner := item.get("messages", item.get("conversation")), list):
            objects = inner
            break
    return [
        {"role": item["role"], "content": item["content"].strip()}
        for item in objects
        if isinstance(item, dict) and isinstance(item.get("role"), str) and isinstance(item.get("content"), str)
    ]


def fault(messages: list[Message], document: Document, config: SyntheticConfig) -> str | None:
    """Why these turns are no conversation to learn from, or None."""
    if not messages:
        return "no conversation"
    if [message["role"] for message in messages] != ["user", "assistant"] * (len(messages) // 2):
        return "turns that are not the user's and the assistant's in turn"
    if len(messages) > config.most_turns:
        return f"more than {config.most_turns} turns"
    lengths = [len(message["content"]) for message in messages]
    if min(lengths) < config.shortest or max(lengths) > config.longest:
        return f"a turn shorter than {config.shortest} or longer than {config.longest} characters"
    if not all(is_unicode(message["content"]) for message in messages):
        return "text with half a surrogate pair"
    answers = " ".join(message["content"] for message in messages if message["role"] == "assistant")
    if support(answers, document.text) < config.support:
        return "answers that the document does not support"
    return None
