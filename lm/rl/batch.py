"""Rollouts packed into rows, several to a row, as the documents of pretraining are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_pipeline.packing import best_fit, empty_row
from lm.model.attention import row_multiple
from lm.rl.rollout import Rollout
from lm.stage import HostBatch

MULTIPLES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)  # of batch_size rows: few, since each is compiled


@dataclass(frozen=True)
class Placed:
    """Where the tokens of a rollout lie: those after its prompt are labels of row `row`, columns [start, stop)."""

    row: int
    start: int
    stop: int


def pack(rollouts: Sequence[Rollout], row_length: int, batch_size: int) -> tuple[HostBatch, list[Placed]]:
    """Rows of whole rollouts, and where each lies; the number of rows is one of `MULTIPLES` of `batch_size`.

    Arrays (B, T) as `data_pipeline.packing.build_row` makes them, T `row_length` less what no row fills (in eighths: few lengths
    too, for the same reason); `document_ids` are indices of rollouts, and `loss_mask` is True
    where the label is a token that the policy drew.
    """
    lengths = [len(each.prompt) + len(each.tokens) - 1 for each in rollouts]
    row_of = best_fit(lengths, row_length)
    needed = max(row_of, default=0) + 1
    times = next((times for times in MULTIPLES if times * batch_size >= needed), -(-needed // batch_size))
    batch = {name: np.stack([row] * (times * batch_size)) for name, row in empty_row(row_length).items()}
    filled = np.zeros(times * batch_size, int)
    segments = np.zeros(times * batch_size, int)
    placed = []
    for number, (rollout, row, length) in enumerate(zip(rollouts, row_of, lengths, strict=True)):
        whole = [*rollout.prompt, *rollout.tokens]
        start = filled[row]
        stop = filled[row] = start + length
        segments[row] += 1
        here = np.s_[row, start:stop]
        batch["tokens"][here], batch["labels"][here] = whole[:-1], whole[1:]
        batch["segment_ids"][here] = segments[row]
        batch["positions"][here] = np.arange(length)
        batch["document_ids"][here] = number
        placed.append(Placed(int(row), int(stop - len(rollout.tokens)), int(stop)))
        batch["loss_mask"][row, placed[-1].start : stop] = rollout.drawn
    step = -(-row_length // 8)
    step += -step % row_multiple()
    filled_length = -(-int(max(filled)) // step) * step
    return {name: array[:, :filled_length] for name, array in batch.items()}, placed


def spread(batch: HostBatch, placed: Sequence[Placed], values: Sequence[Any]) -> np.ndarray:
    """float32 (B, T): of each rollout a number, or one for each of its tokens, where its labels lie; elsewhere 0."""
    array = np.zeros(batch["tokens"].shape, np.float32)
    for place, value in zip(placed, values, strict=True):
        array[place.row, place.start : place.stop] = value
    return array


def gather(array: np.ndarray, placed: Sequence[Placed]) -> list[np.ndarray]:
    """The reverse of `spread`: of each rollout what lies where its labels are."""
    return [array[place.row, place.start : place.stop] for place in placed]
