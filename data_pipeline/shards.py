"""Documents or conversations, tokenized once, in ArrayRecord shards: a folder read at random that survives any kill.

    directory/settings.json              what the folder was begun with: another source or tokenizer is refused
    directory/train/00000.array_record   records: an id, tokens, and which of them are trained
    directory/train/00000.lengths.npy    int32 (records,): tokens in each record, so that packing reads no records
    directory/train/00000.json           counts; written last, so a shard without it is not finished
    directory/validation/...             the same, for what is held out
    directory/manifest.json              totals; written last of all

A document is [document_start] text [document_start]: the closing one is the label that tells a model where the document is
over. Which split something goes to is decided by it alone, so it depends neither on the order nor on how many there are,
and equal texts never end up on both sides.
"""

import bisect
import errno
import functools
import hashlib
import io
import itertools
import json
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tqdm import tqdm

from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.locked import locked
from data_pipeline.packing import Record
from data_pipeline.set_aside import SetAside
from data_pipeline.tokenizer import Tokenizer

SPLITS = ("train", "validation")

# A minute or two of tokenizing on two CPU cores, which is what a kill can cost, and 128 MB of uint16 tokens.
TOKENS_PER_SHARD = 1 << 26

# Characters handed to the tokenizer at once: enough to occupy its threads, little to hold in memory.
BATCH_CHARACTERS = 1 << 20

# Shards that one `TokenizedRecords` keeps open: below the 1,024 open files that most systems allow a process.
OPEN_SHARDS = 512

# A record is the number of bytes of the id (little-endian uint32), the id, the tokens (little-endian), and where not all of
# them are trained a bit for each, the first in the highest bit of a byte.
ID_LENGTH = struct.Struct("<I")


class Item(Protocol):
    """What can be written: a document, or a conversation."""

    @property
    def id(self) -> str:
        """Its name within its source."""

    @property
    def text(self) -> str:
        """All that it says."""

    @property
    def held_out(self) -> bool | None:
        """Whether it is kept for validation; None: a hash of its text decides."""


Encoded = tuple[list[int], list[bool] | None]  # tokens, and whether each is trained; None: all are


@dataclass(frozen=True)
class Settings:
    """What the contents of a folder follow from, besides the documents themselves."""

    source: str
    tokenizer: str
    vocab_size: int
    document_start: int
    dtype: str
    held_out: float
    tokens_per_shard: int


