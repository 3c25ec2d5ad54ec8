"""Joining the processes of a run, and leaving them when one is lost.

On Slurm (`srun`), on TPU VMs, on GKE and under mpirun each process finds the others by itself. Elsewhere, start each one with
--coordinator=HOST:PORT (of process 0), --processes=N and --process=I.
"""

import ctypes
import faulthandler
import importlib.util
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from absl import flags

from data_pipeline.errors import UserError
from launch import cli

# What a scheduler reads as "try again" (EX_TEMPFAIL of sysexits.h): this process did nothing wrong.
LOST = 75
# Seconds after which a process that no longer answers counts as lost. A closed connection is noticed at once.
HEARTBEAT = 60


def define_flags() -> None:
    """The flags that describe a cluster which nothing else describes."""
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where this cluster is not found by itself.")
    flags.DEFINE_integer("processes", None, "How many processes train together; with --coordinator.")
    flags.DEFINE_integer("process", None, "Which of them this is, from 0; with --coordinator.")


def detect(environment: Mapping[str, str]) -> str | None:
    """JAX's name for the kind of cluster that this process was started in; None if it was started alone."""
    step = {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= environment.keys()
    if step and int(environment.get("SLURM_NTASKS", "1")) > 1:
        return "slurm"
    if int(environment.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        return "ompi"
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
    if "," in hosts or "MEGASCALE_COORDINATOR_ADDRESS" in environment:
        return "gketpu"
    return None


def on_tpu_vm() -> bool:
    """Whether this is a TPU VM, whose neighbours only Google's metadata server knows."""
    chips = Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    return chips and importlib.util.find_spec("libtpu") is not None and "TPU_SKIP_MDS_QUERY" not in os.environ


def join() -> None:
    """Join the other processes of this run, if there are any; from then on only the first one speaks on stdout.

    Raises `UserError` when the flags contradict each other or the others cannot be reached.
    """
    import jax

    given = {name: getattr(flags.FLAGS, name) for name in ("coordinator", "processes", "process")}
    if any(value is not None for value in given.values()):
        missing = [name for name, value in given.items() if value is None]
        if missing:
            raise UserError(f"--{missing[0]} is missing: --coordinator, --processes and --process belong together")
        if not 0 <= given["process"] < given["processes"]:
            raise UserError(
                f"--process={given['process']}: must be at least 0 and below --processes={given['processes']}"
            )
        if not given["coordinator"].rpartition(":")[2].isdigit():
            raise UserError(f"--coordinator={given['coordinator']}: write HOST:PORT")
        where = {
            "coordinator_address": given["coordinator"],
            "num_processes": given["processes"],
            "process_id": given["process"],
            "cluster_detection_method": "deactivate",
        }
    else:
        method = detect(os.environ) or ("gcetpu" if on_tpu_vm() else None)
        if method is None:
            return
        where = {"cluster_detection_method": method}
    try:
        jax.distributed.initialize(**where, initialization_timeout=300, heartbeat_timeout_seconds=HEARTBEAT)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise UserError(
            f"the other processes of this run cannot be joined ({reason}): check that all were started, and "
            "that --coordinator (or the scheduler's first node) can be reached from here"
        ) from None
    if jax.process_count() > 1:
        tell_aborts()
        print(f"process {jax.process_index() + 1} of {jax.process_count()}: joined", file=sys.stderr, flush=True)
        if jax.process_index():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell_aborts() -> None:
    """End in our own words when JAX aborts, which it does where the first process of a run is lost.

    Its coordination client then calls C's abort on a thread of its own, after some lines of its own. Python's handlers run
    on the main thread only, so this one is given to C.
    """

    def aborted(_: int) -> None:
        tell_lost("the first process, or the way to it; JAX says more above")

    faulthandler.disable()  # absl switches it on: it would print the stack of every thread
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    _KEPT.append(handler)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)


_KEPT: list[object] = []  # what C holds a pointer to must not be collected


def tell_lost(reason: str) -> NoReturn:
    """Say that another process is gone, and end: nothing more can be computed without it."""
    print(
        f"error: another process of this run was lost ({' '.join(reason.split())[:200]}): see what it said, then start "
        "all processes again; the run goes on from its last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    os._exit(LOST)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """On an error in a run of several processes, tell it and end at once.

    Python's orderly exit would wait minutes for processes that are waiting for this one.
    """
    import jax

    try:
        yield
    except BaseException as error:
        if jax.process_count() == 1:
            raise
        sys.stdout.flush()
        # Most arrive as JaxRuntimeError; some of JAX's dispatch paths raise ValueError with the collective's message.
        if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
            tell_lost(str(error))
        if isinstance(error, UserError | OSError):
            reason = cli.describe_os_error(error) if isinstance(error, OSError) else str(error)
            print(f"error: process {jax.process_index() + 1} of {jax.process_count()}: {reason}", file=sys.stderr)
            code = 2
        else:
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        os._exit(code)
