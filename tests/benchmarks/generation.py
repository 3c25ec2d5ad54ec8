"""Generation speed of our engine against `transformers.generate` with PyTorch, the same shape, in the same run.

    python tests/benchmarks/generation.py
    python tests/benchmarks/generation.py --sizes=124m --batches=1,32 --rounds=3
    python tests/benchmarks/generation.py --accelerator     bfloat16 on a GPU: gpt2-124m and llama3-1b
    python tests/benchmarks/generation.py --accelerator --sizes=tiny --batches=2     the same code, on a CPU too

Random weights, greedy, no token ends a text; both sides in float32 (--accelerator: bfloat16). What counts is new tokens a
second of whole calls, reading the prompts included. A batch is a number of equal requests that run together; `mixed` is
more requests than fit into its 32 rows, prompts and answers of many lengths: the peer answers them in batches of 32, we give
a free row to the next. Neither side asks for huge pages: our programs that generate do not. Targets are for the median over
rounds of the ratio in the same round.

At batch 1 every token reads every weight once (of the position embedding one row), and `bandwidth` is how much of the
measured read bandwidth (`generation_sides.read_bandwidth`) that comes to; weights that fit into a processor's caches can
exceed it. Needs PyTorch and transformers. It says how long it takes; wait until nothing else runs.
"""

import math
import statistics
from dataclasses import dataclass, replace

import numpy as np
from absl import flags
from accelerator import has_gpu
from generation_sides import Load
from side_by_side import Contestant, best_and_median, compare, interleave, markdown

from data_pipeline.errors import UserError
from launch import cli
from lm.model.config import ModelConfig
from lm.model.presets import gpt2, preset

OURS, PEER = "Trivium", "transformers"
MIXED, MIXED_ROWS = "mixed", 32
TARGETS = {  # times the peer, float32 on two CPU cores
    ("tiny", "1"): 8.0,
    ("tiny", "32"): 2.5,
    ("tiny", MIXED): 2.0,
    ("124m", "1"): 1.5,
    ("124m", "32"): 1.5,
    ("124m", MIXED): 2.0,
}


@dataclass(frozen=True)
class Size:
    """A model, and how long its texts are in tokens."""

    model: ModelConfig
    prompt: int
    answer: int
    requests: int  # of the mixed load, whose prompts have 8 to 96 tokens
    shortest: int  # of its answers
    longest: int


def sizes(dtype: str) -> dict[str, Size]:
    """What can be measured, by name, in the given dtype."""
    tiny = replace(gpt2(4, 128, 4), vocab_size=2048, context_length=256)
    new = 32 if dtype == "float32" else 128
    known = {
        "tiny": Size(tiny, 32, 128, 64, 8, 128),
        "124m": Size(gpt2(12, 768, 12), 32, new, 48, 4, 48),
        "llama3-1b": Size(preset("llama3-1b"), 32, new, 64, 8, 128),
    }
    return {
        name: replace(size, model=replace(size.model, compute_dtype=dtype, param_dtype=dtype))
        for name, size in known.items()
    }


def load_of(size: Size, batch: str) -> Load:
    """The requests of a row of the table."""
    chance = np.random.default_rng(0)
    if batch == MIXED:
        lengths = chance.integers(8, 97, size.requests)
        wanted = chance.integers(size.shortest, size.longest + 1, size.requests)
        rows = MIXED_ROWS
    else:
        rows = int(batch)
        lengths, wanted = np.full(rows, size.prompt), np.full(rows, size.answer)
    prompts = tuple(tuple(chance.integers(0, size.model.vocab_size, length).tolist()) for length in lengths)
    return Load(prompts, tuple(wanted.tolist()), rows)


