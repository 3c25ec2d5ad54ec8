"""One string names a source: every kind is found, and a wrong name is answered with the right one."""

import dataclasses
from pathlib import Path

import pytest

from data_pipeline import sources
from data_pipeline.errors import UserError
from data_pipeline.school.exposition import documents as school_documents
from data_pipeline.school.world import SchoolConfig
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_documents, source_fingerprint

SCHOOL = SchoolConfig(people=24, unknown_people=4, frequencies=(1, 2), place_frequency=1, arithmetic_documents=30)


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(source: str) -> list[str]:
    set_aside = SetAside(Path("aside.jsonl"))
    return [document.text for document in read_documents(source, school=SCHOOL, set_aside=set_aside)]


def test_school_is_the_world_of_its_config() -> None:
    documents = list(read_documents("school", school=SCHOOL, set_aside=SetAside(Path("aside.jsonl"))))
    assert documents == list(school_documents(SCHOOL))
    assert {document.held_out for document in documents} == {True, False}


def test_every_kind_of_source_is_found() -> None:
    Path("a.txt").write_text("text")
    Path("school.jsonl").write_text('{"text": "row"}\n')
    Path("corpus").write_text("a file without an ending")
    assert read("a.txt") == ["text"]
    assert read("*.jsonl") == ["row"]
    assert read("corpus") == ["a file without an ending"]
    assert len(read("pydoc")) > 50
    assert len(read("school")) > 30


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("scool", 'there is no source and no file "scool"; did you mean school?'),
        ("Pydoc", "did you mean pydoc?"),
        ("docstring", "did you mean docstrings?"),
        ("tdfs:lm1b", "did you mean tfds:lm1b?"),
        ("tfds", "did you mean tfds:NAME?"),
        ("corpsu", r"did you mean corpus\?"),
        ("boks", r"did you mean books.jsonl\?"),
        ("xyzzy", "choose school, dictionaries, echoes, pydoc, docstrings, tfds:NAME, a file or a glob"),
        ("", 'no file ""; choose school'),
        ("gs://bucket/books.jsonl", "is an address; copy"),
        ("boks.jsonl", r"did you mean books.jsonl\?"),
        ("deep", "is a folder"),
        (".", "is a folder"),
        ("empty.txt", "^empty.txt holds no documents"),
        ("nothing.jsonl", "^nothing.jsonl holds no documents$"),
        (
            "bad*.jsonl",
            r"^bad\*.jsonl holds no documents that can be used: set aside 2 rows \(2 JSON that does .*aside.jsonl",
        ),
        ("tfds:nowhere_to_be_found", "is not prepared"),
    ],
)
def test_messages(source: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", "tfds")
    for name, text in (
        ("books.jsonl", ""),
        ("corpus", "x"),
        ("empty.txt", ""),
        ("nothing.jsonl", ""),
        ("bad.jsonl", "a\nb"),
    ):
        Path(name).write_text(text)
    Path("deep").mkdir()
    with pytest.raises(UserError, match=message) as caught:
        read(source)
    assert "\n" not in str(caught.value)


def test_a_source_that_cannot_be_found_is_refused_before_reading() -> None:
    for source in ("scool", "gone.txt", "tfds:"):
        with pytest.raises(UserError):
            read_documents(source, school=SCHOOL, set_aside=SetAside(Path("aside.jsonl")))
        with pytest.raises(UserError):
            source_fingerprint(source, school=SCHOOL)


def test_earlier_rows_set_aside_do_not_explain_an_empty_source() -> None:
    Path("empty.jsonl").touch()
    set_aside = SetAside(Path("aside.jsonl"))
    set_aside.add("elsewhere", "broken", b"")
    with pytest.raises(UserError, match=r"holds no documents$"):
        list(read_documents("empty.jsonl", school=SCHOOL, set_aside=set_aside))


def test_fingerprints_change_with_what_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.txt").write_text("one")
    Path("b.txt").write_text("two")

    def fingerprint(source: str, school: SchoolConfig = SCHOOL) -> str:
        return source_fingerprint(source, school=school)

    names = ["school", "pydoc", "a.txt", "b.txt", "*.txt"]
    before = [fingerprint(name) for name in names]
    assert before == [fingerprint(name) for name in names]
    assert len(set(before)) == len(names)
    other = dataclasses.replace(SCHOOL, seed=1)
    assert fingerprint("school", other) != fingerprint("school")
    assert fingerprint("pydoc", other) == fingerprint("pydoc")
    Path("a.txt").write_text("One")
    changed = [old != fingerprint(name) for old, name in zip(before, names, strict=True)]
    assert changed == [False, False, True, False, True]
    monkeypatch.setattr(sources, "SCHOOL_VERSION", -1)
    assert fingerprint("school") != before[0]
