"""Verifiers at work: in processes of their own, which are killed when they hang.

A verifier may run whatever a model wrote. One that throws, hangs, or gives no number in [0, 1] costs that rollout, which then
scores 0 and is counted as failed, and never the run. They run in the main thread of a process, where libraries that use SIGALRM
for their own time limits (math-verify) work as they should.
"""

import contextlib
import math
import multiprocessing
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from data_pipeline.problem import Problem, Response, Verifier

Pair = tuple[Problem, Response]
START_SECONDS = 60.0  # for the first verdict of a process, which has to start and to import


@dataclass(frozen=True)
class Checked:
    """What came of a verification."""

    score: float
    reason: str
    failed: bool = False  # no fault of the response's: the verifier threw, hung, or gave no number in [0, 1]


def judge(verifier: Verifier, response: Response) -> Checked:
    """The verdict, here and now."""
    try:
        verdict = verifier(response)
        score, reason = float(verdict.score), str(verdict.reason)
    except Exception as error:
        return Checked(0.0, f"the verifier failed: {type(error).__name__}: {error}"[:200], failed=True)
    if not (math.isfinite(score) and 0 <= score <= 1):
        return Checked(0.0, f"the verifier gave {score}, which is no number from 0 to 1", failed=True)
    return Checked(score, reason)


class _Worker:
    """A process that judges one response at a time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # the parent may hold a GPU and many threads
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.fresh = True
        self.index: int | None = None  # of the pair that it is at work on
        self.deadline = 0.0

    def give(self, index: int, pair: Pair, seconds: float) -> None:
        self.index, self.deadline = index, time.monotonic() + (START_SECONDS if self.fresh else 0) + seconds
        self.connection.send((pair[0].verifier, pair[1]))

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection) -> None:
    with contextlib.suppress(EOFError, KeyboardInterrupt):  # the parent has gone, or is being stopped
        while True:
            connection.send(judge(*connection.recv()))


class Verifiers:
    """Up to `workers` processes, started by the first verifier that needs one; each verdict may take `seconds`."""

    def __init__(self, workers: int, seconds: float) -> None:
        self._most, self._seconds = workers, seconds
        self._workers: list[_Worker] = []

    def check(self, pairs: Sequence[Pair]) -> list[Checked]:
        """A verdict on each pair, in their order."""
        results: dict[int, Checked] = {}
        outside: deque[int] = deque()
        for i, (problem, response) in enumerate(pairs):
            if getattr(problem.verifier, "inline", False):
                results[i] = judge(problem.verifier, response)
            else:
                outside.append(i)
        while outside or any(worker.index is not None for worker in self._workers):
            self._hand_out(pairs, outside)
            self._take_in(results)
        return [results[i] for i in range(len(pairs))]

    def close(self) -> None:
        """Stop the processes."""
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def _hand_out(self, pairs: Sequence[Pair], outside: deque[int]) -> None:
        missing = min(self._most, len(outside) + len(self._workers)) - len(self._workers)
        self._workers += [_Worker() for _ in range(missing)]
        for worker in self._workers:
            if worker.index is None and outside:
                worker.give(outside[0], pairs[outside.popleft()], self._seconds)

    def _take_in(self, results: dict[int, Checked]) -> None:
        busy = [worker for worker in self._workers if worker.index is not None]
        first = min(worker.deadline for worker in busy)
        ready: list[Any] = wait([worker.connection for worker in busy], max(first - time.monotonic(), 0))
        for worker in busy:
            assert worker.index is not None  # it is busy
            if worker.connection in ready:
                try:
                    results[worker.index] = worker.connection.recv()
                    worker.index, worker.fresh = None, False
                except (EOFError, OSError):
                    self._lose(worker, results, "the verifier's process died")
            elif time.monotonic() >= worker.deadline:
                self._lose(worker, results, f"the verifier did not come back within {self._seconds:g} s")

    def _lose(self, worker: _Worker, results: dict[int, Checked], reason: str) -> None:
        assert worker.index is not None  # it was busy
        results[worker.index] = Checked(0.0, reason, failed=True)
        worker.stop()
        self._workers.remove(worker)