def define_flags() -> None:
    """The flags of this benchmark."""
    flags.DEFINE_bool("accelerator", False, "bfloat16, on the GPU where there is one; other sizes and batches.")
    flags.DEFINE_list("sizes", None, "Which of tiny, 124m, llama3-1b; else tiny,124m (--accelerator: 124m,llama3-1b).")
    flags.DEFINE_list("batches", None, "Numbers, or mixed; else 1,32,mixed (--accelerator: 1,64,256).")
    flags.DEFINE_integer("rounds", 3, "Turns that each side has.", lower_bound=1)
    flags.DEFINE_float("seconds", 8.0, "Seconds of a turn, at least; whole calls.", lower_bound=0.0)


def main(_: list[str]) -> None:
    """Measure every size with every batch, then print the table."""
    options = flags.FLAGS
    names = options.sizes or (["124m", "llama3-1b"] if options.accelerator else ["tiny", "124m"])
    batches = options.batches or (["1", "64", "256"] if options.accelerator else ["1", "32", MIXED])
    known = sizes("bfloat16" if options.accelerator else "float32")
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"--sizes={unknown[0]} is not known: choose of {', '.join(known)}")
    if unknown := [batch for batch in batches if batch != MIXED and not (batch.isdecimal() and int(batch))]:
        raise UserError(f"--batches={unknown[0]} is not known: give numbers from 1 on, or {MIXED}")
    device = "cuda" if options.accelerator and has_gpu() else "cpu"
    # What 25 s stands for: starting both processes and compiling.
    minutes = len(names) * len(batches) * (25 + 2 * options.rounds * (options.seconds + 1.5)) / 60
    print(f"{', '.join(names)} on {device}: about {minutes:.0f} minutes; keep the machine quiet", flush=True)
    rows = [
        measure(name, known[name], batch, device, options.rounds, options.seconds, judged=not options.accelerator)
        for name in names
        for batch in batches
    ]
    print()
    print(markdown((f"new tokens/s on {device}, best (median)", *LABELS), rows))


LABELS = ("prompt + answer", OURS, PEER, "x peer, best", "x peer, median", "target", "bandwidth")


def measure(
    name: str, size: Size, batch: str, device: str, rounds: int, seconds: float, *, judged: bool
) -> tuple[str, ...]:
    """One row of the table; `judged` if there is a target for it."""
    print(f"{name}, batch {batch}:", flush=True)
    load = load_of(size, batch)
    # Both sides hold memory at the same time, so ours must not take three quarters of a GPU beforehand.
    alone = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    contestants = [
        Contestant(OURS, "generation_sides", "ours", size.model, load, environment=alone),
        Contestant(PEER, "generation_sides", "peer", size.model, load, device),
    ]
    try:
        for contestant in contestants:
            if problem := contestant.ready():
                raise UserError(f"{contestant.name} cannot run ({problem}): pip install torch transformers")
        rates = interleave(contestants, rounds, seconds)
        facts = contestants[0].facts()
    finally:
        for contestant in contestants:
            contestant.close()
    found = compare(rates, OURS)
    assert found is not None  # there is a peer
    target = TARGETS.get((name, batch)) if judged else None
    share = statistics.median(rates[OURS]) * bytes_read(size.model) / facts["read_bandwidth"]
    return (
        f"{name}, batch {batch}",
        f"{size.prompt} + {size.answer}" if batch != MIXED else f"8-96 + {size.shortest}-{size.longest}",
        *(best_and_median(rates[side]) for side in (OURS, PEER)),
        f"{found.best:.2f}",
        f"{found.median:.2f}",
        f"{target:g}: {'reached' if found.median >= target else 'MISSED'}" if target else "",
        f"{100 * share:.0f}% of {facts['read_bandwidth'] / 1e9:,.0f} GB/s" if batch == "1" else "",
    )


def bytes_read(config: ModelConfig) -> int:
    """Of weights, for one token: all but the position embedding, whose row is next to nothing; the head is the embedding."""
    from lm.model.summary import parameter_shapes

    shapes = parameter_shapes(config)
    count = sum(math.prod(shape) for path, shape in shapes.items() if path != "position_embedding")
    return count * np.dtype(np.float32).itemsize // (1 if config.compute_dtype == "float32" else 2)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
