"""The loader: nothing lost in an epoch, and the same global batches on any number of processes, also after a resume."""

import gc
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from data_pipeline.loader import PackedSource, one_pass
from data_pipeline.packing import Record


class NumberedDocuments:
    """Documents whose tokens all differ, across components too if they begin at different numbers.

    With `masked` no multiple of 3 is trained, as in conversations not everything is.
    """

    def __init__(self, lengths: list[int], first_token: int = 0, prefix: str = "", masked: bool = False):
        self.lengths = np.array(lengths, np.int32)
        self._ends = first_token + np.cumsum(self.lengths)
        self._prefix = prefix
        self._masked = masked

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Record:
        tokens = np.arange(self._ends[index] - self.lengths[index], self._ends[index], dtype=np.int32)
        trained = tokens % 3 > 0 if self._masked else np.ones(len(tokens), np.bool_)
        return Record(f"{self._prefix}{index}", tokens, trained)


# Not too few: Grain's shuffle takes milliseconds an example when there are only some tens of them.
A = NumberedDocuments([5, 9, 3, 17, 2, 30, 8, 4] * 20)
B = NumberedDocuments([6, 6, 6, 21, 2] * 20, first_token=10_000)
MASKED = (NumberedDocuments([5, 9, 3, 7, 2, 8, 4] * 20, masked=True), B)


def make(weights=None, components=(A, B), **changes) -> PackedSource:
    options = {"row_length": 8, "batch_size": 4, "seed": 3} | changes
    return PackedSource(components, [f"c{n}" for n in range(len(components))], weights, **options)


def pairs(*batches) -> Counter:
    """The (input, label) pairs of batches whose label is trained, with how often each occurs."""
    return Counter(
        pair
        for batch in batches
        for pair in zip(
            batch["tokens"][batch["loss_mask"]].tolist(), batch["labels"][batch["loss_mask"]].tolist(), strict=True
        )
    )


def all_pairs(*components) -> Counter:
    return Counter(
        (int(label) - 1, int(label))
        for docs in components
        for n in range(len(docs))
        for label in docs[n].tokens[1:][docs[n].trained[1:]]
    )


def take_rows(source: PackedSource, number: int) -> list[dict[str, np.ndarray]]:
    rows: list[dict[str, np.ndarray]] = []
    while len(rows) < number:
        batch = source.next()
        rows += [{key: array[n] for key, array in batch.items()} for n in range(len(batch["tokens"]))]
    return rows[:number]


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize(("packing", "components"), [("whole", (A, B)), ("split", (A, B)), ("whole", MASKED)])
def test_every_epoch_has_every_pair_once_in_a_new_order(packing, components):
    source = make(packing=packing, components=components)
    assert source.tokens_per_epoch == sum(int(each.lengths.sum()) - len(each) for each in components)
    rows = take_rows(source, 3 * source.rows_per_epoch)
    epochs = [rows[n * source.rows_per_epoch : (n + 1) * source.rows_per_epoch] for n in range(3)]
    assert all(pairs(*epoch) == all_pairs(*components) for epoch in epochs)
    orders = [[row["tokens"].tolist() for row in epoch] for epoch in epochs]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_another_seed_is_not_another_epoch():
    """Grain adds the epoch to the seed: plain seeds would show seed 1 what seed 0 sees an epoch later."""
    book = NumberedDocuments([8 * 50 + 1])  # one long document, so that all seeds pack the same rows
    orders = []
    for seed in (0, 1):
        first_tokens = [int(row["tokens"][0]) for row in take_rows(make(components=[book], seed=seed), 100)]
        orders += [first_tokens[:50], first_tokens[50:]]
    assert len({tuple(order) for order in orders}) == 4


def test_batches_have_the_promised_shapes():
    batch = make(batch_size=6, row_length=16, rows=slice(2, 4)).next(model=object())
    assert {key: (array.shape, str(array.dtype)) for key, array in batch.items()} == {
        "tokens": ((2, 16), "int32"),
        "labels": ((2, 16), "int32"),
        "loss_mask": ((2, 16), "bool"),
        "segment_ids": ((2, 16), "int32"),
        "positions": ((2, 16), "int32"),
        "document_ids": ((2, 16), "int32"),
    }


def test_document_ids_number_the_mixture():
    rows = take_rows(make(), make().rows_per_epoch)
    for row in rows:
        for token, document in zip(row["tokens"][row["loss_mask"]], row["document_ids"][row["loss_mask"]], strict=True):
            component, index = (A, document) if document < len(A) else (B, document - len(A))
            assert token in component[index].tokens
    assert {int(d) for row in rows for d in row["document_ids"]} - {-1} == set(range(len(A) + len(B)))


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.75, 0.25], [1.0, 9.0]])
def test_weights_are_shares_of_the_rows(weights):
    rows = take_rows(make(weights), 1000)
    of_b = np.cumsum([row["tokens"][0] >= 10_000 for row in rows])
    expected = weights[1] / sum(weights) * np.arange(1, 1001)
    assert np.abs(of_b - expected).max() <= 1  # at every moment of the run, not only at its end


