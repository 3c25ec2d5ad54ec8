"""The engine against a loop that has no cache, no neighbours, and reads everything again for each token."""

import functools
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import CONFIGS, build, small, with_config

from data_pipeline.errors import UserError
from lm.inference import programs
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import CANCELLED, LENGTH, STOP, Request
from lm.inference.sampling import Sampling
from lm.model.transformer import Transformer
from lm.sharding import MeshConfig, make_mesh, tree_shardings

GREEDY = Sampling(temperature=0.0)
WARM = Sampling(temperature=1.3, top_k=20, top_p=0.95, min_p=0.01, repetition_penalty=1.2)
# Heads apart from the embedding: a random model with a tied one repeats its last token.
CONFIG = small(kv_heads=2, windows=(0, 7), layer_loop="scan", tied_head=False, context_length=200)
PROMPTS = [(3, 1, 4, 1, 5), (9,), (2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3)]

forward = jax.jit(lambda model, tokens: model(tokens))


def distribution(logits: np.ndarray, tokens: list[int], s: Sampling) -> np.ndarray:
    """Probabilities float64 (V,) that the next token is drawn from, by sorting and by Python's loops."""
    z = logits.astype(np.float64)
    for token in set(tokens):
        z[token] = z[token] / s.repetition_penalty if z[token] > 0 else z[token] * s.repetition_penalty
    z = z / s.temperature
    order = np.argsort(-z)
    p = np.exp(z - z.max())
    if s.top_k:
        p[order[s.top_k :]] = 0
    p /= p.sum()
    if s.top_p < 1:
        needed = int(np.searchsorted(np.cumsum(p[order]), s.top_p)) + 1
        p[order[needed:]] = 0
        p /= p.sum()
    p[p < s.min_p * p.max()] = 0
    return p / p.sum()


def naive(model: Transformer, prompt, count: int, s: Sampling, seed: int = 0, sample: int = 0):
    """Continue one prompt by `count` tokens, a full forward pass for each: tokens, log-probabilities, those of sampling."""
    tokens, log_probs, sampled = list(prompt), [], []
    key = jax.random.fold_in(jax.random.key(seed), sample)
    context = model.config.context_length
    while len(tokens) < len(prompt) + count:
        padded = np.zeros((1, context), np.int32)
        padded[0, : len(tokens)] = tokens
        logits = np.asarray(forward(model, padded)[0, len(tokens) - 1])
        if s.temperature == 0:
            token, p = int(np.argmax(logits)), 1.0
        else:
            u = float(jax.random.uniform(jax.random.fold_in(key, len(tokens))))
            all_p = distribution(logits, tokens, s)
            token = int(np.searchsorted(np.cumsum(all_p), u, side="right"))
            p = all_p[token]
        log_probs.append(float(jax.nn.log_softmax(logits)[token]))
        sampled.append(float(np.log(p)))
        tokens.append(token)
    return tokens[len(prompt) :], log_probs, sampled


@functools.cache
def expected(config, s: Sampling, count: int, seed: int = 0):
    return [naive(build(config), prompt, count, s, seed) for prompt in PROMPTS]


def asked(sampling: Sampling, count: int = 19, prompts=PROMPTS, **more) -> list[Request]:
    return [Request(tuple(prompt), count, sampling, **more) for prompt in prompts]


@functools.cache
def engine(config=CONFIG, slots: int = 4) -> Engine:
    return Engine(build(config), slots=slots, token_bytes=lambda token: bytes([97 + token % 26]))


def tokens_of(results) -> list[list[int]]:
    return [completion.written.tokens for result in results for completion in result]