@dataclass(frozen=True)
class SplitCounts:
    """What a split holds: documents or conversations. `tokens` counts the special ones; `text_bytes` is the text in UTF-8."""

    shards: int
    documents: int
    tokens: int
    text_bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a finished folder holds, and how many rows of the source were set aside, by reason."""

    settings: Settings
    train: SplitCounts
    validation: SplitCounts
    set_aside: dict[str, int]


@dataclass(frozen=True)
class _Shard:
    """The JSON of a finished shard. `next_document` is the place in the source after the last document in the shard."""

    documents: int
    tokens: int
    text_bytes: int
    next_document: int
    file_bytes: int


def tokenize_documents(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    directory: Path,
    *,
    held_out: float,
    source: str,
    set_aside: SetAside | None = None,
    tokens_per_shard: int = TOKENS_PER_SHARD,
) -> Manifest:
    """Tokenize `documents` into shards in `directory`, or return at once if that is done already; see `write_shards`."""

    def encode(batch: list[Document]) -> Iterator[Encoded]:
        start = tokenizer.document_start
        for document, ids in zip(batch, tokenizer.encode_many([each.text for each in batch]), strict=True):
            if start in ids:
                raise ValueError(f"the tokenizer wrote a special token for the text of {document.id}")
            yield [start, *ids, start], None

    return write_shards(
        documents,
        encode,
        tokenizer,
        directory,
        held_out=held_out,
        source=source,
        set_aside=set_aside,
        tokens_per_shard=tokens_per_shard,
    )


def write_shards(
    items: Iterable[Item],
    encode: Callable[[list[Any]], Iterable[Encoded]],
    tokenizer: Tokenizer,
    directory: Path,
    *,
    held_out: float,
    source: str,
    set_aside: SetAside | None = None,
    tokens_per_shard: int = TOKENS_PER_SHARD,
    noun: str = "documents",
) -> Manifest:
    """Write `items` into shards in `directory`, or return at once if that is done already.

    `encode` makes the tokens of a batch of items at a time. An item that does not say its split is held out if a hash of its
    text falls under the share `held_out`. A killed run, repeated with the same `items`, goes on after its last finished
    shards, and ends with the same bytes as a run that was never killed. Of several processes, one works and the others wait.
    `source` should change when the items change; `set_aside` is where they put unusable rows.

    Raises `UserError` where there are no items, or where `directory` was begun with another source or tokenizer;
    `OSError` where the disk is full.
    """
    if not 0 <= held_out < 1:
        raise UserError(f"held_out={held_out} is not a share of the {noun}: choose 0 or more, and less than 1")
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    settings = Settings(
        source, tokenizer.fingerprint, tokenizer.vocab_size, tokenizer.document_start, dtype, held_out, tokens_per_shard
    )
    _refuse_other_settings(directory, settings)
    # Asked before locking as well, so that a finished folder may be read-only.
    if not (directory / "manifest.json").exists():
        with locked(directory):
            _refuse_other_settings(directory, settings)
            if not (directory / "manifest.json").exists():
                _write(directory / "settings.json", _json(settings))
                manifest = _tokenize(items, encode, directory, settings, set_aside, noun)
                _write(directory / "manifest.json", _json(manifest))
    return load_manifest(directory)


def load_manifest(directory: Path) -> Manifest:
    """The manifest of a finished folder; raises `UserError` where there is none."""
    path = directory / "manifest.json"
    if not path.exists():
        raise UserError(f"{directory} holds no finished documents: prepare them first")
    stored = _load_json(path, directory)
    counts = {split: SplitCounts(**stored[split]) for split in SPLITS}
    return Manifest(Settings(**stored["settings"]), **counts, set_aside=stored["set_aside"])


def is_held_out(item: Item, held_out: float) -> bool:
    """What the item says itself; failing that, whether a hash of its text falls under the share `held_out`."""
    if item.held_out is not None:
        return item.held_out
    return int.from_bytes(hashlib.sha256(item.text.encode()).digest()[:8], "big") < held_out * 2.0**64


class TokenizedRecords:
    """Random access to the records of one split, "train" or "validation". Safe to use from several threads.

    `lengths` is int32 (records,), the tokens of each with the special ones. Raises `UserError` at once if
    a shard is missing or cut short, and while reading if it is damaged.
    """

    def __init__(self, directory: Path, split: str) -> None:
        self._directory = directory
        self._split = split
        self.manifest = load_manifest(directory)
        self._dtype = np.dtype(self.manifest.settings.dtype).newbyteorder("<")
        lengths = [self._checked_lengths(number) for number in range(getattr(self.manifest, split).shards)]
        self.lengths = np.concatenate([np.empty(0, np.int32), *lengths])
        self._starts = [0, *itertools.accumulate(len(each) for each in lengths)]
        self._reader = functools.lru_cache(OPEN_SHARDS)(self._open)

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenizedRecords, (self._directory, self._split)  # Open files do not travel to worker processes.

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Record:
        """The id of a document or conversation, its tokens, and which of them are trained."""
        index = range(len(self))[index]
        number = bisect.bisect_right(self._starts, index) - 1
        place = index - self._starts[number]
        try:
            # A range of one: `read([place])` would start a pool of threads for each record.
            record = self._reader(number).read(place, place + 1)[0]
        except RuntimeError as error:
            raise self._damaged(number, f"is damaged ({error})") from None
        tokens_at = ID_LENGTH.size + ID_LENGTH.unpack_from(record)[0]
        name = record[ID_LENGTH.size : tokens_at].decode("utf-8", "surrogatepass")
        count = int(self.lengths[index])
        tokens = np.frombuffer(record, self._dtype, count, tokens_at).astype(np.int32)
        bits = np.frombuffer(record, np.uint8, offset=tokens_at + count * self._dtype.itemsize)
        trained = np.unpackbits(bits, count=count).astype(np.bool_) if len(bits) else np.ones(count, np.bool_)
        return Record(name, tokens, trained)

    def _open(self, number: int) -> ArrayRecordReader:
        path = _shard_path(self._directory / self._split, number, "array_record")
        return ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")

    def _checked_lengths(self, number: int) -> np.ndarray:
        folder = self._directory / self._split
        try:
            shard = _load_shard(folder, number)
            file_bytes = _shard_path(folder, number, "array_record").stat().st_size
            lengths = np.load(_shard_path(folder, number, "lengths.npy"))
        except FileNotFoundError as error:
            raise self._damaged(number, f"is incomplete ({Path(error.filename).name} is missing)") from None
        except (ValueError, EOFError) as error:
            raise self._damaged(number, f"is damaged ({error})") from None
        if (file_bytes, len(lengths)) != (shard.file_bytes, shard.documents):
            raise self._damaged(number, f"has {file_bytes:,} of {shard.file_bytes:,} bytes, {len(lengths):,} lengths")
        return lengths

    def _damaged(self, number: int, what: str) -> UserError:
        name = f"shard {self._split}/{number:05d} of {self._directory}"
        return UserError(f"{name} {what}: delete the folder {self._directory} and run again to prepare it again")


class _Placed(NamedTuple):
    """An item that is still to be tokenized, with its place in the source."""

    place: int
    item: Item
    split: str
    text_bytes: int


def _tokenize(
    items: Iterable[Item],
    encode: Callable[[list[Any]], Iterable[Encoded]],
    directory: Path,
    settings: Settings,
    set_aside: SetAside | None,
    noun: str,
) -> Manifest:
    writers = {split: _SplitWriter(directory / split, settings) for split in SPLITS}
    start, text_bytes = time.monotonic(), 0
    with tqdm(items, desc="tokenizing", unit=f" {noun}", unit_scale=True) as bar:
        for batch in _batches(_not_yet_written(bar, writers, settings.held_out)):
            for placed, encoded in zip(batch, encode([placed.item for placed in batch]), strict=True):
                writers[placed.split].add(placed, encoded)
                text_bytes += placed.text_bytes
            rate = text_bytes / (time.monotonic() - start)
            bar.set_postfix_str(f"{text_bytes / 1e6:,.1f} MB of text, {rate / 1e6:.1f} MB/s", refresh=False)
    counts = {split: writer.finish() for split, writer in writers.items()}
    if not any(each.documents for each in counts.values()):
        raise UserError(f"no {noun} to write to {directory}")
    return Manifest(settings, **counts, set_aside=dict(set_aside.counts) if set_aside else {})


def _not_yet_written(items: Iterable[Item], writers: dict[str, "_SplitWriter"], held_out: float) -> Iterator[_Placed]:
    """Each split goes on from its own place: its shards depend on the items of that split alone."""
    resume_at = {split: writer.next_document for split, writer in writers.items()}
    for place, item in enumerate(items):
        split = "validation" if is_held_out(item, held_out) else "train"
        if place >= resume_at[split]:
            yield _Placed(place, item, split, len(item.text.encode()))


def _batches(placed: Iterable[_Placed]) -> Iterator[list[_Placed]]:
    batch: list[_Placed] = []
    characters = 0
    for each in placed:
        batch.append(each)
        characters += len(each.item.text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class _SplitWriter:
    """Writes the shards of one split, going on after those that are finished."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._settings = settings
        self._finished: list[_Shard] = []
        while _shard_path(folder, len(self._finished), "json").exists():
            self._finished.append(_load_shard(folder, len(self._finished)))
        self.next_document = self._finished[-1].next_document if self._finished else 0
        self._begin_shard()

    def _begin_shard(self) -> None:
        self._writer: ArrayRecordWriter | None = None
        self._lengths: list[int] = []
        self._tokens = 0
        self._text_bytes = 0
        self._records = _shard_path(self._folder, len(self._finished), "array_record")

    def add(self, placed: _Placed, encoded: Encoded) -> None:
        tokens = np.array(encoded[0], np.dtype(self._settings.dtype).newbyteorder("<"))
        bits = b"" if encoded[1] is None else np.packbits(encoded[1]).tobytes()
        name = placed.item.id.encode("utf-8", "surrogatepass")
        with _as_os_errors(self._records):
            if self._writer is None:
                # group_size:1, or reading one record would decompress its neighbours too.
                self._writer = ArrayRecordWriter(str(_unfinished(self._records)), "group_size:1")
            self._writer.write(ID_LENGTH.pack(len(name)) + name + tokens.tobytes() + bits)
        self._lengths.append(len(tokens))
        self._tokens += len(tokens)
        self._text_bytes += placed.text_bytes
        self.next_document = placed.place + 1
        if self._tokens >= self._settings.tokens_per_shard:
            self._finish_shard()

    def _finish_shard(self) -> None:
        assert self._writer is not None
        with _as_os_errors(self._records):
            self._writer.close()
        _publish(self._records)
        number = len(self._finished)
        lengths = io.BytesIO()
        np.save(lengths, np.array(self._lengths, np.int32))
        _write(_shard_path(self._folder, number, "lengths.npy"), lengths.getvalue())
        file_bytes = self._records.stat().st_size
        shard = _Shard(len(self._lengths), self._tokens, self._text_bytes, self.next_document, file_bytes)
        _write(_shard_path(self._folder, number, "json"), _json(shard))
        self._finished.append(shard)
        self._begin_shard()

    def finish(self) -> SplitCounts:
        if self._lengths:
            self._finish_shard()
        return SplitCounts(
            shards=len(self._finished),
            documents=sum(shard.documents for shard in self._finished),
            tokens=sum(shard.tokens for shard in self._finished),
            text_bytes=sum(shard.text_bytes for shard in self._finished),
        )


