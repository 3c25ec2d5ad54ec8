"""Processes of verifiers: what goes wrong in one harms no other, is told, and leaves nothing behind."""

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from bad_verifiers import (
    CannotLoad,
    DiesOnce,
    Does,
    Hangs,
    Length,
    Right,
    Scores,
    SlowToLoad,
    ThrowsInline,
    Wrong,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from data_pipeline.problem import Problem, Response, Verdict
from data_pipeline.verifying import Checked, Verifiers

HERE = Path(__file__).parent
SECONDS = 1.0


def problem(verifier):
    return Problem("", (), verifier, "")


def pairs(*verifiers, text="x"):
    return [(problem(each), Response(text)) for each in verifiers]


def processes(verifiers: Verifiers) -> list[int]:
    return [worker._process.pid for worker in verifiers._idle]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pid: int, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


@pytest.fixture(scope="module")
def verifiers():
    with closing(Verifiers(workers=2, seconds=SECONDS)) as made:
        yield made


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text("abc", max_size=14), max_size=30))
def test_results_are_those_of_calling_it_here_in_the_order_asked(verifiers, texts):
    found = verifiers.check([(problem(Length()), Response(text)) for text in texts])
    for text, each in zip(texts, found, strict=True):
        assert each.failed == (len(text) > 10)
        assert each.score == (0 if each.failed else len(text) / 10)
        assert each.failed or each.reason == text


@pytest.mark.parametrize(
    ("verifier", "reason"),
    [
        (Does("throw"), "failed: ValueError: no such thing"),
        (Does("exit"), "failed: SystemExit"),
        (Does("nothing"), "failed: AttributeError"),
        (Does("die"), "process died"),
        (Does("eat"), "failed: MemoryError"),
        (Scores(math.nan), "gave nan"),
        (Scores(math.inf), "gave inf"),
        (Scores(7), "gave 7"),
        (Scores(-0.1), "gave -0.1"),
        (Scores("much"), "failed: ValueError"),
        (ThrowsInline(), "failed: KeyError"),
        (lambda response: Verdict(1.0, ""), "cannot be sent"),
    ],
)
def test_one_that_misbehaves_scores_nothing_is_marked_and_harms_no_other(verifiers, verifier, reason):
    if verifier == Does("eat") and sys.platform != "linux":
        pytest.skip("memory is limited on Linux alone")
    before, bad, after = verifiers.check(pairs(Right(), verifier, Right()))
    assert before == after == Checked(1.0, "x")
    assert bad.score == 0
    assert bad.failed
    assert reason in bad.reason
    assert "\n" not in bad.reason


def test_one_that_is_always_right_or_always_wrong_is_no_failure(verifiers):
    assert [(each.score, each.failed) for each in verifiers.check(pairs(Right(), Wrong(), Scores(True)))] == [
        (1.0, False),
        (0.0, False),
        (1.0, False),
    ]


def test_a_sum_of_shares_a_rounding_above_one_is_one(verifiers):
    assert verifiers.check(pairs(Scores(1.0000000000000002)))[0] == Checked(1.0, "odd")


def test_what_a_verifier_prints_is_no_answer(verifiers):
    for text in ("", "stderr"):
        assert verifiers.check(pairs(Does("chatter"), text=text))[0].score == 1


def test_one_that_hangs_is_killed_and_replaced_while_the_others_go_on():
    with closing(Verifiers(workers=2, seconds=SECONDS)) as verifiers:
        verifiers.check(pairs(Right(), Right()))
        before = set(processes(verifiers))
        start = time.monotonic()
        hung, *others = verifiers.check(pairs(Hangs(), *[Length()] * 50, text="abc"))
        assert time.monotonic() - start < SECONDS + 3
        assert (hung.score, hung.failed) == (0, True)
        assert "did not come back within 1 s" in hung.reason
        assert [each.score for each in others] == [0.3] * 50
        after = set(processes(verifiers))
        assert len(before & after) == 1  # the other one
        assert all(gone(pid) for pid in before - after)
        assert [each.score for each in verifiers.check(pairs(*[Right()] * 4))] == [1.0] * 4


def test_time_counts_from_when_the_verifier_is_loaded():
    with closing(Verifiers(workers=1, seconds=0.5)) as verifiers:
        assert verifiers.check(pairs(SlowToLoad()))[0].score == 1


def test_workers_killed_while_idle_cost_nothing(verifiers):
    verifiers.check(pairs(Right(), Right()))
    for pid in processes(verifiers):
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
    assert [each.score for each in verifiers.check(pairs(*[Right()] * 5))] == [1.0] * 5


def test_a_worker_killed_at_work_is_replaced_and_the_check_made_again(verifiers, tmp_path):
    assert verifiers.check(pairs(DiesOnce(str(tmp_path / "died"))))[0] == Checked(1.0, "")


def test_what_a_verifier_started_ends_with_it(tmp_path):
    with closing(Verifiers(workers=1, seconds=SECONDS)) as verifiers:
        assert verifiers.check(pairs(Does("child"), text=str(tmp_path / "pid")))[0].failed
    assert gone(int((tmp_path / "pid").read_text()))


def test_closing_ends_the_processes_and_checking_starts_others():
    verifiers = Verifiers(workers=2, seconds=SECONDS)
    verifiers.check(pairs(Right(), Right()))
    first = processes(verifiers)
    assert len(first) == 2
    verifiers.close()
    assert all(gone(pid) for pid in first)
    assert verifiers.check(pairs(Right()))[0].score == 1
    verifiers.close()


def test_nothing_is_started_for_verifiers_that_cannot_hang():
    verifiers = Verifiers(workers=2, seconds=SECONDS)
    verifiers.check(pairs(ThrowsInline()))
    assert processes(verifiers) == []
    assert verifiers.check([]) == []


@pytest.mark.skipif(sys.platform != "linux", reason="a hanging process ends with its parent on Linux alone")
def test_a_hanging_verifier_ends_with_a_parent_that_is_killed(tmp_path):
    code = (
        "import bad_verifiers, data_pipeline.verifying as v, data_pipeline.problem as p\n"
        "verifiers = v.Verifiers(1, 600)\n"
        "verifiers.check([(p.Problem('', (), bad_verifiers.Right(), ''), p.Response(''))])\n"
        "print(verifiers._idle[0]._process.pid, flush=True)\n"
        "verifiers.check([(p.Problem('', (), bad_verifiers.Hangs(), ''), p.Response(''))])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    pid = int(parent.stdout.readline())
    time.sleep(0.2)
    assert alive(pid)
    parent.kill()
    parent.wait()
    assert gone(pid)


def test_what_is_not_installed_is_told_and_not_scored(verifiers):
    with pytest.raises(UserError, match="install something"):
        verifiers.check(pairs(Right(), Does("setup"), Right(), Right()))
    assert verifiers.check(pairs(Right()))[0].score == 1


def test_processes_that_never_begin_are_no_wrong_answers(verifiers):
    with pytest.raises(RuntimeError, match="before it has begun"):
        verifiers.check(pairs(CannotLoad()))


def test_a_check_that_is_interrupted_leaves_nobody_at_work(tmp_path, monkeypatch):
    verifiers = Verifiers(workers=1, seconds=60)
    verifiers.check(pairs(Right()))
    (pid,) = processes(verifiers)
    monkeypatch.setattr(Verifiers, "_take_in", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        verifiers.check(pairs(Does("sleep")))
    assert gone(pid)
