"""Seconds from the start of `launch.train` to its first step: with nothing compiled before, and the second time.

    python tests/benchmarks/startup.py

The data is prepared beforehand. Each round empties the folder of compiled programs, starts the tiny recipe in a new folder
and waits for the line of its first step, then does the same again with what the first one compiled. Takes about 3 minutes
on two CPU cores; wait until nothing else runs.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags
from side_by_side import ROOT, markdown

from data_pipeline.errors import UserError
from launch import cli

FIRST_STEP = "step "  # what the line of a step begins with


def define_flags() -> None:
    """The flags of this benchmark."""
    flags.DEFINE_integer("rounds", 3, "First and second starts, each.", lower_bound=1)
    flags.DEFINE_string("experiment", "experiments/pretrain/tiny.py", "What is started.")


def main(_: list[str]) -> None:
    """Prepare the data, time the starts in turns, print the table."""
    rounds, experiment = flags.FLAGS.rounds, flags.FLAGS.experiment
    print(f"{rounds} rounds of two starts of {experiment}, about {rounds} minutes; keep the machine quiet", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        print("preparing the data, untimed", flush=True)
        seconds_to_first_step(experiment, Path(folder) / "prepare", cache)
        first, second = [], []
        for number in range(rounds):
            shutil.rmtree(cache / "compiled", ignore_errors=True)
            for times, name in ((first, "first"), (second, "second")):
                times.append(seconds_to_first_step(experiment, Path(folder) / f"{name}-{number}", cache))
                print(f"  round {number + 1}/{rounds}: {name} start {times[-1]:.1f} s", flush=True)
        imports = [seconds_to_import() for _ in range(rounds)]
    print()
    ratio = statistics.median(second) / statistics.median(first)
    rows = [
        ("first start", *summary(first), ""),
        ("second start", *summary(second), f"{ratio:.2f} of the first"),
        ("of which importing", *summary(imports), ""),
    ]
    print(markdown(("to the first step's line", "best", "median", ""), rows))


def summary(times: list[float]) -> tuple[str, str]:
    """Best and median, in seconds."""
    return f"{min(times):.1f} s", f"{statistics.median(times):.1f} s"


def seconds_to_first_step(experiment: str, workdir: Path, cache: Path) -> float:
    """Start a run, wait for the line of its first step, and kill it. Raises `UserError` when it ends before."""
    arguments = [f"--config={experiment}", f"--workdir={workdir}", f"--cache={cache}"]
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "launch.train", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if line.startswith(FIRST_STEP):
                return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()
    raise UserError(f"{experiment} ended before its first step: {''.join(output[-3:])}")


def seconds_to_import() -> float:
    """What Python needs to import the loop and its stage, without doing anything."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import launch.train, lm.train, lm.pretraining"], cwd=ROOT, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    define_flags()
    cli.run(main)
