"""Our count of FLOPs against the one XLA makes of the compiled program."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import abstract, small

from lm.flops import forward_flops_per_token, measured_peak_flops, peak_flops, train_flops_per_token

# Wide enough that what is not a matrix product is a few percent.
WIDE = {"width": 256, "mlp_width": 768, "heads": 2, "vocab_size": 1000, "context_length": 64}
CONFIGS = {
    "gpt2": small(**WIDE, kv_heads=2, activation="gelu", positions="learned", norm="layernorm", biases=True),
    "llama3": small(**WIDE, kv_heads=1, tied_head=False, layers=3),
    "narrow heads": small(**WIDE, kv_heads=2, head_dim=64, activation="relu2"),
}


def xla_flops(function, config) -> float:
    """XLA's count for one token of a batch of 2 rows of 64."""
    tokens = np.zeros((2, 64), np.int32)
    return jax.jit(function).lower(abstract(config), tokens).compile().cost_analysis()["flops"] / tokens.size


@pytest.mark.parametrize("name", CONFIGS)
def test_forward(name):
    count = xla_flops(lambda model, tokens: model(tokens), CONFIGS[name])
    assert forward_flops_per_token(CONFIGS[name], 64) == pytest.approx(count, rel=0.03)


@pytest.mark.parametrize("name", CONFIGS)
def test_training(name):
    def loss(model, tokens):
        return jnp.mean(jax.nn.log_softmax(model(tokens))[..., 0])

    count = xla_flops(jax.value_and_grad(loss), CONFIGS[name])
    assert train_flops_per_token(CONFIGS[name], 64) == pytest.approx(count, rel=0.1)


def test_windows_limit_the_keys_that_count():
    whole = small(layers=4)
    limited = small(layers=4, windows=(8, 0))
    per_key = 4 * 32  # q k^T and weights v, two FLOPs each, in 32 dimensions
    assert forward_flops_per_token(whole, 32) - forward_flops_per_token(limited, 32) == 2 * (32 - 8) * per_key
    assert forward_flops_per_token(whole, 8) == forward_flops_per_token(limited, 8)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),  # v5e
        ("TPU v5", 459e12),  # v5p
        ("TPU v6 lite", 918e12),
    ],
)
def test_peak_of_known_chips(kind, peak):
    assert peak_flops([SimpleNamespace(device_kind=kind)] * 3) == 3 * peak


def test_peak_of_other_devices_is_measured():
    measured = measured_peak_flops(size=256, trials=3)
    assert 1e8 < measured < 1e16
    if jax.default_backend() == "cpu":
        assert 1e8 < peak_flops(jax.devices()) < 1e14
