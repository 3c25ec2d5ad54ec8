"""Packing against slow, obvious versions: no pair of a document is lost, repeated or put where it does not belong."""

import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from data_pipeline.packing import Plan, Record, build_row, empty_row, plan_rows

LENGTHS = st.lists(st.integers(0, 40), max_size=30)
ROW_LENGTH = st.integers(1, 16)
SEED = st.integers(0, 2**32 - 1)


class ListDocuments:
    """Documents in memory. All tokens of all documents differ, so that a token says where it came from.

    A model is trained to write token n unless `untrained` divides n.
    """

    def __init__(self, lengths: list[int], untrained: int | None = None):
        self.lengths = np.array(lengths, np.int32)
        self._ends = np.cumsum(self.lengths)
        self._untrained = untrained

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Record:
        tokens = np.arange(self._ends[index] - self.lengths[index], self._ends[index], dtype=np.int32)
        trained = tokens % self._untrained != 0 if self._untrained else np.ones(len(tokens), np.bool_)
        return Record(f"d{index}", tokens, trained)


def pieces_of(plan: Plan, row: int) -> list[tuple[int, int, int]]:
    pieces = range(plan.row_offsets[row], plan.row_offsets[row + 1])
    return [(int(plan.document[p]), int(plan.start[p]), int(plan.stop[p])) for p in pieces]


def pairs_of(plan: Plan, row: int) -> list[tuple[int, int]]:
    return [(document, pair) for document, start, stop in pieces_of(plan, row) for pair in range(start, stop)]


@settings(deadline=None)
@given(LENGTHS, ROW_LENGTH, SEED, st.sampled_from(["whole", "split"]))
def test_each_pair_is_in_exactly_one_row_once(lengths, row_length, seed, packing):
    plan = plan_rows(np.array(lengths, np.int32), row_length, packing, seed)
    rows = [pairs_of(plan, row) for row in range(len(plan))]
    assert all(0 < len(row) <= row_length for row in rows)
    assert Counter(pair for row in rows for pair in row) == Counter(
        (document, pair) for document, length in enumerate(lengths) for pair in range(length - 1)
    )
    assert all(stop > start for row in range(len(plan)) for _, start, stop in pieces_of(plan, row))


@settings(deadline=None)
@given(LENGTHS, ROW_LENGTH, SEED)
def test_split_is_concatenation_cut_at_the_row_length(lengths, row_length, seed):
    plan = plan_rows(np.array(lengths, np.int32), row_length, "split", seed)
    order = list(dict.fromkeys(plan.document.tolist()))  # of first appearance
    stream = [(document, pair) for document in order for pair in range(lengths[document] - 1)]
    expected = [stream[at : at + row_length] for at in range(0, len(stream), row_length)]
    assert [pairs_of(plan, row) for row in range(len(plan))] == expected


@settings(deadline=None)
@given(LENGTHS, ROW_LENGTH, SEED)
def test_whole_cuts_only_documents_longer_than_a_row(lengths, row_length, seed):
    plan = plan_rows(np.array(lengths, np.int32), row_length, "whole", seed)
    pieces = {document: [] for document in range(len(lengths))}
    for document, start, stop in zip(plan.document, plan.start, plan.stop, strict=True):
        pieces[document].append((start, stop))
    for document, length in enumerate(lengths):
        cuts = range(0, length - 1, row_length)
        assert sorted(pieces[document]) == [(cut, min(cut + row_length, length - 1)) for cut in cuts]


@settings(deadline=None)
@given(st.lists(st.integers(2, 41), min_size=1, max_size=60), SEED)
def test_whole_is_best_fit(lengths, seed):
    """Every document goes to the row with the least room that holds it: the fills of a search through all rows."""
    row_length = 40
    plan = plan_rows(np.array(lengths, np.int32), row_length, "whole", seed)
    order = np.argsort(np.random.PCG64(seed).random_raw(len(lengths)), kind="stable")
    rooms: list[int] = []
    for size in (lengths[document] - 1 for document in order):
        fitting = [row for row, room in enumerate(rooms) if room >= size]
        if not fitting:
            rooms.append(row_length)
            fitting = [len(rooms) - 1]
        rooms[min(fitting, key=lambda row: rooms[row])] -= size
    fills = [len(pairs_of(plan, row)) for row in range(len(plan))]
    assert sorted(fills) == sorted(row_length - room for room in rooms)


@pytest.mark.parametrize("packing", ["whole", "split"])
def test_order_is_a_function_of_the_seed(packing):
    lengths = np.arange(2, 200, dtype=np.int32)
    same, again, other = (plan_rows(lengths, 64, packing, seed) for seed in (5, 5, 6))
    for field in ("row_offsets", "document", "start", "stop"):
        np.testing.assert_array_equal(getattr(same, field), getattr(again, field))
    assert same.document.tolist() != other.document.tolist()
    assert same.document.tolist() != sorted(same.document.tolist())


