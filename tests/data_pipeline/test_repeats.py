"""Repetition by lot: every pair of every document as often as its group says, whatever the seed, and no less shuffled."""

import itertools
import pickle
from collections import Counter

import numpy as np
import pytest

from data_pipeline.errors import UserError
from data_pipeline.loader import PackedSource
from data_pipeline.packing import Record
from data_pipeline.prepare import DocumentsConfig, check_documents
from data_pipeline.repeats import RepeatedDocuments, deal, repeated

REPEATS = (0, 1, 2, 5)


class NamedDocuments:
    """Document n has a name and tokens that no other has."""

    def __init__(self, lengths: list[int], first_token: int = 0) -> None:
        self.lengths = np.array(lengths, np.int32)
        self._ends = first_token + np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Record:
        stop = int(self._ends[index])
        tokens = np.arange(stop - self.lengths[index], stop, dtype=np.int32)
        return Record(f"book.txt#{index}", tokens, np.ones(len(tokens), np.bool_))


DOCUMENTS = NamedDocuments([5, 9, 3, 17, 2, 30, 8, 4, 6] * 9)


def read(documents, seed: int = 0, packing: str = "whole", batches: int | None = None) -> list[dict[str, np.ndarray]]:
    """The batches of an epoch, of one row each."""
    source = PackedSource([documents], ["a"], None, row_length=8, batch_size=1, seed=seed, packing=packing)
    return [source.next() for _ in range(batches or source.rows_per_epoch)]


def pairs(batches: list[dict[str, np.ndarray]]) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    for batch in batches:
        mask = batch["loss_mask"]
        found.update(zip(batch["tokens"][mask].tolist(), batch["labels"][mask].tolist(), strict=True))
    return found


@pytest.mark.parametrize("packing", ["whole", "split"])
@pytest.mark.parametrize("seed", [0, 7])
def test_an_epoch_of_the_loader_reads_each_document_as_often_as_its_group_says(packing: str, seed: int) -> None:
    expected: Counter[tuple[int, int]] = Counter()
    for often, group in zip(REPEATS, deal(DOCUMENTS, len(REPEATS)), strict=True):
        for index in group.tolist():
            _, tokens, _ = DOCUMENTS[index]
            for _ in range(often):
                expected.update(zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True))
    assert pairs(read(repeated(DOCUMENTS, REPEATS, "a"), seed, packing)) == expected


def test_every_document_is_in_one_group_and_groups_are_equal() -> None:
    for groups in range(1, 9):
        dealt = deal(DOCUMENTS, groups)
        assert sorted(np.concatenate(dealt).tolist()) == list(range(len(DOCUMENTS)))
        sizes = [len(group) for group in dealt]
        assert max(sizes) - min(sizes) <= 1


def test_groups_follow_from_the_names_alone() -> None:
    """Not from tokens, lengths (another tokenizer), the folder or the order of documents; neighbours come apart."""
    other = NamedDocuments([4] * len(DOCUMENTS), first_token=1000)
    for one, two in zip(deal(DOCUMENTS, 4), deal(other, 4), strict=True):
        np.testing.assert_array_equal(one, two)

    class Reversed(NamedDocuments):
        def __getitem__(self, index: int) -> Record:
            return super().__getitem__(index)._replace(id=f"book.txt#{len(self) - 1 - index}")

    class Elsewhere(NamedDocuments):
        def __getitem__(self, index: int) -> Record:
            record = super().__getitem__(index)
            return record._replace(id=f"/data/{record.id}")

    elsewhere = Elsewhere([4] * len(DOCUMENTS))
    for one, two in zip(deal(DOCUMENTS, 4), deal(elsewhere, 4), strict=True):
        np.testing.assert_array_equal(one, two)
    backwards = Reversed([4] * len(DOCUMENTS))
    for one, two in zip(deal(DOCUMENTS, 4), deal(backwards, 4), strict=True):
        np.testing.assert_array_equal(one, len(DOCUMENTS) - 1 - two)
    assert all(len(set(group[:8].tolist()) & set(range(0, 81, 4))) < 8 for group in deal(DOCUMENTS, 4))
    # By `printf 'book.txt#N' | sha256sum`: 1 begins with 20, 0 with 47, 3 with 8b, 2 with d0.
    few = NamedDocuments([4] * 4)
    assert [group.tolist() for group in deal(few, 4)] == [[1], [0], [3], [2]]


def test_copies_are_shuffled_apart() -> None:
    view = RepeatedDocuments(NamedDocuments([9] * 60), (1, 10))  # a document fills a row
    order = [int(view.documents_seen[batch["document_ids"][0, 0]]) for batch in read(view)]
    assert Counter(Counter(order).values()) == {1: 30, 10: 30}
    # 330 rows of which 300 are ten copies each: by chance, neighbours are the same in about 300 * 9 / 329 = 8 places
    assert sum(a == b for a, b in itertools.pairwise(order)) < 24
    assert [batch["document_ids"].tolist() for batch in read(view, seed=1)] != [
        batch["document_ids"].tolist() for batch in read(view)
    ]


def test_a_run_goes_on_in_the_middle_of_an_epoch() -> None:
    def source() -> PackedSource:
        view = repeated(DOCUMENTS, REPEATS, "a")
        return PackedSource([view], ["a"], None, row_length=8, batch_size=3, seed=5)

    whole = source()
    batches = [whole.next() for _ in range(12)]
    resumed = source()
    resumed.set_state({"batches": 7})
    for batch in batches[7:]:
        for key, value in resumed.next().items():
            np.testing.assert_array_equal(value, batch[key])
    assert all(name.startswith("a:book.txt#") for name in resumed.describe(batches[0]))


def test_the_view_is_a_view() -> None:
    view = RepeatedDocuments(DOCUMENTS, REPEATS)
    assert len(view) == len(view.lengths) == sum(o * len(g) for o, g in zip(REPEATS, deal(DOCUMENTS, 4), strict=True))
    for index in (0, 1, len(view) - 1, -1):
        name, tokens, _ = view[index]
        assert name == f"book.txt#{view.documents_seen[index]}"
        assert len(tokens) == view.lengths[index]
    with pytest.raises(IndexError):
        view[len(view)]
    again = pickle.loads(pickle.dumps(view))
    np.testing.assert_array_equal(again.documents_seen, view.documents_seen)


def test_without_repeats_nothing_changes() -> None:
    assert repeated(DOCUMENTS, (), "a") is DOCUMENTS
    once = repeated(DOCUMENTS, (1, 1, 1), "a")
    for one, two in zip(read(once, batches=20), read(DOCUMENTS, batches=20), strict=True):
        np.testing.assert_array_equal(one["tokens"], two["tokens"])


@pytest.mark.parametrize(
    ("repeats", "message"),
    [
        ((1, -1), r"data.repeats=\(1, -1\): a group is read 0 times an epoch or more"),
        ((0,), r"data.repeats=\(0,\) leaves nothing to learn from"),
        ((0, 0), "leaves nothing to learn from"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(repeats: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_documents(DocumentsConfig(repeats=repeats))


def test_more_groups_than_documents_are_refused() -> None:
    with pytest.raises(UserError, match=r"^notes.txt has 2 documents to learn from and data.repeats has 3 groups"):
        repeated(NamedDocuments([3, 3]), (1, 2, 3), "notes.txt")
