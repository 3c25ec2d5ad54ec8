"""What checkpoints cost: extra time of training at the usual cadence, and seconds to save and to restore.

    python tests/benchmarks/checkpointing.py
    python tests/benchmarks/checkpointing.py --sizes=tiny,5m --pairs=3

Windows of steps with a save at their start (what is left of it at the end is waited for) take turns with windows of as many
steps without one. The difference is what a save costs, slowed steps included; over the time between two saves it is the
share of training time. tiny is the default recipe with its cadence; 5m is a GPT-2 with a save every 200 steps, the default
of an experiment; 124m is GPT-2 124M with its recipe's 1,000 steps, on steps much shorter than its own (4 rows of 256 tokens,
not 512 of 1,024), so that its share is an upper bound. The state is also saved and read by torch.save and torch.load, for
comparison, in a process of its own. Takes about 12 minutes on two CPU cores; wait until nothing else runs.
"""

import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from absl import flags
from side_by_side import markdown
from training import pairs

from data_pipeline.errors import UserError
from experiments.pretrain import gpt2
from launch import cli, huge_pages
from lm.experiment import CheckpointConfig, Experiment
from lm.metrics import announced

SIZES = ("tiny", "5m", "124m")


def define_flags() -> None:
    """The flags of this benchmark."""
    flags.DEFINE_list("sizes", list(SIZES), f"Which of {', '.join(SIZES)}.")
    flags.DEFINE_integer("pairs", 6, "Windows with a save and without one, each.", lower_bound=1)
    flags.DEFINE_float("seconds", 10.0, "Seconds of a window, about; at least three steps.", lower_bound=0.0)
    flags.DEFINE_string("folder", None, "Where checkpoints are written; a temporary folder by default.")


def cadence(size: str) -> int:
    """Steps between two saves in the recipe of this size."""
    recipes = {"tiny": pairs()["tiny"].ours.checkpoint, "5m": CheckpointConfig(), "124m": gpt2.get_config().checkpoint}
    return recipes[size].every


def main(_: list[str]) -> None:
    """Measure every size in a process of its own, then print the tables."""
    sizes, count, seconds = flags.FLAGS.sizes, flags.FLAGS.pairs, flags.FLAGS.seconds
    if unknown := [size for size in sizes if size not in SIZES]:
        raise UserError(f"--sizes={unknown[0]} is not known: choose of {', '.join(SIZES)}")
    print(f"{', '.join(sizes)}: {count} pairs of windows of about {seconds:g} s; keep the machine quiet", flush=True)
    costs, speeds = [], []
    with tempfile.TemporaryDirectory(dir=flags.FLAGS.folder) as folder:
        for size in sizes:
            found = in_own_process(measure, size, pairs()[size].ours, Path(folder) / size, count, seconds)
            with announced(f"  {size}: torch.save and torch.load"):
                peer = in_own_process(torch_seconds, Path(folder) / f"{size}.pt", found["bytes"])
            costs.append(cost_row(size, cadence(size), found))
            speeds.append(speed_row(size, found, peer))
    print()
    print(
        markdown(("cost of saving", "saved every", "step", "a save takes", "of it blocking", "of training time"), costs)
    )
    print()
    print(markdown(("seconds a GB, best", "state GB", "save", "restore, checked", "torch.save", "torch.load"), speeds))


