"""The named models: parameter counts as published, errors for impossible shapes; the lecture's picture sorts."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_models import abstract, small

from data_pipeline.errors import UserError
from lm.model.config import CHOICES, ModelConfig, check_model
from lm.model.presets import PRESETS, preset
from lm.model.transformer import Transformer
from lm.objectives.next_token import NextTokenConfig, next_token

PUBLISHED = {
    "picture": 85_584,  # bbycroft.net/llm, "nano-gpt"
    "gpt2-124m": 124_439_808,
    "gpt2-350m": 354_823_168,
    "gpt2-774m": 774_030_080,
    "gpt2-1558m": 1_557_611_200,
    "llama3-1b": 1_235_814_400,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
}


def parameters(config: ModelConfig) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(abstract(config)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    assert parameters(preset(name)) == PUBLISHED[name]


def test_llama3_405b_counted_by_hand():
    layers, width, heads, kv_heads, head_dim, mlp, vocabulary = 126, 16_384, 128, 8, 128, 53_248, 128_256  # 2407.21783
    attention = width * head_dim * (heads + kv_heads + kv_heads + heads)
    block = attention + 3 * width * mlp + 2 * width  # SwiGLU, two norms
    total = layers * block + 2 * vocabulary * width + width  # embedding and head apart, the last norm
    assert parameters(preset("llama3-405b")) == total == 405_853_388_800


def test_every_preset_can_be_built_and_is_fresh():
    for name in PRESETS:
        config = preset(name)
        check_model(config)
        assert config.windows == (0,)
        config.layers += 1
        assert preset(name).layers == config.layers - 1
    assert 500_000 < parameters(preset("tiny")) < 1_500_000


def test_an_unknown_preset_is_one_line_that_names_the_others():
    with pytest.raises(UserError, match=r"^no model is called 'gpt5': choose one of tiny, picture, .*llama3-405b$"):
        preset("gpt5")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: 0}, f"model.{name}=0: must be at least 1") for name in ("vocab_size", "layers", "heads", "kv_heads")),
        *(({name: -1}, f"model.{name}=-1: must be at least 1") for name in ("context_length", "width", "mlp_width")),
        *(({name: "?"}, f"model.{name}='?': choose one of {', '.join(CHOICES[name])}") for name in CHOICES),
        ({"width": 30}, "model.width=30 does not divide by model.heads=4: set model.head_dim"),
        ({"kv_heads": 3}, "model.heads=4 must be a multiple of model.kv_heads=3"),
        ({"kv_heads": 8}, "model.heads=4 must be a multiple of model.kv_heads=8"),
        ({"head_dim": 7}, "rotary positions need an even head width, not 7: set model.head_dim"),
        ({"width": 36}, "rotary positions need an even head width, not 9: set model.head_dim"),
        ({"windows": ()}, "model.windows=(): give at least one window; 0 means all positions"),
        ({"windows": (4, -1)}, "model.windows=(4, -1): give at least one window; 0 means all positions"),
        (
            {"windows": (1, 2, 3), "layer_loop": "scan"},
            "model.layers=2 must be a multiple of the 3 model.windows to be scanned",
        ),
    ],
)
def test_impossible_models_are_one_clear_line(changes, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_model(small(**changes))


def test_unusual_but_possible_models_pass():
    check_model(small(width=30, head_dim=8))
    check_model(small(head_dim=7, positions="learned"))
    check_model(small(windows=(1, 2, 3)))
    check_model(small(windows=(3, 0), layer_loop="scan"))


def test_the_picture_learns_to_sort():
    """Six letters A, B, C, then the same six in order. A fifth of all 729 inputs is held out."""
    letters = np.array(list(itertools.product(range(3), repeat=6)), np.int32)
    rows = np.random.default_rng(0).permutation(np.concatenate([letters, np.sort(letters, axis=1)], axis=1))
    train, held_out = rows[:583], rows[583:]

    def batch_of(rows: np.ndarray) -> dict[str, np.ndarray]:
        tokens = rows[:, :-1]
        place = np.broadcast_to(np.arange(11, dtype=np.int32), tokens.shape)
        names = ("tokens", "labels", "positions", "segment_ids", "loss_mask")
        return dict(zip(names, (tokens, rows[:, 1:], place, np.zeros_like(tokens), place >= 5), strict=True))

    steps = 150
    optimizer = optax.adam(optax.linear_schedule(4e-3, 0.0, steps))

    @jax.jit
    def step(model, state, batch):
        gradients = jax.grad(lambda m: next_token(m, batch, NextTokenConfig())[0])(model)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(model, updates), state

    @jax.jit
    def sorted_right(model, batch):
        guess = jnp.argmax(model(batch["tokens"]), axis=-1)
        return jnp.mean(jnp.all((guess == batch["labels"]) | ~batch["loss_mask"], axis=1))

    model = jax.jit(Transformer, static_argnums=1)(jax.random.key(0), preset("picture"))
    state = optimizer.init(model)
    before = sorted_right(model, batch_of(held_out))
    rng = np.random.default_rng(1)
    for _ in range(steps):
        model, state = step(model, state, batch_of(rng.choice(train, 64)))
    assert before < 0.1
    assert sorted_right(model, batch_of(held_out)) > 0.9  # all six letters right
