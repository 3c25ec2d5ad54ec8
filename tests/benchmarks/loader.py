"""Packed tokens a second of our loader, against a PyTorch DataLoader over the same documents, and against training.

    python tests/benchmarks/loader.py
    python tests/benchmarks/loader.py --source='books/*.txt' --rounds=3

Ours is `PackedSource` over the shards on disk: whole documents packed, shuffled, with segment ids, positions and a loss
mask; only tokens that have a label count. The peer reads the same tokens from memory: all documents concatenated and cut
into chunks, shuffled, tokens and labels only; with no worker processes and with two, and the better one counts. Training is
the tiny recipe. Takes about 3 minutes on two CPU cores, besides preparing the source. Needs PyTorch for the peer.
"""

import tempfile
from pathlib import Path

import numpy as np
from absl import flags
from side_by_side import Contestant, Work, best_and_median, compare, interleave, markdown

from data_pipeline.prepare import DocumentsConfig, prepare
from data_pipeline.shards import TokenizedRecords
from experiments.pretrain import tiny
from launch import cli, huge_pages

SHAPES = ((16, 256), (64, 1024))  # rows and tokens of a batch: the tiny recipe's, and one of a GPT-2
OURS = "Trivium"
ALONE, WORKERS = "DataLoader, no workers", "DataLoader, 2 workers"
TRAINING = "training tiny"


def ours(folder: str, rows: int, length: int) -> Work:
    """Our loader over a prepared folder."""
    from data_pipeline.loader import PackedSource

    documents = TokenizedRecords(Path(folder), "train")
    source = PackedSource([documents], ["train"], None, row_length=length, batch_size=rows, seed=0)
    labelled = source.tokens_per_epoch / (source.rows_per_epoch * length)
    return Work(lambda: consume(source.next()), lambda: None, round(rows * length * labelled))


def consume(batch: dict[str, np.ndarray]) -> None:
    """Make sure that a batch is what it should be, so that nothing is counted that was not made."""
    if batch["tokens"].shape != batch["labels"].shape:
        raise ValueError("a batch without its labels")


def peer(folder: str, rows: int, length: int, workers: int) -> Work:
    """PyTorch's loader over the same documents, concatenated and cut."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    documents = TokenizedRecords(Path(folder), "train")
    joined = torch.from_numpy(concatenated(documents))

    class Chunks(Dataset):
        def __len__(self) -> int:
            return max(number, 10_000 * rows)  # so long an epoch that its restart, which costs time, hardly counts

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            at = index % number * length
            return joined[at : at + length], joined[at + 1 : at + length + 1]

    number = (len(joined) - 1) // length
    forked = {"multiprocessing_context": "fork", "persistent_workers": True} if workers else {}  # Linux's default
    loader = DataLoader(Chunks(), rows, shuffle=True, drop_last=True, num_workers=workers, **forked)
    batches = iter(loader)

    def one() -> None:
        nonlocal batches
        try:
            tokens, labels = next(batches)
        except StopIteration:
            batches = iter(loader)
            tokens, labels = next(batches)
        consume({"tokens": tokens, "labels": labels})

    return Work(one, lambda: None, rows * length)


def concatenated(documents: TokenizedRecords) -> np.ndarray:
    """All tokens, int64, as a plain data set keeps them; a document's last token, which begins the next one, once."""
    return np.concatenate([documents[i][1][:-1] for i in range(len(documents))]).astype(np.int64)


def define_flags() -> None:
    """The flags of this benchmark."""
    flags.DEFINE_string("source", "school", "What is read; see --config.data.sources.")
    flags.DEFINE_integer("rounds", 5, "Turns that each side has.", lower_bound=1)
    flags.DEFINE_float("seconds", 3.0, "Seconds of a turn, at least; whole batches.", lower_bound=0.0)


def main(_: list[str]) -> None:
    """Measure every shape, then print the table."""
    rounds, seconds = flags.FLAGS.rounds, flags.FLAGS.seconds
    print(
        f"{len(SHAPES)} shapes, {rounds} rounds of {seconds:g} s a side: about {rounds * seconds * 0.15 + 1:.0f} minutes"
    )
    huge_pages.ask_for_children()
    with tempfile.TemporaryDirectory() as cache:
        prepared = prepare(DocumentsConfig(sources=(flags.FLAGS.source,)), 2048, Path(cache))
        print(f"{len(prepared.train[0]):,} documents of {flags.FLAGS.source}", flush=True)
        (folder,) = (path.parent for path in Path(cache).glob("documents/*/manifest.json"))
        rows = [measure(str(folder), *shape, rounds, seconds) for shape in SHAPES]
    header = ("tokens/s loaded, best (median)", OURS, ALONE, WORKERS, "x the better", TRAINING, "x training")
    print()
    print(markdown(header, rows))


def measure(folder: str, rows: int, length: int, rounds: int, seconds: float) -> tuple[str, ...]:
    """One row of the table."""
    print(f"{rows} rows of {length}:", flush=True)
    contestants = [
        Contestant(OURS, "loader", "ours", folder, rows, length),
        Contestant(ALONE, "loader", "peer", folder, rows, length, 0),
        Contestant(WORKERS, "loader", "peer", folder, rows, length, 2),
        Contestant(TRAINING, "our_side", "build", tiny.get_config()),
    ]
    missing = []
    try:
        for contestant in contestants:
            if problem := contestant.ready():
                print(f"  NO {contestant.name}: {problem}. Install torch to compare", flush=True)
                missing.append(contestant)
        rates = interleave([c for c in contestants if c not in missing], rounds, seconds)
    finally:
        for contestant in contestants:
            contestant.close()
    training = rates.pop(TRAINING)
    found = compare(rates, OURS)
    return (
        f"{rows} x {length}",
        *(best_and_median(rates.get(name, [])) for name in (OURS, ALONE, WORKERS)),
        f"{found.median:.2f}" if found else "-",
        best_and_median(training),
        f"{float(np.median(rates[OURS]) / np.median(training)):,.0f}",
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
