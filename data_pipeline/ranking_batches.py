"""Rankings packed into rows, and rows into batches. All responses of a ranking are in one row, each a segment of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grain
import numpy as np

from data_pipeline.loader import EPOCHS, READ_OPTIONS, Batch
from data_pipeline.packing import Row, best_fit, empty_row, shuffled
from data_pipeline.rankings import TokenizedRanking

ANOTHER = -2  # the rank of a response to another prompt


@dataclass(frozen=True)
class RankingRows:
    """The rows of some rankings, by index."""

    rankings: Sequence[TokenizedRanking]
    members: list[list[int]]  # of each row: which rankings
    row_length: int
    slots: int  # R: responses in a row, at most
    another: bool  # each ranking has a response to another prompt besides

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int) -> Row:
        """Arrays (T,) as `packing.build_row` makes them, with all tokens of each response as inputs, its last one too.

        document_ids are indices of rankings. Then int32 (R,), 0 where there is no response: `ends`, `rankings` and `ranks` as
        `lm.objectives.preference` reads them. And `row` int32 (): the index.
        """
        row = empty_row(self.row_length)
        row |= {name: np.zeros(self.slots, np.int32) for name in ("ends", "rankings", "ranks")}
        row["row"] = np.array(index, np.int32)
        at = slot = 0
        for place, which in enumerate(self.members[index], start=1):
            for tokens, trained, rank in segments(self.rankings, which, another=self.another):
                here = slice(at, at + len(tokens))
                row["tokens"][here] = tokens
                row["labels"][at : here.stop - 1] = tokens[1:]
                row["loss_mask"][at : here.stop - 1] = trained[1:]
                row["segment_ids"][here] = slot + 1
                row["positions"][here] = np.arange(len(tokens))
                row["document_ids"][here] = which
                row["ends"][slot], row["rankings"][slot], row["ranks"][slot] = here.stop - 1, place, rank
                at, slot = here.stop, slot + 1
        return row


def segments(
    rankings: Sequence[TokenizedRanking], which: int, *, another: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """(tokens, trained, rank) of each response of a ranking, and with `another` of one that answers the next ranking's prompt."""
    own = rankings[which]
    for tokens, trained, rank in zip(own.tokens, own.trained, own.ranks, strict=True):
        yield tokens, trained, int(rank)
    if another:
        other = rankings[(which + 1) % len(rankings)]
        mine, its = (int(np.argmax(each.trained[0])) for each in (own, other))
        yield (
            np.concatenate([own.tokens[0][:mine], other.tokens[0][its:]]),
            np.concatenate([own.trained[0][:mine], other.trained[0][its:]]),
            ANOTHER,
        )


def pack_rankings(
    rankings: Sequence[TokenizedRanking], row_length: int, seed: int, *, another: bool = False
) -> RankingRows:
    """Rows of `row_length` tokens, filled as well as they can be; with `another`, rankings may make longer rows."""
    order = shuffled(len(rankings), seed).tolist()
    sizes = [sum(len(each[0]) for each in segments(rankings, which, another=another)) for which in order]
    row_length = max([row_length, *sizes])
    rows = best_fit(sizes, row_length)
    members: list[list[int]] = [[] for _ in range(max(rows, default=-1) + 1)]
    for which, row in zip(order, rows, strict=True):
        members[row].append(which)
    slots = max((sum(len(rankings[each].tokens) + another for each in row) for row in members), default=0)
    return RankingRows(rankings, members, row_length, slots, another)


class RankingSource:
    """Batches of rankings for ever, in a new order every epoch; `rows` is the part of each batch that this process asks for.

    With `reference` (number of rows, R), what the reference thinks of each response comes along, as the array of that name.
    """

    def __init__(self, packed: RankingRows, *, batch_size: int, seed: int, rows: slice) -> None:
        self._packed = packed
        self.reference: np.ndarray | None = None
        dataset = grain.MapDataset.source(packed).shuffle(seed=int(np.random.SeedSequence(seed).generate_state(1)[0]))
        width = rows.stop - rows.start
        batches = dataset.repeat(EPOCHS).batch(width)[rows.start // width :: batch_size // width]
        self._batches = iter(batches.to_iter_dataset(READ_OPTIONS))
        self._delivered = 0

    def next(self, model: object = None) -> Batch:  # noqa: ARG002
        """This process's rows of the next batch; see `RankingRows`."""
        batch = next(self._batches)
        self._delivered += 1
        if self.reference is not None:
            batch["reference"] = self.reference[batch["row"]]
        return batch

    def get_state(self) -> dict[str, int]:
        """The number of batches handed out."""
        return {"batches": self._delivered}

    def set_state(self, state: dict[str, int]) -> None:
        """Go to a position that `get_state` gave."""
        self._delivered = state["batches"]
        self._batches.set_state({"next_index": self._delivered})

    def describe(self, batch: Batch) -> list[str]:
        """The rankings of a batch."""
        numbers = np.unique(batch["document_ids"])
        return [self._packed.rankings[i].id for i in numbers[numbers >= 0]]


def in_batches(packed: RankingRows, batch_size: int, rows: slice) -> Iterator[Batch]:
    """Every row once, in order; the last batch is filled up with rows of nothing, whose `row` is the first's."""
    for first in range(0, len(packed), batch_size):
        mine = [packed[i] for i in range(first + rows.start, min(first + rows.stop, len(packed)))]
        empty = {name: np.zeros_like(array) for name, array in packed[0].items()}
        mine += [empty] * (rows.stop - rows.start - len(mine))
        yield {name: np.stack([row[name] for row in mine]) for name in empty}
