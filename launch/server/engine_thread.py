"""One thread that drives an engine, which is not thread-safe: commands go in by a queue, updates come out by calls.

All requests that are there at a time are batched by the engine. When the engine fails, everyone who waits is told, and so is
everyone who comes later.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from data_pipeline.errors import UserError
from lm.inference.requests import Request, Update


class Engine(Protocol):
    """What is used of `lm.inference.engine.Engine`."""

    def submit(self, request: Request) -> int:
        """A ticket. Raises `UserError`."""

    def cancel(self, ticket: int) -> None:
        """Free its slots."""

    def step(self) -> list[Update]:
        """Decode one chunk of tokens."""

    @property
    def idle(self) -> bool:
        """Nothing to do."""


class Busy(Exception):
    """The queue is full."""


class EngineFailed(Exception):
    """The engine's thread has ended by an error that nobody foresaw."""


@dataclass(eq=False)
class Job:
    """A request on its way through the engine."""

    request: Request
    deliver: Callable[[Update | Exception], object]  # called in the engine's thread
    unfinished: int  # samples
    ticket: int | None = None


class EngineThread:
    """Runs an engine. `capacity`: how many samples are taken in at once, running or waiting; more are refused.

    `submit`, `cancel` and `call` may be called from any thread.
    """

    def __init__(self, engine: Engine, capacity: int) -> None:
        self.capacity = capacity
        self.outstanding = 0  # samples taken in and not ended
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], object] = lambda: None  # called in the engine's thread
        self._engine = engine
        self._commands: queue.SimpleQueue[Callable[[], bool | None]] = queue.SimpleQueue()
        self._jobs: dict[int, Job] = {}  # by ticket
        self._waiting: set[Job] = set()  # for an answer of any kind
        self._lock = threading.Lock()  # of everything that both sides touch
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, requests: Sequence[Request], deliver: Callable[[int, Update | Exception], object]) -> list[Job]:
        """Take in all of the requests or none; `deliver(i, ...)` gets the updates of the i-th, or why there are none.

        Raises `Busy` and `EngineFailed`.
        """
        samples = sum(request.samples for request in requests)
        jobs = [Job(request, partial(deliver, number), request.samples) for number, request in enumerate(requests)]
        with self._lock:
            if self.failure:
                raise EngineFailed
            if self.outstanding + samples > self.capacity:
                raise Busy
            self.outstanding += samples
            self._waiting.update(jobs)
        for job in jobs:
            self._commands.put(partial(self._submit, job))
        return jobs

    def cancel(self, job: Job) -> None:
        """Stop a request, wherever it is; nothing happens when it has ended."""
        if job.unfinished:
            self._commands.put(partial(self._cancel, job))

    def call(self, function: Callable[[], Any], deliver: Callable[[Any], object]) -> None:
        """Let the engine's thread call something between two steps. Raises `EngineFailed`."""
        job = Job(Request((), 1), deliver, 0)
        with self._lock:
            if self.failure:
                raise EngineFailed
            self._waiting.add(job)

        def command() -> None:
            result = function()
            with self._lock:
                self._waiting.discard(job)
            deliver(result)

        self._commands.put(command)

    def close(self, timeout: float = 10.0) -> None:
        """End the thread after the step that it is in."""
        self._commands.put(lambda: True)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while not self._obey():
                for update in self._engine.step():
                    self._pass_on(update)
        except BaseException as error:
            with self._lock:
                self.failure = error
                left, self._waiting = self._waiting, set()
            for job in left:
                job.deliver(EngineFailed())
            self.on_failure()

    def _obey(self) -> bool:
        """Run the commands that are there, waiting for one when the engine is idle. Whether one of them was to end."""
        try:
            end = self._commands.get(block=self._engine.idle)()
            while not end:
                end = self._commands.get_nowait()()
            return True
        except queue.Empty:
            return False

    def _submit(self, job: Job) -> None:
        try:
            job.ticket = self._engine.submit(job.request)
            self._jobs[job.ticket] = job
        except UserError as error:
            self._ended(job, job.unfinished)
            job.deliver(error)

    def _cancel(self, job: Job) -> None:
        if job.unfinished and job.ticket is not None:
            self._engine.cancel(job.ticket)
            self._ended(job, job.unfinished)  # what the engine still says of it is heard by nobody

    def _pass_on(self, update: Update) -> None:
        job = self._jobs.get(update.ticket)
        if job:
            if update.reason:
                self._ended(job, 1)
            job.deliver(update)

    def _ended(self, job: Job, samples: int) -> None:
        with self._lock:
            self.outstanding -= samples
            job.unfinished -= samples
            if not job.unfinished:
                self._waiting.discard(job)
                if job.ticket is not None:
                    del self._jobs[job.ticket]
