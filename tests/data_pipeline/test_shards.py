"""Tokenized shards: what is in them, and that no kill, race, damage or mistake can put anything else there."""

import errno
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordReader

from data_pipeline import shards
from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.set_aside import SetAside
from data_pipeline.shards import SplitCounts, TokenizedRecords, is_held_out, load_manifest, tokenize_documents

START = 256


class Bytes:
    """A tokenizer whose tokens are the bytes of the text."""

    document_start = START
    fingerprint = "bytes"

    def __init__(self, vocab_size: int = 257) -> None:
        self.vocab_size = vocab_size

    def encode_many(self, texts: Iterable[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]


def documents(count: int = 60) -> Iterator[Document]:
    for i in range(count):
        yield Document(f"test:{i}", f"Document {i}, é. " * (1 + i * 7 % 11))


def prepare(directory: Path, these: Iterable[Document] | None = None, **changes: object) -> shards.Manifest:
    options = {"held_out": 0.3, "source": "test", "tokens_per_shard": 1000} | changes
    tokenizer = options.pop("tokenizer", Bytes())
    return tokenize_documents(documents() if these is None else these, tokenizer, directory, **options)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("vocab_size", "dtype"), [(257, "uint16"), (1 << 16, "uint16"), (1 << 16 | 1, "uint32")])
def test_every_document_is_there_with_its_tokens(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    manifest = prepare(tmp_path, tokenizer=Bytes(vocab_size))
    assert manifest.settings.dtype == dtype
    assert load_manifest(tmp_path) == manifest
    for split, held_out in (("train", False), ("validation", True)):
        stored = TokenizedRecords(tmp_path, split)
        expected = [document for document in documents() if is_held_out(document, 0.3) == held_out]
        assert len(stored) == len(expected) > 5
        for i, document in enumerate(expected):
            name, tokens, trained = stored[i]
            assert name == document.id
            assert trained.dtype == np.bool_
            assert trained.all()
            assert trained.shape == tokens.shape
            assert tokens.dtype == np.int32
            assert tokens.tolist() == [START, *document.text.encode(), START]
        assert stored.lengths.dtype == np.int32
        assert stored.lengths.tolist() == [len(document.text.encode()) + 2 for document in expected]
        assert getattr(manifest, split) == SplitCounts(
            shards=len(list((tmp_path / split).glob("*.array_record"))),
            documents=len(expected),
            tokens=int(stored.lengths.sum()),
            text_bytes=sum(len(document.text.encode()) for document in expected),
        )
    assert manifest.train.shards > 2


def test_records_are_what_the_docstring_says_and_can_be_read_one_by_one(tmp_path: Path) -> None:
    prepare(tmp_path, held_out=0)
    paths = sorted(str(path) for path in (tmp_path / "train").glob("*.array_record"))
    for record, document in zip(ArrayRecordDataSource(paths), documents(), strict=True):
        (size,) = struct.unpack("<I", record[:4])
        assert record[4 : 4 + size] == document.id.encode()
        assert np.frombuffer(record[4 + size :], "<u2").tolist() == [START, *document.text.encode(), START]
    assert "group_size:1," in ArrayRecordReader(paths[0]).writer_options_string()


def test_masks_are_kept_bit_by_bit_and_take_an_eighth_of_a_byte_a_token(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    masks = [chance.random(length) < 0.5 for length in (*range(1, 20), 1000)] + [np.zeros(9, np.bool_)]
    items = [Document(str(number), "text", held_out=False) for number in range(len(masks))]

    def encode(batch: list[Document]) -> Iterator[shards.Encoded]:
        for item in batch:
            trained = masks[int(item.id)].tolist()
            yield list(range(len(trained))), trained

    shards.write_shards(items, encode, Bytes(2000), tmp_path, held_out=0, source="masks")
    stored = TokenizedRecords(tmp_path, "train")
    assert [record.id for record in map(stored.__getitem__, range(len(stored)))] == [item.id for item in items]
    for record, mask in zip(map(stored.__getitem__, range(len(stored))), masks, strict=True):
        assert record.tokens.tolist() == list(range(len(mask)))
        assert record.trained.tolist() == mask.tolist()
    records = list(ArrayRecordDataSource([str(tmp_path / "train" / "00000.array_record")]))
    for record, mask in zip(records, masks, strict=True):
        (size,) = struct.unpack("<I", record[:4])
        bits = "".join(f"{byte:08b}" for byte in record[4 + size + 2 * len(mask) :])
        assert bits == "".join("01"[bit] for bit in mask.tolist()).ljust(-(-len(mask) // 8) * 8, "0")


def test_indices_work_as_in_a_list(tmp_path: Path) -> None:
    prepare(tmp_path)
    stored = TokenizedRecords(tmp_path, "train")
    assert stored[-1][0] == stored[len(stored) - 1][0]
    assert stored[np.int64(3)][0] == stored[3][0]
    for outside in (len(stored), -len(stored) - 1):
        with pytest.raises(IndexError):
            stored[outside]
    empty = prepare(tmp_path / "none", held_out=0)
    assert empty.validation == SplitCounts(0, 0, 0, 0)
    assert len(TokenizedRecords(tmp_path / "none", "validation")) == 0


def test_a_document_may_say_its_split_and_equal_texts_share_one() -> None:
    assert is_held_out(Document("a", "text", held_out=True), 0)
    assert not is_held_out(Document("a", "text", held_out=False), 0.999)
    texts = [f"text {i}" for i in range(2000)]
    chosen = [is_held_out(Document("a", text), 0.25) for text in texts]
    assert chosen == [is_held_out(Document("b", text), 0.25) for text in texts]
    assert np.mean(chosen) == pytest.approx(0.25, abs=0.04)  # 4 standard deviations
    # A larger share only adds documents: nobody moves back from validation to train.
    assert all(is_held_out(Document("a", text), 0.5) for text, held_out in zip(texts, chosen, strict=True) if held_out)
    assert not any(is_held_out(Document("a", text), 0) for text in texts)


def test_the_split_does_not_depend_on_the_order(tmp_path: Path) -> None:
    def held_out(directory: Path) -> set[str]:
        stored = TokenizedRecords(directory, "validation")
        return {stored[i][0] for i in range(len(stored))}

    prepare(tmp_path / "a")
    prepare(tmp_path / "b", reversed(list(documents())))
    assert held_out(tmp_path / "a") == held_out(tmp_path / "b")


def test_threads_and_other_processes_may_read(tmp_path: Path) -> None:
    prepare(tmp_path)
    stored = TokenizedRecords(tmp_path, "train")
    expected = [stored[i][1].tolist() for i in range(len(stored))]
    fresh = pickle.loads(pickle.dumps(stored))
    places = np.random.default_rng(0).integers(0, len(stored), 2000).tolist()
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda i: fresh[i][1].tolist(), places))
    assert read == [expected[i] for i in places]


def test_more_shards_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "OPEN_SHARDS", 2)
    prepare(tmp_path, tokens_per_shard=1)
    stored = TokenizedRecords(tmp_path, "train")
    assert stored.manifest.train.shards == len(stored)
    with ThreadPoolExecutor(4) as threads:
        names = list(threads.map(lambda i: stored[i % len(stored)][0], range(200)))
    assert names == [stored[i % len(stored)][0] for i in range(200)]


# Prepares sys.argv[1]; prints how many documents were tokenized; kills itself at step sys.argv[3] of kind sys.argv[2].
CHILD = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_shards
directory, kind, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
steps, tokenized = 0, 0
def count(this):
    global steps
    if this == kind:
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)
def documents():
    for document in test_shards.documents():
        count("document")
        if kind == "slow":
            time.sleep(0.02)
        yield document
