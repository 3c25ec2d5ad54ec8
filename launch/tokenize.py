r"""Shows how a model sees a text: its tokens in colours, the id of each beneath it, and how many bytes a token carries.

Look at a text through the tokenizer of a run:
    python -m launch.tokenize --workdir=runs/a --text='Hello hello HELLO  hello'
through GPT-4's (pip install "trivium[tokenizers]", and fetch
https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken):
    python -m launch.tokenize --tokenizer=cl100k_base.tiktoken --text='hello world'
through any Hugging Face tokenizer, and a whole file:
    python -m launch.tokenize --tokenizer=llama3/tokenizer.json --file=README.md
or at conversations, as finetuning reads them (the rows of data_pipeline/chat_formats.py, the first that --max_tokens shows):
    python -m launch.tokenize --workdir=runs/a --conversation=chats.jsonl

A space is shown as a middle dot, a newline as ↵ (the view goes on in a new row), a tab as →, other invisible characters
by their picture or escape, and a token that is only part of a character by its bytes, such as \xe2\x96. A special token
shows reversed. Text never becomes one, so "<|user_start|>" shows as several ordinary tokens. In a conversation ^^^ stands under
every token that a model is trained to write.
"""

import json
import os
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from data_pipeline import protocol
from data_pipeline.chat_formats import BadRow, conversation_of
from data_pipeline.errors import UserError
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_rows
from data_pipeline.tokenizer import Tokenizer, load_tokenizer
from launch import cli

# Light backgrounds of the 256-colour palette under black text, in turn, so that neighbours differ.
BACKGROUNDS = (189, 194, 223, 224, 195)


def define_flags() -> None:
    """The flags of this program; not at import, since other programs have flags of the same name."""
    flags.DEFINE_string("text", None, "The text to look at.")
    flags.DEFINE_string("file", None, "A UTF-8 file to look at instead, or - for standard input.")
    flags.DEFINE_string(
        "conversation", None, "Conversations to look at instead: JSONL, or the JSON of one or of a list."
    )
    flags.DEFINE_string(
        "tokenizer",
        None,
        "The tokenizer's file: *.model, a Hugging Face tokenizer.json, or *.tiktoken ranks (.gz too).",
    )
    flags.DEFINE_string("workdir", None, "A run's folder: look through the tokenizer saved in it.")
    flags.DEFINE_enum(
        "color", "auto", ["auto", "always", "never"], "auto: in a terminal, unless NO_COLOR is set in the environment."
    )
    flags.DEFINE_integer(
        "max_tokens", 1000, "How many tokens to show; the counts are of the whole text.", lower_bound=0
    )


def main(argv: list[str]) -> None:
    """Print the token view and the counts."""
    del argv
    args = flags.FLAGS
    if (args.tokenizer is None) == (args.workdir is None):
        raise UserError(
            "say which tokenizer: --tokenizer=FILE, or --workdir=RUN for the one saved in a run (one of them)"
        )
    if sum(given is not None for given in (args.text, args.file, args.conversation)) != 1:
        raise UserError("say what to look at: --text='some text', --file=PATH or --conversation=PATH (one of them)")
    path = Path(args.tokenizer).expanduser() if args.tokenizer else Path(args.workdir).expanduser() / "tokenizer"
    tokenizer = load_tokenizer(path)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal that is not UTF-8
    width, color = shutil.get_terminal_size().columns, wants_color(args.color)
    if args.conversation is not None:
        show_conversations(tokenizer, args.conversation, args.max_tokens, color=color, width=width)
    else:
        text = args.text if args.file is None else read_text(args.file)
        ids = tokenizer.encode(text)
        print(render(tokenizer, ids[: args.max_tokens], color=color, width=width))
        if len(ids) > args.max_tokens:
            print(f"... and {len(ids) - args.max_tokens:,} more (--max_tokens={len(ids)} shows all)")
        print(counts(text, ids))
    print(f"vocabulary {tokenizer.vocab_size:,}, {path}")


def show_conversations(tokenizer: Tokenizer, source: str, most: int, *, color: bool, width: int) -> None:
    """Print the conversations of a file until `most` tokens are shown, and why a row is none.

    Raises `UserError` for a file that cannot be read, and for a conversation that the vocabulary has no tokens for.
    """
    print("^^^ a token that the model is trained to write; the others it only reads")
    for where, row in conversation_rows(source):
        if most <= 0:
            print("... (--max_tokens shows more)")
            break
        try:
            conversation = conversation_of(where, row)
        except BadRow as error:
            print(f"{where} is no conversation: {error}")
            continue
        rendered = protocol.render(tokenizer, conversation.turns)
        ids, trained = rendered.tokens, rendered.trained
        print(f"{conversation.id}: {len(ids):,} tokens, {sum(trained):,} of them trained")
        print(render(tokenizer, ids[:most], color=color, width=width, trained=trained))
        most -= len(ids)


