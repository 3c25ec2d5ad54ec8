"""Training speed against `transformers` with PyTorch, of the same shape, in the same run.

    python tests/benchmarks/training.py
    python tests/benchmarks/training.py --sizes=0.9m,5m --rounds=3

For each size: a GPT-2 (tanh GELU, learned positions, LayerNorm, biases, tied head) in float32 with AdamW and clipping on
both sides; eager PyTorch and `torch.compile` both run, and the better one counts. `tiny` is the model and the optimizer of
experiments/pretrain/tiny.py against a GPT-2 of its size. All sides run with huge pages where launch/huge_pages.py would ask
for them. Needs PyTorch and transformers. On two CPU cores it takes about 15 minutes; wait until nothing else runs.
"""

from dataclasses import dataclass, replace

from absl import flags
from side_by_side import Comparison, Contestant, best_and_median, compare, interleave, markdown

from data_pipeline.errors import UserError
from experiments.pretrain import tiny
from launch import cli, huge_pages
from lm.experiment import Experiment
from lm.model.presets import gpt2
from lm.optimizer import OptimizerConfig

OURS, EAGER, COMPILED = "Trivium", "PyTorch eager", "torch.compile"


@dataclass(frozen=True)
class Pair:
    """Two experiments that are measured against each other: ours, and the one that PyTorch runs."""

    ours: Experiment
    peer: Experiment


def same_gpt2(layers: int, width: int, heads: int, vocab_size: int, rows: int, length: int = 256) -> Pair:
    """A GPT-2 in float32, on both sides."""
    model = replace(
        gpt2(layers, width, heads),
        vocab_size=vocab_size,
        context_length=length,
        compute_dtype="float32",
        layer_loop="unrolled",
    )
    config = Experiment(batch_size=rows, model=model, optimizer=OptimizerConfig(learning_rate=1e-4))
    return Pair(config, config)


def tiny_recipe() -> Pair:
    """The default recipe, and a GPT-2 of its width, depth, vocabulary and batch with AdamW."""
    ours = tiny.get_config()
    m = ours.model
    return Pair(ours, same_gpt2(m.layers, m.width, m.heads, m.vocab_size, ours.batch_size, m.context_length).peer)


def pairs() -> dict[str, Pair]:
    """What can be measured, by name."""
    return {
        "0.9m": same_gpt2(layers=4, width=128, heads=4, vocab_size=2048, rows=32),
        "5m": same_gpt2(layers=6, width=256, heads=4, vocab_size=2048, rows=16),
        "124m": same_gpt2(layers=12, width=768, heads=12, vocab_size=50_257, rows=4),
        "tiny": tiny_recipe(),
    }


def define_flags() -> None:
    """The flags of this benchmark."""
    flags.DEFINE_list("sizes", ["0.9m", "5m", "124m", "tiny"], "Which of 0.9m, 5m, 124m, tiny.")
    flags.DEFINE_integer("rounds", 5, "Turns that each side has.", lower_bound=1)
    flags.DEFINE_float("seconds", 8.0, "Seconds of a turn, at least; whole steps.", lower_bound=0.0)


def main(_: list[str]) -> None:
    """Measure every size, then print the table."""
    known, sizes = pairs(), flags.FLAGS.sizes
    if unknown := [size for size in sizes if size not in known]:
        raise UserError(f"--sizes={unknown[0]} is not known: choose of {', '.join(known)}")
    rounds, seconds = flags.FLAGS.rounds, flags.FLAGS.seconds
    # What 60 s and 200 s stand for: compiling three times, and steps of 124m that are longer than a turn.
    minutes = sum(3 * rounds * (seconds + 2) + (60 if size != "124m" else 200) for size in sizes) / 60
    print(
        f"{', '.join(sizes)}: {rounds} rounds of {seconds:g} s a side, about {minutes:.0f} minutes; keep the machine quiet"
    )
    huge_pages.ask_for_children()
    rows = [measure(size, known[size], rounds, seconds) for size in sizes]
    print()
    print(markdown(("training tokens/s, best (median)", "parameters", "rows x T", *LABELS), rows))


LABELS = (OURS, EAGER, COMPILED, "x the better, best", "x the better, median")


def measure(size: str, pair: Pair, rounds: int, seconds: float) -> tuple[str, ...]:
    """One row of the table."""
    from lm.model.summary import parameter_count, parameter_shapes

    print(f"{size}:", flush=True)
    contestants = [Contestant(OURS, "our_side", "build", pair.ours)]
    contestants += [Contestant(name, "torch_peer", "build", pair.peer, name == COMPILED) for name in (EAGER, COMPILED)]
    try:
        for contestant in contestants:
            if problem := contestant.ready():
                raise UserError(f"{contestant.name} cannot run ({problem}): pip install torch transformers")
        rates = interleave(contestants, rounds, seconds)
    finally:
        for contestant in contestants:
            contestant.close()
    found = compare(rates, OURS)
    assert isinstance(found, Comparison)
    parameters = parameter_count(parameter_shapes(pair.ours.model))
    return (
        f"{size}" if pair.ours is pair.peer else f"{size} recipe, against a GPT-2",
        f"{parameters:,}",
        f"{pair.ours.batch_size} x {pair.ours.model.context_length}",
        *(best_and_median(rates[name]) for name in (OURS, EAGER, COMPILED)),
        f"{found.best:.2f}",
        f"{found.median:.2f}",
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
