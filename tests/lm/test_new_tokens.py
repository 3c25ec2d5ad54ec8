"""Rows for new tokens: the mean of the others, in float64; all else as it was; the same on a mesh."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny_models import CONFIGS, build, small

from lm.new_tokens import with_new_tokens
from lm.sharding import MeshConfig, make_mesh, path_name, tree_shardings

# What has an axis of symbols, and which: written again, so that a parameter that is forgotten there fails here.
SYMBOLS = {"token_embedding": 0, "head": 1, "blocks.attention.value_embedding": 1}
TIED, UNTIED, VALUES = (CONFIGS[name] for name in ("gpt2", "llama3", "scalars"))


def leaves(model) -> dict[str, np.ndarray]:
    return {path_name(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(model)}


def check(before, after, new, count) -> None:
    """`after` has `count` symbols; `new` of them, and all that were added, are the mean of the others."""
    before, after = leaves(before), leaves(after)
    assert before.keys() == after.keys()
    seen = 0
    for name, x in after.items():
        if name not in SYMBOLS:
            np.testing.assert_array_equal(x, before[name], err_msg=name)
            continue
        seen += 1
        rows, old = (np.moveaxis(y, SYMBOLS[name], 0) for y in (x, before[name]))
        assert len(rows) == count
        assert rows.dtype == old.dtype
        known = [i for i in range(len(old)) if i not in new]
        mean = np.zeros(old.shape[1:])
        for i in known:
            np.testing.assert_array_equal(rows[i], old[i], err_msg=name)
            mean += old[i].astype(np.float64) / len(known)
        for i in set(range(count)) - set(known):
            np.testing.assert_allclose(rows[i].astype(np.float64), mean, rtol=1e-5, atol=1e-6, err_msg=name)
    assert seen


@pytest.mark.parametrize(("config", "parameters"), [(TIED, 1), (UNTIED, 2), (VALUES, 2)])
@pytest.mark.parametrize(("new", "count"), [((3, 7), 29), ((), 32), ((28, 0), 40)])
def test_they_are_the_mean_of_the_others(config, parameters, new, count):
    before = build(config)
    assert len(leaves(before).keys() & SYMBOLS.keys()) == parameters
    after = with_new_tokens(before, replace(config, vocab_size=count), new)
    check(before, after, new, count)
    assert after.config.vocab_size == count


def test_without_any_the_model_is_as_it_was():
    before = build(VALUES)
    jax.tree.map(np.testing.assert_array_equal, before, with_new_tokens(before, VALUES, ()))


def test_every_parameter_with_an_axis_of_symbols_is_known_here():
    """No other size is 29 in these models, nor 31 in the wider ones."""
    for name in ("gpt2", "llama3", "scalars"):
        narrow, wide = leaves(build(CONFIGS[name])), leaves(build(replace(CONFIGS[name], vocab_size=31)))
        assert {n for n in narrow if narrow[n].shape != wide[n].shape} == narrow.keys() & SYMBOLS.keys()


def test_a_new_token_scores_the_mean_of_all_scores():
    """What it is for: the model after is as sure of what it knows as it was, up to one more symbol of a middling score."""
    before = build(replace(UNTIED, logit_soft_cap=0.0))
    after = with_new_tokens(before, replace(before.config, vocab_size=32), ())
    tokens = np.random.default_rng(0).integers(0, 29, (1, 8), np.int32)
    old, new = np.asarray(before(tokens)), np.asarray(after(tokens))
    np.testing.assert_allclose(new[..., :29], old, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new[..., 29:], np.repeat(old.mean(-1, keepdims=True), 3, -1), rtol=1e-3, atol=1e-4)


def test_what_they_learnt_before_is_gone():
    """The rows of unseen tokens were pushed about by weight decay and the softmax: they do not count in the mean."""
    model = build(UNTIED)
    pushed = jax.tree.map(lambda x: x, model)
    pushed.token_embedding = model.token_embedding.at[5].set(1e6)
    one, other = (with_new_tokens(each, UNTIED, (5,)) for each in (model, pushed))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_bfloat16_is_averaged_in_float32():
    """A sum of hundreds in bfloat16 would be off by far more than its last place."""
    config = small(vocab_size=600, param_dtype="bfloat16")
    before = build(config)
    before.token_embedding = (before.token_embedding + 100).astype(before.token_embedding.dtype)
    after = with_new_tokens(before, replace(config, vocab_size=608), ())
    mean = np.asarray(before.token_embedding).astype(np.float64).mean(0)
    np.testing.assert_allclose(np.asarray(after.token_embedding[-1]).astype(np.float64), mean, rtol=2**-8)


def test_a_mesh_gives_the_same(eight_devices):
    config = replace(VALUES, vocab_size=28, tied_head=False)
    wider = replace(config, vocab_size=32)
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2), eight_devices)
    before = build(config)
    wanted = with_new_tokens(before, wider, (3,))
    with jax.set_mesh(mesh):
        placed = jax.device_put(before, tree_shardings(mesh, before))
        shardings = tree_shardings(mesh, wanted)
        after = jax.jit(lambda model: with_new_tokens(model, wider, (3,)), out_shardings=shardings)(placed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), after, wanted)
    check(before, after, (3,), 32)
