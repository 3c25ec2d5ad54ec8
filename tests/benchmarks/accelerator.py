"""Training speed, MFU and peak memory on a GPU, against the same model in PyTorch, in the same run.

    python tests/benchmarks/accelerator.py
    python tests/benchmarks/accelerator.py --models=llama3-1b --rows=8 --remat=dots
    python tests/benchmarks/accelerator.py --tiny      the same code at toy shapes, on a CPU too: does it work?

gpt2-124m on rows of 1,024 tokens and llama3-1b on rows of 2,048; parameters and AdamW in float32, arithmetic in bfloat16 on
both sides. Ours is the real step fed by the real loader, attention by cuDNN. The peer is `transformers` under
`torch.compile`, with PyTorch's flash attention and fused AdamW (see torch_peer.py). One GPU; the two sides are processes
that hold their memory at the same time: lower --rows where they do not fit together. Without PyTorch only our side is
measured, and the table says so. `--trace=DIR` also writes a profile of three of our steps, for Perfetto or TensorBoard. Takes
about 6 minutes, most of it compiling.
"""

import re
import statistics
import subprocess
from dataclasses import replace

from absl import flags
from side_by_side import Contestant, Work, best_and_median, compare, interleave, markdown

from data_pipeline.errors import UserError
from launch import cli
from lm import flops
from lm.experiment import Experiment
from lm.model.config import ModelConfig
from lm.model.presets import preset
from lm.optimizer import OptimizerConfig

OURS, PEER = "Trivium", "torch.compile"
SHAPES = {"gpt2-124m": (32, 1024), "llama3-1b": (8, 2048)}  # rows and tokens of a batch
REMAT = {"gpt2-124m": "none", "llama3-1b": "none"}


def define_flags() -> None:
    """The flags of this benchmark."""
    flags.DEFINE_list("models", list(SHAPES), f"Which of {', '.join(SHAPES)}.")
    flags.DEFINE_integer("rounds", 5, "Turns that each side has.", lower_bound=1)
    flags.DEFINE_float("seconds", 8.0, "Seconds of a turn, at least; whole steps.", lower_bound=0.0)
    flags.DEFINE_integer("rows", 0, "Rows of a batch on both sides; 0: each model's own.", lower_bound=0)
    flags.DEFINE_enum("remat", None, ["none", "dots", "block"], "Ours: what the backward pass computes again.")
    flags.DEFINE_enum("layer_loop", None, ["scan", "unrolled"], "Ours: how the layers are run.")
    flags.DEFINE_string("trace", None, "Where to write a profile of three of our steps.")
    flags.DEFINE_bool("tiny", False, "Toy shapes, to see that it works.")


def experiment(name: str, rows: int, tiny: bool) -> Experiment:
    """The run of a model on the benchmark's shape, or of a toy with all its switches."""
    default_rows, length = SHAPES[name]
    model = replace(preset(name), context_length=length, remat=REMAT[name])
    if tiny:
        default_rows, model = 2, toy(model)
    return Experiment(batch_size=rows or default_rows, model=model, optimizer=OptimizerConfig(learning_rate=1e-4))


def toy(model: ModelConfig) -> ModelConfig:
    """A model with the same switches, two layers of width 64."""
    kv_heads = 4 if model.kv_heads == model.heads else 2
    return replace(
        model, vocab_size=512, context_length=64, layers=2, width=64, heads=4, kv_heads=kv_heads, mlp_width=128
    )


def ours(config: Experiment, trace: str | None) -> Work:
    """Our steps; with `trace`, a profile of three of them first."""
    import jax
    from our_side import build

    work = build(config)
    if trace:
        for _ in range(3):  # compiled, and warm
            work.step()
        work.finish()
        with jax.profiler.trace(trace):
            for _ in range(3):
                work.step()
            work.finish()
    return work


def main(_: list[str]) -> None:
    """Measure every model, then print the table."""
    options = flags.FLAGS
    if unknown := [name for name in options.models if name not in SHAPES]:
        raise UserError(f"--models={unknown[0]} is not known: choose of {', '.join(SHAPES)}")
    device = "cpu" if options.tiny and not has_gpu() else "cuda"
    if device == "cuda" and not has_gpu():
        raise UserError("there is no NVIDIA GPU here: --tiny runs toy shapes on the CPU, to see that it works")
    minutes = len(options.models) * (2 * options.rounds * (options.seconds + 1) + 90) / 60
    print(f"{', '.join(options.models)} on {device}: about {minutes:.0f} minutes", flush=True)
    rows = []
    for name in options.models:
        config = experiment(name, options.rows, options.tiny)
        changes = {key: getattr(options, key) for key in ("remat", "layer_loop") if getattr(options, key)}
        mine = replace(config, model=replace(config.model, **changes))
        rows += measure(name, mine, config, device, options.rounds, options.seconds, options.trace)
    print()
    print(markdown(("training in bfloat16", "rows x T", "tokens/s, best (median)", "MFU", "peak GiB", "x peer"), rows))


def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU, asked without starting any framework."""
    try:
        return subprocess.run(["nvidia-smi", "-L"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def measure(
    name: str, mine: Experiment, theirs: Experiment, device: str, rounds: int, seconds: float, trace: str | None
) -> list[tuple[str, ...]]:
    """The rows of the table for one model: ours, and the peer's where there is one."""
    print(f"{name}:", flush=True)
    # Both sides hold memory at the same time, so ours must not take three quarters of it beforehand.
    alone = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    contestants = [
        Contestant(OURS, "accelerator", "ours", mine, trace, environment=alone),
        Contestant(PEER, "torch_peer", "build", theirs, True, device),
    ]
    taking_part = []
    try:
        for contestant in contestants:
            problem = contestant.ready()
            if problem is None:
                taking_part.append(contestant)
            elif contestant.name == OURS:
                raise UserError(f"our side cannot run: {problem}")
            else:
                print(f"  WARNING: NO PEER ({problem}): pip install torch transformers to compare", flush=True)
        rates = interleave(taking_part, rounds, seconds)
        facts = {contestant.name: contestant.facts() for contestant in taking_part}
    finally:
        for contestant in contestants:
            contestant.close()
    found = compare(rates, OURS)
    peak = peak_of(facts[OURS]["device"])
    return [
        (
            f"{name}, {side}",
            f"{theirs.batch_size} x {theirs.model.context_length}",
            best_and_median(values),
            f"{100 * mfu(theirs.model, statistics.median(values), peak):.1f}%" if peak else "-",
            f"{facts[side]['peak_bytes'] / 2**30:.1f}" if facts[side]["peak_bytes"] else "-",
            f"{found.median:.2f}" if found and side == OURS else "",
        )
        for side, values in rates.items()
    ]


def peak_of(kind: str) -> float | None:
    """bf16 FLOP/s of a device by its kind, None where no data sheet says."""
    return next((peak for name, peak in flops.PEAK_FLOPS.items() if re.match(rf"{name}\b", kind)), None)


def mfu(model: ModelConfig, tokens_per_second: float, peak: float) -> float:
    """The share of `peak` FLOP/s that training at this speed comes to (arXiv 2204.02311)."""
    return tokens_per_second * flops.train_flops_per_token(model, model.context_length) / peak


if __name__ == "__main__":
    define_flags()
    cli.run(main)
