"""Where a run's numbers go: a line a step on the terminal, `metrics.jsonl`, TensorBoard."""

import json
import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class JsonLines:
    """An append-only file of JSON objects with a `step` each, cut back to the checkpoint when a run resumes."""

    def __init__(self, path: Path, last_step: int) -> None:
        """Keep the lines up to `last_step` (a half-written last line is dropped); more can then be written."""
        kept = [record for record in read_json_lines(path) if record["step"] <= last_step]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
        temporary.replace(path)
        self.kept = kept  # what the run wrote before it was stopped
        self.steps = {record["step"] for record in kept}
        self._file: IO[str] = path.open("a")

    def write(self, record: dict[str, Any]) -> None:
        """Write one object and hand it to the operating system, so that a killed process loses nothing."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; none when it does not exist. A half-written last line is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


class MetricWriter:
    """Writes each step's numbers to every place."""

    def __init__(self, workdir: Path, last_step: int, total_steps: int, dollars_per_hour: float) -> None:
        self.steps = JsonLines(workdir / "metrics.jsonl", last_step)
        self.evaluations = JsonLines(workdir / "evaluations.jsonl", last_step)
        self.samples = JsonLines(workdir / "samples.jsonl", last_step)
        self._board: Any = None  # TensorBoard's
        self._workdir, self._last_step = workdir, last_step
        self._total_steps, self._dollars_per_hour = total_steps, dollars_per_hour
        self._printed = 0.0

    def step(self, record: dict[str, Any], seconds_left: float, seconds: float) -> None:
        """One training step: `record` has `step`, `loss`, ...; `seconds` is how long the run took so far."""
        if self._dollars_per_hour:
            record = {**record, "dollars": seconds / 3600 * self._dollars_per_hour}
        self.steps.write(record)
        print(step_line(record, self._total_steps, seconds_left), flush=True)
        self._scalars(record, "train")

    def evaluation(self, record: dict[str, Any], is_best: bool) -> None:
        """Validation metrics at a step."""
        self.evaluations.write(record)
        self._scalars(record, "validation")
        numbers = ", ".join(
            f"{name} {value:.4f}" for name, value in record.items() if name != "step" and "." not in name
        )
        print(f"  validation at step {record['step']}: {numbers}{' (best so far)' if is_best else ''}", flush=True)
        for line in topic_lines(record):
            print(f"  {line}", flush=True)

    def sample(self, step: int, samples: list[dict[str, Any]]) -> None:
        """Texts that the model wrote at a step."""
        for sample in samples:
            self.samples.write({"step": step, **sample})
            print(f"  sample at step {step}: {sample['prompt']!r} -> {sample['text']!r}", flush=True)

    def close(self) -> None:
        """Close all files."""
        for file in (self.steps, self.evaluations, self.samples, self._board):
            if file is not None:
                file.close()

    def _scalars(self, record: dict[str, Any], group: str) -> None:
        if self._board is None:
            folder = str(self._workdir / "tensorboard")
            self._board = _summary_writer()(folder, purge_step=self._last_step + 1, flush_secs=30)
        for name, value in record.items():
            if name != "step":
                self._board.add_scalar(f"{group}/{name}", value, record["step"])


def _summary_writer() -> Any:
    """The class of tensorboardX, which would load all of PyTorch where that is installed: seconds, for what scalars never use."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter


@contextmanager
def announced(what: str, *, at_once: bool = True) -> Iterator[None]:
    """Say what is being done, at once or when it takes long, and every 8 seconds that it still is."""
    if at_once:
        print(f"{what} ...", flush=True)
    done, start = threading.Event(), time.monotonic()

    def repeat() -> None:
        while not done.wait(8):
            print(f"{what} ... {duration(time.monotonic() - start)}", flush=True)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def step_line(record: dict[str, Any], total_steps: int, seconds_left: float) -> str:
    """The line that the terminal shows for a step."""
    parts = [
        f"step {record['step']:>{len(str(total_steps))}}/{total_steps}",
        f"loss {record['loss']:.4f}",
        *([f"reward {record['reward']:.3f} length {record['length']:.0f}"] if "reward" in record else []),
        f"grad {record['gradient_norm']:.3f}",
        f"lr {record['learning_rate']:.2e}",
        f"{record['tokens_per_second']:,.0f} tok/s",
        f"MFU {100 * record['mfu']:.1f}%",
        f"left {duration(seconds_left)}",
    ]
    if "dollars" in record:
        parts.append(f"${record['dollars']:,.2f}")
    return " | ".join(parts)


def topic_lines(record: dict[str, Any]) -> Iterator[str]:
    """A line for each topic of metrics (all shares) named TOPIC.KIND.MEASURE: `facts: asked 81% right; told 8% right, 2% called`.

    The first measure of a kind is always told, the others where they are not 0.
    """
    topics: dict[str, dict[str, list[str]]] = {}
    for name, value in record.items():
        if "." in name:
            topic, kind, measure = name.split(".")
            told = topics.setdefault(topic, {}).setdefault(kind, [])
            if value or not told:
                told.append(f"{value:.0%} {measure}")
    for topic, kinds in topics.items():
        yield f"{topic}: " + "; ".join(f"{kind} {', '.join(told)}" for kind, told in kinds.items())


def duration(seconds: float) -> str:
    """Seconds as people write them: 42s, 3m05s, 2h10m, 3d04h."""
    if not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    for unit, name, lower, lower_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit:
            return f"{whole // unit}{name}{whole % unit // lower:02d}{lower_name}"
    return f"{whole}s"
