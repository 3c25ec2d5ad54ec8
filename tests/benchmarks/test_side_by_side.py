"""The frame of the benchmarks: processes that take turns, and tables. No timings."""

import os
import sys

import pytest
from side_by_side import Contestant, Work, _turn, best_and_median, compare, interleave, markdown

from data_pipeline.errors import UserError


def works(tokens: int) -> Work:
    """A contestant that does nothing, `tokens` at a time, and tells how often it was asked to."""
    counts = {"steps": 0, "finished": 0, "process": os.getpid()}

    def count(what: str) -> None:
        counts[what] += 1

    return Work(lambda: count("steps"), lambda: count("finished"), tokens, lambda: counts)


def lacks_a_library() -> Work:
    import a_library_that_is_not_installed

    return a_library_that_is_not_installed


def dies() -> Work:
    sys.exit(3)


def test_contestants_take_turns_in_processes_of_their_own():
    contestants = [Contestant(name, "test_side_by_side", "works", 7) for name in ("a", "b")]
    try:
        assert [contestant.ready() for contestant in contestants] == [None, None]
        rates = interleave(contestants, rounds=2, seconds=0.0)
        facts = [contestant.facts() for contestant in contestants]
    finally:
        for contestant in contestants:
            contestant.close()
    assert {name: len(values) for name, values in rates.items()} == {"a": 2, "b": 2}
    assert all(rate > 0 for values in rates.values() for rate in values)
    assert [(fact["steps"], fact["finished"]) for fact in facts] == [(2 + 2, 1 + 2)] * 2  # two to warm up, one a turn
    assert len({os.getpid(), *(fact["process"] for fact in facts)}) == 3


def test_who_cannot_take_part_says_why():
    absent = Contestant("peer", "test_side_by_side", "lacks_a_library")
    assert "a_library_that_is_not_installed" in absent.ready()
    absent.close()
    dead = Contestant("peer", "test_side_by_side", "dies")
    with pytest.raises(UserError, match=r"peer ended \(exit code 3\)"):
        dead.ready()
    dead.close()
    Contestant("never started", "test_side_by_side", "works", 7).close()


def test_a_turn_is_of_whole_steps_and_waits_for_them(monkeypatch):
    clock, done = [100.0], []

    def step() -> None:
        clock[0] += 0.75
        done.append("step")

    def finish() -> None:
        clock[0] += 0.5
        done.append("finish")

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    assert _turn(Work(step, finish, tokens=10), seconds=2.0) == pytest.approx(3 * 10 / (3 * 0.75 + 0.5))
    assert done == ["step", "step", "step", "finish"]


def test_the_better_peer_counts_round_by_round():
    rates = {"ours": [10.0, 30.0, 20.0], "eager": [10.0, 10.0, 40.0], "compiled": [5.0, 20.0, 20.0]}
    found = compare(rates, "ours")
    assert found.peer == "compiled"  # by its median, 20 against 10, though eager had the best round
    assert found.best == 30 / 20
    assert found.median == 1.5  # of 10 / 5, 30 / 20, 20 / 20
    assert compare({"ours": [1.0]}, "ours") is None


def test_tables_are_markdown():
    assert best_and_median([1000.0, 3000.0, 2500.0]) == "3,000 (2,500)"
    assert best_and_median([]) == "-"
    assert markdown(("size", "tok/s"), [("a", "1"), ("longer", "22")]).splitlines() == [
        "| size   | tok/s |",
        "|--------|------:|",
        "| a      |     1 |",
        "| longer |    22 |",
    ]
