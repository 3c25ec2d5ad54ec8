"""Checkpoints by Orbax: asynchronous, atomic, the last few and the best kept, a damaged one noticed and passed over.

Each holds the model, the optimizer's state and a JSON of everything else a run is (step, data position, checksum).
"""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding
from orbax.checkpoint import checkpoint_managers as managers

from data_pipeline.errors import UserError
from lm import processes
from lm.lora import LoraConfig, init_adapters, merged
from lm.sharding import path_name, tree_shardings

# What Orbax holds in memory of parameters that lie in mapped files: pieces of this size, and so much before it writes.
PIECE_BYTES, BUFFER_BYTES = 2**24, 2**26


class Checkpoints:
    """The checkpoints of one run, in `directory`."""

    def __init__(self, directory: Path, keep_last: int = 2) -> None:
        self.directory = directory.absolute()
        self.best_step: int | None = None  # kept however old it is
        policy = managers.AnyPreservationPolicy([managers.LatestN(keep_last), _KeepBest(self)])
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy, enable_async_checkpointing=True, create=True, cleanup_tmp_directories=True
            ),
        )

    def save(self, step: int, model: Any, optimizer: Any, run: dict[str, Any]) -> None:
        """Start to save; returns when the arrays are copied. `optimizer` may be None.

        Raises `UserError` when this or the last save failed.
        """
        state = {"model": model, "optimizer": optimizer}
        run = {**run, "step": step, "checksum": int(checksum(state))}
        items = {name: ocp.args.StandardSave(item) for name, item in state.items() if item is not None}
        try:
            self._manager.save(step, args=ocp.args.Composite(**items, run=ocp.args.JsonSave(run)))
            self._manager.check_for_errors()
        except Exception as error:  # Orbax and TensorStore raise many kinds for a full or broken disk
            raise self._save_error(error) from error

    def wait(self) -> None:
        """Return when everything is on disk. Raises `UserError` when a save failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._save_error(error) from error

    def restore(self, model: Any, optimizer: Any) -> tuple[Any, Any, dict[str, Any]] | None:
        """The newest checkpoint that can be read: model, optimizer state, run; None when there is no checkpoint.

        Both arguments are trees of `jax.ShapeDtypeStruct` with shardings. A damaged checkpoint is renamed to
        `damaged-STEP`, with a line that says so. Raises `UserError` when none can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            restored, reason = None, None
            try:
                restored = self._restore(step, model, optimizer)
            except Exception as error:
                if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                    raise  # no fault of the checkpoint's
                reason = _first_line(error)
            reason = processes.first_problem(reason)
            if reason is None:
                return restored
            damaged = processes.first_does(partial(self._set_aside, step))
            self._manager.reload()
            print(f"checkpoint {step} is damaged ({reason}); set aside as {damaged}", flush=True)
        if steps or any(self.directory.glob("damaged-*")):
            raise UserError(f"no checkpoint in {self.directory} can be read: choose another --workdir to start again")
        return None

    def _restore(self, step: int, model: Any, optimizer: Any) -> tuple[Any, Any, dict[str, Any]]:
        wanted = {"model": model, "optimizer": optimizer}
        items = {name: ocp.args.StandardRestore(item) for name, item in wanted.items() if item is not None}
        restored = self._manager.restore(step, args=ocp.args.Composite(**items, run=ocp.args.JsonRestore()))
        state = {name: restored[name] if name in items else None for name in wanted}
        if int(checksum(state)) != restored["run"]["checksum"]:
            raise ValueError("its checksum does not match")
        return state["model"], state["optimizer"], restored["run"]

    def _set_aside(self, step: int) -> Path:
        names = (self.directory / f"damaged-{step}{'-again' * times}" for times in itertools.count())
        damaged = next(path for path in names if not path.exists())
        (self.directory / str(step)).rename(damaged)
        return damaged

    def close(self) -> None:
        """Release Orbax's threads."""
        self._manager.close()

    def _save_error(self, error: Exception) -> UserError:
        whole = self._manager.all_steps(read=True)
        last = f"the last good one is step {max(whole)}" if whole else "there is no earlier one"
        return UserError(
            f"a checkpoint could not be saved in {self.directory} ({_first_line(error)}); {last}. "
            "Make room or mend the disk, then run the same command again"
        )