def in_own_process(function: Any, *arguments: Any) -> Any:
    """The result of a function that runs in a fresh process, so that the frameworks never share one."""
    huge_pages.ask_for_children()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(size: str, config: Experiment, folder: Path, count: int, seconds: float) -> dict[str, Any]:
    """Windows in turns, then saves and restores with nothing else going on. Times in seconds."""
    import jax
    from our_side import Training

    from lm.checkpoint import Checkpoints

    with announced(f"  {size}: building and compiling"):
        training = Training(config)
        for _ in range(2):
            training.step()
        training.finish()
        start = time.perf_counter()
        for _ in range(3):
            training.step()
        training.finish()
        steps = max(3, round(seconds / ((time.perf_counter() - start) / 3)))
    checkpoints, saves = Checkpoints(folder), 0

    def save() -> float:
        nonlocal saves
        saves += 1
        before = time.perf_counter()
        checkpoints.save(saves, training.state.model, training.state.optimizer, {})
        return time.perf_counter() - before

    def window(with_save: bool) -> tuple[float, float]:
        before = time.perf_counter()
        blocking = save() if with_save else 0.0
        for _ in range(steps):
            training.step()
        training.finish()
        if with_save:
            checkpoints.wait()
        return time.perf_counter() - before, blocking

    with announced(f"  {size}: a first save"):  # compiles the checksum and starts threads
        window(with_save=True)
    without, with_one, blocking = [], [], []
    for number in range(count):
        for with_save in (True, False) if number % 2 else (False, True):
            with announced(f"  {size} window {'with' if with_save else 'without'} a save, {steps} steps"):
                took, blocked = window(with_save)
            (with_one if with_save else without).append(took)
            blocking += [blocked] * with_save
        print(
            f"  {size} pair {number + 1}/{count}: {without[-1]:.2f} s without, {with_one[-1]:.2f} s with a save",
            flush=True,
        )

    alone, restores = [], []
    with announced(f"  {size}: saving and restoring alone"):
        for _ in range(3):
            before = time.perf_counter()
            save()
            checkpoints.wait()
            alone.append(time.perf_counter() - before)
            before = time.perf_counter()
            restored = checkpoints.restore(training.abstract.model, training.abstract.optimizer)
            jax.block_until_ready(restored[:2] if restored else None)
            restores.append(time.perf_counter() - before)
    checkpoints.close()
    return {
        "step": statistics.median(without) / steps,
        "extra": [a - b for a, b in zip(with_one, without, strict=True)],
        "blocking": statistics.median(blocking),
        "save": min(alone),
        "restore": min(restores),
        "bytes": sum(x.nbytes for x in jax.tree.leaves(training.state)),
    }


def torch_seconds(path: Path, size: int) -> tuple[float, float] | None:
    """The best of three of torch.save and of torch.load for so many bytes; None without PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    # As many bytes in thirty arrays, about as many as a model with its optimizer has here.
    state = {str(i): torch.randn(size // 30 // 4) for i in range(30)}
    saves, loads = [], []
    for _ in range(3):
        before = time.perf_counter()
        torch.save(state, path)
        saves.append(time.perf_counter() - before)
        before = time.perf_counter()
        torch.load(path)
        loads.append(time.perf_counter() - before)
    path.unlink()
    return min(saves), min(loads)


def share(extra: list[float], every: int, step: float) -> list[float]:
    """What part of training time each save's extra seconds are, at a save every so many steps of so many seconds."""
    return [seconds / (every * step + seconds) for seconds in extra]


def cost_row(size: str, every: int, found: dict[str, Any]) -> tuple[str, ...]:
    """One row of the first table."""
    shares = share(found["extra"], every, found["step"])
    return (
        size,
        f"{every:,} steps",
        f"{found['step']:.3f} s",
        f"{statistics.median(found['extra']):.2f} s",
        f"{found['blocking']:.3f} s",
        f"{100 * statistics.median(shares):.2f}% ({100 * min(shares):.2f} to {100 * max(shares):.2f})",
    )


def speed_row(size: str, found: dict[str, Any], peer: tuple[float, float] | None) -> tuple[str, ...]:
    """One row of the second table."""
    gigabytes = found["bytes"] / 1e9
    times = [found["save"], found["restore"], *(peer or ())]
    return (size, f"{gigabytes:.3f}", *(f"{seconds / gigabytes:.2f}" for seconds in times), *(["-"] * (4 - len(times))))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
