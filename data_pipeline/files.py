"""Documents out of files: plain text and JSONL, stored as they are or as .gz or .zst.

Two things here are not obvious. A long text file is cut into many documents, because a corpus that is one file would
otherwise have nothing to hold out. And every row that cannot be used goes to `SetAside`: one bad line among millions is
no reason to stop, nor one to keep quiet.
"""

import difflib
import glob
import gzip
import hashlib
import io
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zstandard
from tqdm import tqdm

from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.set_aside import SetAside

COMPRESSED = (".gz", ".zst")
ROWS = (".jsonl", ".ndjson", ".json")

# Characters in a document cut from a longer text. About 4,000 tokens: longer than the contexts that are trained on one
# file, and short enough that a corpus of 1 MB has 60 documents to hold some out from.
DOCUMENT_LENGTH = 16_384


def find_files(source: str) -> list[Path]:
    """The files that a path or a glob names, sorted. Raises `UserError` for none, and for a folder."""
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        raise UserError(f"{source} is a folder: {_describe_folder(path)}")
    if path.exists():
        raise UserError(
            f"{source} is not a regular file; documents are read more than once, so save them to a file first"
        )
    if any(letter in source for letter in "*?["):
        # glob.glob, unlike Path.glob, leaves hidden files alone (macOS writes a binary "._name" beside every file).
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207
        files = [name for name in found if name.is_file()]
        if files:
            return files
        folder = next(parent for parent in path.parents if not any(letter in str(parent) for letter in "*?["))
        if not folder.is_dir():
            raise UserError(f"no file matches {source}: the folder {folder} does not exist")
        raise UserError(f"no file matches {source}: {_describe_folder(folder)}")
    raise UserError(f"there is no file {source}{near_files(path)}")


def near_files(path: Path) -> str:
    """The end of an error message about a missing file: what its folder holds under a similar name."""
    if not path.parent.is_dir():
        return f": the folder {path.parent} does not exist"
    names = [entry.name for entry in itertools.islice(path.parent.iterdir(), 10_000)]
    stems = {name.split(".")[0]: name for name in sorted(names)}
    near = difflib.get_close_matches(path.name, names, n=1)
    near = near or [stems[stem] for stem in difflib.get_close_matches(path.name.split(".")[0], stems, n=1)]
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def _describe_folder(folder: Path) -> str:
    endings: Counter[str] = Counter()
    deep: set[str] = set()
    for path in itertools.islice(folder.rglob("*.*"), 10_000):
        if path.is_file() and not path.name.startswith("."):
            ending = "".join(path.suffixes[-2:]) if path.suffix in COMPRESSED else path.suffix
            endings[ending] += 1
            if path.parent != folder:
                deep.add(ending)
    if not endings:
        return "it holds no file with an ending such as .txt or .jsonl.gz"
    common = endings.most_common(1)[0][0]
    held = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(4))
    return f"name its files with a glob such as '{folder}/{'**/' if common in deep else ''}*{common}' (it holds {held})"


def files_fingerprint(paths: Sequence[Path]) -> str:
    """sha256 over the names (without folders) and the whole contents of `paths`.

    Whole contents, not dates: a copy on another machine must count as the same data, an edit of one letter must not.
    sha256 reads about as fast as disks do.
    """
    digest = hashlib.sha256()
    with _reading_bar(paths, "checking files") as bar:
        for path in paths:
            with path.open("rb") as file:
                contents = hashlib.sha256()
                while block := file.read(1 << 22):
                    contents.update(block)
                    bar.update(len(block))
            digest.update(json.dumps([path.name, contents.hexdigest()]).encode())
    return digest.hexdigest()


def read_files(paths: Sequence[Path], set_aside: SetAside) -> Iterator[Document]:
    """The documents of `paths`, in order. Raises `UserError` where a compressed file is damaged."""
    with _reading_bar(paths, "reading") as bar:
        for path in paths:
            stored_as = Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix
            read = _read_rows if stored_as in ROWS else _read_text
            yield from read(path, set_aside, bar)


