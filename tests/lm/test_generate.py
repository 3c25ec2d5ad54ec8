"""Generation against a loop that has no cache and reads everything again for each token."""

import functools
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import CONFIGS, build, small, tokens_of

from data_pipeline.errors import UserError
from lm.inference.generate import CHUNK, decode, generate, prefill
from lm.inference.sampling import Sampling, bend
from lm.model.cache import empty_cache
from lm.model.config import ModelConfig
from lm.model.transformer import Transformer
from lm.sharding import MeshConfig, make_mesh, tree_shardings

GREEDY = Sampling(temperature=0.0)
WARM = Sampling(temperature=1.3, top_k=20, top_p=0.95)
NEVER = -1  # a stop token that no model writes
# Heads apart from the embedding: a random model with a tied one repeats its last token.
CONFIG = small(kv_heads=2, windows=(0, 7), layer_loop="scan", tied_head=False)
LEARNED = replace(CONFIGS["gpt2"], tied_head=False)
ON_MESH = small(kv_heads=2, vocab_size=30, tied_head=False)
PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3]]

forward = jax.jit(lambda model, tokens: model(tokens)[0])


def naive(model: Transformer, row: int, prompt: list[int], count: int, sampling: Sampling, seed: int = 0) -> list[int]:
    """Continue one prompt by `count` tokens: a full forward pass for each, with the documented random key."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + count:
        padded = np.zeros((1, model.config.context_length), np.int32)
        padded[0, : len(tokens)] = tokens
        logits = forward(model, padded)[:, len(tokens) - 1]
        if sampling.temperature == 0:
            tokens.append(int(np.argmax(logits)))
        else:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), row), len(tokens))
            tokens.append(int(jax.random.categorical(key, bend(logits, sampling)[0])))
    return tokens[len(prompt) :]


@functools.cache
def written(config: ModelConfig, sampling: Sampling, count: int) -> tuple[tuple[int, ...], ...]:
    """What the slow loop makes of PROMPTS."""
    return tuple(tuple(naive(build(config), row, p, count, sampling)) for row, p in enumerate(PROMPTS))


def run(
    prompts, sampling: Sampling, count: int = 19, config: ModelConfig = CONFIG, seed: int = 0, stop: int = NEVER, **more
):
    return generate(build(config), prompts, max_tokens=count, sampling=sampling, seed=seed, stop=stop, **more)


@pytest.mark.parametrize("config", [CONFIG, LEARNED], ids=["windows", "learned positions"])
@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "sampled"])
def test_generation_is_the_loop_without_a_cache(config, sampling):
    expected = written(config, sampling, 19)
    assert len(set(expected)) == 3
    assert len(set().union(*expected)) > 5  # not one token over and over
    assert run(PROMPTS, sampling, config=config) == [list(tokens) for tokens in expected]


def test_a_row_does_not_depend_on_its_neighbours():
    others = [[7, 7], *PROMPTS[1:2], [1] * 10]
    together, elsewhere = run(PROMPTS, WARM), run(others, WARM)
    assert elsewhere[1] == together[1]
    assert elsewhere[0] != together[0]
    assert run(PROMPTS[:1], WARM) == together[:1]  # alone


def test_the_same_prompt_twice_is_continued_in_two_ways():
    one, other = run([PROMPTS[0]] * 2, WARM)
    assert one != other


def test_the_seed_decides():
    assert run(PROMPTS, WARM, seed=1) == run(PROMPTS, WARM, seed=1)
    for one, other in zip(run(PROMPTS, WARM, seed=1), run(PROMPTS, WARM, seed=2), strict=True):
        assert one != other


@pytest.mark.parametrize("count", [0, 1, 5, CHUNK + 1, 19])
def test_as_many_tokens_as_asked_for(count):
    assert run(PROMPTS, WARM, count) == [list(tokens[:count]) for tokens in written(CONFIG, WARM, 19)]


def test_a_row_ends_before_its_stop_token():
    whole = written(CONFIG, WARM, 19)
    stop = whole[0][3]
    expected = [list(tokens[: tokens.index(stop)]) if stop in tokens else list(tokens) for tokens in whole]
    assert len(expected[0]) <= 3
    assert max(map(len, expected)) > 3  # the others go on
    assert run(PROMPTS, WARM, stop=stop) == expected
    assert run(PROMPTS, WARM, stop=whole[1][0])[1] == []  # at the very first token


def test_the_context_is_the_limit():
    context = CONFIG.context_length
    prompts = [[5] * context, [1, 2, 3], [4] * (context - 6)]
    got = run(prompts, GREEDY, 1000)
    assert [len(p) + len(tokens) for p, tokens in zip(prompts, got, strict=True)] == [
        context + 1
    ] * 3  # the last is never read
    assert got == [naive(build(CONFIG), 0, p, context + 1 - len(p), GREEDY) for p in prompts]


def test_only_the_tokenizers_symbols_are_written():
    got = generate(
        build(CONFIG),
        PROMPTS,
        max_tokens=20,
        sampling=Sampling(9.0),
        seed=0,
        stop=NEVER,
        symbols=CONFIG.vocab_size // 2,
    )
    assert max(max(tokens) for tokens in got) < CONFIG.vocab_size // 2
    assert max(max(tokens) for tokens in run(PROMPTS, Sampling(9.0), 20)) >= CONFIG.vocab_size // 2


def test_a_context_that_is_no_power_of_two():
    config = replace(LEARNED, context_length=21)
    prompts = [[1] * 17, [2, 3]]
    got = run(prompts, GREEDY, 1000, config)
    assert got == [naive(build(config), 0, p, 22 - len(p), GREEDY) for p in prompts]


@pytest.mark.parametrize("stop", [NEVER, 8])
def test_pieces_add_up_to_the_result(stop):
    pieces: dict[int, list[int]] = {0: [], 1: [], 2: []}
    calls = []

    def on_tokens(row: int, tokens: list[int]) -> None:
        assert 0 < len(tokens) <= CHUNK
        assert all(isinstance(token, int) for token in tokens)
        calls.append(row)
        pieces[row] += tokens

    result = run(PROMPTS, WARM, stop=stop, on_tokens=on_tokens)
    assert [pieces[row] for row in range(3)] == result
    if stop == NEVER:  # 19 tokens: the prefill's one, a chunk of 16, the rest
        assert calls == [0, 1, 2] * 3


def test_no_prompts_no_texts():
    assert run([], WARM) == []


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[1], []], "an empty prompt: give at least the document start token"),
        ([[1], [1] * 33], "the prompt has 33 tokens and the model's context 32: shorten it"),
        ([[1] * 40], "the prompt has 40 tokens and the model's context 32: shorten it"),
    ],
)
def test_prompts_that_cannot_be_continued_are_one_clear_line(prompts, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        run(prompts, GREEDY)


def test_compilations_do_not_grow_with_prompts():
    model, sizes = build(CONFIG), (lambda: (prefill._cache_size(), decode._cache_size()))
    run([[1, 2], [3]], GREEDY, 4)
    before = sizes()
    for length in (1, 3, 7, 12):  # within one bucket, and so is the text
        run([list(range(1, length + 1)), [3]], GREEDY, 4, seed=length)
    run([[1, 2], [3]], GREEDY, 3, stop=5)
    assert sizes() == before
    run([[1, 2], [3], [4]], GREEDY, 4)  # another number of rows is another shape: the counters do count
    assert sizes() == tuple(size + 1 for size in before)
    assert model.config == CONFIG


@pytest.mark.parametrize("rows", [1, 3])
def test_generation_on_a_mesh(eight_devices, rows):
    """As the training loop samples: parameters split over the mesh, and rows that do not divide over it."""
    mesh = make_mesh(MeshConfig(2, 2, 2), eight_devices)
    model = jax.device_put(build(ON_MESH), tree_shardings(mesh, build(ON_MESH)))
    with jax.set_mesh(mesh):
        got = generate(model, PROMPTS[:rows], max_tokens=6, sampling=GREEDY, seed=0, stop=NEVER)
    assert got == [naive(build(ON_MESH), 0, prompt, 6, GREEDY) for prompt in PROMPTS[:rows]]


def test_the_sampler_and_a_teacher_forced_pass_agree():
    """Log-probabilities while decoding are those of one pass over the finished text."""
    model = build(CONFIG)
    tokens = tokens_of(CONFIG, 2, 24)
    expected = jax.nn.log_softmax(forward(model, tokens))
    step = jax.jit(lambda model, token, at, cache: model(token, at, cache=cache))
    cache = empty_cache(CONFIG, 2, 32)
    for at in range(24):
        logits, cache = step(model, tokens[:, at : at + 1], np.full((2, 1), at), cache)
        np.testing.assert_allclose(jax.nn.log_softmax(logits[:, 0]), expected[:, at], atol=1e-4)
    assert jnp.all(jnp.isfinite(expected))