def conversation_rows(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of a file that holds conversations, or is one. Raises `UserError` where there is none to be read."""
    if source.endswith(".json"):
        try:
            whole = json.loads(read_text(source))
        except ValueError as error:
            raise UserError(f"{source} is not JSON: {error}") from None
        if isinstance(whole, dict):
            yield source, whole
            return
    with tempfile.TemporaryDirectory() as folder:
        set_aside = SetAside(Path(folder) / "set_aside.jsonl")
        yield from read_rows(source, set_aside)
    for reason, number in set_aside.counts.items():
        print(f"{number} rows of {source} cannot be read: {reason}")


def read_text(file: str) -> str:
    """The text of a file ("-": standard input), newlines as they are. Raises `UserError` if it is not UTF-8."""
    contents = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return contents.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text: byte {contents[error.start]:#04x} at {error.start:,}") from None


def wants_color(choice: str) -> bool:
    """Whether to colour: as the flag says; for "auto", in a terminal that has not asked for none (no-color.org)."""
    return choice == "always" or (choice == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))


def counts(text: str, ids: Sequence[int]) -> str:
    """One line: tokens, characters, UTF-8 bytes, and bytes per token."""
    size = len(text.encode())
    ratio = f", {size / len(ids):.2f} bytes per token" if ids else ""
    return f"{len(ids):,} tokens, {len(text):,} characters, {size:,} bytes{ratio}"


def render(
    tokenizer: Tokenizer, ids: Sequence[int], *, color: bool, width: int, trained: Sequence[bool] | None = None
) -> str:
    """The ids as rows of at most `width` columns: the tokens' text, beneath it their ids, and ^^^ where `trained` is true.

    Takes ids, not text, so that it shows special tokens too: what a protocol wrote looks different from what text says.
    """
    rows: list[tuple[str, ...]] = []
    pieces = numbers = marks = ""
    used = 0
    newline = False
    for i, token in enumerate(ids):
        piece, number = visible(tokenizer.piece(token)), str(token)
        cell = max(columns(piece), len(number)) + 1
        if used and (newline or used + cell > width):
            rows.append((pieces, numbers, marks))
            pieces = numbers = marks = ""
            used = 0
        special = not tokenizer.token_bytes(token)
        pieces += paint(pad(piece, cell, color), i, special, color)
        numbers += paint(pad(number, cell, color), i, special, color)
        marks += ("^" * (cell - 1) if trained and trained[i] else " " * (cell - 1)) + " "
        used += cell
        newline = b"\n" in tokenizer.token_bytes(token)
    if ids:
        rows.append((pieces, numbers, marks))
    shown = 2 if trained is None else 3
    return "\n".join("\n".join(row[:shown]) + "\n" for row in rows)


def pad(text: str, cell: int, color: bool) -> str:
    """Fill a cell of so many columns; where no colour shows its end, a bar does."""
    return text + " " * (cell - 1 - columns(text)) + (" " if color else "│")


def paint(cell: str, place: int, special: bool, color: bool) -> str:
    """A cell in the colour of its place in the sequence; a special token bold and reversed."""
    if not color:
        return cell
    style = "1;7" if special else f"30;48;5;{BACKGROUNDS[place % len(BACKGROUNDS)]}"
    return f"\x1b[{style}m{cell}\x1b[0m"


def visible(piece: str) -> str:
    """A piece with every character in sight: no newline, tab, escape sequence or zero-width character gets through."""
    return "".join(map(visible_character, piece))


def visible_character(character: str) -> str:
    """What stands for one character."""
    if character in SIGNS:
        return SIGNS[character]
    if character.isprintable():
        return character
    if character < " ":
        return chr(0x2400 + ord(character))  # Unicode's pictures of the control characters
    return character.encode("unicode_escape").decode()


SIGNS = {" ": "·", "\n": "↵", "\t": "→"}


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: 2 for a wide character, 0 for a combining mark."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    marks = sum(unicodedata.category(character) in ("Mn", "Me") for character in text)
    return len(text) + wide - marks


if __name__ == "__main__":
    define_flags()
    cli.run(main)