VARIANTS = {
    "windows": CONFIG,
    "learned positions": replace(CONFIGS["gpt2"], tied_head=False),
    "scalars": replace(CONFIGS["scalars"], tied_head=False),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("sampling", [GREEDY, WARM, Sampling()], ids=["greedy", "bent", "as it is"])
def test_the_engine_is_the_loop_without_a_cache(name, sampling):
    """Tokens, and the agreement of sampler and teacher-forced pass: log-probabilities within 1e-4 in float32."""
    config = VARIANTS[name]
    slow = expected(config, sampling, 15)
    assert len(set().union(*(tokens for tokens, _, _ in slow))) > 5  # not one token over and over
    got = generate(engine(config), asked(sampling, 15))
    for (tokens, log_probs, sampled), (completion,) in zip(slow, got, strict=True):
        written = completion.written
        assert written.tokens == tokens
        np.testing.assert_allclose(written.log_probs, log_probs, atol=1e-4)
        np.testing.assert_allclose(written.sampling_log_probs, sampled, atol=1e-4)
        assert (completion.reason, completion.stopped_by) == (LENGTH, None)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_kind_of_model_decodes_as_it_reads(name):
    """Log-probabilities of what was sampled equal those of one teacher-forced pass over the finished text."""
    model, results = build(CONFIGS[name]), generate(engine(CONFIGS[name]), asked(Sampling(temperature=1.5), 14))
    for prompt, (completion,) in zip(PROMPTS, results, strict=True):
        text = np.array([[*prompt, *completion.written.tokens]])
        scores = jax.nn.log_softmax(model(text))[0, len(prompt) - 1 : -1]
        forced = np.take_along_axis(np.asarray(scores), text[0, len(prompt) :, None], axis=1)[:, 0]
        np.testing.assert_allclose(completion.written.log_probs, forced, atol=1e-4)


def test_in_bfloat16_sampler_and_pass_are_near():
    half = with_config(build(CONFIG), compute_dtype="bfloat16")
    (completion,) = generate(Engine(half), [Request(PROMPTS[2], 60)])[0]
    text = np.array([[*PROMPTS[2], *completion.written.tokens]])
    scores = np.asarray(jax.nn.log_softmax(forward(half, text)))[0, len(PROMPTS[2]) - 1 : -1]
    gap = np.abs(completion.written.log_probs - np.take_along_axis(scores, text[0, 12:, None], axis=1)[:, 0])
    assert 0 < gap.max() < 0.25
    assert gap.mean() < 0.05


def test_more_requests_than_rows_and_texts_that_outgrow_the_cache():
    """Rows are refilled while others go on, the rings wrap, grow and shrink: nobody's text changes."""
    chance = np.random.default_rng(0)
    requests = [
        Request(tuple(chance.integers(0, CONFIG.vocab_size, n).tolist()), count, Sampling(temperature=0.8), seed=n)
        for n, count in ((70, 3), (1, 120), (3, 2), (5, 60), (2, 9), (90, 25), (11, 1), (4, 33), (150, 40), (8, 17))
    ]
    small_engine = Engine(build(CONFIG), slots=3)
    got = generate(small_engine, requests)
    for request, (completion,) in zip(requests, got, strict=True):
        alone = naive(build(CONFIG), request.prompt, request.max_tokens, request.sampling, request.seed)
        assert completion.written.tokens == alone[0]
    assert tokens_of(generate(small_engine, requests[:2])) == tokens_of(got[:2])  # the same again in a used engine


def test_many_short_requests_in_waves():
    """Requests that come while others run, at every phase of the ring."""
    small_engine, texts, told = Engine(build(CONFIG), slots=2), {}, {}
    requests = [Request((1 + i, 2), 5 + 7 * (i % 3), Sampling(), seed=i) for i in range(12)]
    pending = list(requests)
    while pending or not small_engine.idle:
        if pending:
            request = pending.pop(0)
            texts[small_engine.submit(request)] = request
        for update in small_engine.step():
            told.setdefault(update.ticket, []).extend(update.new.tokens)
    for ticket, request in texts.items():
        slow = naive(build(CONFIG), request.prompt, request.max_tokens, request.sampling, request.seed)
        assert told[ticket] == slow[0]


def test_samples_of_one_prompt_share_it_and_differ():
    """n samples are those of n lone requests' keys; more of them than there are rows."""
    (together,) = generate(engine(), [Request(PROMPTS[0], 12, WARM, seed=5, samples=7)])
    texts = [completion.written.tokens for completion in together]
    assert len({tuple(text) for text in texts}) == 7
    assert texts == [naive(build(CONFIG), PROMPTS[0], 12, WARM, 5, sample)[0] for sample in range(7)]
    assert tokens_of(generate(engine(), [Request(PROMPTS[0], 12, WARM, seed=5)])) == texts[:1]


def test_prompts_are_read_once_for_all_samples(monkeypatch):
    read = []
    monkeypatch.setattr(
        "lm.inference.engine.prefill",
        lambda model, cache, tokens, *rest: read.append(tokens.shape) or programs.prefill(model, cache, tokens, *rest),
    )
    generate(engine(slots=8), [Request(PROMPTS[2], 3, WARM, samples=8)])
    assert read == [(1, 16)]


def test_the_seed_decides():
    one, same, other = (tokens_of(generate(engine(), asked(WARM, seed=seed))) for seed in (1, 1, 2))
    assert one == same
    assert all(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("count", [1, 5, programs.CHUNK + 1])
def test_as_many_tokens_as_asked_for(count):
    got = tokens_of(generate(engine(), asked(WARM, count)))
    assert [len(tokens) for tokens in got] == [count] * 3
    assert [tokens[:15] for tokens in got] == [tokens[:count] for tokens, _, _ in expected(CONFIG, WARM, 15)]


def test_a_text_ends_with_its_stop_token():
    whole = [tokens for tokens, _, _ in expected(CONFIG, WARM, 15)]
    stop = whole[0][3]
    results = generate(engine(), asked(WARM, 15, stop_tokens=(stop, 1_000)))
    for tokens, (completion,) in zip(whole, results, strict=True):
        if stop in tokens:
            assert completion.written.tokens == tokens[: tokens.index(stop) + 1]
            assert completion.content == tokens[: tokens.index(stop)]
            assert (completion.reason, completion.stopped_by) == (STOP, stop)
            assert len(completion.written.log_probs) == len(completion.written.tokens)
        else:
            assert completion.written.tokens == completion.content == tokens
            assert completion.reason == LENGTH
    assert results[0][0].reason == STOP
    assert any(completion.reason == LENGTH for (completion,) in results)


def test_a_text_ends_with_its_stop_string():
    """Wherever it lies in tokens, and the earliest of several."""
    tokens = expected(CONFIG, WARM, 15)[0][0]
    text = "".join(chr(97 + token % 26) for token in tokens)
    strings = (text[6:9], text[4:6], "never there")
    end = min(text.find(string) + len(string) for string in strings[:2])
    (completion,) = generate(engine(), asked(WARM, 15, PROMPTS[:1], stop_strings=strings))[0]
    assert completion.written.tokens == completion.content == tokens[:end]
    assert (completion.reason, completion.stopped_by) == (STOP, strings[1])


def test_the_context_is_the_limit():
    config = replace(CONFIG, context_length=21)
    prompts = [(5,) * 21, (1, 2, 3), (4,) * 15]
    got = generate(engine(config), asked(GREEDY, 1000, prompts))
    assert tokens_of(got) == [
        naive(build(config), p, 22 - len(p), GREEDY)[0] for p in prompts
    ]  # the last is never read


def test_only_the_tokenizers_symbols_are_written():
    half = CONFIG.vocab_size // 2
    wild = asked(Sampling(temperature=9.0), 40)
    assert max(map(max, tokens_of(generate(Engine(build(CONFIG), symbols=half), wild)))) < half
    assert max(map(max, tokens_of(generate(engine(), wild)))) >= half


def test_alternatives_are_the_likeliest():
    (completion,) = generate(engine(), asked(WARM, 6, PROMPTS[2:], top=3))[0]
    tokens = [*PROMPTS[2], *completion.written.tokens]
    scores = np.asarray(jax.nn.log_softmax(forward(build(CONFIG), np.array([tokens]))))[0]
    for at, alternatives in enumerate(completion.written.alternatives):
        row = scores[len(PROMPTS[2]) - 1 + at]
        assert [alternative.token for alternative in alternatives] == np.argsort(-row)[:3].tolist()
        np.testing.assert_allclose([a.log_prob for a in alternatives], np.sort(row)[::-1][:3], atol=1e-4)
    assert len(completion.written.alternatives) == 6


def test_cancelled_requests_give_their_rows_back():
    small_engine = Engine(build(CONFIG), slots=2)
    first = small_engine.submit(Request((1,), 150, samples=3))
    second = small_engine.submit(Request((2,), 4, GREEDY))
    small_engine.step()
    assert (small_engine.running, small_engine.waiting) == (2, 2)
    small_engine.cancel(first)
    assert (small_engine.running, small_engine.waiting) == (0, 1)
    updates = []
    while not small_engine.idle:
        updates += small_engine.step()
    ends = {(update.ticket, update.sample): update.reason for update in updates if update.reason}
    assert ends == {(first, 0): CANCELLED, (first, 1): CANCELLED, (first, 2): CANCELLED, (second, 0): LENGTH}
    small_engine.cancel(first)  # long gone: nothing happens
    assert small_engine.step() == []
    written = [token for update in updates if update.ticket == second for token in update.new.tokens]
    assert written == naive(build(CONFIG), (2,), 4, GREEDY)[0]


def test_updates_add_up_to_the_result():
    pieces = {}
    results = generate(engine(), asked(WARM, 50), lambda i, update: pieces.setdefault(i, []).extend(update.new.tokens))
    assert [pieces[i] for i in range(3)] == tokens_of(results)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request((), 1), "an empty prompt: give at least the document start token"),
        (Request((1,) * 201, 1), "the prompt has 201 tokens and the model's context 200: shorten it"),
        (Request((1,), 0), "max_tokens=0: must be at least 1"),
        (Request((1,), 1, samples=0), "samples=0: must be at least 1"),
        (Request((1,), 1, seed=-1), "seed=-1: must be at least 0 and below 2^32"),
        (Request((1,), 1, seed=2**32), "seed=4294967296: must be at least 0 and below 2^32"),
        (Request((1,), 1, top=-1), "top=-1: must not be negative"),
        (Request((1,), 1, Sampling(top_k=-1)), "top_k=-1: must be 0 (all tokens) or more, and below 2^31"),
        (Request((1,), 1, stop_strings=("a", "")), "an empty stop string would stop everything: leave it out"),
        (Request((1, 50_000), 1), "token 50000 is outside the model's vocabulary of 60"),
        (Request((-1,), 1), "token -1 is outside the model's vocabulary of 60"),
    ],
)
def test_requests_that_cannot_be_served_are_one_clear_line(request_, message):
    message = message.replace("of 60", f"of {CONFIG.vocab_size}")
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        generate(engine(), [Request((1,), 2), request_])
    assert engine().idle  # the good one was not begun either


