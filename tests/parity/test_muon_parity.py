"""20 steps of real training with Muon and NorMuon, by our `train_step` and by a plain version in float64.

Both start from the same parameters and see the same batches; then each goes on from its own. Needs no PyTorch.
"""

from dataclasses import replace
from functools import cache

import copying
import jax
import numpy as np
import pytest
from plain_muon import Plain, PlainRecipe, orthogonalised
from twenty_steps import STEPS, TOLERANCE, T, batches, errors, loss_error, numpy_of, objective, train_ours

from lm.model.config import ModelConfig
from lm.model.transformer import Transformer
from lm.optimizer import OptimizerConfig

# Matrices of every form (wide, tall, square), norms, learned positions, a head of its own.
MODEL = ModelConfig(
    vocab_size=61,
    context_length=T,
    layers=2,
    width=32,
    heads=4,
    kv_heads=2,
    head_dim=12,
    mlp_width=56,
    positions="learned",
    qk_norm=True,
    tied_head=False,
    layer_loop="scan",
)
# Gradients are above and below the norm to clip to (asserted below).
RECIPES = {name: PlainRecipe(name, STEPS, clip_norm=2.1) for name in ("muon", "normuon")}

gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))
initial = cache(lambda: jax.jit(Transformer, static_argnums=1)(jax.random.key(0), MODEL))


def train_plainly(recipe: PlainRecipe) -> tuple[dict[str, np.ndarray], list[float], list[float]]:
    """Parameters after the last step, losses, and gradient norms before clipping."""
    plain, losses, norms = Plain(recipe, numpy_of(initial())), [], []
    for batch in batches(MODEL.vocab_size):
        (loss, _), grads = gradient(copying.build(MODEL, as_float32(plain.params)), batch)
        grads = numpy_of(grads)
        plain.update(grads)
        losses.append(float(loss))
        norms.append(float(np.sqrt(sum(np.sum(g**2) for g in grads.values()))))
    return plain.params, losses, norms


@cache
def ours(name: str) -> tuple[dict[str, np.ndarray], list[float]]:
    """Parameters after the last step, and losses."""
    recipe = RECIPES[name]
    config = OptimizerConfig(
        name=recipe.name,
        learning_rate=recipe.learning_rate,
        schedule="cosine",
        warmup_steps=recipe.warmup_steps,
        final_fraction=recipe.final_fraction,
        beta1=recipe.beta1,
        beta2=recipe.beta2,
        epsilon=recipe.epsilon,
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
    )
    return train_ours(initial(), config)


def as_float32(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: x.astype(np.float32) for name, x in params.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_twenty_steps(name):
    recipe = RECIPES[name]
    wanted, losses, norms = train_plainly(recipe)
    assert 0 < sum(norm > recipe.clip_norm for norm in norms) < STEPS, norms  # clipped at times
    assert losses[-1] < losses[0] - 0.3, losses  # it learns

    got, got_losses = ours(name)
    found, off = errors(got, wanted), loss_error(got_losses, losses)
    worst = max(found, key=found.get)
    print(f"{name}: {worst} {found[worst]:.1e}, losses {off:.1e}; norms {min(norms):.2f} to {max(norms):.2f}")
    assert found[worst] <= TOLERANCE, found
    assert off <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("muon", {"nesterov": False}),
        ("muon", {"momentum": 0.94}),
        ("muon", {"coefficients": (3.4, -4.7, 2.0)}),
        ("muon", {"iterations": 6}),
        ("muon", {"rms": 0.201}),
        ("muon", {"orthogonal": ("attention.query.kernel", "attention.output.kernel", "mlp.up.kernel")}),
        ("muon", {"weight_decay": 0.29}),
        ("muon", {"never_decayed": ("bias",)}),
        ("muon", {"clip_norm": 1e9}),
        ("muon", {"name": "normuon"}),
        ("normuon", {"neuron_decay": 0.8}),
    ],
    ids=str,
)
def test_another_recipe_is_told_apart(name, change):
    wanted, _, _ = train_plainly(replace(RECIPES[name], **change))
    found = errors(ours(name)[0], wanted)
    print(f"{name} with {change}: {max(found.values()):.1e}")
    assert max(found.values()) > 10 * TOLERANCE


def test_the_plain_version_orthogonalises():
    """Nearly: five of these iterations bring singular values to about 0.7 to 1.2, which is known to be enough."""
    x = np.random.default_rng(0).standard_normal((20, 33))
    values = np.linalg.svd(orthogonalised(x, RECIPES["muon"]), compute_uv=False)
    assert 0.6 < values.min() < values.max() < 1.3
