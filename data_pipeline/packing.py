"""Packing: which pieces of which records make row i. A record is a document or a conversation.

Packers that work on a stream tie their state to a process and its workers. Here the whole packing is computed once,
from the lengths of the documents alone, so that a row is a function of its index: rows can be shuffled, shared out
among processes and resumed by arithmetic on one integer.

A record of n tokens is a whole training sequence, such as [document_start] text [document_start] for a document, and holds
n - 1 pairs of an input and its label: pair j is (tokens[j], tokens[j + 1]). Packing deals in pairs, and loses none:
each pair of each document is in exactly one row, once. Attention must not cross from one document to the next, so each
piece has its own segment id and its own positions.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from data_pipeline.errors import UserError

Row = dict[str, np.ndarray]


class Record(NamedTuple):
    """A tokenized document or conversation: its name within its source, tokens int32 (n,), trained bool (n,).

    `trained` says which tokens a model is trained to write. In a document they all are.
    """

    id: str
    tokens: np.ndarray
    trained: np.ndarray


class Records(Protocol):
    """Tokenized documents or conversations by index. Reading must be safe from several threads at once."""

    @property
    def lengths(self) -> np.ndarray:
        """int32 (number of records,): tokens in each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Record: ...


@dataclass(frozen=True)
class Plan:
    """The pieces of every row: row i is made of pieces row_offsets[i] to row_offsets[i + 1].

    A piece is the pairs [start, stop) of a document: inputs tokens[start:stop], labels tokens[start + 1:stop + 1].
    `row_offsets` is int64 (rows + 1,); `document`, `start` and `stop` are int32 (pieces,).
    """

    row_length: int
    row_offsets: np.ndarray
    document: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row_offsets) - 1


def plan_rows(lengths: np.ndarray, row_length: int, packing: str, seed: int) -> Plan:
    """Plan rows of `row_length` pairs for documents of `lengths` tokens, int32 (number of documents,).

    "split" concatenates the documents in a seeded order and cuts every `row_length` pairs: only the last row has room.
    "whole" never cuts a document that fits a row; see `_whole`. The same arguments give the same plan on every machine.
    Raises UserError for an unknown packing or a row length below 1.
    """
    if row_length < 1:
        raise UserError(f"row_length is {row_length}: a row must hold at least 1 token")
    pairs = np.maximum(np.asarray(lengths, dtype=np.int64) - 1, 0)
    order = shuffled(len(pairs), seed)
    order = order[pairs[order] > 0]
    match packing:
        case "split":
            return _split(pairs, order, row_length)
        case "whole":
            return _whole(pairs, order, row_length)
        case _:
            raise UserError(f'packing is "{packing}": it must be "whole" or "split"')


def shuffled(number: int, seed: int) -> np.ndarray:
    """Return the numbers below `number` in an order that depends on the seed alone, int64 (number,)."""
    # NumPy keeps the raw bits of a generator the same for ever, but not what its own `permutation` makes of them.
    return np.argsort(np.random.PCG64(seed).random_raw(number), kind="stable")


