"""Optimizers and learning-rate schedules, as optax chains."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from data_pipeline.errors import UserError
from lm.sharding import logical_axes, path_name

OPTIMIZERS = ("adamw", "muon", "normuon")
SCHEDULES = ("cosine", "linear", "wsd", "constant")


@dataclass
class OptimizerConfig:
    """AdamW (arXiv 1711.05101), or Muon or NorMuon (arXiv 2510.05491) for the blocks' matrices and AdamW for the rest."""

    name: str = "adamw"  # adamw | muon | normuon
    learning_rate: float = 1e-3  # the peak
    schedule: str = "cosine"  # cosine | linear | wsd: warm up, stay, decay (arXiv 2404.06395) | constant
    warmup_steps: int = 100
    decay_fraction: float = 0.2  # wsd: the part of the steps, at the end, in which the rate falls
    final_fraction: float = (
        0.1  # of the peak: where the decay ends, one step after the last (so that even 0 wastes none)
    )
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1  # on matrices and embeddings, not on norms and biases
    clip_norm: float = 1.0  # gradients are scaled down to this global norm; 0: never


def check_optimizer(config: OptimizerConfig, steps: int) -> None:
    """Raise `UserError` for values that make no sense."""
    if config.name not in OPTIMIZERS:
        raise UserError(f"optimizer.name={config.name!r}: choose one of {', '.join(OPTIMIZERS)}")
    if config.schedule not in SCHEDULES:
        raise UserError(f"optimizer.schedule={config.schedule!r}: choose one of {', '.join(SCHEDULES)}")
    if not config.learning_rate > 0:
        raise UserError(f"optimizer.learning_rate={config.learning_rate}: must be positive")
    if not 0 <= config.warmup_steps <= steps:
        raise UserError(f"optimizer.warmup_steps={config.warmup_steps}: must be between 0 and steps={steps}")
    for name in ("decay_fraction", "final_fraction"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"optimizer.{name}={getattr(config, name)}: must be between 0 and 1")
    for name in ("beta1", "beta2"):
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"optimizer.{name}={getattr(config, name)}: must be at least 0 and below 1")
    for name in ("epsilon", "weight_decay", "clip_norm"):
        if not getattr(config, name) >= 0:
            raise UserError(f"optimizer.{name}={getattr(config, name)}: must not be negative")


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate at each step, 0 being the first: a linear warm-up to the peak, then the chosen decay."""
    peak, end = config.learning_rate, config.learning_rate * config.final_fraction
    rest = max(steps - config.warmup_steps, 1)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, alpha=config.final_fraction)
    elif config.schedule == "linear":
        after = optax.linear_schedule(peak, end, rest)
    elif config.schedule == "wsd":
        decay = max(min(round(config.decay_fraction * steps), rest), 1)
        after = optax.linear_schedule(peak, end, decay, transition_begin=rest - decay)
    else:
        after = optax.constant_schedule(peak)
    # Step 0 already learns: the ramp reaches the peak at step `warmup_steps`, having started one notch above 0.
    ramp = optax.linear_schedule(peak / (config.warmup_steps + 1), peak, max(config.warmup_steps, 1))
    return optax.join_schedules([ramp, after], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clip, precondition, decay weights, scale by the schedule."""
    adam = optax.scale_by_adam(config.beta1, config.beta2, config.epsilon)
    if config.name != "adamw":
        orthogonal = contrib.scale_by_muon(weight_dimension_numbers=_dimension_numbers)
        per_neuron = _even_neurons() if config.name == "normuon" else optax.identity()
        muon = optax.chain(orthogonal, per_neuron, _match_adam_rms())
        precondition = optax.partition({"muon": muon, "adam": adam}, _labels)
    else:
        precondition = adam
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        precondition,
        optax.add_decayed_weights(config.weight_decay, mask=_decayed),
        optax.scale_by_learning_rate(make_schedule(config, steps)),
    )


def _match_adam_rms() -> optax.GradientTransformation:
    """Scale orthogonal updates to the size AdamW's have (RMS 0.2), so one learning rate serves both (arXiv 2502.16982)."""
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda u: u * (0.2 * max(u.shape[1], u.shape[2]) ** 0.5), updates)
    )


class EvenNeuronsState(NamedTuple):
    """Mean squared update of each output neuron, a running average: (L, 1, outputs) for each matrix, float32."""

    nu: Any


def _even_neurons(decay: float = 0.95, epsilon: float = 1e-10) -> optax.GradientTransformation:
    """NorMuon's second half (arXiv 2510.05491): neurons whose updates are large get smaller ones, and the reverse.

    Each update (L, inputs, outputs) is divided by the root of a running mean square per output, then brought back to the
    norm that it had, as the authors' code does (their formula sets its RMS to 0.2, which differs by what orthogonalising
    left undone).
    """

    def init(params: Any) -> EvenNeuronsState:
        return EvenNeuronsState(jax.tree.map(lambda p: jnp.zeros((p.shape[0], 1, p.shape[2]), jnp.float32), params))

    def update(updates: Any, state: EvenNeuronsState, params: Any = None) -> tuple[Any, EvenNeuronsState]:  # noqa: ARG001
        nu = jax.tree.map(
            lambda v, u: decay * v + (1 - decay) * jnp.mean(jnp.square(u), axis=1, keepdims=True), state.nu, updates
        )

        def even(u: jax.Array, v: jax.Array) -> jax.Array:
            divided = u / (jnp.sqrt(v) + epsilon)
            norms = [jnp.sqrt(jnp.sum(jnp.square(x), axis=(1, 2), keepdims=True)) for x in (u, divided)]
            return divided * (norms[0] / (norms[1] + epsilon))

        return jax.tree.map(even, updates, nu), EvenNeuronsState(nu)

    return optax.GradientTransformation(init, update)


def _axes(path: tuple[Any, ...], leaf: jax.Array) -> tuple[str | None, ...]:
    return tuple(axis for axis in logical_axes(path_name(path), leaf.ndim) if axis != "layers")


def _decayed(params: Any) -> Any:
    """True for matrices, False for the vectors of norms and biases (stacked layers do not count as an axis)."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: len(_axes(path, leaf)) > 1, params)


def _is_block_matrix(path: tuple[Any, ...], leaf: jax.Array) -> bool:
    name = path_name(path)
    return "blocks." in name and name.endswith("kernel") and len(_axes(path, leaf)) == 2


def _labels(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: "muon" if _is_block_matrix(path, leaf) else "adam", params
    )


def _dimension_numbers(params: Any) -> Any:
    """Every matrix Muon sees is (L, inputs, outputs): orthogonalise over the last two axes, layer by layer."""
    return jax.tree.map(lambda _: contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2), params)
