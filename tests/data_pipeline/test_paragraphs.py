"""Cutting at blank lines: nothing lost, nothing short, nothing twice, and the same source every time."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import sources
from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.paragraphs import REASON, SHORTEST, paragraphs
from data_pipeline.school.world import SchoolConfig
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_documents, source_fingerprint

SCHOOL = SchoolConfig(people=24, unknown_people=4, frequencies=(1, 2), place_frequency=1, arithmetic_documents=30)


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cut(*documents: Document) -> tuple[list[Document], SetAside]:
    set_aside = SetAside(Path("aside.jsonl"))
    return list(paragraphs(documents, set_aside)), set_aside


def words(length: int, word: str) -> str:
    """A paragraph of so many characters."""
    return ((word + " ") * length)[: length - 1] + "."


LONG, SHORT, MIDDLE = words(SHORTEST + 50, "long"), words(20, "short"), words(SHORTEST // 2 + 10, "middle")


def test_a_long_paragraph_is_a_document_and_short_ones_are_joined() -> None:
    text = "\n\n".join([LONG, SHORT, MIDDLE, words(SHORTEST, "more"), "The end."])
    found, set_aside = cut(Document("a", text))
    assert [document.text for document in found] == [
        LONG,
        f"{SHORT}\n\n{MIDDLE}\n\n{words(SHORTEST, 'more')}\n\nThe end.",
    ]
    assert [document.id for document in found] == ["a#0", "a#1"]
    assert not set_aside.counts


def test_blank_lines_may_hold_white_space_and_code_keeps_its_indentation() -> None:
    found, _ = cut(Document("a", f"\n\n{LONG}\r\n \t\r\n    if x:\n        {words(SHORTEST, 'y')}  \n\n\n"))
    assert [document.text for document in found] == [LONG, f"    if x:\n        {words(SHORTEST, 'y')}"]


def test_a_document_that_is_short_in_all_stays_one() -> None:
    found, _ = cut(Document("a", "one\n\ntwo"), Document("b", "three"))
    assert [(document.id, document.text) for document in found] == [("a#0", "one\n\ntwo"), ("b#0", "three")]


def test_repetitions_are_counted_and_set_aside_whatever_their_white_space() -> None:
    again = LONG.replace(" ", "\n", 5)
    found, set_aside = cut(
        Document("a", f"{LONG}\n\n{MIDDLE}\n\n{SHORT}{words(SHORTEST, 'a')}"),
        Document("b", f"{again}\n\n{SHORT}\n\n{words(SHORTEST, 'b')}"),  # SHORT tells nothing
        Document("c", f"{MIDDLE}\n\n{words(SHORTEST, 'c')}"),  # its first paragraph stood in a
    )
    assert [document.id for document in found] == ["a#0", "a#1", "b#1"]
    assert set_aside.counts == {REASON: 2}
    assert set_aside.path.read_text().count('"where": "b#0"') == 1


@pytest.mark.parametrize("held_out", [True, False, None])
def test_passages_are_held_out_as_their_document_is(held_out: bool | None) -> None:
    found, _ = cut(Document("a", f"{LONG}\n\n{words(SHORTEST, 'x')}", held_out))
    assert [document.held_out for document in found] == [held_out, held_out]


@given(st.lists(st.lists(st.integers(1, 2 * SHORTEST), min_size=1, max_size=8), min_size=1, max_size=4))
def test_no_word_is_lost_and_only_a_whole_document_may_be_short(sizes: list[list[int]]) -> None:
    number = iter(range(10**6))  # no word comes twice

    def paragraph(size: int) -> str:
        text = f"{next(number)}"
        while len(text) < size:
            text += f" {next(number)}"
        return text

    documents = [Document(f"d{n}", "\n\n".join(map(paragraph, each))) for n, each in enumerate(sizes)]
    found, set_aside = cut(*documents)
    assert not set_aside.counts
    for document in documents:
        mine = [one for one in found if one.id.rpartition("#")[0] == document.id]
        assert "\n\n".join(one.text for one in mine) == document.text
        assert len(mine) == 1 or all(len(one.text) >= SHORTEST for one in mine)


def test_it_is_a_source_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.txt").write_text(f"{LONG}\n\n{words(SHORTEST, 'x')}\n\n{LONG}")
    set_aside = SetAside(Path("aside.jsonl"))
    found = [one.text for one in read_documents("paragraphs:*.txt", school=SCHOOL, set_aside=set_aside)]
    assert found == [LONG, words(SHORTEST, "x")]
    assert set_aside.counts == {REASON: 1}

    def fingerprint(source: str) -> str:
        return source_fingerprint(source, school=SCHOOL)

    assert len({fingerprint("a.txt"), fingerprint("paragraphs:a.txt"), fingerprint("paragraphs:pydoc")}) == 3
    before = fingerprint("paragraphs:a.txt")
    Path("b.txt").write_text("other")
    assert fingerprint("paragraphs:a.txt") == before
    Path("a.txt").write_text("changed")
    assert fingerprint("paragraphs:a.txt") != before
    before = fingerprint("paragraphs:pydoc")
    monkeypatch.setattr(sources, "PARAGRAPHS_VERSION", -1)
    assert fingerprint("paragraphs:pydoc") != before


def test_the_language_reference_has_passages_enough() -> None:
    found = list(read_documents("paragraphs:pydoc", school=SCHOOL, set_aside=SetAside(Path("aside.jsonl"))))
    assert len(found) > 500
    assert len({one.id for one in found}) == len(found) == len({" ".join(one.text.split()) for one in found})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("paragraphs:pydok", r'no file "pydok"; did you mean pydoc\?'),
        ("paragraphs", "did you mean paragraphs:SOURCE?"),
        ("paragraf:pydoc", "did you mean paragraphs:pydoc?"),
        ("paragraphs:", 'no file ""; choose school'),
        ("paragraphs:gone.txt", "gone.txt"),
        ("paragraphs:empty.txt", "empty.txt holds no documents"),
    ],
)
def test_messages(source: str, message: str) -> None:
    Path("empty.txt").touch()
    with pytest.raises(UserError, match=message):
        list(read_documents(source, school=SCHOOL, set_aside=SetAside(Path("aside.jsonl"))))
