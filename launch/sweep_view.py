"""All trials in one view: a block of lines that is drawn again on a terminal, a line now and then elsewhere."""

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.sweep_folder import last_line
from lm.metrics import duration

REDRAW_SECONDS, LINE_SECONDS = 1.0, 5.0


@dataclass(frozen=True)
class Progress:
    """How far a running trial is. Before its first step only `note` is known: what it is busy with."""

    step: int = 0
    steps: int = 0
    loss: float | None = None
    tokens_per_second: float | None = None
    spent: float | None = None  # seconds, over all its restarts
    left: float | None = None  # seconds
    note: str = ""


def progress(folder: Path, steps: int, started: float) -> Progress:
    """How far the run in a folder is, that was started (again) at `started`, in seconds since 1970."""
    file = folder / "metrics.jsonl"
    records = _last_records(file)
    if not records or file.stat().st_mtime < started:
        return Progress(steps=steps, note=last_line(folder / "log.txt")[:60] or "starting")
    first, last = records[0], records[-1]
    made = last["step"] - first["step"]
    each = (last["seconds"] - first["seconds"]) / made if made else None
    left = None if each is None else each * (steps - last["step"])
    rate = statistics.median(record["tokens_per_second"] for record in records)
    return Progress(last["step"], steps, last["loss"], rate, last["seconds"], left)


def _last_records(file: Path) -> list[dict[str, Any]]:
    """The whole lines among the last 8 kB: enough for a rate, and quick however long the file is."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(size - 8192, 0))
            lines = stream.read().split(b"\n")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines[1 if size > 8192 else 0 : -1]]


class Estimate:
    """The time left of a whole sweep, from what trials took and will take."""

    def __init__(self) -> None:
        self._whole: list[float] = []
        self._latest = 0.0

    def ended(self, seconds: float | None) -> None:
        """A trial has ended, after so many seconds."""
        if seconds is not None:
            self._whole.append(seconds)

    def running(self, now: Progress, seconds: float) -> None:
        """A trial has been running for so many seconds, not counting earlier processes."""
        if now.spent is not None and now.left is not None:
            self._latest = max(now.spent, seconds) + now.left

    def left(self, running: Sequence[float | None], waiting: int, slots: int) -> float | None:
        """Seconds until all have ended; None while nothing is known to go by."""
        one = statistics.fmean(self._whole) if self._whole else self._latest
        if not one:
            return None
        each = [one if seconds is None else seconds for seconds in running]
        return max([(sum(each) + waiting * one) / slots, *each])


def running_line(name: str, now: Progress) -> str:
    """The line of a running trial."""
    if now.loss is None:
        return f"{name}: {now.note}"
    left = "?" if now.left is None else duration(now.left)
    return f"{name}: step {now.step}/{now.steps}, loss {now.loss:.4f}, {now.tokens_per_second:,.0f} tok/s, left {left}"


def summary_line(counts: dict[str, int], left: float | None, note: str) -> str:
    """The line of the whole sweep; what there is none of is left out."""
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    return "; ".join(filter(None, [", ".join(parts), f"left {'?' if left is None else duration(left)}", note]))


class View:
    """Writes to standard output. `event` is for lines that stay, `show` for what is true now."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._drawn = 0  # lines of the block that stands below the events
        self._begun = time.monotonic()
        self._last = -LINE_SECONDS

    def due(self) -> bool:
        """Whether it is time to show something again."""
        return time.monotonic() - self._last >= (REDRAW_SECONDS if self._terminal else LINE_SECONDS)

    def event(self, line: str) -> None:
        """A line that stays."""
        self.close()
        print(line, flush=True)

    def show(self, summary: str, running: Sequence[str]) -> None:
        """The state of the sweep, in place of the one before."""
        self._last = time.monotonic()
        summary = f"[{duration(self._last - self._begun)}] {summary}"
        if not self._terminal:
            print(" | ".join([summary, *running]), flush=True)
            return
        size = shutil.get_terminal_size()
        room = max(size.lines - 2, 2)
        shown = [summary, *running]
        if len(shown) > room:
            shown = [*shown[: room - 1], f"... and {len(shown) - room + 1} more"]
        self.close()
        print("\n".join(line[: size.columns - 1] for line in shown), flush=True)
        self._drawn = len(shown)

    def close(self) -> None:
        """Take away what was drawn, so that other lines can follow."""
        if self._drawn:
            print(f"\x1b[{self._drawn}F\x1b[J", end="", flush=True)
        self._drawn = 0
