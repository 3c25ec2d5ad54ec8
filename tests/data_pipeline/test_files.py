"""Documents out of files: what is read, what is set aside, and what a user is told."""

import gzip
import io
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import files
from data_pipeline.errors import UserError
from data_pipeline.files import DOCUMENT_LENGTH, cut_text, files_fingerprint, find_files, read_files
from data_pipeline.set_aside import SetAside

PARAGRAPHS = "\n\n".join(f"Paragraph {i}. " + "Words and more words. " * (i % 40) for i in range(400))


def read(*paths: Path) -> tuple[list[tuple[str, str]], SetAside]:
    set_aside = SetAside(paths[0].parent / "aside" / "rows.jsonl")
    return [(document.id, document.text) for document in read_files(paths, set_aside)], set_aside


def lines_of(text: str) -> list[str]:
    return [line.decode() for line in io.BytesIO(text.encode())]


@given(st.text(alphabet="ab \né", max_size=200), st.integers(1, 12))
def test_cutting_loses_nothing_and_keeps_to_its_sizes(text: str, length: int) -> None:
    pieces = list(cut_text(lines_of(text), length))
    assert "".join(pieces) == text
    assert all(len(piece) >= length for piece in pieces[:-1])
    assert all(0 < len(piece) < 3 * length for piece in pieces)


@given(st.lists(st.text(alphabet="ab", min_size=1, max_size=8), max_size=30), st.integers(10, 30))
def test_paragraphs_shorter_than_a_document_are_never_cut(paragraphs: list[str], length: int) -> None:
    pieces = list(cut_text(lines_of("\n\n".join(paragraphs)), length))
    whole: list[str] = []
    for paragraph in paragraphs:  # The slow obvious version: open a new piece once the last is long enough.
        if whole and len(whole[-1]) < length:
            whole[-1] += paragraph + "\n\n"
        else:
            whole.append(paragraph + "\n\n")
    assert pieces == [*whole[:-1], whole[-1].removesuffix("\n\n")] if whole else pieces == []


def test_a_short_text_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffOne\r\n\r\ntwo é\n".encode())
    documents, set_aside = read(path)
    assert documents == [(str(path), "One\r\n\r\ntwo é\n")]  # without its byte order mark, line ends as they were
    assert not set_aside.counts
    assert not set_aside.path.exists()


def test_a_long_text_file_is_cut_into_documents(tmp_path: Path) -> None:
    path = tmp_path / "long.md"
    path.write_text(PARAGRAPHS)
    documents, _ = read(path)
    assert [name for name, _ in documents[:2]] == [f"{path}#0000", f"{path}#0001"]
    assert len(documents) == pytest.approx(len(PARAGRAPHS) / DOCUMENT_LENGTH, abs=1)
    assert "".join(text for _, text in documents) == PARAGRAPHS
    assert all(text.startswith("Paragraph") for _, text in documents)


def test_a_file_that_is_one_line_is_cut_between_words(tmp_path: Path) -> None:
    path = tmp_path / "text8"
    path.write_text("word " * 20_000)
    documents, _ = read(path)
    assert len(documents) > 2
    assert all(text.endswith("word ") for _, text in documents)


def test_unusable_lines_of_text_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\nbad \xff\xfe line\nalso good\n")
    blank = tmp_path / "b.txt"
    blank.write_text(" \n\n")
    binary = tmp_path / "c.txt"
    binary.write_bytes(b"PAR1\n" + b"\0\1\2" * 50)
    documents, set_aside = read(path, blank, binary)
    assert documents == [(str(path), "good\nalso good\n")]
    assert set_aside.counts == {
        "invalid UTF-8": 1,
        "empty text": 1,
        "file that is not text (it holds NUL bytes)": 1,
    }
    rows = [json.loads(line) for line in set_aside.path.read_text().splitlines()]
    assert rows[0] == {"where": f"{path}:2", "reason": "invalid UTF-8", "raw": "bad \\xff\\xfe line\n"}


def test_jsonl_keeps_good_rows_and_sets_the_others_aside(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        b'{"text": "one", "id": "first"}',
        b'{"text": "two"}',
        b"",
        b'{"text": "cut off',
        b'{"text": 3}',
        b'["text"]',
        b'{"content": "elsewhere"}',
        b'{"text": " "}',
        b'{"text": "\xff"}',
        b'{"text": "half a pair: \\ud83d"}',
        b"[" * 100_000,
        b'{"text": "last \\u00e9", "id": 7}',
    ]
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(rows))
    documents, set_aside = read(path)
    assert documents == [("first", "one"), (f"{path}:2", "two"), ("7", "last é")]
    assert set_aside.counts == {
        "JSON that does not parse": 2,
        'row without a "text" string': 3,
        "empty text": 1,
        "invalid UTF-8": 1,
        "text with half a surrogate pair": 1,
    }
    assert [json.loads(line)["where"] for line in set_aside.path.read_text().splitlines()] == [
        f"{path}:{number}" for number in (4, 5, 6, 7, 8, 9, 10, 11)
    ]
    assert set_aside.summary().startswith("set aside 8 rows (3 row without")


