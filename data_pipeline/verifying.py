"""Verifiers at work: in processes of their own, which are killed when they hang.

A verifier may run whatever a model wrote. One that throws, hangs, or gives no number in [0, 1] costs that rollout, which then
scores 0 and is counted as failed, and never the run. They run in the main thread of a process, where libraries that use SIGALRM
for their own time limits (math-verify) work as they should. A process dies with what it started, and with the one that asked.
"""

import contextlib
import ctypes
import math
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from data_pipeline.errors import UserError
from data_pipeline.problem import Problem, Response, Verifier

Pair = tuple[Problem, Response]
START_SECONDS = 60.0  # to start a process, and to import what a verifier needs
MEMORY = 4 << 30  # bytes that a process may take: an answer that asks for more gets a MemoryError
ROUNDING = 1e-6  # a sum of shares may end so far above 1


@dataclass(frozen=True)
class Checked:
    """What came of a verification."""

    score: float
    reason: str
    failed: bool = False  # no fault of the response's: the verifier threw, hung, or gave no number in [0, 1]


def judge(verifier: Verifier, response: Response) -> Checked:
    """The verdict, here and now. Raises `UserError` where the verifier does: what it needs is not installed."""
    try:
        verdict = verifier(response)
        score, reason = float(verdict.score), str(verdict.reason)
    except UserError:
        raise
    except Exception as error:
        return _failed(error)
    if getattr(verifier, "unbounded", False) and math.isfinite(score):
        return Checked(score, reason)
    if not -ROUNDING <= score <= 1 + ROUNDING:  # NaN is not, either
        return Checked(0.0, f"the verifier gave {score}, which is no number from 0 to 1", failed=True)
    return Checked(min(1.0, max(0.0, score)), reason)


def _failed(error: BaseException) -> Checked:
    return Checked(0.0, f"the verifier failed: {type(error).__name__}: {error}"[:200], failed=True)


@dataclass
class _Task:
    index: int  # of the pair
    message: bytes
    again: bool = False  # whether a process has died of it


class _Worker:
    """A process that judges one response at a time."""

    task: _Task
    deadline: float
    began: bool

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # the parent may hold a GPU and many threads
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()

    def take(self, task: _Task) -> bool:
        """Begin it. False where the process is no more."""
        self.task, self.began, self.deadline = task, False, time.monotonic() + START_SECONDS
        try:
            self.connection.send_bytes(task.message)
        except OSError:
            self.stop()
            return False
        return True

    def stop(self) -> None:
        self.connection.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid or 0, signal.SIGKILL)  # and what it started; it may not lead its group yet
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, parent: int) -> None:
    """Judge until nobody asks. Says "began" first, so that the time to import is not taken for the verifier's."""
    os.setpgrp()
    with contextlib.suppress(AttributeError, OSError):  # where it is not Linux
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the parent, even while a verifier hangs
    if os.getppid() != parent:
        return
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with contextlib.suppress(EOFError):  # the parent has gone
        while True:
            message = connection.recv_bytes()
            try:
                verifier, response = pickle.loads(message)
                getattr(verifier, "load", lambda: None)()
                connection.send("began")
                connection.send(judge(verifier, response))
            except UserError as error:
                connection.send(error)
            except BaseException as error:  # SystemExit too: an answer must not end the process
                connection.send(_failed(error))


class Verifiers:
    """Up to `workers` processes, started by the first verifier that needs one; each verdict may take `seconds`.

    Several threads may ask; they take turns. On Linux the processes end with the thread that started them.
    """

    def __init__(self, workers: int, seconds: float) -> None:
        self._most, self._seconds = workers, seconds
        self._idle: list[_Worker] = []
        self._turn = threading.Lock()  # evaluation may fall into the sampling of the next round

    def check(self, pairs: Sequence[Pair]) -> list[Checked]:
        """A verdict on each pair, in their order.

        Raises `UserError` where a verifier does, and `RuntimeError` where no process gets as far as to call one.
        """
        results: dict[int, Checked] = {}
        outside: deque[_Task] = deque()
        for i, (problem, response) in enumerate(pairs):
            if getattr(problem.verifier, "inline", False):
                results[i] = judge(problem.verifier, response)
                continue
            try:
                outside.append(_Task(i, pickle.dumps((problem.verifier, response))))
            except Exception as error:
                results[i] = Checked(0.0, f"the verifier cannot be sent: {error}"[:200], failed=True)
        with self._turn:
            self._work(outside, results)
        return [results[i] for i in range(len(pairs))]

    def _work(self, outside: deque[_Task], results: dict[int, Checked]) -> None:
        busy: list[_Worker] = []
        try:
            while outside or busy:
                while outside and len(busy) < self._most:
                    worker = self._idle.pop() if self._idle else _Worker()
                    if worker.take(outside[0]):  # one that was killed while it was idle takes nothing
                        outside.popleft()
                        busy.append(worker)
                self._take_in(busy, outside, results)
        finally:  # whatever was raised, no process goes on with what nobody waits for
            for worker in busy:
                worker.stop()

    def close(self) -> None:
        """Stop the processes."""
        while self._idle:
            self._idle.pop().stop()

    def _take_in(self, busy: list[_Worker], outside: deque[_Task], results: dict[int, Checked]) -> None:
        first = min(worker.deadline for worker in busy)
        ready = wait([worker.connection for worker in busy], max(first - time.monotonic(), 0))
        for worker in list(busy):
            task = worker.task
            if worker.connection in ready:
                try:
                    said = worker.connection.recv()
                except (EOFError, OSError):
                    busy.remove(worker)
                    worker.stop()
                    if not task.again:  # killed from outside, perhaps; what the answer does it will do again
                        task.again = True
                        outside.appendleft(task)
                    elif worker.began:
                        results[task.index] = Checked(0.0, "the verifier's process died", failed=True)
                    else:
                        raise RuntimeError(
                            "a verifier's process ends before it has begun: see what it printed"
                        ) from None
                    continue
                if said == "began":
                    worker.began, worker.deadline = True, time.monotonic() + self._seconds
                    continue
                busy.remove(worker)
                self._idle.append(worker)
                if isinstance(said, UserError):
                    raise said
                results[task.index] = said
            elif time.monotonic() >= worker.deadline:
                busy.remove(worker)
                worker.stop()
                late = f"come back within {self._seconds:g} s" if worker.began else f"start within {START_SECONDS:g} s"
                results[task.index] = Checked(0.0, f"the verifier did not {late}", failed=True)