def test_with_weights_each_component_keeps_its_epochs():
    source = make([1.0, 1.0])
    alone = source.rows_per_epoch - make(components=[A]).rows_per_epoch
    rows = [row for row in take_rows(source, 6 * alone) if row["tokens"][0] >= 10_000]
    epochs = [rows[n * alone : (n + 1) * alone] for n in range(3)]
    assert all(pairs(*epoch) == all_pairs(B) for epoch in epochs)
    assert len({tuple(row["tokens"][0].item() for row in epoch) for epoch in epochs}) == 3


def test_a_component_of_weight_zero_is_left_out():
    source = make([0, 2.0])
    assert source.tokens_per_epoch == all_pairs(B).total()
    rows = take_rows(source, source.rows_per_epoch)
    assert pairs(*rows) == all_pairs(B)
    assert set(source.describe({"document_ids": rows[0]["document_ids"]})) <= {f"c1:{n}" for n in range(len(B))}


@pytest.mark.parametrize(("weights", "components"), [(None, (A, B)), ([1.0, 3.0], (A, B)), ([1.0, 3.0], MASKED)])
@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_batches_do_not_depend_on_the_number_of_processes(weights, components, processes):
    whole = make(weights, components, batch_size=8)
    width = 8 // processes
    parts = [make(weights, components, batch_size=8, rows=slice(n * width, (n + 1) * width)) for n in range(processes)]
    for _ in range(12):
        batch = whole.next()
        shares = [part.next() for part in parts]
        assert_same(batch, {key: np.concatenate([share[key] for share in shares]) for key in batch})


def test_the_global_order_does_not_depend_on_the_batch_size():
    small, large = take_rows(make(batch_size=2), 60), take_rows(make(batch_size=12), 60)
    for one, other in zip(small, large, strict=True):
        assert_same(one, other)


@settings(deadline=None, max_examples=20)
@given(
    st.integers(0, 30),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.sampled_from([(A, B), MASKED]),
)
def test_resume_on_another_number_of_processes(steps, before, after, weighted, components):
    weights = [2.0, 1.0] if weighted else None
    writer = make(weights, components, rows=slice(0, 4 // before))
    for _ in range(steps):
        writer.next()
    state = json.loads(json.dumps(writer.get_state()))

    straight = make(weights, components)
    for _ in range(steps):
        straight.next()
    width = 4 // after
    parts = [make(weights, components, rows=slice(n * width, (n + 1) * width)) for n in range(after)]
    for part in parts:
        part.next()  # a source that has begun elsewhere can be put back too
        part.set_state(state)
    for _ in range(3):
        batch = straight.next()
        shares = [part.next() for part in parts]
        assert_same(batch, {key: np.concatenate([share[key] for share in shares]) for key in batch})


def test_state_counts_batches_handed_out_not_prefetched():
    read = []

    class Noted(NumberedDocuments):
        def __getitem__(self, index: int) -> Record:
            read.append(index)
            return super().__getitem__(index)

    source = make(components=[Noted([9] * 100)], batch_size=2)
    assert source.get_state() == {"batches": 0}
    for _ in range(3):
        source.next()
    deadline = time.monotonic() + 5
    while len(read) <= 3 * 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(read) > 3 * 2  # it did prefetch
    assert source.get_state() == {"batches": 3}
    source.set_state({"batches": 1})
    assert source.get_state() == {"batches": 1}
    source.next()
    assert source.get_state() == {"batches": 2}


def test_positions_far_away_are_reached_at_once():
    source, again = make([1.0, 3.0]), make([1.0, 3.0])
    source.set_state({"batches": 10**9})
    again.set_state({"batches": 10**9})
    assert_same(source.next(), again.next())


def test_describe_names_the_documents_of_a_batch():
    topics = NumberedDocuments([5, 5], prefix="pydoc:")
    source = PackedSource([topics, B], ["pydoc", "b"], None, row_length=8, batch_size=2, seed=0)
    ids = np.array([[3, 3, 1, -1], [0, 3, 6, -1]], np.int32)
    assert source.describe({"document_ids": ids}) == ["b:1", "pydoc:1", "pydoc:0", "b:4"]
    assert source.describe({"document_ids": np.full((2, 4), -1, np.int32)}) == []


@pytest.mark.parametrize("empty", [NumberedDocuments([]), NumberedDocuments([1, 0])])
def test_empty_components_do_no_harm_without_weights(empty):
    source = make(components=[empty, A, empty, B, empty])
    assert pairs(*take_rows(source, source.rows_per_epoch)) == all_pairs(A, B)
    assert len(source.describe(source.next())) > 0


def test_a_single_row_can_be_repeated():
    source = make(components=[NumberedDocuments([9])], batch_size=4)
    assert source.rows_per_epoch == 1
    assert source.next()["tokens"].tolist() == [list(range(8))] * 4


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 30), max_size=12),
    st.lists(st.integers(2, 30), min_size=1, max_size=12),
    st.sampled_from([1, 2, 4]),
    st.sampled_from(["whole", "split"]),
    st.booleans(),
)
def test_one_pass_has_every_pair_once(lengths, more, processes, packing, masked):
    components = [NumberedDocuments(lengths, masked=masked), NumberedDocuments(more, first_token=1000)]
    options = {"row_length": 8, "batch_size": 4, "packing": packing}
    batches = list(one_pass(components, **options))
    assert pairs(*batches) == all_pairs(*components)
    assert all(array.shape == (4, 8) for batch in batches for array in batch.values())
    assert all(batch["segment_ids"].any() for batch in batches)
    padding = batches[-1]["segment_ids"] == 0
    assert (batches[-1]["document_ids"][padding] == -1).all()
    assert not batches[-1]["segment_ids"][padding].any()

    width = 4 // processes
    shares = [list(one_pass(components, **options, rows=slice(n * width, (n + 1) * width))) for n in range(processes)]
    for batch, *parts in zip(batches, *shares, strict=True):
        assert_same(batch, {key: np.concatenate([part[key] for part in parts]) for key in batch})


