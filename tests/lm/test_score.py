"""Scores against a slow obvious version: one text at a time, a softmax in numpy."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import CONFIGS, build, small

from data_pipeline.errors import UserError
from lm.inference import score
from lm.inference.score import rolling_log_probs, score_continuations, windows

MODEL = build(small(vocab_size=11, context_length=40))
FORWARD = jax.jit(lambda tokens: MODEL.logits(MODEL.hidden(tokens)[0])[0])


def logits_of(tokens: list[int]) -> np.ndarray:
    """At each of at most 40 tokens: they cannot see the padding that comes after them."""
    return np.asarray(FORWARD(np.array([tokens + [0] * (40 - len(tokens))])), np.float64)[: len(tokens)]


def slowly(prompt: list[int], continuation: list[int], symbols: int | None = None) -> tuple[float, bool]:
    logits = logits_of([*prompt, *continuation][:-1])
    total, greedy = 0.0, True
    for at, token in enumerate(continuation, len(prompt) - 1):
        total += logits[at, token] - np.log(np.exp(logits[at]).sum())
        greedy &= int(logits[at, :symbols].argmax()) == token
    return total, greedy


def some_pairs() -> list[tuple[list[int], list[int]]]:
    chance = np.random.default_rng(0)
    lengths = [(1, 1), (3, 5), (9, 2), (16, 1), (1, 16), (16, 16), (17, 17), (1, 40), (40, 1), (20, 4), (2, 3)]
    return [(chance.integers(0, 11, a).tolist(), chance.integers(0, 11, b).tolist()) for a, b in lengths]


@pytest.mark.parametrize("dispatch", [16, 64, 8192])
def test_scores_do_not_depend_on_neighbours_and_padding(monkeypatch, dispatch):
    monkeypatch.setattr(score, "TOKENS", dispatch)
    pairs = some_pairs()
    done = []
    scores = score_continuations(MODEL, pairs, done.append)
    expected = [slowly(*pair) for pair in pairs]
    np.testing.assert_allclose(scores.log_probs, [total for total, _ in expected], atol=1e-4)
    assert scores.greedy.tolist() == [greedy for _, greedy in expected]
    assert sum(done) == len(pairs)


def test_what_greedy_decoding_writes_is_greedy_and_one_other_token_is_not():
    tokens = [3]
    for _ in range(20):
        tokens.append(int(logits_of(tokens)[-1, :3].argmax()))
    other = [*tokens[:-1], (tokens[-1] + 1) % 3]
    pairs = [(tokens[:1], tokens[1:]), (tokens[:5], tokens[5:]), (other[:1], other[1:])]
    assert score_continuations(MODEL, pairs, symbols=3).greedy.tolist() == [True, True, False]
    assert not score_continuations(MODEL, pairs).greedy.any()  # other symbols of the eleven are likelier somewhere


def test_texts_of_another_length_share_a_program():
    sizes = [(length, score._width(length)) for length in range(1, 300)]
    assert all(length <= width and width % score.CHUNK == 0 for length, width in sizes)
    assert all(2 * length > width for length, width in sizes if length > 16)
    assert len({width for _, width in sizes}) == 9  # 16, 32, 48, 64, 96, 128, 192, 256, 512 (or 384)


@given(length=st.integers(1, 60), context=st.integers(1, 12), data=st.data())
def test_windows_ask_for_every_token_once(length, context, data):
    overlap = data.draw(st.integers(1, context))
    tokens = list(range(length))
    cut = windows(tokens, context, overlap)
    assert [token for _, asked in cut for token in asked] == tokens[1:]
    for number, (before, asked) in enumerate(cut):
        assert len(before) + len(asked) <= context + 1
        assert [*before, *asked] == tokens[before[0] : asked[-1] + 1]
        assert number == 0 or len(before) >= overlap


def test_a_long_text_is_the_sum_of_its_windows():
    chance = np.random.default_rng(1)
    texts = [chance.integers(0, 11, length).tolist() for length in (0, 1, 39, 40, 41, 100)]
    for overlap in (1, 20, 40):
        expected = [sum(slowly(*pair)[0] for pair in windows([5, *text], 40, overlap)) for text in texts]
        np.testing.assert_allclose(rolling_log_probs(MODEL, texts, 5, overlap=overlap), expected, atol=1e-3)
    # With all the context that there is, the last token is predicted from the 40 before it.
    whole = texts[-1]
    assert windows([5, *whole], 40, 40)[-1] == (whole[-41:-1], whole[-1:])


def test_learned_positions_are_read_too():
    model = build(CONFIGS["gpt2"])
    assert np.isfinite(score_continuations(model, [([1], [2] * 32)]).log_probs).all()


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(UserError, match="a text has 42 tokens and the model's context is 40"):
        score_continuations(MODEL, [([1] * 20, [2] * 22)])
    with pytest.raises(UserError, match="an empty prompt"):
        score_continuations(MODEL, [([], [2])])
    with pytest.raises(ValueError, match="an overlap of 0"):
        windows([1, 2], 4, 0)
    assert score_continuations(MODEL, []).log_probs.shape == (0,)