def test_order_never_changes():
    """A change here changes the data of every run that is resumed. The order is that of PCG64's own first outputs."""
    plan = plan_rows(np.full(8, 5, np.int32), 4, "split", seed=0)
    raw = [11749869230777074271, 4976686463289251617, 755828109848996024, 304881062738325533]
    raw += [15002187965291974971, 16837368535893154894, 11190454901533422207, 13456836363123071557]
    assert plan.document.tolist() == sorted(range(8), key=lambda document: raw[document])


def test_whole_fills_rows_of_ordinary_documents():
    lengths = np.random.default_rng(0).lognormal(6.2, 1.1, 20_000).astype(np.int32) + 2
    plan = plan_rows(lengths, 1024, "whole", seed=0)
    assert (lengths - 1).sum() / (len(plan) * 1024) > 0.98


@pytest.mark.parametrize("packing", ["whole", "split"])
def test_two_hundred_thousand_documents_take_no_time(packing):
    lengths = np.random.default_rng(0).lognormal(6.2, 1.1, 200_000).astype(np.int32) + 2
    start = time.perf_counter()
    plan_rows(lengths, 256, packing, seed=0)
    assert time.perf_counter() - start < 10  # a search through all open rows would take many minutes


@pytest.mark.parametrize("packing", ["whole", "split"])
@pytest.mark.parametrize("lengths", [[], [0], [1, 1, 0]])
def test_documents_without_pairs_make_no_rows(lengths, packing):
    plan = plan_rows(np.array(lengths, np.int32), 8, packing, seed=0)
    assert len(plan) == 0
    assert plan.row_offsets.tolist() == [0]


def test_a_row_by_hand():
    documents = ListDocuments([4, 6])  # tokens 0..3 and 4..9
    plan = Plan(8, *(np.array(a) for a in ([0, 2], [1, 0], [2, 0], [5, 3])))
    row = build_row(plan, 0, documents, first_document=10)
    assert row["tokens"].tolist() == [6, 7, 8, 0, 1, 2, 0, 0]
    assert row["labels"].tolist() == [7, 8, 9, 1, 2, 3, 0, 0]
    assert row["loss_mask"].tolist() == [True] * 6 + [False] * 2
    assert row["segment_ids"].tolist() == [1, 1, 1, 2, 2, 2, 0, 0]
    assert row["positions"].tolist() == [0, 1, 2, 0, 1, 2, 0, 0]
    assert row["document_ids"].tolist() == [11, 11, 11, 10, 10, 10, -1, -1]
    assert {key: str(array.dtype) for key, array in row.items()} == {
        "tokens": "int32",
        "labels": "int32",
        "loss_mask": "bool",
        "segment_ids": "int32",
        "positions": "int32",
        "document_ids": "int32",
    }


def test_the_mask_follows_the_labels_by_hand():
    records = ListDocuments([4, 6], untrained=3)  # 0, 3, 6 and 9 are not trained
    plan = Plan(8, *(np.array(a) for a in ([0, 2], [1, 0], [2, 0], [5, 3])))
    row = build_row(plan, 0, records)
    assert row["labels"].tolist() == [7, 8, 9, 1, 2, 3, 0, 0]
    assert row["loss_mask"].tolist() == [True, True, False, True, True, False, False, False]
    assert row["segment_ids"].tolist() == [1, 1, 1, 2, 2, 2, 0, 0]


def test_the_empty_row_is_all_padding():
    row = empty_row(5)
    assert not row["loss_mask"].any()
    assert not row["segment_ids"].any()
    assert (row["document_ids"] == -1).all()
    assert all(array.shape == (5,) for array in row.values())


@settings(deadline=None)
@given(LENGTHS, ROW_LENGTH, SEED, st.sampled_from(["whole", "split"]), st.sampled_from([None, 1, 2, 3]))
def test_rows_hold_the_tokens_of_the_plan(lengths, row_length, seed, packing, untrained):
    documents = ListDocuments(lengths, untrained)
    plan = plan_rows(documents.lengths, row_length, packing, seed)
    seen = Counter()
    for index in range(len(plan)):
        row = build_row(plan, index, documents)
        mask = row["segment_ids"] > 0
        seen.update(zip(row["tokens"][mask].tolist(), row["labels"][mask].tolist(), strict=True))
        at = 0
        for segment, (document, start, stop) in enumerate(pieces_of(plan, index), start=1):
            for position in range(stop - start):
                here = {key: array[at].item() for key, array in row.items()}
                text = documents[document].tokens
                assert here == {
                    "tokens": text[start + position],
                    "labels": text[start + position + 1],
                    "loss_mask": not untrained or text[start + position + 1] % untrained != 0,
                    "segment_ids": segment,
                    "positions": position,
                    "document_ids": document,
                }
                at += 1
        padding = empty_row(row_length)
        assert all((row[key][at:] == padding[key][at:]).all() for key in row)
    texts = [documents[document].tokens.tolist() for document in range(len(lengths))]
    assert seen == Counter(pair for text in texts for pair in pairwise(text))


@pytest.mark.parametrize(("row_length", "packing"), [(0, "whole"), (-3, "split"), (8, "hole")])
def test_mistakes_are_one_clear_line(row_length, packing):
    with pytest.raises(UserError) as error:
        plan_rows(np.array([5]), row_length, packing, seed=0)
    assert "\n" not in str(error.value)
