"""Our side of the optimizer tests: twenty real training steps, and how far off their result is."""

from functools import partial

import copying
import jax
import numpy as np

from lm.model.transformer import Transformer
from lm.objectives.next_token import NextTokenConfig, next_token
from lm.optimizer import OptimizerConfig, make_optimizer
from lm.train import TrainState, train_step

STEPS, B, T = 20, 4, 48
TOLERANCE = 1e-4  # relative: norm of the difference over the norm, of each parameter; and of each loss

objective = partial(next_token, config=NextTokenConfig())


def batches(vocab_size: int) -> list[dict[str, np.ndarray]]:
    """Text of which something can be learnt: each token is the one before plus 0, 1 or 2."""
    chance, made = np.random.default_rng(2), []
    for _ in range(STEPS):
        walk = np.cumsum(chance.integers(0, 3, (B, T + 1)), axis=1) + chance.integers(0, vocab_size, (B, 1))
        tokens = (walk % vocab_size).astype(np.int32)
        made.append(
            {
                "tokens": tokens[:, :-1],
                "labels": tokens[:, 1:],
                "positions": np.tile(np.arange(T, dtype=np.int32), (B, 1)),
                "segment_ids": np.ones((B, T), np.int32),
                "loss_mask": np.ones((B, T), bool),
            }
        )
    return made


def train_ours(model: Transformer, config: OptimizerConfig) -> tuple[dict[str, np.ndarray], list[float]]:
    """Parameters after the last step by dotted name, and the loss at each."""
    optimizer = make_optimizer(config, STEPS)
    step = jax.jit(partial(train_step, objective=objective, optimizer=optimizer))
    state, losses = TrainState(model, optimizer.init(model)), []
    for batch in batches(model.config.vocab_size):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return numpy_of(state.model), losses


def numpy_of(tree) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in copying.named(tree).items()}


def errors(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[str, float]:
    """Relative, of each parameter."""
    assert got.keys() == wanted.keys()
    return {name: float(np.linalg.norm(got[name] - x) / np.linalg.norm(x)) for name, x in wanted.items()}


def loss_error(got: list[float], wanted: list[float]) -> float:
    """The largest relative difference."""
    return float(np.max(np.abs(np.divide(got, wanted) - 1)))