def read_rows(paths: Sequence[Path], set_aside: SetAside) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of the JSON objects of `paths`: one a line, or a .json file's one array of them.

    (That array may be the one array in an object, too.) What is no object is set aside. Raises `UserError` where a compressed
    file is damaged.
    """
    with _reading_bar(paths, "reading") as bar:
        for path in paths:
            values: Iterable[tuple[str, str, Any]] | None = None
            if (Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix) == ".json":
                values = _array(path)
            for where, raw, value in _json_lines(path, set_aside, bar) if values is None else values:
                if isinstance(value, dict):
                    yield where, value
                else:
                    set_aside.add(where, "JSON that is not an object", raw.encode())


def _array(path: Path) -> list[tuple[str, str, Any]] | None:
    """(where, JSON, value) of the items of a file that is one JSON array, or has one; None for any other file."""
    with _opened(path) as (stream, _):
        try:
            whole = json.loads(stream.read())
        except (ValueError, RecursionError):
            return None
    arrays = [value for value in whole.values() if isinstance(value, list)] if isinstance(whole, dict) else [whole]
    if len(arrays) != 1 or not isinstance(arrays[0], list):
        return None
    return [(f"{path}#{number}", json.dumps(item), item) for number, item in enumerate(arrays[0])]


def cut_text(lines: Iterable[str], length: int = DOCUMENT_LENGTH) -> Iterator[str]:
    """Cut a text, given by its lines (each with its newline), into pieces whose concatenation is the text.

    A piece ends before the first paragraph that starts at or after `length` characters. Where no blank line comes until
    twice that, it ends at the end of a line. A line longer than `length` may be cut too, after a space if it has one.
    So every piece but the last has at least `length` characters, and none has more than 3 * `length`.
    """
    piece: list[str] = []
    size = 0
    after_blank = False
    for line in itertools.chain.from_iterable(_cut_line(line, length) for line in lines):
        blank = not line.strip()
        if size >= 2 * length or (size >= length and after_blank and not blank):
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
        after_blank = blank
    if piece:
        yield "".join(piece)


def _cut_line(line: str, length: int) -> Iterator[str]:
    start = 0
    while len(line) - start > length:
        end = line.rfind(" ", start, start + length) + 1 or start + length
        yield line[start:end]
        start = end
    yield line[start:]


def _read_text(path: Path, set_aside: SetAside, bar: tqdm) -> Iterator[Document]:
    with _opened(path) as (stream, _):
        if b"\0" in stream.read(8192):
            set_aside.add(str(path), "file that is not text (it holds NUL bytes)", b"")
            return
    pieces = cut_text(text for _, text in _lines(path, set_aside, bar))
    first, second = next(pieces, ""), next(pieces, None)
    if second is None:
        documents = iter([Document(str(path), first)])
    else:
        numbered = enumerate(itertools.chain([first, second], pieces))
        documents = (Document(f"{path}#{number:04d}", text) for number, text in numbered)
    for document in documents:
        if document.text.strip():
            yield document
        else:
            set_aside.add(document.id, "empty text", document.text.encode())


def _read_rows(path: Path, set_aside: SetAside, bar: tqdm) -> Iterator[Document]:
    for where, line, row in _json_lines(path, set_aside, bar):
        text = row.get("text") if isinstance(row, dict) else None
        if not isinstance(text, str):
            set_aside.add(where, 'row without a "text" string', line.encode())
        elif not text.strip():
            set_aside.add(where, "empty text", line.encode())
        elif not is_unicode(text):
            set_aside.add(where, "text with half a surrogate pair", line.encode())
        else:
            yield Document(where if row.get("id") is None else str(row["id"]), text)


def _json_lines(path: Path, set_aside: SetAside, bar: tqdm) -> Iterator[tuple[str, str, Any]]:
    """(where, line, value) of every line that is JSON; the others are set aside, but for empty ones."""
    for number, line in _lines(path, set_aside, bar):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            yield where, line, json.loads(line)
        except (ValueError, RecursionError):
            set_aside.add(where, "JSON that does not parse", line.encode())


def is_unicode(text: str) -> bool:
    """False where `text` holds half a surrogate pair: JSON and Python literals can, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(path: Path, set_aside: SetAside, bar: tqdm) -> Iterator[tuple[int, str]]:
    """(line number from 1, line with its newline) of every line that is valid UTF-8; the others are set aside."""
    read = 0
    with _opened(path) as (stream, stored):
        for number, raw in enumerate(stream, 1):
            bar.update(stored.tell() - read)
            read = stored.tell()
            try:
                # A byte order mark is a signature of the file, not a part of its text.
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                set_aside.add(f"{path}:{number}", "invalid UTF-8", raw)
            else:
                yield number, line


@contextmanager
def _opened(path: Path) -> Iterator[tuple[io.BufferedIOBase, io.BufferedIOBase]]:
    """(what the file holds once decompressed, the file as stored). Turns damage met while reading into `UserError`."""
    with path.open("rb") as stored:
        stream: io.BufferedIOBase = stored
        if path.suffix == ".gz":
            stream = gzip.GzipFile(fileobj=stored)
        elif path.suffix == ".zst":
            stream = io.BufferedReader(_ZstandardReader(stored), 1 << 17)
        try:
            yield stream, stored
        except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
            where = f"near byte {stored.tell():,} of {path.stat().st_size:,}"
            raise UserError(f"{path} is damaged {where} ({error}): fetch or compress it again") from None


class _ZstandardReader(io.RawIOBase):
    """Decompresses all frames of a .zst file, and raises EOFError when it ends within one.

    `zstandard.open` takes a file that was cut short for a whole one, and would lose its end in silence.
    """

    def __init__(self, stored: io.BufferedIOBase) -> None:
        self._stored = stored
        self._compressed = b""
        self._plain = memoryview(b"")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._within_frame = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            self._compressed = self._compressed or self._stored.read(1 << 16)
            if not self._compressed:
                if self._within_frame:
                    raise EOFError("it ends within a frame")
                return 0
            self._plain = memoryview(self._frame.decompress(self._compressed))
            self._within_frame = not self._frame.eof
            self._compressed = b""
            if self._frame.eof:
                self._compressed = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        count = min(len(buffer), len(self._plain))
        buffer[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count


def _reading_bar(paths: Sequence[Path], what: str) -> tqdm:
    total = sum(path.stat().st_size for path in paths)
    return tqdm(total=total, desc=what, unit="B", unit_scale=True, delay=1, leave=False)
