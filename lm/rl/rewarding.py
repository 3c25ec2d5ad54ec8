"""Reward models at work: what they say of responses, several to a row, and of several models together."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from data_pipeline.packing import best_fit
from lm import sharding
from lm.model.transformer import Transformer
from lm.practice import RewardModelConfig
from lm.rl.batch import MULTIPLES
from lm.rl.rollout import Taste


@dataclass(frozen=True)
class RewardModel:
    """A model with a scalar head, and the mean and the standard deviation of what it says of ordinary responses."""

    model: Transformer
    mean: float = 0.0
    std: float = 1.0


@jax.jit
def _heads(model: Transformer, batch: dict[str, jax.Array]) -> jax.Array:
    hidden, _ = model.hidden(batch["tokens"], batch["positions"], batch["segment_ids"])
    s = model.scalars(jnp.take_along_axis(hidden, batch["ends"][..., None], axis=1))
    return sharding.constrain(s, None, None)


def rewards_of(model: RewardModel, sequences: Sequence[Sequence[int]], mesh: Mesh, batch_size: int) -> np.ndarray:
    """What it says of each sequence at its last token, in its standard deviations above its mean: float64 (N,).

    A sequence is a prompt with a response, to the end of the turn. They lie in a multiple of `batch_size` rows.
    """
    if not sequences:
        return np.zeros(0)
    row_length = max(model.model.config.context_length, *map(len, sequences))
    row_of = best_fit([len(each) for each in sequences], row_length)
    needed = -(-(max(row_of) + 1) // batch_size)
    times = next((times for times in MULTIPLES if times >= needed), needed)
    rows, slots = times * batch_size, row_length // min(map(len, sequences)) + 1
    slots = 1 << (slots - 1).bit_length()  # few sizes, since each is compiled
    batch = {name: np.zeros((rows, row_length), np.int32) for name in ("tokens", "positions", "segment_ids")}
    ends = np.zeros((rows, slots), np.int32)
    filled, count = np.zeros(rows, int), np.zeros(rows, int)
    place = []
    for tokens, row in zip(sequences, row_of, strict=True):
        here = np.s_[row, filled[row] : filled[row] + len(tokens)]
        batch["tokens"][here], batch["positions"][here] = tokens, np.arange(len(tokens))
        batch["segment_ids"][here] = count[row] + 1
        filled[row] += len(tokens)
        ends[row, count[row]] = filled[row] - 1
        place.append((row, count[row]))
        count[row] += 1
    mine = sharding.batch_rows(mesh, rows)
    arrays = {name: array[mine] for name, array in {**batch, "ends": ends}.items()}
    found = np.asarray(_heads(model.model, sharding.put_batch(mesh, arrays, rows)), np.float64)
    return (np.array([found[at] for at in place]) - model.mean) / model.std


def make_taste(models: Sequence[RewardModel], config: RewardModelConfig, mesh: Mesh, batch_size: int) -> Taste:
    """A function that rewards whole sequences; those that are equal are computed once.

    Nothing is remembered from one call to the next: how sequences are packed rounds their rewards, and a run that was
    stopped, and so has forgotten some, must go on with the same.
    """

    def taste(sequences: Sequence[Sequence[int]]) -> tuple[list[float], list[float]]:
        places = {each: place for place, each in enumerate(dict.fromkeys(map(tuple, sequences)))}
        with jax.set_mesh(mesh):
            found = np.stack([rewards_of(model, list(places), mesh, batch_size) for model in models])
        at = [places[tuple(each)] for each in sequences]
        return combined(found, config)[at].tolist(), found.std(axis=0)[at].tolist()

    return taste


def combined(rewards: np.ndarray, config: RewardModelConfig) -> np.ndarray:
    """One reward (N,) from those of several models (M, N): their mean, less `doubt` times their standard deviation, clipped.

    Models that agree only where they have seen something disagree where a policy makes something up (arXiv 2310.02743).
    """
    one = rewards.mean(axis=0) - config.doubt * rewards.std(axis=0)
    return np.clip(one, -config.clip, config.clip) if config.clip else one