def test_stop_strings_need_a_tokenizer():
    with pytest.raises(UserError, match="stop strings need a tokenizer"):
        Engine(build(CONFIG)).submit(Request((1,), 1, stop_strings=("x",)))


def test_scores_that_are_no_numbers_end_in_an_error():
    broken = jax.tree.map(lambda x: x * jnp.nan, build(CONFIG))
    with pytest.raises(UserError, match="the model's scores are not finite"):
        generate(Engine(broken), [Request((1,), 4, GREEDY)])


def test_requests_compile_nothing_new():
    """Two programs for any prompt, length, seed and sampling within their buckets."""
    warm = Engine(build(replace(CONFIG, mlp_width=24)), slots=2)
    counts = lambda: (programs.prefill._cache_size(), programs.decode._cache_size())  # noqa: E731
    generate(warm, [Request((1, 2, 3), 4), Request((1,), 4)])
    before = counts()
    for length in (2, 3, 9, 16):
        sampling = Sampling(temperature=0.1 * length)
        generate(warm, [Request((1,) * length, length, sampling, seed=length), Request((3,), 2 * length)])
    assert counts() == before
    generate(warm, [Request((1,) * 40, 2)])  # a longer prompt is another bucket: the counters do count
    assert counts()[0] == before[0] + 1


