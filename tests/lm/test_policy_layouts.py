"""The update of a real Transformer is the same however its sequences are packed, padded, cut into parts and laid on devices."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_tables import lay_out, random_sequences, run
from tiny_models import build

from lm import sharding
from lm.model.config import ModelConfig
from lm.objectives.policy_gradient import PolicyGradientConfig, policy_gradient, preset
from lm.sharding import MeshConfig, make_mesh
from lm.train import accumulated

MODEL = ModelConfig(
    vocab_size=32, context_length=32, layers=1, width=16, heads=2, kv_heads=2, mlp_width=16, scalar_head=True
)
KINDS = {
    "tokens": PolicyGradientConfig(
        "gae", "token_ratio", "sequences", kl=0.1, kl_form="weighted_k3", entropy=0.05, chunk=8
    ),
    "sequences": replace(preset("gspo"), entropy=0.05, kl=0.1, kl_form="loss_k2", clip_low=0.05, clip_high=0.05),
}
ONE_A_ROW = [[i] for i in range(8)]


@functools.cache
def sequences_of_the_model():
    """Sequences with old and other log-probabilities near those of the model."""
    sequences = random_sequences(seed=5, count=8, vocab=32)
    rng = np.random.default_rng(6)
    padded = np.stack([np.pad(s["tokens"], (0, 12 - len(s["tokens"]))) for s in sequences])
    all_log_p = np.asarray(jax.jit(lambda model, tokens: jax.nn.log_softmax(model(tokens)))(build(MODEL), padded))
    for s, log_p in zip(sequences, all_log_p, strict=True):
        log_p = log_p[np.arange(len(s["labels"])), s["labels"]]
        for name in ("old_log_probs", "sampler_log_probs", "reference_log_probs"):
            s[name] = log_p + 0.3 * rng.standard_normal(len(log_p))
    return sequences


@functools.cache
def one_a_row(kind: str):
    batch, _ = lay_out(sequences_of_the_model(), ONE_A_ROW, 12)
    (loss, metrics), gradients = run(build(MODEL), batch, KINDS[kind])
    assert 0 < float(metrics["clip_fraction_low"]) < 1
    return {"loss": loss, **metrics}, gradients


def agree(found, wanted):
    for name in wanted[0].keys() - {"weight", "ratio_max", "sampler_gap_max"}:
        np.testing.assert_allclose(found[0][name], wanted[0][name], rtol=1e-4, atol=1e-5, err_msg=name)
    scale = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(wanted[1]))
    assert scale > 0.01
    for one, other in zip(jax.tree.leaves(found[1]), jax.tree.leaves(wanted[1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("rows", "length"),
    [([[3, 0], [1, 2], [5, 7, 4], [6]], 32), ([*ONE_A_ROW, [], [], []], 20)],
    ids=["packed", "padded"],
)
def test_packing_and_padding_change_nothing(kind, rows, length):
    batch, _ = lay_out(sequences_of_the_model(), rows, length)
    (loss, metrics), gradients = run(build(MODEL), batch, KINDS[kind])
    agree(({"loss": loss, **metrics}, gradients), one_a_row(kind))
    for name in ("ratio_max", "sampler_gap_max"):
        np.testing.assert_allclose(metrics[name], one_a_row(kind)[0][name], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_change_nothing(kind):
    batch, _ = lay_out(sequences_of_the_model(), ONE_A_ROW, 12)
    value = jax.value_and_grad(functools.partial(policy_gradient, config=KINDS[kind]), has_aux=True)

    def part(piece):
        (loss, metrics), gradients = value(build(MODEL), piece)
        return gradients, {"loss": loss, **metrics}

    gradients, metrics = jax.jit(lambda batch: accumulated(part, batch, 4))(batch)
    agree((metrics, gradients), one_a_row(kind))
    assert float(metrics["weight"]) == 8


@pytest.mark.parametrize(
    ("kind", "config"), [("tokens", MeshConfig(data=2, fsdp=2, tensor=2)), ("sequences", MeshConfig(data=8))]
)
def test_eight_devices_change_nothing(kind, config, eight_devices):
    batch, _ = lay_out(sequences_of_the_model(), ONE_A_ROW, 12)
    mesh = make_mesh(config, eight_devices)
    model = jax.device_put(build(MODEL), sharding.tree_shardings(mesh, build(MODEL)))
    with jax.set_mesh(mesh):
        objective = functools.partial(policy_gradient, config=KINDS[kind])
        value = jax.jit(jax.value_and_grad(objective, has_aux=True))
        (loss, metrics), gradients = value(model, sharding.put_batch(mesh, batch, 8))
        agree(jax.device_get(({"loss": loss, **metrics}, gradients)), one_a_row(kind))
