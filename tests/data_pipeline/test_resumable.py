"""Work that is killed goes on: nothing is done twice, nothing is lost, and other settings are refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import resumable
from data_pipeline.errors import UserError
from data_pipeline.resumable import Row, begin, do_rows, patiently, read_rows, write_rows


class Killed(BaseException):
    pass


def doing(path: Path, count: int, *, kill_at: int = -1, batch: int = 2) -> tuple[dict[str, Row], list[str]]:
    """The rows of items 0 ... count - 1, and which of them were worked on."""
    worked: list[str] = []

    def work(some: list[tuple[str, int]]) -> list[Row]:
        if any(value == kill_at for _, value in some):
            raise Killed
        worked.extend(key for key, _ in some)
        return [{"id": key, "square": value**2} for key, value in some]

    return do_rows(path, [(str(n), n) for n in range(count)], work, batch=batch, name="squaring"), worked


def test_goes_on_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(Killed):
        doing(path, 7, kill_at=5)
    assert len(read_rows(path)) == 4
    rows, worked = doing(path, 7)
    assert worked == ["4", "5", "6"]
    assert [row["square"] for row in rows.values()] == [0, 1, 4, 9, 16, 25, 36]
    assert doing(path, 7) == (rows, [])


@given(cut=st.integers(0, 200))
def test_a_file_torn_anywhere_loses_only_what_was_torn(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "rows.jsonl"
    rows, _ = doing(path, 7)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    again, worked = doing(path, 7)
    assert again == rows
    assert path.read_bytes() == whole
    assert len(worked) == 7 - whole[:cut].count(b"\n")


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "0"}\n{"id"\n{"id": "2"}\n')
    with pytest.raises(UserError, match=r"rows.jsonl:2 is damaged"):
        read_rows(path)


def test_other_settings_are_refused_with_all_differences(tmp_path: Path) -> None:
    path = tmp_path / "new" / "settings.json"
    begin(path, {"samples": 8, "model": "a", "words": ("x",)})
    begin(path, {"samples": 8, "model": "a", "words": ("x",)})
    with pytest.raises(
        UserError, match=r'other settings: model \("a", now "b"\), samples \(8, now 4\); choose another'
    ):
        begin(path, {"samples": 4, "model": "b", "words": ("x",)})
    with pytest.raises(UserError, match=r"extra \(null, now 1\)"):
        begin(path, {"samples": 8, "model": "a", "words": ("x",), "extra": 1})
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        begin(path, {})


def test_text_is_readable_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"id": "ä", "text": "line\nbreak\u2028 and \x85 \0 🙂"}]
    write_rows(path, rows)
    assert read_rows(path) == rows
    assert "🙂" in path.read_text("utf-8")


def test_a_failing_connection_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "WAITS", (0.0, 0.0))
    tries: list[int] = []

    def ask(good_at: int) -> str:
        tries.append(1)
        if len(tries) < good_at:
            raise ConnectionError("hung up")
        return "well"

    assert patiently(lambda: ask(3)) == "well"
    tries.clear()
    with pytest.raises(ConnectionError):
        patiently(lambda: ask(4))
    assert len(tries) == 3