class Tokenizer(test_shards.Bytes):
    def encode_many(self, texts):
        global tokenized
        tokenized += len(texts)
        return super().encode_many(texts)
replace = Path.replace
def counted_replace(self, target):
    count("before a rename")
    replace(self, target)
    count("after a rename")
Path.replace = counted_replace
test_shards.shards.BATCH_CHARACTERS = 300
test_shards.prepare(directory, documents(), tokenizer=Tokenizer())
print(tokenized)
"""


def start_child(directory: Path, kind: str = "never", step: int = 0) -> subprocess.Popen[str]:
    script = CHILD.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, str(directory), kind, str(step)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("kind", "steps"),
    [("document", (20, 45, 60)), ("before a rename", (3, 4, 5)), ("after a rename", (2, 3, 11))],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, kind: str, steps: tuple[int, ...]) -> None:
    prepare(tmp_path / "whole")
    killed = tmp_path / "killed"
    for step in steps:
        child = start_child(killed, kind, step)
        child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL
        assert not (killed / "manifest.json").exists()
        with pytest.raises(UserError, match="holds no finished documents"):
            TokenizedRecords(killed, "train")
    child = start_child(killed)
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert 0 < int(output) < 60  # it did go on, not start again
    assert contents(killed) == contents(tmp_path / "whole")


def test_of_two_processes_one_works_and_the_other_waits(tmp_path: Path) -> None:
    prepare(tmp_path / "alone")
    children = [start_child(tmp_path / "both", "slow") for _ in range(2)]
    outputs = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    assert sorted(int(output) for output, _ in outputs) == [0, 60]
    assert sum("waiting for the process that is preparing" in errors for _, errors in outputs) == 1
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")


def test_a_finished_folder_is_not_prepared_again(tmp_path: Path) -> None:
    manifest = prepare(tmp_path)
    (tmp_path / "lock").unlink()

    def unread() -> Iterator[Document]:
        raise AssertionError("documents were read again")
        yield

    assert prepare(tmp_path, unread()) == manifest
    assert not (tmp_path / "lock").exists()  # nothing is written: the folder may be read-only


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_other_documents_is_refused(tmp_path: Path, finished: bool) -> None:
    prepare(tmp_path)
    if not finished:
        (tmp_path / "manifest.json").unlink()
    before = contents(tmp_path)
    for change in ({"source": "other"}, {"held_out": 0.2}, {"tokenizer": Bytes(300)}):
        with pytest.raises(
            UserError, match=r"was begun with another (source|held_out|vocab_size) \(.*, now .*\): choose"
        ):
            prepare(tmp_path, **change)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train/00001.array_record", lambda path: path.unlink(), "is incomplete .00001.array_record is missing"),
        ("train/00001.array_record", lambda path: os.truncate(path, 900), "has 900 of [0-9,]+ bytes"),
        ("train/00001.lengths.npy", lambda path: path.unlink(), "is incomplete .00001.lengths.npy is missing"),
        ("train/00001.lengths.npy", lambda path: os.truncate(path, 5), "is damaged"),
        ("train/00001.lengths.npy", lambda path: np.save(path, np.zeros(1, np.int32)), "1 lengths"),
        ("train/00001.json", lambda path: path.unlink(), "is incomplete .00001.json is missing"),
        ("train/00001.json", lambda path: os.truncate(path, 5), "00001.json is damaged"),
        ("manifest.json", lambda path: os.truncate(path, 5), "manifest.json is damaged"),
    ],
)
def test_a_damaged_folder_is_noticed_at_once(tmp_path: Path, name: str, damage: object, message: str) -> None:
    prepare(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(UserError, match=message) as caught:
        TokenizedRecords(tmp_path, "train")
    assert f"delete the folder {tmp_path}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_record_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    prepare(tmp_path)
    path = tmp_path / "train" / "00001.array_record"
    data = bytearray(path.read_bytes())
    stored = TokenizedRecords(tmp_path, "train")
    at = data.find(stored[stored._starts[1]][0].encode())
    data[at - 40 : at + 40] = bytes(80)
    path.write_bytes(data)
    fresh = TokenizedRecords(tmp_path, "train")
    with pytest.raises(UserError, match=r"shard train/00001 of .* is damaged .*: delete"):
        list(map(fresh.__getitem__, range(len(fresh))))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full to stand for a full disk")
@pytest.mark.parametrize("name", ["00000.array_record", "00000.lengths.npy", "00000.json"])
def test_a_full_disk_is_an_os_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "train").mkdir()
    full = tmp_path / "train" / f"{name}.unfinished"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        prepare(tmp_path)
    assert caught.value.errno == errno.ENOSPC
    full.unlink()
    prepare(tmp_path)
    prepare(tmp_path / "whole")
    assert contents(tmp_path / "train") == contents(tmp_path / "whole" / "train")


def test_a_special_token_from_a_text_is_refused(tmp_path: Path) -> None:
    class Careless(Bytes):
        def encode_many(self, texts: Iterable[str]) -> list[list[int]]:
            return [[*ids, START] if b"<|" in bytes(ids) else ids for ids in super().encode_many(texts)]

    with pytest.raises(ValueError, match="wrote a special token for the text of bad"):
        prepare(tmp_path, [Document("good", "text"), Document("bad", "<|document_start|>")], tokenizer=Careless())


def test_no_documents_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no documents to write"):
        prepare(tmp_path, [])
    assert prepare(tmp_path).train.documents > 0
    for share in (1.0, -0.1, float("nan")):
        with pytest.raises(UserError, match="held_out"):
            prepare(tmp_path / "new", held_out=share)


def test_ids_may_hold_anything(tmp_path: Path) -> None:
    names = ["", "é/🎈", "half \ud83d", "file \udcff", "x" * 70_000]
    prepare(tmp_path, [Document(name, "text") for name in names], held_out=0)
    stored = TokenizedRecords(tmp_path, "train")
    assert [stored[i][0] for i in range(len(stored))] == names


def test_rows_set_aside_are_counted_in_the_manifest(tmp_path: Path) -> None:
    set_aside = SetAside(tmp_path / "aside.jsonl")

    def with_flaws() -> Iterator[Document]:
        yield from documents()
        set_aside.add("test:61", "empty text", b"")

    prepare(tmp_path / "a", with_flaws(), set_aside=set_aside)
    assert load_manifest(tmp_path / "a").set_aside == {"empty text": 1}