class _KeepBest:
    """Orbax's preservation policy for the checkpoint with the lowest validation loss."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:  # noqa: ARG002
        return [checkpoint.step == self.checkpoints.best_step for checkpoint in checkpoints]


def restore_model(directory: Path, model: Any, step: int | None = None) -> tuple[Any, int]:
    """Only the parameters, of `step` (None: the newest), and that step. `model` gives shapes and shardings.

    Raises `UserError` when there is no such checkpoint or it cannot be read.
    """
    step = find_step(directory, step)
    with ocp.CheckpointManager(directory.absolute()) as manager:
        try:
            return manager.restore(step, args=ocp.args.Composite(model=ocp.args.StandardRestore(model)))["model"], step
        except Exception as error:
            raise UserError(f"checkpoint {step} in {directory} cannot be read ({_first_line(error)})") from error


def restore_merged(directory: Path, model: Any, lora: LoraConfig, step: int | None = None) -> tuple[Any, int]:
    """As `restore_model`, of a run that may have trained adapters: then its base (beside `directory`) with those in it."""
    if not lora.rank:
        return restore_model(directory, model, step)
    shapes = jax.eval_shape(partial(init_adapters, config=lora), jax.random.key(0), model)
    lies = jax.tree.leaves(model)[0].sharding
    on_mesh = isinstance(lies, NamedSharding) and isinstance(lies.mesh, Mesh)
    shardings = tree_shardings(lies.mesh, shapes) if on_mesh else jax.tree.map(lambda _: lies, shapes)
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    adapters, step = restore_model(directory, abstract, step)
    base, _ = restore_model(base_of(directory), model)
    return jax.jit(merged, donate_argnums=0)(base, adapters), step


def base_of(directory: Path) -> Path:
    """Where a run keeps the model that its adapters in `directory` belong to."""
    return directory.with_name("base")


def save_base(directory: Path, model: Any) -> None:
    """Keep the model that adapters will belong to; what a killed attempt left is replaced. Raises `UserError` as `save` does."""
    processes.first_does(partial(shutil.rmtree, base_of(directory), ignore_errors=True))
    base = Checkpoints(base_of(directory))
    base.save(0, model, None, {})
    base.wait()
    base.close()


def load_base(directory: Path, model: Any) -> Any:
    """What `save_base` kept. Raises `UserError` when it is gone or damaged."""
    base = Checkpoints(base_of(directory))
    restored = base.restore(model, None)
    base.close()
    if restored is None:
        raise UserError(
            f"{base.directory} is gone, which the adapters belong to: put it back, or choose another --workdir"
        )
    return restored[0]


def find_step(directory: Path, step: int | None) -> int:
    """`step`, or if it is None that of the newest checkpoint. Raises `UserError` when there is no such checkpoint."""
    if not directory.is_dir():
        raise UserError(f"no checkpoints in {directory}: train first, or give another --workdir")
    with ocp.CheckpointManager(directory.absolute()) as manager:
        steps = sorted(manager.all_steps())
    if not steps or (step is not None and step not in steps):
        raise UserError(f"no checkpoint {'' if step is None else step} in {directory}: there are {steps or 'none'}")
    return steps[-1] if step is None else step


def save_parameters(directory: Path, model: Any) -> None:
    """A checkpoint of step 0 with nothing but parameters, whose arrays are NumPy's and may be mapped files.

    On a CPU, JAX takes mapped arrays as they are, and Orbax writes them piece by piece: neither holds the model in memory.
    """
    cpu = jax.devices("cpu")[0]
    arrays = jax.tree.map(lambda x: jax.device_put(x, cpu), model)
    pieces = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=PIECE_BYTES), arrays)
    save = ocp.args.PyTreeSave(arrays, save_args=pieces, ocdbt_target_data_file_size=BUFFER_BYTES)
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False, create=True)
    largest = max(x.nbytes for x in jax.tree.leaves(arrays))  # under way at a time; Orbax takes no fewer
    handler = ocp.PyTreeCheckpointHandler(save_concurrent_gb=(largest + 1) / 1e9)
    with ocp.CheckpointManager(directory.absolute(), options=options, item_handlers={"model": handler}) as manager:
        manager.save(0, args=ocp.args.Composite(model=save))


def read_parameters(
    directory: Path, model: Any, step: int | None = None
) -> tuple[Iterator[tuple[str, np.ndarray]], int]:
    """The parameters of `step` (None: the newest) one by one, each with its dotted path, and that step.

    `model` gives shapes and dtypes. Raises `UserError` as `restore_model` does.
    """
    step = find_step(directory, step)
    leaves, structure = jax.tree_util.tree_flatten_with_path(model)
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)

    def read() -> Iterator[tuple[str, np.ndarray]]:
        with ocp.CheckpointManager(directory.absolute()) as manager:
            for number, (path, leaf) in enumerate(leaves):
                one = [ocp.PLACEHOLDER] * len(leaves)
                one[number] = leaf
                wanted = jax.tree.unflatten(structure, one)
                asked = ocp.args.PyTreeRestore(wanted, restore_args=jax.tree.map(lambda _: as_numpy, wanted))
                try:
                    restored = manager.restore(step, args=ocp.args.Composite(model=asked))["model"]
                except Exception as error:
                    raise UserError(
                        f"checkpoint {step} in {directory} cannot be read ({_first_line(error)})"
                    ) from error
                kept = [jax.tree.leaves(restored)[number]]
                del restored  # so that only the caller has it, and may let it go before the next is read
                yield path_name(path), kept.pop()

    return read(), step


@jax.jit
def checksum(tree: Any) -> jax.Array:
    """A uint32 that changes with any flipped bit; independent of how the arrays are sharded.

    Each array's 32-bit words are added up modulo 2^32 (integer sums have no order), then mixed leaf by leaf.
    """
    total = jnp.uint32(0)
    for leaf in jax.tree.leaves(tree):
        bits = jax.lax.bitcast_convert_type(leaf, jnp.uint16 if leaf.dtype.itemsize == 2 else jnp.uint32)
        total = total * jnp.uint32(1_000_003) + jnp.sum(bits.astype(jnp.uint32), dtype=jnp.uint32)
    return total


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