def test_ways_of_sampling_share_three_programs():
    """Greedy, drawn as it is, and everything else; stop tokens and alternatives in few sizes."""
    warm = Engine(build(replace(CONFIG, mlp_width=28)), slots=1)
    before = programs.decode._cache_size()
    ways = [{"temperature": 0.0, "top_k": 3}, {"temperature": 0.0}, {}, {"temperature": 0.5}]
    ways += [
        {"top_k": 5},
        {"top_p": 0.9},
        {"min_p": 0.1},
        {"repetition_penalty": 1.3},
        {"temperature": 0.0, "repetition_penalty": 2},
    ]
    for number, way in enumerate(ways):
        generate(warm, [Request((1, 2), 3, Sampling(**way), stop_tokens=(500,) * (number % 5))])
    assert programs.decode._cache_size() == before + 3
    for top in (1, 5, 20):
        generate(warm, [Request((1, 2), 3, GREEDY, top=top)])
    assert programs.decode._cache_size() == before + 4


def test_compiled_programs_are_dropped_when_there_are_many(monkeypatch):
    """Requests of every kind, twice, with room for few programs: the same texts, and never more than fit."""
    for name in ("PREFILLS", "PROGRAMS"):
        monkeypatch.setattr(programs, name, 2)
    few = Engine(build(replace(CONFIG, mlp_width=20)), slots=8)
    requests = [Request((1,) * n, n, s, samples=1 + n % 5) for n in (3, 30) for s in (GREEDY, Sampling())]
    texts, most = [], 0
    for request in [*requests, *requests]:
        texts.append(tokens_of(generate(few, [request])))
        most = max(
            most, programs.decode._cache_size(), programs.prefill._cache_size(), programs.rearrange._cache_size()
        )
    assert most <= 2 + 4  # what one request adds before the next looks
    assert texts[: len(requests)] == texts[len(requests) :]


@pytest.mark.parametrize("rows", [1, 3])
def test_generation_on_a_mesh(eight_devices, rows):
    """As the training loop samples: parameters split over the mesh, and rows that do not divide over it."""
    config = small(kv_heads=2, vocab_size=30, tied_head=False)
    mesh = make_mesh(MeshConfig(2, 2, 2), eight_devices)
    model = jax.device_put(build(config), tree_shardings(mesh, build(config)))
    with jax.set_mesh(mesh):
        got = generate(Engine(model), asked(GREEDY, 6, PROMPTS[:rows]))
    assert tokens_of(got) == [naive(build(config), prompt, 6, GREEDY)[0] for prompt in PROMPTS[:rows]]