def _split(pairs: np.ndarray, order: np.ndarray, row_length: int) -> Plan:
    """Concatenate the documents in `order` and cut: a document has one piece in every row that it touches."""
    ends = np.cumsum(pairs[order])
    begins = ends - pairs[order]
    first_row = begins // row_length
    nth_document, nth_row = _enumerate_each((ends - 1) // row_length - first_row + 1)
    row = first_row[nth_document] + nth_row
    begin = begins[nth_document]
    start = np.maximum(row * row_length, begin) - begin
    stop = np.minimum((row + 1) * row_length, ends[nth_document]) - begin
    return _plan(row_length, row, order[nth_document], start, stop)


def _whole(pairs: np.ndarray, order: np.ndarray, row_length: int) -> Plan:
    """Cut documents only where they are longer than a row, then put each piece into the row that it fills best.

    The packing of arXiv:2404.10830, except that pieces are taken in a random order, where the paper takes them from the
    longest to the shortest: a little more padding, but no rows that hold nothing except documents of one size.
    """
    full_rows, rest = np.divmod(pairs[order], row_length)
    has_rest = rest > 0
    row_of_rest = np.array(best_fit(rest[has_rest].tolist(), row_length), dtype=np.int64)
    first_full_row = row_of_rest.max(initial=-1) + 1

    nth_document, nth_row = _enumerate_each(full_rows)
    row = np.concatenate([row_of_rest, first_full_row + np.arange(len(nth_row))])
    document = np.concatenate([order[has_rest], order[nth_document]])
    start = np.concatenate([(full_rows * row_length)[has_rest], nth_row * row_length])
    stop = np.concatenate([pairs[order][has_rest], (nth_row + 1) * row_length])
    by_row = np.argsort(row, kind="stable")
    return _plan(row_length, row[by_row], document[by_row], start[by_row], stop[by_row])


def best_fit(sizes: list[int], capacity: int) -> list[int]:
    """Return the row of each size: the open row with the least room that still holds it, else a new row.

    All rows stay open. They are kept by the room that is left in them, of which there are at most `capacity` values,
    so that a search is a bisection in a short list however many rows are open.
    """
    rows_with_room: list[list[int]] = [[] for _ in range(capacity)]
    rooms: list[int] = []  # the rooms that some row has, ascending
    row_of: list[int] = []
    number_of_rows = 0
    for size in tqdm(sizes, desc="packing", unit=" documents", delay=2, leave=False):
        nearest = bisect_left(rooms, size)
        if nearest < len(rooms):
            room = rooms[nearest]
            row = rows_with_room[room].pop()
            if not rows_with_room[room]:
                del rooms[nearest]
        else:
            room, row = capacity, number_of_rows
            number_of_rows += 1
        row_of.append(row)
        room -= size
        if room > 0:
            if not rows_with_room[room]:
                insort(rooms, room)
            rows_with_room[room].append(row)
    return row_of


def _enumerate_each(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for counts [2, 0, 3], which count and how far in it: [0, 0, 2, 2, 2] and [0, 1, 0, 1, 2]."""
    which = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    return which, np.arange(len(which)) - before[which]


def _plan(row_length: int, row: np.ndarray, document: np.ndarray, start: np.ndarray, stop: np.ndarray) -> Plan:
    """Narrow the arrays of a plan, given the row of each piece in ascending order."""
    number_of_rows = int(row.max(initial=-1)) + 1
    row_offsets = np.searchsorted(row, np.arange(number_of_rows + 1))
    document, start, stop = (array.astype(np.int32) for array in (document, start, stop))
    return Plan(row_length, row_offsets, document, start, stop)


def empty_row(row_length: int) -> Row:
    """Return a row of nothing but padding; `build_row` gives the meaning of its arrays."""
    return {
        "tokens": np.zeros(row_length, np.int32),
        "labels": np.zeros(row_length, np.int32),
        "loss_mask": np.zeros(row_length, np.bool_),
        "segment_ids": np.zeros(row_length, np.int32),
        "positions": np.zeros(row_length, np.int32),
        "document_ids": np.full(row_length, -1, np.int32),
    }


def build_row(plan: Plan, index: int, records: Records, first_document: int = 0) -> Row:
    """Read the pieces of one row; every array is (T,), where T is the plan's row length.

    `tokens` and `labels` int32; `loss_mask` bool, whether the label is trained, False on padding; `segment_ids` int32, from 1
    for each piece, 0 on padding; `positions` int32, from 0 in each piece; `document_ids` int32, the record's index in
    `records` plus `first_document`, -1 on padding.
    """
    row = empty_row(plan.row_length)
    at = 0
    for segment, piece in enumerate(range(plan.row_offsets[index], plan.row_offsets[index + 1]), start=1):
        document, start, stop = int(plan.document[piece]), int(plan.start[piece]), int(plan.stop[piece])
        _, tokens, trained = records[document]
        here = slice(at, at + stop - start)
        row["tokens"][here] = tokens[start:stop]
        row["labels"][here] = tokens[start + 1 : stop + 1]
        row["loss_mask"][here] = trained[start + 1 : stop + 1]
        row["segment_ids"][here] = segment
        row["positions"][here] = np.arange(stop - start)
        row["document_ids"][here] = first_document + document
        at = here.stop
    return row
