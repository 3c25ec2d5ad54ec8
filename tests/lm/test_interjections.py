"""Tools' answers put into a text by the engine, against a loop that writes token by token and puts them in itself."""

import random
import threading
import time

import numpy as np
import pytest
from test_engine import CONFIG, GREEDY, PROMPTS, engine, naive
from tiny_models import build

from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import CANCELLED, LENGTH, STOP, Interjection, Request
from lm.inference.sampling import Sampling

WARM = Sampling(temperature=1.2)
PAUSES = tuple(range(0, CONFIG.vocab_size, 5))


def answer_to(tokens: list[int]) -> list[int]:
    """Something that depends on all that was written: its length, and a few of its tokens backwards."""
    return [len(tokens) % 7, *tokens[:-4:-1]]


def slow(prompt, count: int, seed: int, sample: int = 0):
    """Tokens, whether each was drawn, and the log-probability of those that were."""
    text, drawn, log_probs = list(prompt), [], []
    while sum(drawn) < count:
        (token,), (log_p,), _ = naive(build(CONFIG), text, 1, WARM, seed, sample)
        text.append(token)
        drawn.append(True)
        log_probs.append(log_p)
        if token in PAUSES and sum(drawn) < count:
            told = answer_to(text[len(prompt) :])
            text += told
            drawn += [False] * len(told)
            log_probs += [0.0] * len(told)
    return text[len(prompt) :], drawn, log_probs


def test_answers_are_context_and_nothing_else():
    """Every sample equals the slow loop, though rows pause, resume in other places and have neighbours that do not pause."""
    requests = [
        Request(tuple(p), 8, WARM, seed=i, samples=2, interjection=Interjection(PAUSES, answer_to))
        for i, p in enumerate(PROMPTS)
    ]
    plain = Request(PROMPTS[0], 20, WARM, seed=9)
    *got, (alone,) = generate(Engine(build(CONFIG), slots=3), [*requests, plain])
    paused = 0
    for request, samples in zip(requests, got, strict=True):
        for i, completion in enumerate(samples):
            tokens, drawn, log_probs = slow(request.prompt, 8, request.seed, i)
            assert completion.written.tokens == tokens
            assert completion.written.drawn == drawn
            np.testing.assert_allclose(completion.written.log_probs, log_probs, atol=1e-4)
            assert completion.reason == LENGTH
            paused += drawn.count(False)
    assert paused > 5
    assert alone.written.tokens == naive(build(CONFIG), plain.prompt, 20, WARM, 9)[0]


def one_that_pauses(answer, **more) -> tuple[Request, list[int]]:
    """A greedy request that pauses at its third token or before, and what it writes until then."""
    tokens, _, _ = naive(build(CONFIG), PROMPTS[0], 3, GREEDY)
    first = tokens[: tokens.index(tokens[2]) + 1]
    return Request(PROMPTS[0], 20, GREEDY, interjection=Interjection((tokens[2],), answer), **more), first


def test_no_answer_is_the_end():
    request, first = one_that_pauses(lambda tokens: None)
    ((completion,),) = generate(engine(), [request])
    assert (completion.written.tokens, completion.reason, completion.stopped_by) == (first, STOP, first[-1])


def test_a_stop_token_is_not_asked_about():
    request, first = one_that_pauses(lambda tokens: pytest.fail("it was asked"))
    ((completion,),) = generate(
        engine(), [Request(request.prompt, 20, GREEDY, stop_tokens=(first[-1],), interjection=request.interjection)]
    )
    assert completion.reason == STOP


def test_an_answer_that_does_not_fit_into_the_context_ends_the_text():
    request, first = one_that_pauses(lambda tokens: [1] * 1000)
    ((completion,),) = generate(engine(), [request])
    room = CONFIG.context_length - len(PROMPTS[0]) - len(first)
    assert completion.written.tokens == [*first, *[1] * room]
    assert completion.reason == LENGTH


def test_the_others_go_on_while_one_waits():
    done = threading.Event()
    request, _ = one_that_pauses(lambda tokens: [1] if done.wait(20) else pytest.fail("nobody went on"))
    e = Engine(build(CONFIG), slots=2)
    waits, goes = e.submit(request), e.submit(Request(PROMPTS[1], 60, GREEDY))
    ended = []
    while not e.idle:
        for update in e.step():
            if update.reason:
                ended.append(update.ticket)
                done.set()
    assert ended == [goes, waits]


def test_a_sample_that_waits_can_be_cancelled():
    release = threading.Event()
    request, _ = one_that_pauses(lambda tokens: [1] if release.wait(20) else None)
    e = Engine(build(CONFIG), slots=2)
    ticket = e.submit(request)
    while e.running or e.waiting or not e._paused:
        e.step()
    e.cancel(ticket)
    release.set()
    assert [(u.ticket, u.reason) for u in e.step()] == [(ticket, CANCELLED)]
    assert e.idle


def test_alternatives_stay_beside_their_tokens():
    request, first = one_that_pauses(lambda tokens: [3, 4], top=2)
    ((completion,),) = generate(engine(), [request])
    counts = [len(each) for each in completion.written.alternatives]
    assert counts[: len(first) + 2] == [2] * len(first) + [0, 0]
    assert len(counts) == len(completion.written.tokens)


def test_an_error_in_the_answer_is_told():
    def broken(tokens):
        raise RuntimeError("a bug in a tool")

    request, _ = one_that_pauses(broken)
    with pytest.raises(RuntimeError, match="a bug in a tool"):
        generate(Engine(build(CONFIG), slots=1), [request])


def test_a_steady_engine_gives_the_same_bits_however_long_tools_take():
    """Rows pause all the time, for times drawn by lot, and their log-probabilities are equal to the last bit."""

    def run(luck: random.Random, **how) -> list:
        def answer(tokens: list[int]) -> list[int]:
            time.sleep(luck.random() / 100)
            return answer_to(tokens)

        told = Interjection(PAUSES, answer)
        requests = [Request(tuple(p), 12, WARM, seed=i, samples=16, interjection=told) for i, p in enumerate(PROMPTS)]
        found = generate(Engine(build(CONFIG), slots=24, **how), requests)
        return [(each.written.tokens, each.written.log_probs) for samples in found for each in samples]

    first = run(random.Random(0), steady=True)
    assert sum(token in PAUSES for tokens, _ in first for token in tokens) > 30
    assert run(random.Random(1), steady=True) == first
    # Without it they are the same but for rounding.
    for (tokens, log_probs), (others, theirs) in zip(first, run(random.Random(2)), strict=True):
        assert tokens == others
        np.testing.assert_allclose(log_probs, theirs, atol=1e-4)
