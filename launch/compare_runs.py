"""What a run came to: its numbers, read from its folder, and the same over seeds."""

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.errors import UserError
from lm.metrics import read_json_lines

METRIC = "validation.loss"


@dataclass(frozen=True)
class Run:
    """The folder of a run, as far as it has come. `steps` and `evaluations` are its lines of JSON, in order."""

    folder: Path
    config: dict[str, Any]
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]

    @property
    def last_step(self) -> int:
        """Steps made."""
        return self.steps[-1]["step"] if self.steps else 0

    @property
    def finished(self) -> bool:
        """Whether it has made all its steps."""
        return self.last_step >= self.config["steps"]

    @property
    def tokens_per_step(self) -> int:
        """Tokens in an update."""
        return self.config["batch_size"] * self.config["model"]["context_length"]

    def metric(self, name: str) -> float | None:
        """The last value of `validation.KEY` or `train.KEY`; None where there is none. Raises `UserError` for another."""
        records, key = self._records(name)
        return next((float(record[key]) for record in reversed(records) if key in record), None)

    def _records(self, name: str) -> tuple[list[dict[str, Any]], str]:
        split, key = split_metric(name)
        return (self.evaluations if split == "validation" else self.steps), key

    def summary(self) -> dict[str, float | None]:
        """What tables show. Losses are nats per token, `tokens_per_second` is the median over steps, time is seconds."""
        best = min(self.evaluations, key=lambda record: record["loss"], default=None)
        rates = [record["tokens_per_second"] for record in self.steps if "tokens_per_second" in record]
        return {
            "step": self.last_step,
            "validation_loss": self.metric("validation.loss"),
            "best_validation_loss": best["loss"] if best else None,
            "best_step": best["step"] if best else None,
            "training_loss": self.metric("train.loss"),
            "tokens_per_second": statistics.median(rates) if rates else None,
            "seconds": self.metric("train.seconds"),
        }


def split_metric(name: str) -> tuple[str, str]:
    """`validation.loss` as ("validation", "loss"). Raises `UserError` for what is no metric."""
    split, dot, key = name.partition(".")
    if split not in ("validation", "train") or not dot or not key:
        raise UserError(f"--metric={name}: name one such as validation.loss, validation.bits_per_byte or train.loss")
    return split, key


def read_run(folder: Path) -> Run:
    """The run in a folder. Raises `UserError` when there is none, or its files are damaged."""
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder} holds no run and no sweep (it has no config.json and no sweep.json): check the path")
    try:
        config = json.loads(file.read_text())
        lines = [read_json_lines(folder / name) for name in ("metrics.jsonl", "evaluations.jsonl")]
    except ValueError as error:
        raise UserError(
            f"{folder}: a file of the run is damaged ({error}): leave this run out, or restore it"
        ) from None
    if not isinstance(config, dict) or not config.keys() >= {"steps", "seed", "batch_size", "model"}:
        raise UserError(f"{file} is not the config of a run: leave {folder} out")
    return Run(folder, config, *lines)


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict by dotted path."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


@dataclass(frozen=True)
class Interval:
    """The mean of `count` values; the true mean lies within `half` of it with 95% confidence, were they normal."""

    mean: float
    half: float | None  # None: one value says nothing about the spread
    count: int

    def __str__(self) -> str:
        spread = f" ± {self.half:.4f}" if self.half is not None else ""
        return f"{self.mean:.4f}{spread} ({self.count} {'seed' if self.count == 1 else 'seeds'})"

    def parts_from(self, other: "Interval") -> bool | None:
        """Whether the two intervals have no value in common; None where one of them is unknown."""
        if self.half is None or other.half is None:
            return None
        return abs(self.mean - other.mean) > self.half + other.half


def interval(values: Iterable[float]) -> Interval:
    """Mean and 95% confidence interval by Student's t with n - 1 degrees of freedom."""
    from scipy.stats import t

    values = list(values)
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, None, len(values))
    error = statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, float(t.ppf(0.975, len(values) - 1)) * error, len(values))


def table(header: list[str], rows: list[list[str]]) -> str:
    """Rows under a header, numbers to the right, two spaces between columns."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A value as tables show it: four digits after the point, six significant ones where that would hide a number."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if 0.01 <= abs(value) < 1e5 else f"{value:.6g}"
    return ",".join(map(cell, value)) if isinstance(value, list | tuple) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return text == "-"
    return True
