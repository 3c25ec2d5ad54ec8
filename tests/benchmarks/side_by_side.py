"""Contestants measured in turns, each in a process of its own that waits while another runs.

Thread pools of two frameworks in one process get in each other's way, and a machine's speed drifts: so every contestant runs
for a few seconds, over and over, and what counts is what they did in the same rounds.
"""

import contextlib
import importlib
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from data_pipeline.errors import UserError  # noqa: E402

TELL = 8.0  # seconds after which a contestant that is silent is said to be at work
PAUSE = 0.5  # seconds between turns, in which thread pools stop spinning


@dataclass
class Work:
    """What a contestant does: `step` may return before its result is there, `finish` waits for all steps."""

    step: Callable[[], None]
    finish: Callable[[], None]
    tokens: int  # in a step
    facts: Callable[[], dict[str, Any]] = field(default=dict)  # what else there is to tell after the rounds


class Contestant:
    """A process that builds its work by `module.function(*arguments)` and then waits for its turns."""

    def __init__(
        self, name: str, module: str, function: str, *arguments: Any, environment: dict[str, str] | None = None
    ):
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._theirs = theirs
        # Not a daemon: PyTorch's loader starts processes of its own.
        self._process = context.Process(target=_serve, args=(theirs, module, function, arguments, environment or {}))

    def ready(self) -> str | None:
        """Start it, and wait until it is built and warm. Returns why it cannot take part, in a line, or None."""
        print(f"  {self.name}: building and compiling ...", flush=True)
        self._process.start()
        self._theirs.close()  # so that either side notices when the other one is gone
        return self._receive()

    def turn(self, seconds: float) -> float:
        """Tokens a second over whole steps that take at least so long."""
        self._pipe.send(("turn", seconds))
        return self._receive()

    def facts(self) -> dict[str, Any]:
        """What it has to tell besides."""
        self._pipe.send(("facts", None))
        return self._receive()

    def close(self) -> None:
        """End the process."""
        if self._process.pid is None:
            return
        with contextlib.suppress(OSError):
            self._pipe.send(("end", None))
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self) -> Any:
        try:
            while not self._pipe.poll(TELL):
                print(f"  {self.name} is at work ...", flush=True)
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            raise UserError(f"{self.name} ended (exit code {self._process.exitcode}): see its output above") from None


def _serve(
    pipe: Connection, module: str, function: str, arguments: tuple[Any, ...], environment: dict[str, str]
) -> None:
    os.environ.update(environment)  # before the framework is imported
    try:
        work: Work = getattr(importlib.import_module(module), function)(*arguments)
        for _ in range(2):
            work.step()
        work.finish()
    except ImportError as error:
        pipe.send(f"{error}")
        return
    pipe.send(None)
    while (command := _next_command(pipe))[0] != "end":
        what, seconds = command
        pipe.send(_turn(work, seconds) if what == "turn" else work.facts())


def _next_command(pipe: Connection) -> tuple[str, Any]:
    try:
        return pipe.recv()
    except EOFError:  # the benchmark was killed
        return ("end", None)


def _turn(work: Work, seconds: float) -> float:
    start, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - start < seconds:
        work.step()
        steps += 1
    work.finish()
    return steps * work.tokens / (time.perf_counter() - start)


def interleave(contestants: Sequence[Contestant], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Tokens a second of each contestant in each round, told as they come. Another one begins each round."""
    rates: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        first = number % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            time.sleep(PAUSE)
            rates[contestant.name].append(contestant.turn(seconds))
            print(
                f"  round {number + 1}/{rounds}: {contestant.name} {rates[contestant.name][-1]:,.0f} tok/s", flush=True
            )
    return rates


@dataclass(frozen=True)
class Comparison:
    """One side against the better of its peers."""

    peer: str  # the better one, by its median
    best: float  # ratio of the best rounds
    median: float  # median over rounds of the ratio in the same round


def compare(rates: dict[str, list[float]], side: str) -> Comparison | None:
    """`side` against the peer with the highest median; None without peers."""
    peers = [name for name in rates if name != side]
    if not peers:
        return None
    peer = max(peers, key=lambda name: statistics.median(rates[name]))
    ratios = [a / b for a, b in zip(rates[side], rates[peer], strict=True)]
    return Comparison(peer, max(rates[side]) / max(rates[peer]), statistics.median(ratios))


def best_and_median(values: Sequence[float], form: str = ",.0f") -> str:
    """`best (median)`, or a dash for none. Best is the largest."""
    return f"{max(values):{form}} ({statistics.median(values):{form}})" if values else "-"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns lined up; all but the first to the right."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        aligned = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(aligned) + " |"

    rule = "|" + "|".join(("-" * (w + 2)) if i == 0 else ("-" * (w + 1) + ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])
