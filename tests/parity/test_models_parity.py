"""GPT-2, Llama 3 and Qwen 3 compute what `transformers` computes: logits, loss and every gradient, in float32.

And they stop doing so when anything that makes the architecture is changed: the comparison can fail.
"""

from dataclasses import replace
from functools import cache, partial

import copying
import jax
import numpy as np
import pytest
from peers import PEERS, B, T, cross_entropy, gradients_as_ours, random_weights, torch, weights_as_ours

from lm.model.config import RopeScaling
from lm.objectives.next_token import NextTokenConfig, next_token

LOGITS, GRADIENTS = 1e-4, 1e-3  # tolerances: absolute, and relative to the norm of each parameter of each layer
KEY_BIAS, QUERY_BIAS = "blocks.attention.key.bias", "blocks.attention.query.bias"

forward = jax.jit(lambda model, *args: model(*args))
gradient = jax.jit(jax.value_and_grad(partial(next_token, config=NextTokenConfig(chunk=40)), has_aux=True))


def random_batch(vocab_size: int) -> dict[str, np.ndarray]:
    """Random tokens; about a tenth of the labels is masked out."""
    chance = np.random.default_rng(1)
    tokens = chance.integers(0, vocab_size, (B, T + 1), np.int32)
    return {
        "tokens": tokens[:, :-1],
        "labels": tokens[:, 1:],
        "positions": np.tile(np.arange(T, dtype=np.int32), (B, 1)),
        "segment_ids": np.ones((B, T), np.int32),
        "loss_mask": chance.random((B, T)) < 0.9,
    }


@cache
def expected(name: str):
    """By `transformers` and PyTorch: logits, loss, and under our names the parameters and their gradients."""
    peer = PEERS[name]
    batch, model = random_batch(peer.config.vocab_size), random_weights(peer)
    logits = model(torch.from_numpy(batch["tokens"]).long()).logits
    loss = cross_entropy(logits, batch["labels"], batch["loss_mask"])
    loss.backward()
    return logits.detach().numpy(), loss.item(), weights_as_ours(peer, model), gradients_as_ours(peer, model)


