"""Schedules in closed form; AdamW, Muon and NorMuon against a few lines of numpy, on a model with every kind of parameter."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_models import build, small

from data_pipeline.errors import UserError
from lm.optimizer import OptimizerConfig, check_optimizer, make_optimizer, make_schedule

MODEL = small(
    value_embeddings=True,
    residual_scalars=True,
    biases=True,
    norm="layernorm",
    positions="learned",
    tied_head=False,
    qk_norm=True,
    kv_heads=2,
    layers=3,
)
DECAYED = (
    "kernel",
    "token_embedding",
    "position_embedding",
    "value_embedding",
    "head",
)  # ends of the names of matrices


def rate(config: OptimizerConfig, steps: int, step: int) -> float:
    """The learning rate, in the words of the docstring."""
    peak, final, warmup = config.learning_rate, config.learning_rate * config.final_fraction, config.warmup_steps
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done, left = (step - warmup) / (steps - warmup), steps - step
    if config.schedule == "cosine":
        return final + (peak - final) * (1 + math.cos(math.pi * done)) / 2
    if config.schedule == "linear":
        return peak + (final - peak) * done
    if config.schedule == "wsd":
        decay = min(round(config.decay_fraction * steps), steps - warmup)
        return final + (peak - final) * min(left / decay, 1)
    return peak


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 20, 70])
def test_schedules(schedule, warmup):
    steps = 80
    config = OptimizerConfig(learning_rate=0.3, schedule=schedule, warmup_steps=warmup, final_fraction=0.1)
    got = np.asarray(jax.vmap(make_schedule(config, steps))(jnp.arange(steps)))
    np.testing.assert_allclose(got, [rate(config, steps, step) for step in range(steps)], rtol=1e-5)
    assert got[0] > 0  # the first step already learns
    assert got[warmup] == pytest.approx(0.3) == got.max()
    after_the_last = float(make_schedule(config, steps)(steps))
    assert after_the_last == pytest.approx(0.3 if schedule == "constant" else 0.03)


def test_warming_up_to_the_very_end():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=10)
    check_optimizer(config, 10)
    np.testing.assert_allclose(
        [float(make_schedule(config, 10)(t)) for t in (0, 4, 9)], [1 / 11, 5 / 11, 10 / 11], rtol=1e-5
    )


def named(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(x).astype(np.float64) for path, x in leaves
    }


def random_gradients(model, size: float, seed: int):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(size * rng.standard_normal(p.shape), jnp.float32), model)


class SlowAdam:
    """Adam (arXiv 1412.6980) of one array: gradient in, what to subtract (before the learning rate) out."""

    def __init__(self, config: OptimizerConfig) -> None:
        self.config, self.mean, self.square, self.time = config, 0.0, 0.0, 0

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        c, self.time = self.config, self.time + 1
        self.mean = c.beta1 * self.mean + (1 - c.beta1) * gradient
        self.square = c.beta2 * self.square + (1 - c.beta2) * gradient**2
        mean, square = self.mean / (1 - c.beta1**self.time), self.square / (1 - c.beta2**self.time)
        return mean / (np.sqrt(square) + c.epsilon)


class SlowMuon:
    """Muon of one matrix: Nesterov momentum 0.95 (as NAdam corrects it), orthogonalised, scaled to RMS 0.2."""

    def __init__(self) -> None:
        self.mean, self.time = 0.0, 0

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        self.time += 1
        self.mean = 0.95 * self.mean + 0.05 * gradient
        ahead = 0.95 * self.mean / (1 - 0.95 ** (self.time + 1)) + 0.05 * gradient / (1 - 0.95**self.time)
        x = ahead / np.sqrt(np.sum(ahead**2))
        for _ in range(5):  # Newton-Schulz, with the constants of the Muon release
            square = x @ x.T
            x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
        return x * 0.2 * math.sqrt(max(x.shape))


class SlowNorMuon(SlowMuon):
    """NorMuon (arXiv 2510.05491, algorithm 1) of one matrix (inputs, outputs): a row of the paper is one of our columns."""

    def __init__(self) -> None:
        super().__init__()
        self.square = 0.0

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        orthogonal = super().__call__(gradient) / (0.2 * math.sqrt(max(gradient.shape)))
        self.square = 0.95 * self.square + 0.05 * np.array([np.mean(column**2) for column in orthogonal.T])
        even = orthogonal / np.sqrt(self.square)
        # The paper brings the update to RMS 0.2; ours keeps Muon's own norm, which is that for an exactly orthogonal one.
        return even * 0.2 * math.sqrt(max(gradient.shape)) * np.linalg.norm(orthogonal) / np.linalg.norm(even)


def is_muon(name: str, config: OptimizerConfig) -> bool:
    return config.name in ("muon", "normuon") and name.startswith("blocks.") and name.endswith("kernel")


def slow_training(config: OptimizerConfig, model, gradients: list, steps: int) -> dict[str, np.ndarray]:
    params = named(model)
    rules = {}
    for name, value in params.items():
        if is_muon(name, config):
            rules[name] = [SlowMuon() if config.name == "muon" else SlowNorMuon() for _ in value]  # one for each layer
        else:
            rules[name] = SlowAdam(config)
    for step, tree in enumerate(gradients):
        grads = named(tree)
        norm = math.sqrt(sum(np.sum(g**2) for g in grads.values()))
        shrink = min(1.0, config.clip_norm / norm) if config.clip_norm else 1.0
        for name, gradient in grads.items():
            rule = rules[name]
            if isinstance(rule, list):
                update = np.stack([one(g) for one, g in zip(rule, shrink * gradient, strict=True)])
            else:
                update = rule(shrink * gradient)
            if name.endswith(DECAYED):
                update = update + config.weight_decay * params[name]
            params[name] = params[name] - rate(config, steps, step) * update
    return params


def fast_training(config: OptimizerConfig, model, gradients: list, steps: int) -> dict[str, np.ndarray]:
    optimizer = make_optimizer(config, steps)

    @jax.jit
    def step(model, state, gradients):
        updates, state = optimizer.update(gradients, state, model)
        return optax.apply_updates(model, updates), state

    state = optimizer.init(model)
    for tree in gradients:
        model, state = step(model, state, tree)
    return named(model)


@pytest.mark.parametrize("clip_norm", [1.0, 0.0])
@pytest.mark.parametrize("name", ["adamw", "muon", "normuon"])
def test_five_steps_are_those_of_the_slow_version(name, clip_norm):
    config = OptimizerConfig(
        name, learning_rate=0.05, warmup_steps=2, weight_decay=0.3, clip_norm=clip_norm, epsilon=1e-4
    )
    model = build(MODEL)
    gradients = [random_gradients(model, size, seed) for seed, size in enumerate((1.0, 1e-3, 0.1, 3.0, 1e-2))]
    got = fast_training(config, model, gradients, 10)
    expected = slow_training(config, model, gradients, 10)
    start = named(model)
    assert any(".norm" in key or "_norm" in key for key in got)
    for key in got:
        assert np.abs(got[key] - start[key]).max() > 0.01, key  # every parameter has moved
        np.testing.assert_allclose(got[key], expected[key], atol=2e-4 if is_muon(key, config) else 1e-5, err_msg=key)


@pytest.mark.parametrize("name", ["adamw", "muon", "normuon"])
def test_without_gradients_matrices_shrink_and_vectors_stay(name):
    config = OptimizerConfig(name, learning_rate=0.1, schedule="constant", warmup_steps=0, weight_decay=0.5)
    model = build(MODEL)
    start, got = named(model), fast_training(config, model, [random_gradients(model, 0.0, 0)], 10)
    vectors = [key for key in got if not key.endswith(DECAYED)]
    assert {key.rsplit(".", 1)[-1] for key in vectors} == {"scale", "bias", "residual_scalars"}
    for key in got:
        np.testing.assert_allclose(got[key], start[key] * (1 if key in vectors else 0.95), rtol=1e-6, err_msg=key)


def well_conditioned(gradient: jax.Array) -> jax.Array:
    """A stack of matrices with singular values from 0.1 to 1: five steps do not lift those that are nearly 0."""
    if gradient.ndim < 3:
        return gradient
    u, values, v = np.linalg.svd(gradient, full_matrices=False)
    return jnp.asarray(u * np.linspace(1, 0.1, values.shape[-1]) @ v)


def test_muon_updates_are_nearly_orthogonal_in_each_layer():
    config = OptimizerConfig("muon", learning_rate=1.0, schedule="constant", warmup_steps=0, weight_decay=0.0)
    model = build(MODEL)
    gradients = jax.tree.map(well_conditioned, random_gradients(model, 1.0, 0))
    got, start, gradient = fast_training(config, model, [gradients], 10), named(model), named(gradients)
    matrices = [key for key in got if is_muon(key, config)]
    assert len(matrices) == 7  # query, key, value, output, gate, up, down
    for key in matrices:
        for update, g in zip(start[key] - got[key], gradient[key], strict=True):
            size = 0.2 * math.sqrt(max(update.shape))
            values = np.linalg.svd(update, compute_uv=False) / size
            assert 0.6 < values.min() <= values.max() < 1.3, key
            assert np.sqrt(np.mean(update**2)) == pytest.approx(0.2, rel=0.3)
            assert np.sum(update * g) > 0  # downhill
    for key in set(got) - set(matrices):  # Adam's first step is the sign of the gradient
        np.testing.assert_allclose(start[key] - got[key], np.sign(gradient[key]), atol=0.1, err_msg=key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sgd"}, "optimizer.name='sgd': choose one of adamw, muon, normuon"),
        ({"schedule": "step"}, "optimizer.schedule='step': choose one of cosine, linear, wsd, constant"),
        ({"learning_rate": 0.0}, "optimizer.learning_rate=0.0: must be positive"),
        ({"learning_rate": math.nan}, "optimizer.learning_rate=nan: must be positive"),
        ({"warmup_steps": 101}, "optimizer.warmup_steps=101: must be between 0 and steps=100"),
        ({"warmup_steps": -1}, "optimizer.warmup_steps=-1: must be between 0 and steps=100"),
        ({"beta1": 1.5}, "optimizer.beta1=1.5: must be at least 0 and below 1"),
        ({"final_fraction": -0.1}, "optimizer.final_fraction=-0.1: must be between 0 and 1"),
        ({"weight_decay": -0.1}, "optimizer.weight_decay=-0.1: must not be negative"),
        ({"clip_norm": -1.0}, "optimizer.clip_norm=-1.0: must not be negative"),
    ],
)
def test_values_that_make_no_sense_are_one_clear_line(changes, message):
    check_optimizer(OptimizerConfig(), 100)
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_optimizer(OptimizerConfig(**changes), 100)
