"""From packed rows to batches: `PackedSource`, the source of pretraining and finetuning, and `one_pass`, for validation.

The global order of examples is a function of the data and the seed alone. Global batch k is rows [k B, (k + 1) B) of
that order, and a process asks for its sub-range of each global batch: so a run sees the same batches on 1, 2 or 4
processes, and after it is resumed on another number of them. The position of a run in its data is one integer, k.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grain
import numpy as np

from data_pipeline.errors import UserError
from data_pipeline.packing import Plan, Records, Row, build_row, empty_row, plan_rows, shuffled

Batch = dict[str, np.ndarray]

# A thread builds rows, a few batches ahead, while the device computes. More threads only take turns at the
# interpreter's lock and are no faster; worker processes would tie the order of
# batches to their number. A program that ends waits for the batches ahead, so they are few.
READ_OPTIONS = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)

# For ever. Grain's own "for ever" is sys.maxsize rows, too many to count once they are cut into batches of one row.
EPOCHS = 2**31


@dataclass(frozen=True)
class Rows:
    """The rows of one component, by index: what Grain calls a random-access data source."""

    records: Records
    plan: Plan
    first_document: int

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Row:
        return build_row(self.plan, index, self.records, self.first_document)


class Batches:
    """The rows of a dataset, in its order, in batches: this process's share of each, and how many were handed out.

    `rows` is the part of each batch of `batch_size` rows that this process asks for; None: all. Raises UserError for a part
    that is no equal share.
    """

    def __init__(self, dataset: grain.MapDataset, batch_size: int, rows: slice | None) -> None:
        share, shares, rows_of_share = _share(rows, batch_size)
        self._batches = iter(dataset.batch(rows_of_share)[share::shares].to_iter_dataset(READ_OPTIONS))
        self._delivered = 0

    def next(self) -> Batch:
        """This process's rows of the next batch."""
        batch = next(self._batches)
        self._delivered += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Return the position: the number of global batches handed out, whatever was prefetched beyond them."""
        return {"batches": self._delivered}

    def set_state(self, state: dict[str, int]) -> None:
        """Continue from a position that `get_state` returned, here or on any other number of processes."""
        self._delivered = state["batches"]
        self._batches.set_state({"next_index": self._delivered})


class PackedSource:
    """Batches of packed documents or conversations for ever, in a new order every epoch.

    `components` are mixed in proportion to `weights`, row by row (Grain rounds the ratio of each weight to the smallest
    one down to a hundredth; a component of weight 0 is left out). Without weights, the rows of all components are
    shuffled together, so that every document is seen exactly once an epoch. `names` name the components in `describe`.

    `packing` is "whole" or "split", see `data_pipeline.packing`. `rows` is the part of each global batch of
    `batch_size` rows that this process asks for, all of it by default; every process asks for an equal share, in order.

    Raises UserError for components without rows, weights that do not fit them, a negative seed, and a batch size that
    is not a multiple of the number of processes.
    """

    def __init__(
        self,
        components: Sequence[Records],
        names: Sequence[str],
        weights: Sequence[float] | None,
        *,
        row_length: int,
        batch_size: int,
        seed: int,
        packing: str = "whole",
        rows: slice | None = None,
    ):
        _check_mixture(components, names, weights)
        if seed < 0:
            raise UserError(f"seed is {seed}: it must not be negative")
        if weights is not None:
            components = [component for component, weight in zip(components, weights, strict=True) if weight > 0]
            names = [name for name, weight in zip(names, weights, strict=True) if weight > 0]
            weights = [weight for weight in weights if weight > 0]
        self._names = list(names)
        # Hashed, because Grain shuffles epoch e with seed + e: with plain seeds, rows would come with seed 1 in the
        # order in which they come with seed 0, an epoch later.
        seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(len(components))]
        self._components = _plan_components(components, row_length, packing, seeds)

        sources = [grain.MapDataset.source(component) for component in self._components]
        if weights is None:
            dataset = grain.MapDataset.concatenate(sources).shuffle(seed=seeds[0]).repeat(EPOCHS)
        else:
            shuffled = [source.shuffle(seed=s).repeat(EPOCHS) for source, s in zip(sources, seeds, strict=True)]
            dataset = grain.MapDataset.mix(shuffled, weights)
        self._batches = Batches(dataset, batch_size, rows)

    @property
    def rows_per_epoch(self) -> int:
        """Rows in all components (of a weight above 0) together."""
        return sum(len(component) for component in self._components)

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens with a label, trained or not, in all components (of a weight above 0) together; padding does not count."""
        return sum(int((component.plan.stop - component.plan.start).sum()) for component in self._components)

    def next(self, model: object = None) -> Batch:  # noqa: ARG002
        """Return this process's rows of the next global batch; each array is (rows, T), see `packing.build_row`.

        `model` is ignored: every source is given a way to the current model, since those of RL write their batches with it.
        """
        return self._batches.next()

    def get_state(self) -> dict[str, int]:
        """See `Batches.get_state`."""
        return self._batches.get_state()

    def set_state(self, state: dict[str, int]) -> None:
        """See `Batches.set_state`."""
        self._batches.set_state(state)

    def describe(self, batch: Batch) -> list[str]:
        """Return the distinct documents of a batch as "name:id", in order of appearance, to trace a loss spike."""
        ids = batch["document_ids"].ravel()
        distinct, first_seen = np.unique(ids[ids >= 0], return_index=True)
        return [self._name(int(document)) for document in distinct[np.argsort(first_seen)]]

    def _name(self, document: int) -> str:
        nth = next(n for n, c in enumerate(self._components) if document < c.first_document + len(c.records))
        component, name = self._components[nth], self._names[nth]
        document_id = component.records[document - component.first_document].id
        return document_id if document_id.startswith(f"{name}:") else f"{name}:{document_id}"