def test_the_first_batches_of_one_pass_are_a_fair_sample():
    short, long = NumberedDocuments([9] * 400), NumberedDocuments([8 * 400 + 1], first_token=10_000)
    passes = one_pass([short, long], row_length=8, batch_size=10)
    of_long = sum(int((next(passes)["tokens"][:, 0] >= 10_000).sum()) for _ in range(20))
    assert 70 < of_long < 130  # of 200 rows, where half of all rows are of the long document


def test_a_damaged_document_is_still_one_clear_line():
    class Damaged(NumberedDocuments):
        def __getitem__(self, index: int) -> Record:
            raise UserError("shard 3 is damaged")

    for batches in (
        make([1, 1], (A, Damaged([9] * 50))).next,
        one_pass([Damaged([9])], row_length=8, batch_size=4).__next__,
    ):
        with pytest.raises(UserError) as error:
            [batches() for _ in range(3)]
        assert str(error.value) == "shard 3 is damaged"


def test_mistakes_in_the_mixture_are_one_clear_line():
    empty = NumberedDocuments([])
    options = {"row_length": 8, "batch_size": 4, "seed": 0}
    mistakes = [
        ([], [], None, {}, "nothing to read"),
        ([empty, NumberedDocuments([1])], ["a", "b"], None, {}, "nothing to read"),
        ([A, empty], ["a", "b"], [1, 1], {}, "b has weight 1"),
        ([A], ["a", "b"], None, {}, "names"),
        ([A, B], ["a", "a"], None, {}, "same name"),
        ([A, B], ["a", "b"], [1], {}, "weights"),
        ([A, B], ["a", "b"], [1, -1], {}, "not negative"),
        ([A, B], ["a", "b"], [1, float("nan")], {}, "finite"),
        ([A, B], ["a", "b"], [0, 0], {}, "above 0"),
        ([A], ["a"], None, {"batch_size": 0}, "batch_size is 0"),
        ([A], ["a"], None, {"row_length": 0}, "row_length is 0"),
        ([A], ["a"], None, {"packing": "none"}, '"none"'),
        ([A], ["a"], None, {"seed": -1}, "seed is -1"),
        ([A], ["a"], None, {"rows": slice(0, 3)}, "multiple of the number of processes"),
        ([A], ["a"], None, {"rows": slice(1, 3)}, "multiple of the number of processes"),
        ([A], ["a"], None, {"rows": slice(4, 4)}, "multiple of the number of processes"),
    ]
    for components, names, weights, changes, message in mistakes:
        with pytest.raises(UserError, match=message) as error:
            PackedSource(components, names, weights, **(options | changes))
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="nothing to read"):
        next(one_pass([empty], row_length=8, batch_size=4))


def test_threads_end_with_their_source():
    before = threading.enumerate()
    source = make()
    source.next()
    threads = [thread for thread in threading.enumerate() if thread not in before]
    assert [thread.name for thread in threads] == ["grain-prefetch_0"]
    del source
    gc.collect()
    threads[0].join(timeout=5)
    assert not threads[0].is_alive()


@pytest.mark.parametrize(("ending", "code"), [("", 0), ("sys.exit(3)", 3), ("raise RuntimeError", 1)])
def test_a_program_ends_promptly(ending, code):
    """google/grain#1196: prefetching kept a program from ending. Reads are slow here, so that one is under way."""
    program = f"""
import sys, time
import numpy as np
from data_pipeline.loader import PackedSource
from data_pipeline.packing import Record

class Slow:
    lengths = np.full(1000, 9, np.int32)
    def __len__(self): return 1000
    def __getitem__(self, index):
        time.sleep(0.02)
        return Record(str(index), np.arange(9), np.ones(9, np.bool_))

source = PackedSource([Slow()], ["slow"], None, row_length=8, batch_size=4, seed=0)
source.next()
print(time.time(), flush=True)
{ending}
"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    took = time.time() - float(ran.stdout)
    assert ran.returncode == code, ran.stderr
    assert took < 5, f"{took:.1f} s between the last line and the end of the program"
