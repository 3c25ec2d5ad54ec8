"""Long work on many items, a row on disk for each: it may be killed at any moment and goes on where it was.

The rows are JSON lines that a person can read while they are written. A kill can tear the last one; it is dropped and done again.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from data_pipeline.errors import UserError

T = TypeVar("T")

Row = dict[str, Any]

# Seconds between tries where a connection fails: long enough for a server that starts again.
WAITS: tuple[float, ...] = (1.0, 5.0, 20.0)


def begin(path: Path, settings: Row) -> None:
    """Write down with which settings a folder was begun; raises `UserError`, naming the differences, for others."""
    settings = json.loads(json.dumps(settings))  # tuples are lists in JSON
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(settings, indent=1) + "\n")
        return
    try:
        begun = json.loads(path.read_text("utf-8"))
    except ValueError:
        raise UserError(f"{path} is damaged: delete the folder {path.parent} and start again") from None
    differences = [
        f"{key} ({json.dumps(begun.get(key))}, now {json.dumps(settings.get(key))})"
        for key in sorted(begun.keys() | settings.keys())
        if begun.get(key) != settings.get(key)
    ]
    if differences:
        raise UserError(f"{path.parent} was begun with other settings: {', '.join(differences)}; choose another folder")


def write_whole(path: Path, text: str) -> None:
    """A file that appears whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """One JSON line a row, in a file that appears whole or not at all."""
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """The rows so far; none where there is no file. A torn last line is cut off. Raises `UserError` for damage elsewhere."""
    if not path.exists():
        return []
    whole = path.read_bytes()
    end = whole.rfind(b"\n") + 1
    if end < len(whole):
        with path.open("r+b") as file:
            file.truncate(end)
    rows = []
    for number, line in enumerate(whole[:end].split(b"\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise UserError(f"{path}:{number} is damaged: delete the file to do that step again") from None
    return rows


def do_rows(
    path: Path,
    items: Sequence[tuple[str, T]],
    work: Callable[[list[tuple[str, T]]], list[Row]],
    *,
    batch: int,
    name: str,
) -> dict[str, Row]:
    """The row of every item, by id, in the order of `items`: (id, what `work` needs), each id once.

    `work` takes at most `batch` items and returns rows with an "id". They are appended to `path` at once, and what is there
    already is not done again. An item that got no row is left out, and is tried again by the next run.
    """
    rows = {row["id"]: row for row in read_rows(path)}
    missing = [item for item in items if item[0] not in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file, tqdm(total=len(missing), desc=name, disable=not missing) as bar:
        for some in _batches(missing, batch):
            done = work(some)
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in done))
            file.flush()
            rows |= {row["id"]: row for row in done}
            bar.update(len(some))
    return {key: rows[key] for key, _ in items if key in rows}


def patiently(ask: Callable[[], T]) -> T:
    """The answer of `ask`, which is tried again after `WAITS` where a connection fails or is too slow."""
    for wait in WAITS:
        try:
            return ask()
        except (ConnectionError, TimeoutError) as error:
            tqdm.write(f"no answer ({error}); trying again in {wait:g} s")
            time.sleep(wait)
    return ask()


def _batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
