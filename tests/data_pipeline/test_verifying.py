"""Verifiers that throw, hang, die or talk nonsense cost their own rollout and nothing else."""

import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

import pytest

from data_pipeline.conversation import said
from data_pipeline.problem import Problem, Response, Verdict
from data_pipeline.verifying import Verifiers


@dataclass(frozen=True)
class Does:
    """Does what the response says, in a process of its own."""

    def __call__(self, response: Response) -> Verdict:
        match response.text.split():
            case ["score", value]:
                return Verdict(float(value), "said so")
            case ["throw"]:
                raise ZeroDivisionError("as told")
            case ["hang"]:
                time.sleep(1000)
            case ["hang", "deaf"]:  # not even a signal wakes it
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                while True:
                    pass
            case ["die"]:
                os._exit(3)
            case ["where"]:
                return Verdict(0.5, str(os.getpid()))
        return Verdict("much", "no number")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Here(Does):
    """The same, in this process."""

    inline: ClassVar[bool] = True


def ask(*texts: str, verifier=Does(), seconds: float = 1.0, workers: int = 2):
    verifiers = Verifiers(workers, seconds)
    try:
        return verifiers.check([(Problem("p", (said("user", "?"),), verifier, "k"), Response(text)) for text in texts])
    finally:
        verifiers.close()


def test_each_failure_costs_one_verdict_in_its_place():
    texts = [
        "score 1",
        "throw",
        "score 0.25",
        "hang",
        "die",
        "score nan",
        "hang deaf",
        "score 7",
        "score -1",
        "what",
        "score 0",
    ]
    found = ask(*texts)
    assert [each.score for each in found] == [1, 0, 0.25, 0, 0, 0, 0, 0, 0, 0, 0]
    assert [each.failed for each in found] == [False, True, False, *[True] * 7, False]
    reasons = [each.reason for each in found]
    assert "ZeroDivisionError" in reasons[1]
    assert "did not come back within 1 s" in reasons[3] == reasons[6]
    assert "died" in reasons[4]
    assert "nan" in reasons[5]


def test_they_run_elsewhere_unless_they_cannot_hang():
    assert {each.reason for each in ask("where", "where")}.isdisjoint({str(os.getpid())})
    assert [each.reason for each in ask("where", verifier=Here())] == [str(os.getpid())]
    assert ask("throw", "score 7", verifier=Here())[1].failed


@pytest.mark.parametrize("count", [0, 1, 40])
def test_verdicts_come_in_the_order_asked(count):
    texts = [f"score {i / 64}" for i in range(count)]
    assert [each.score for each in ask(*texts, workers=3)] == [i / 64 for i in range(count)]


def test_a_process_that_somebody_kills_is_replaced():
    verifiers = Verifiers(1, 5.0)
    problem = Problem("p", (said("user", "?"),), Does(), "k")
    (first,) = verifiers.check([(problem, Response("where"))])
    os.kill(int(first.reason), signal.SIGKILL)
    found = verifiers.check([(problem, Response("score 1")), (problem, Response("score 1"))])
    assert [each.score for each in found][-1] == 1
    verifiers.close()