def one_pass(
    components: Sequence[Records],
    *,
    row_length: int,
    batch_size: int,
    packing: str = "whole",
    rows: slice | None = None,
) -> Iterator[Batch]:
    """Yield every row of `components` once, for validation: always the same batches in the same order.

    The order is shuffled, so that a few first batches are a fair sample of all documents, short and long. Rows of
    nothing but padding fill up the last batch, so that all have one shape, (rows, T). `rows` as in `PackedSource`:
    every process yields the same number of batches. Raises UserError if there is no row at all.
    """
    share, shares, rows_of_share = _share(rows, batch_size)
    planned = _plan_components(components, row_length, packing, seeds=[0] * len(components))
    every_row = grain.MapDataset.concatenate([grain.MapDataset.source(component) for component in planned])
    order = shuffled(len(every_row), seed=0).tolist()
    for batch in range(math.ceil(len(order) / batch_size)):
        first = (batch * shares + share) * rows_of_share
        mine = [every_row[index] for index in order[first : first + rows_of_share]]
        mine += [empty_row(row_length)] * (rows_of_share - len(mine))
        yield {key: np.stack([row[key] for row in mine]) for key in mine[0]}


def _plan_components(components: Sequence[Records], row_length: int, packing: str, seeds: Sequence[int]) -> list[Rows]:
    """Pack each component, and number the documents of the mixture one component after the other."""
    planned: list[Rows] = []
    first_document = 0
    for records, seed in zip(components, seeds, strict=True):
        planned.append(Rows(records, plan_rows(records.lengths, row_length, packing, seed), first_document))
        first_document += len(records)
    if not any(len(component) for component in planned):
        raise UserError("there is nothing to read: no component has a document with any tokens; add one that does")
    return planned


def _check_mixture(components: Sequence[Records], names: Sequence[str], weights: Sequence[float] | None) -> None:
    if len(names) != len(components):
        raise UserError(f"{len(components)} components have {len(names)} names: give one name for each")
    if len(set(names)) < len(names):
        raise UserError(f"two components have the same name, of {', '.join(names)}: give each its own")
    if weights is None:
        return
    if len(weights) != len(components):
        raise UserError(f"{len(components)} components have {len(weights)} weights: give one weight for each, or none")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise UserError(f"weights {list(weights)}: all must be finite and not negative, and one at least above 0")
    for documents, name, weight in zip(components, names, weights, strict=True):
        if weight > 0 and not (documents.lengths > 1).any():
            raise UserError(f"{name} has weight {weight} but no document with any tokens: set its weight to 0")


def _share(rows: slice | None, batch_size: int) -> tuple[int, int, int]:
    """Return which share of each global batch `rows` is, the number of shares, and the rows of a share."""
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}: a batch holds at least 1 row")
    start, stop, step = (rows or slice(None)).indices(batch_size)
    width = stop - start
    if step != 1 or width < 1 or batch_size % width or start % width:
        raise UserError(
            f"rows [{start}, {stop}) are not an equal share of batches of {batch_size}: "
            "make batch_size a multiple of the number of processes"
        )
    return start // width, batch_size // width, width
