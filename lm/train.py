"""The one training loop. Pretraining, finetuning, reward models and RL differ only in the `Stage` they hand it."""

import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_pipeline.errors import UserError
from lm import flops, processes, sharding
from lm.checkpoint import Checkpoints, load_base, restore_merged, save_base
from lm.experiment import Experiment
from lm.lora import init_adapters, merged
from lm.metrics import MetricWriter, announced
from lm.model.config import ModelConfig
from lm.model.transformer import Transformer
from lm.new_tokens import with_new_tokens
from lm.optimizer import make_optimizer, make_schedule
from lm.profiler import Profile
from lm.stage import HostBatch, Metrics, Objective, Stage


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything a step changes. Random numbers come from the seed and the step, so there is no key to keep."""

    model: Any  # what is trained: a Transformer, or the adapters of `base`
    optimizer: Any
    base: Transformer | None = None  # the frozen model that adapters belong to


class Interrupted(Exception):
    """The run was asked to stop (SIGTERM or Ctrl-C) and has saved itself. `signum` says by what."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(signum).name} after step {step}; run the same command again to go on"
        )
        self.signum = signum


def train_step(
    state: TrainState,
    batch: dict[str, jax.Array],
    *,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    accumulate: int = 1,
) -> tuple[TrainState, Metrics]:
    """One update: the gradient of the objective over the batch, through the optimizer.

    Arrays of the batch have B rows; they are taken B / `accumulate` at a time. Metrics are scalars float32: `loss`, those
    of the objective, and `gradient_norm`. Pure; jit it with the state donated.
    """
    gradient = jax.value_and_grad(lambda trained, piece: objective(merged(state.base, trained), piece), has_aux=True)

    def part(piece: dict[str, jax.Array]) -> tuple[Any, Metrics]:
        (loss, metrics), grads = gradient(state.model, piece)
        return grads, {"loss": loss, **metrics}

    if accumulate == 1:
        grads, metrics = part(batch)
    else:
        grads, metrics = accumulated(part, batch, accumulate)
    updates, optimizer_state = optimizer.update(grads, state.optimizer, state.model)
    model = optax.apply_updates(state.model, updates)
    return TrainState(model, optimizer_state, state.base), {**metrics, "gradient_norm": optax.tree.norm(grads)}


def accumulated(
    part: Callable[[dict[str, jax.Array]], tuple[Any, Metrics]], batch: dict[str, jax.Array], count: int
) -> tuple[Any, Metrics]:
    """Gradients and metrics of `count` parts of the batch, each weighing what it was taken over: as if done at once."""
    # Rows are dealt out in turn (i, i + count, ...), so that each part lies on the mesh as the whole batch does.
    pieces = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0), batch)

    def add(total: Any, piece: dict[str, jax.Array]) -> tuple[Any, None]:
        piece = {name: sharding.constrain(x, "batch", *(None,) * (x.ndim - 1)) for name, x in piece.items()}
        grads, metrics = part(piece)
        weight = metrics["weight"]
        weighted = jax.tree.map(lambda x: x * weight, (grads, {**metrics, "weight": jnp.ones_like(weight)}))
        return jax.tree.map(jnp.add, total, weighted), None

    shapes = jax.eval_shape(part, jax.tree.map(lambda x: x[0], pieces))
    (grads, metrics), _ = jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), shapes), pieces)
    weight = metrics.pop("weight")
    grads, metrics = jax.tree.map(
        lambda total, like: (total / jnp.maximum(weight, 1.0)).astype(like.dtype),
        (grads, metrics),
        (shapes[0], {name: shape for name, shape in shapes[1].items() if name != "weight"}),
    )
    return grads, {**metrics, "weight": weight}