def _refuse_other_settings(directory: Path, settings: Settings) -> None:
    path = directory / "settings.json"
    if not path.exists():
        return
    begun = _load_json(path, directory)
    for name, value in asdict(settings).items():
        if begun.get(name) != value:
            raise UserError(
                f"{directory} was begun with another {name} ({begun.get(name)}, now {value}): choose another folder, "
                "or delete this one to prepare it again"
            )


@contextmanager
def _as_os_errors(path: Path) -> Iterator[None]:
    """ArrayRecord reports what the operating system refused as RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        known = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
        code = next((code for code in known if os.strerror(code) in str(error)), errno.EIO)
        raise OSError(code, str(error), str(path)) from error


def _shard_path(folder: Path, number: int, ending: str) -> Path:
    return folder / f"{number:05d}.{ending}"


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.unfinished")


def _write(path: Path, contents: bytes) -> None:
    """A file that appears whole or not at all."""
    _unfinished(path).write_bytes(contents)
    _publish(path)


def _publish(path: Path) -> None:
    """Give an unfinished file its name, once it is on the disk: a power cut must not leave a name without contents."""
    with _unfinished(path).open("rb") as file:
        os.fsync(file.fileno())
    _unfinished(path).replace(path)


def _json(value: Any) -> bytes:
    return (json.dumps(asdict(value), indent=1) + "\n").encode()


def _load_json(path: Path, directory: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise UserError(f"{path} is damaged: delete the folder {directory} and run again to prepare it again") from None


def _load_shard(folder: Path, number: int) -> _Shard:
    path = _shard_path(folder, number, "json")
    return _Shard(**_load_json(path, folder.parent))
