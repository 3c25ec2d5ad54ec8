"""Prompts without answers, for people and reward models to judge the responses of."""

import json
from pathlib import Path

from data_pipeline.chat_formats import BadRow
from data_pipeline.conversation import Turn, said
from data_pipeline.errors import UserError
from data_pipeline.files import COMPRESSED, ROWS, find_files
from data_pipeline.ranking_rows import prompt_of
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_rows


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