def check_fits(config: Experiment, mesh: Mesh) -> None:
    """Raise `UserError` when the batch, its parts or a parameter do not divide over the mesh."""
    sharding.batch_rows(mesh, config.batch_size)
    try:
        sharding.batch_rows(mesh, config.batch_size // config.accumulate)
    except UserError as error:
        raise UserError(
            f"{error} (batch_size is {config.batch_size}, taken in accumulate={config.accumulate} parts)"
        ) from None
    abstract_state(config, make_optimizer(config.optimizer, config.steps), mesh)


def abstract_state(config: Experiment, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state, before any array exists. Raises `UserError` if the mesh does not fit."""
    return _on_mesh(mesh, jax.eval_shape(partial(init_state, config=config, optimizer=optimizer), jax.random.key(0)))


def abstract_model(config: ModelConfig, mesh: Mesh) -> Transformer:
    """The same of a model alone."""
    return _on_mesh(mesh, jax.eval_shape(partial(Transformer, config=config), jax.random.key(0)))


def _on_mesh(mesh: Mesh, shapes: Any) -> Any:
    shardings = sharding.tree_shardings(mesh, shapes)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


def init_state(key: jax.Array, config: Experiment, optimizer: optax.GradientTransformation) -> TrainState:
    """Fresh parameters and optimizer state."""
    return begin_state(Transformer(key, config.model), config, optimizer)


def begin_state(model: Transformer, config: Experiment, optimizer: optax.GradientTransformation) -> TrainState:
    """The state in which training begins with these parameters."""
    if not config.lora.rank:
        return TrainState(model, optimizer.init(model))
    adapters = init_adapters(jax.random.key(config.seed), model, config.lora)
    return TrainState(adapters, optimizer.init(adapters), model)


def train(
    config: Experiment,
    stage: Stage,
    mesh: Mesh,
    workdir: Path,
    dollars_per_hour: float = 0.0,
    profile: Profile | None = None,
) -> Transformer:
    """Train for `config.steps` updates, from the newest checkpoint in `workdir` if there is one, and return the model.

    Raises `Interrupted` after SIGTERM or Ctrl-C, once the state is saved; `UserError` when the loss is not finite or a
    checkpoint cannot be written.
    """
    with jax.set_mesh(mesh), StopSignals() as stop:
        run = Run(config, stage, mesh, workdir, stop, dollars_per_hour, profile)
        try:
            while run.at < config.steps and not run.ended:
                run.advance()
                stopping = run.asked_to_stop if run.at < config.steps else 0
                run.after_step(bool(stopping))
                if stopping and not run.ended:
                    run.finish()
                    raise Interrupted(stopping, run.at)
            run.finish()
            return run.model
        finally:
            run.close()


@dataclass(frozen=True)
class _Step:
    """A step that is under way."""

    number: int
    metrics: Metrics
    batch: HostBatch
    rows: int  # of the batch, over all processes
    counted: dict[str, float]  # by the source
    vote: jax.Array | None


class Run:
    """A training run in progress: the state, how many steps it has made, and where its numbers go."""

    def __init__(
        self,
        config: Experiment,
        stage: Stage,
        mesh: Mesh,
        workdir: Path,
        stop: "StopSignals",
        dollars_per_hour: float,
        profile: Profile | None,
    ) -> None:
        self.config, self.stage, self.mesh, self._profile = config, stage, mesh, profile
        self._stop, self._vote, self._voted = stop, processes.Vote(mesh), 0
        optimizer = make_optimizer(config.optimizer, config.steps)
        self._schedule = make_schedule(config.optimizer, config.steps)
        abstract = abstract_state(config, optimizer, mesh)
        self.checkpoints = Checkpoints(workdir / "checkpoints", config.checkpoint.keep_last)
        self.at, self._seconds_before = 0, 0.0
        restored = self.checkpoints.restore(abstract.model, abstract.optimizer)
        shardings = jax.tree.map(lambda x: x.sharding, abstract)
        self.state: TrainState
        fresh = restored is None
        if restored is None and stage.start:
            theirs = abstract_model(stage.start.model, mesh)
            model, at = restore_merged(stage.start.checkpoints, theirs, stage.start.lora)
            renew = partial(with_new_tokens, config=config.model, new=stage.start.new_tokens)
            begin = partial(begin_state, config=config, optimizer=optimizer)
            self.state = jax.jit(lambda model: begin(renew(model)), out_shardings=shardings)(model)
            print(f"starting from {stage.start.checkpoints.parent} at step {at}", flush=True)
        elif restored is None:
            init = partial(init_state, config=config, optimizer=optimizer)
            self.state = jax.jit(init, out_shardings=shardings)(jax.random.key(config.seed))
        else:
            base = abstract.base and load_base(self.checkpoints.directory, abstract.base)
            self.state = TrainState(restored[0], restored[1], base)
            self.at, self._seconds_before = restored[2]["step"], restored[2]["seconds"]
            self.stage.source.set_state(restored[2]["source"])
            print(f"resuming after step {self.at} of {config.steps}", flush=True)
        if stage.remember_start:
            stage.remember_start(self._first_model(fresh, abstract))
        first = processes.is_first()  # the others write nothing
        self.writer = MetricWriter(workdir, self.at, config.steps, dollars_per_hour) if first else None
        evaluated, sampled, best, self._worse = processes.tell_all(self.writer and self._written(self.writer))
        self._best: tuple[float, int | None] = tuple(best) if best else (math.inf, None)
        self.checkpoints.best_step = self._best[1]

        step = partial(train_step, objective=stage.objective, optimizer=optimizer)
        scalar = NamedSharding(mesh, PartitionSpec())
        self._step = jax.jit(
            step,
            static_argnames="accumulate",
            donate_argnums=0,
            out_shardings=(jax.tree.map(lambda x: x.sharding, abstract), scalar),
        )
        self._merged = jax.jit(merged)
        mine = sharding.batch_rows(mesh, config.batch_size)
        self._shares = config.batch_size // (mine.stop - mine.start)  # of a batch; a process brings one
        self._flops_per_token = flops.train_flops_per_token(config.model, config.model.context_length)
        self._peak = flops.peak_flops(list(mesh.devices.flat))
        self._compiled: set[int] = set()  # for batches of so many rows
        self._pending: _Step | None = None
        self._started = self._last = time.monotonic()
        self._recent: deque[float] = deque(maxlen=50)  # seconds of the last steps, for the time left
        self.ended = ""  # why the run ends before its last step
        self._look_whether_to_end()
        if fresh and stage.start:  # from now on the other folder may change, or go
            if self.state.base is not None:
                save_base(self.checkpoints.directory, self.state.base)
            self.save()
            self.checkpoints.wait()
        if self.at or stage.looks_first:  # also what the run was killed before doing: what follows a save
            if self._due(self.config.evaluate.every) and not evaluated:
                self.evaluate()
            if self._samples_due() and not sampled:
                self.sample()

    def _first_model(self, fresh: bool, abstract: TrainState) -> Transformer:
        """A copy of the model that the run began with: `base/` keeps it for every restart."""
        # Copied, since the state's own arrays are given away with the first step.
        if self.state.base is not None:  # adapters begin by adding nothing
            return jax.tree.map(jnp.copy, self.state.base)
        if fresh:
            save_base(self.checkpoints.directory, self.state.model)
            return jax.tree.map(jnp.copy, self.state.model)
        return load_base(self.checkpoints.directory, abstract.model)

    def _written(self, writer: MetricWriter) -> tuple[bool, bool, tuple[float, int] | None, int]:
        """Whether this step was evaluated, whether it was sampled, the best evaluation so far, and how many came after it."""
        best = min(((record["loss"], record["step"]) for record in writer.evaluations.kept), default=None)
        worse = sum(best is not None and record["step"] > best[1] for record in writer.evaluations.kept)
        return self.at in writer.evaluations.steps, self.at in writer.samples.steps, best, worse

    def _look_whether_to_end(self) -> None:
        """Whether the stage has enough, or no evaluation was better for too long."""
        patience, why = self.config.evaluate.patience, self.stage.enough() if self.stage.enough else ""
        if patience and self._worse >= patience:
            why = f"none of the last {self._worse} evaluations was better than that at step {self._best[1]}"
        if why and not self.ended and self.at < self.config.steps:
            print(f"ending at step {self.at} of {self.config.steps}: {why}", flush=True)
        self.ended = self.ended or why

    @property
    def asked_to_stop(self) -> int:
        """The signal that asks this run to stop, 0 if none; the same in all processes, which vote with every step."""
        return (self._stop.signum or 0) if jax.process_count() == 1 else self._voted

    def _due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens after this one."""
        return self.at == self.config.steps or bool(self.ended) or (every > 0 and self.at % every == 0)

    def _samples_due(self) -> bool:
        return self._due(self.config.sample.every) or self.at == (0 if self.stage.looks_first else 1)

    def after_step(self, stopping: bool) -> None:
        """Save, evaluate, sample, as the experiment says; only save when the run is about to stop."""
        self._look_whether_to_end()
        stopping = stopping and not self.ended
        evaluates = self._due(self.config.evaluate.every)
        if evaluates or stopping or self._due(self.config.checkpoint.every):
            self.save()
        if evaluates and not stopping:
            self.evaluate()
            self._look_whether_to_end()
        if self._samples_due() and not stopping:
            self.sample()

    def advance(self) -> None:
        """Dispatch the next step, then report the one before it while the devices work."""
        if self._profile:
            self._profile.before(self.at + 1)
        batch = self.stage.source.next(lambda: self.model)
        counted = self.stage.numbers() if self.stage.numbers else {}
        arrays = {name: rows for name, rows in batch.items() if name not in self.stage.host_only}
        rows = len(next(iter(batch.values()))) * self._shares  # a multiple of batch_size
        on_mesh = sharding.put_batch(self.mesh, arrays, rows)
        with nullcontext() if rows in self._compiled else announced("compiling the training step"):
            self.state, metrics = self._step(
                self.state, on_mesh, accumulate=self.config.accumulate * rows // self.config.batch_size
            )
        vote = self._vote.cast(self._stop.signum or 0) if jax.process_count() > 1 else None
        self._compiled.add(rows)
        self.at += 1
        self.report()
        self._pending = _Step(self.at, metrics, batch, rows, counted, vote)
        if self._profile and self._profile.ends_with(self.at):
            self.report()
            print(f"  trace of steps {self._profile.first} to {self.at}: {self._profile.stop()}", flush=True)

    def report(self) -> None:
        """Wait for the step that is under way, check it and write its line."""
        if self._pending is None:
            return
        done, self._pending = self._pending, None
        self._voted = self._voted if done.vote is None else int(done.vote)
        values = {name: float(value) for name, value in jax.device_get(done.metrics).items()}
        step, tokens = done.number, done.rows * self.config.model.context_length
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        self._recent.append(seconds)
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values[name]):
                raise self._not_finite(step, name, values[name], done.batch)
        record = {
            "step": step,
            **values,
            **done.counted,
            "learning_rate": float(self._schedule(step - 1)),
            "tokens_per_second": tokens / seconds,
            "mfu": self._flops_per_token * tokens / seconds / self._peak,
            "seconds": self.seconds,
        }
        left = float(np.median(self._recent)) * (self.config.steps - step)
        if self.writer:
            self.writer.step(record, left, self.seconds)

    @property
    def model(self) -> Transformer:
        """The model as it is now."""
        return self.state.model if self.state.base is None else self._merged(self.state.base, self.state.model)

    @property
    def seconds(self) -> float:
        """Wall-clock time spent on this run, over all its restarts."""
        return self._seconds_before + time.monotonic() - self._started

    def save(self) -> None:
        """Save a checkpoint, once the step under way has been checked: nothing is saved after a bad loss or gradient."""
        self.report()
        run = {"source": self.stage.source.get_state(), "seconds": self.seconds}
        self.checkpoints.save(self.at, self.state.model, self.state.optimizer, run)

    def evaluate(self) -> None:
        """Measure on held-out data, and remember which checkpoint is the best."""
        if self.stage.evaluate is None:
            return
        metrics = self.stage.evaluate(self.model)
        is_best = metrics["loss"] < self._best[0]
        self._worse = 0 if is_best else self._worse + 1
        if is_best:
            self._best = (metrics["loss"], self.at)
            self.checkpoints.best_step = self.at
        if self.writer:
            self.writer.evaluation({"step": self.at, **metrics}, is_best)
        self._last = time.monotonic()  # evaluation is not part of the next step's time

    def sample(self) -> None:
        """Let the model write."""
        self.report()
        if self.stage.sample is not None:
            samples = self.stage.sample(self.model)
            if self.writer:
                self.writer.sample(self.at, samples)
        self._last = time.monotonic()

    def finish(self) -> None:
        """Wait until everything is reported and on disk."""
        self.report()
        self.checkpoints.wait()

    def close(self) -> None:
        """Release files and threads."""
        if self.writer:
            self.writer.close()
        self.checkpoints.close()
        if self.stage.close:
            self.stage.close()

    def _not_finite(self, step: int, name: str, value: float, batch: HostBatch) -> UserError:
        names = self.stage.source.describe(batch)
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        return UserError(
            f"{name} is {value} at step {step} (documents in the batch: {shown}). The last good checkpoint stays; "
            "look at those documents, or lower optimizer.learning_rate in another --workdir"
        )


class StopSignals:
    """While active, the first SIGTERM or Ctrl-C only sets `signum`, for the loop to save and stop; a second one kills."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._before[signum] = signal.signal(signum, self._handle)
        return self

    def _handle(self, signum: int, _: FrameType | None) -> None:
        self.signum = signum
        # Not print: the signal may have interrupted a print, and Python's files cannot be entered twice.
        os.write(1, f"{signal.Signals(signum).name}: saving after this step (again to stop at once)\n".encode())
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def __exit__(self, *_: object) -> None:
        self._restore()
