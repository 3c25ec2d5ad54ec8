"""Trivium's side of the benchmarks: the real step, jitted as the loop jits it, fed by the real loader."""

from functools import partial
from typing import Any

import numpy as np
from side_by_side import Work

from data_pipeline.packing import Record
from lm.experiment import Experiment


class RandomDocuments:
    """Documents of random tokens in memory, 20 tokens to two rows long."""

    def __init__(self, vocab_size: int, row_length: int, total: int, seed: int = 0):
        chance = np.random.default_rng(seed)
        lengths = chance.integers(20, 2 * row_length, 2 + total // row_length)
        self.lengths = lengths.astype(np.int32)
        self._ends = np.cumsum(lengths)
        self._tokens = chance.integers(0, vocab_size, self._ends[-1], np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Record:
        end = self._ends[index]
        tokens = self._tokens[end - self.lengths[index] : end]
        return Record(f"random:{index}", tokens, np.ones(len(tokens), np.bool_))


class Training:
    """A run of an experiment on one device, without what surrounds the steps (lines, files, evaluation)."""

    def __init__(self, config: Experiment):
        import jax

        from data_pipeline.loader import PackedSource
        from lm import sharding
        from lm.objectives.next_token import next_token
        from lm.optimizer import make_optimizer
        from lm.train import abstract_state, init_state, train_step

        self.config = config
        self.mesh = sharding.make_mesh(config.mesh, jax.devices()[:1])
        jax.set_mesh(self.mesh)
        optimizer = make_optimizer(config.optimizer, config.steps)
        self.abstract = abstract_state(config, optimizer, self.mesh)
        shardings = jax.tree.map(lambda x: x.sharding, self.abstract)
        init = partial(init_state, config=config, optimizer=optimizer)
        self.state = jax.jit(init, out_shardings=shardings)(jax.random.key(config.seed))
        objective = partial(next_token, config=config.objective)
        self._step = jax.jit(
            partial(train_step, objective=objective, optimizer=optimizer, accumulate=config.accumulate),
            donate_argnums=0,
            out_shardings=(shardings, None),
        )
        length, rows = config.model.context_length, config.batch_size
        documents = RandomDocuments(config.model.vocab_size, length, total=64 * rows * length)
        self._source = PackedSource(
            [documents], ["random"], None, row_length=length, batch_size=rows, seed=config.seed, packing="split"
        )
        self._pending: dict[str, Any] = {}

    def step(self) -> None:
        """Load a batch, put it on the device, dispatch the step, then read the numbers of the step before."""
        from lm.held_out import HOST_ONLY
        from lm.sharding import put_batch

        batch = {name: x for name, x in self._source.next().items() if name not in HOST_ONLY}
        before = self._pending
        self.state, self._pending = self._step(self.state, put_batch(self.mesh, batch, self.config.batch_size))
        self._read(before)

    def finish(self) -> None:
        """Wait for the last step."""
        self._read(self._pending)
        self._pending = {}

    def _read(self, metrics: dict[str, Any]) -> None:
        import jax

        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not all(np.isfinite(value) for value in values.values()):
            raise FloatingPointError(f"not finite: {values}")


def build(config: Experiment) -> Work:
    """Steps of an experiment."""
    import jax

    training = Training(config)

    def facts() -> dict[str, Any]:
        device = jax.devices()[0]
        statistics = device.memory_stats() or {}
        return {"device": device.device_kind, "peak_bytes": statistics.get("peak_bytes_in_use")}

    return Work(training.step, training.finish, config.batch_size * config.model.context_length, facts)