def gradient_errors(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[str, float]:
    """Norm of the difference over the norm, of each parameter, the worst of its layers."""
    assert got.keys() == wanted.keys()
    errors = {}
    for name, want in wanted.items():
        # A bias on keys adds one number to all scores of a query, which the softmax takes away again: its gradient is
        # nothing but rounding, so the error is measured against the gradient of the bias on queries.
        yardstick = wanted[QUERY_BIAS] if name == KEY_BIAS else want
        error, norm = (layer_norms(name, x) for x in (np.asarray(got[name]) - want, yardstick))
        assert norm.min() > 1e-6, f"the gradient of {name} is nearly zero: nothing would be compared"
        errors[name] = float(np.max(error / norm))
    return errors


def layer_norms(name: str, x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x.reshape(len(x) if name.startswith("blocks.") else 1, -1), axis=1)


@pytest.mark.parametrize(
    ("name", "layer_loop"),
    [
        *((name, layer_loop) for name in ("gpt2", "llama3.2 1b", "qwen3") for layer_loop in ("unrolled", "scan")),
        ("gpt2 untied", "scan"),
        ("llama3.1 8b untied", "unrolled"),
        ("qwen3 untied", "scan"),
    ],
)
def test_logits_loss_and_gradients(name, layer_loop):
    config = replace(PEERS[name].config, layer_loop=layer_loop)
    logits, loss, weights, gradients = expected(name)
    assert np.abs(logits).max() > 1  # else nearly any model would pass

    batch, model = random_batch(config.vocab_size), copying.build(config, weights)
    error = np.abs(forward(model, batch["tokens"]) - logits).max()
    (got_loss, _), got = gradient(model, batch)
    errors = gradient_errors(copying.named(got), gradients)
    worst = max(errors, key=errors.get)
    print(f"{name}, {layer_loop}: logits {error:.1e}, loss {abs(got_loss - loss):.1e}, {worst} {errors[worst]:.1e}")
    assert error <= LOGITS
    assert abs(got_loss - loss) <= 1e-5
    assert errors[worst] <= GRADIENTS, errors

    batch["loss_mask"][0, 7] ^= True  # of one label in 240 every gradient must tell
    errors = gradient_errors(copying.named(gradient(model, batch)[1]), gradients)
    errors.pop(KEY_BIAS, None)
    assert min(errors.values()) > 5 * GRADIENTS, errors


@pytest.mark.parametrize("name", ["gpt2", "llama3.2 1b", "qwen3"])
def test_packed_documents_are_what_transformers_makes_of_each_alone(name):
    peer = PEERS[name]
    lengths = [[50, 1, 69], [17, 80, 23]]
    positions = np.stack([np.concatenate([np.arange(n) for n in row]) for row in lengths])
    segments = np.stack([np.repeat(np.arange(1, 4), row) for row in lengths])
    tokens = random_batch(peer.config.vocab_size)["tokens"]
    theirs = random_weights(peer)

    def alone(document: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return theirs(torch.from_numpy(document).long()[None]).logits[0].numpy()

    rows = [np.split(row, np.cumsum(parts)[:-1]) for row, parts in zip(tokens, lengths, strict=True)]
    wanted = np.stack([np.concatenate([alone(document) for document in row]) for row in rows])
    assert np.abs(wanted - expected(name)[0]).max() > 0.1  # it matters that they are apart
    model = copying.build(peer.config, expected(name)[2])
    np.testing.assert_allclose(forward(model, tokens, positions, segments), wanted, rtol=0, atol=LOGITS)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gpt2", {"norm_epsilon": 1e-6}),
        ("gpt2", {"activation": "relu2"}),
        ("gpt2", {"windows": (T - 1,)}),
        ("llama3.2 1b", {"norm_epsilon": 1e-6}),
        ("llama3.2 1b", {"rope_theta": 10_000.0}),
        ("llama3.2 1b", {"rope_scaling": RopeScaling()}),
        ("llama3.2 1b", {"rope_scaling": RopeScaling(factor=8.0)}),
        ("llama3.2 1b", {"rope_scaling": RopeScaling(factor=32.0, high_frequency_factor=2.0)}),
        ("qwen3", {"norm_epsilon": 1e-5}),
        ("qwen3", {"rope_theta": 500_000.0}),
    ],
    ids=str,
)
def test_another_architecture_is_told_apart(name, change):
    logits, _, weights, _ = expected(name)
    model = copying.build(replace(PEERS[name].config, **change), weights)
    error = np.abs(forward(model, random_batch(model.config.vocab_size)["tokens"]) - logits).max()
    print(f"{name} with {change}: logits {error:.1e}")
    assert error > 10 * LOGITS


DAMAGE = {
    "zeros": np.zeros_like,
    "ones": np.ones_like,
    "layers exchanged": partial(np.flip, axis=0),
    "inputs reversed": partial(np.flip, axis=1),
    "heads moved by one": partial(np.roll, shift=16, axis=2),
    "positions moved by one": partial(np.roll, shift=1, axis=0),
}


@pytest.mark.parametrize(
    ("name", "parameter", "damage"),
    [
        ("gpt2", "blocks.attention.value.bias", "zeros"),
        ("gpt2", "blocks.attention.query.bias", "zeros"),
        ("gpt2", "blocks.mlp.up.bias", "zeros"),
        ("gpt2", "final_norm.bias", "zeros"),
        ("gpt2", "position_embedding", "positions moved by one"),
        ("gpt2", "blocks.mlp.down.kernel", "inputs reversed"),
        ("llama3.2 1b", "blocks.attention_norm.scale", "ones"),
        ("llama3.2 1b", "blocks.mlp.gate.kernel", "layers exchanged"),
        ("llama3.2 1b", "blocks.attention.query.kernel", "heads moved by one"),
        ("llama3.2 1b", "blocks.attention.value.kernel", "heads moved by one"),
        ("qwen3", "blocks.attention.query_norm.scale", "ones"),
        ("qwen3", "blocks.attention.key_norm.scale", "ones"),
    ],
)
def test_a_damaged_parameter_is_told(name, parameter, damage):
    logits, _, weights, _ = expected(name)
    model = copying.build(PEERS[name].config, {**weights, parameter: DAMAGE[damage](weights[parameter])})
    error = np.abs(forward(model, random_batch(model.config.vocab_size)["tokens"]) - logits).max()
    assert error > 100 * LOGITS