def test_a_second_run_replaces_the_rows_set_aside_by_the_first(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\nbroken\n')
    read(path)
    _, set_aside = read(path)
    assert len(set_aside.path.read_text().splitlines()) == 1


@pytest.mark.parametrize("ending", [".txt", ".jsonl"])
@pytest.mark.parametrize("compression", ["gz", "zst", "zst in several frames"])
def test_compressed_files_hold_the_same_documents(tmp_path: Path, ending: str, compression: str) -> None:
    rows = "".join(json.dumps({"text": paragraph}) + "\n" for paragraph in PARAGRAPHS.split("\n\n"))
    contents = (PARAGRAPHS if ending == ".txt" else rows).encode()
    plain = tmp_path / f"a{ending}"
    plain.write_bytes(contents)
    packed = tmp_path / f"a{ending}.{compression[:3].strip()}"
    if compression == "gz":
        packed.write_bytes(gzip.compress(contents[:999]) + gzip.compress(contents[999:]))
    elif compression == "zst":
        packed.write_bytes(zstandard.compress(contents))
    else:
        skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00note"  # what pzstd writes between frames
        packed.write_bytes(b"".join(skippable + zstandard.compress(part) for part in (contents[:999], contents[999:])))
    assert [text for _, text in read(packed)[0]] == [text for _, text in read(plain)[0]]


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "other format"])
def test_a_damaged_file_is_named(tmp_path: Path, ending: str, damage: str) -> None:
    contents = json.dumps({"text": PARAGRAPHS}).encode() + b"\n"
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    packed = bytearray(gzip.compress(contents) if ending == "gz" else compressor.compress(contents))
    if damage == "cut":
        packed = packed[:-10]
    elif damage == "flipped":
        packed[len(packed) // 2] ^= 0xFF
    else:
        packed = bytearray(contents)
    path = tmp_path / f"rows.jsonl.{ending}"
    path.write_bytes(packed)
    with pytest.raises(UserError, match=rf"rows\.jsonl\.{ending} is damaged near byte [\d,]+ of [\d,]+ \(.+\): fetch"):
        read(path)


def test_a_glob_is_sorted_and_leaves_hidden_files_alone(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "._a.txt", "deep/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert find_files(f"{tmp_path}/*.txt") == [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert find_files(f"{tmp_path}/**/*.txt") == [tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "deep" / "c.txt"]
    odd = tmp_path / "[1].txt"
    odd.write_text("a file whose name looks like a glob")
    assert find_files(str(odd)) == [odd]


def test_messages_about_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "books.jsonl.gz").touch()
    (tmp_path / "more.jsonl.gz").touch()
    (tmp_path / "readme.md").touch()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a.txt").touch()
    cases = {
        f"{tmp_path}": r"is a folder: name its files with a glob such as '.*/\*.jsonl.gz' \(it holds 2 .jsonl.gz, 1",
        f"{tmp_path}/deep": r"such as '.*/deep/\*\*/\*\.txt' \(it holds 1 .txt\)",
        f"{tmp_path}/book.jsonl.gz": r"there is no file .*; did you mean .*/books\.jsonl\.gz\?",
        f"{tmp_path}/books": r"did you mean .*/books\.jsonl\.gz\?",
        f"{tmp_path}/gone/a.txt": r"the folder .*/gone does not exist",
        f"{tmp_path}/*.txt": r"no file matches .*\*\.txt: name its files with a glob such as .*\*\.jsonl\.gz'",
        f"{tmp_path}/gone/**/*.txt": r"no file matches .*: the folder .*/gone does not exist",
        "/dev/null": "is not a regular file",
    }
    for source, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            find_files(source)
        assert "\n" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="it holds no file with an ending"):
        find_files(f"{tmp_path}/empty")


def test_the_fingerprint_follows_names_and_contents_only(tmp_path: Path) -> None:
    def fingerprint(folder: str, **contents: str) -> str:
        (tmp_path / folder).mkdir()
        for name, text in contents.items():
            (tmp_path / folder / name).write_text(text)
        return files_fingerprint(find_files(f"{tmp_path}/{folder}/*"))

    original = fingerprint("here", a="one", b="two")
    assert fingerprint("moved", a="one", b="two") == original
    assert fingerprint("edited", a="one", b="twO") != original
    assert fingerprint("renamed", a="one", c="two") != original
    assert fingerprint("shifted", a="onet", b="wo") != original
    assert fingerprint("fewer", a="one") != original


def test_reading_shows_how_much_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(PARAGRAPHS.encode()))
    bars = []

    class Bar(files.tqdm):  # type: ignore[misc]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs, disable=False)
            bars.append(self)

    monkeypatch.setattr(files, "tqdm", Bar)
    read(path)
    assert [(bar.n, bar.total) for bar in bars] == [(path.stat().st_size, path.stat().st_size)]
