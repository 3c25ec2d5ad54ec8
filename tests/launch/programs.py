"""Runs our programs as a user does, in processes of their own, quickly.

Python's fork server imports the program once; every run is a fork of that, so a mistake in a flag costs milliseconds to
test and not the seconds that imports take. Nothing that a fork does touches JAX's devices in the server.
"""

import importlib
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from absl import flags

ROOT = Path(__file__).resolve().parents[2]
SMALL_MODEL = (
    "--config.model.vocab_size=512",
    "--config.model.layers=1",
    "--config.model.width=32",
    "--config.model.heads=2",
    "--config.model.kv_heads=2",
    "--config.model.mlp_width=64",
)

_context = multiprocessing.get_context("forkserver")
# Not the programs themselves: each defines its flags when it is imported.
_context.set_forkserver_preload(["lm.train", "launch.stages", "launch.workdir", "launch.cli", "matplotlib.pyplot"])


@dataclass
class Program:
    """A program that was started. `output` is what it printed so far, stdout and stderr together."""

    process: multiprocessing.Process
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait(self, timeout: float = 240) -> int:
        """Its exit code (negative: the signal that killed it)."""
        self.process.join(timeout)
        assert not self.process.is_alive(), f"still running after {timeout} s:\n{self.output[-2000:]}"
        return self.process.exitcode

    def kill(self, signum: int = signal.SIGKILL) -> None:
        os.kill(self.process.pid, signum)


def start(
    module: str, *arguments: str, log: Path, cwd: Path = ROOT, environment: dict[str, str] | None = None
) -> Program:
    """Start `python -m MODULE ARGUMENTS...` with its output in the file `log`, and `environment` besides its own."""
    process = _context.Process(target=_run, args=(module, arguments, str(log), str(cwd), environment or {}))
    process.start()
    return Program(process, log)


def run(
    module: str,
    *arguments: str,
    log: Path,
    cwd: Path = ROOT,
    timeout: float = 240,
    environment: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Exit code and output of `python -m MODULE ARGUMENTS...`."""
    program = start(module, *arguments, log=log, cwd=cwd, environment=environment)
    return program.wait(timeout), program.output


def _run(module: str, arguments: tuple[str, ...], log: str, cwd: str, environment: dict[str, str]) -> None:
    os.chdir(cwd)
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    sys.argv = [module, *arguments]
    import jax  # which the fork server has loaded with the environment of its own

    from launch import cli, config

    jax.config.update("jax_disable_most_optimizations", os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1")
    program = importlib.import_module(module)
    program.define_flags()
    cli.run(program.main, config.check_overrides if "config" in flags.FLAGS else None)
