"""What a ranking session asks for, and what its raters are told."""

import itertools
import json
import random
from pathlib import Path

from data_pipeline.chat_formats import BadRow
from data_pipeline.conversation import Turn, said
from data_pipeline.errors import UserError
from data_pipeline.files import COMPRESSED, ROWS, find_files
from data_pipeline.ranking_rows import prompt_of
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_rows

INSTRUCTIONS = Path(__file__).with_name("instructions.md")

# Nobody could write down the one right answer to these, but most people can say which of five answers they like best.
KINDS = (
    "Write a joke about {}.",
    "Write a poem of two lines about {}.",
    "Tell me something surprising about {}.",
    "Explain {} to a child in two sentences.",
    "Write the first sentence of a story about {}.",
)
SUBJECTS = (
    *("pelicans", "umbrellas", "the moon", "a lost key", "neighbours", "bread", "the sea", "a slow train", "cats"),
    *(
        "a birthday",
        "shoes",
        "rain",
        "a library",
        "mirrors",
        "gardeners",
        "sleep",
        "a lighthouse",
        "soup",
        "maps",
        "clocks",
    ),
)


def read_prompts(source: str, set_aside: SetAside) -> list[tuple[Turn, ...]]:
    """The prompts of files, each once: a line of text, or a row {"prompt": text or messages} of JSONL or JSON.

    Rows that are none go to `set_aside`. Raises `UserError` where there is no such file, and where there is no prompt in it.
    """
    prompts: dict[tuple[Turn, ...], None] = {}
    for path in find_files(source):
        if (Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix) in ROWS:
            for where, row in read_rows(str(path), set_aside):
                try:
                    prompts[prompt_of(row)] = None
                except BadRow as error:
                    set_aside.add(where, str(error), json.dumps(row, default=str).encode())
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError:
                set_aside.add(f"{path}:{number}", "invalid UTF-8", line)
            else:
                if text:
                    prompts[said("user", text),] = None
    if not prompts:
        raise UserError(f"{source} holds no prompt: {set_aside.summary()}")
    return list(prompts)


def instructions_beside(prompts: str) -> str:
    """What raters of these prompts are told, in Markdown: the file of the same name with the ending .md, else ours."""
    beside = Path(prompts).expanduser().with_suffix(".md")
    return (beside if beside.is_file() else INSTRUCTIONS).read_text("utf-8")


def write_session(path: Path, seed: int) -> Path:
    """Write prompts to begin with, a row each, and beside them instructions to edit; returns where these are.

    Raises `UserError` rather than write over a file.
    """
    beside = path.with_suffix(".md")
    if path.suffix != ".jsonl":
        raise UserError(f"--write_prompts={path}: name a file that ends in .jsonl")
    if there := [each for each in (path, beside) if each.exists()]:
        raise UserError(f"{there[0]} is there already: choose another --write_prompts")
    prompts = [kind.format(subject) for kind, subject in itertools.product(KINDS, SUBJECTS)]
    random.Random(seed).shuffle(prompts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), "utf-8")
    beside.write_text(INSTRUCTIONS.read_text("utf-8"), "utf-8")
    return beside
