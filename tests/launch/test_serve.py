"""The server as OpenAI's own client sees it, over a small untrained model, whose text is anything: bytes, half characters."""

import asyncio
import urllib.request

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from serving import CONTEXT, MODEL, VOCAB, fetch, serving, tokenizer

from data_pipeline import protocol
from data_pipeline.conversation import said
from data_pipeline.special_tokens import ASSISTANT_START, SPECIAL_TOKENS
from launch.serve import serve_model
from lm.model.transformer import Transformer

openai = pytest.importorskip("openai", reason='needs pip install "trivium[dev]"')

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def model():
    made = Transformer(jax.random.key(0), MODEL)
    return jax.tree.map(
        lambda x: 4 * x if x.ndim > 1 else x, made
    )  # as initialised, all tokens are about equally likely


@pytest.fixture(scope="module")
def symbols(tmp_path_factory):
    return tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def url(model, symbols):
    with serving(serve_model("tiny", model, symbols, slots=8, waiting=100)) as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0)


def complete(client, prompt="hello", extra=None, **values):
    values = {"max_tokens": 20, "seed": 1} | values
    return client.completions.create(model="tiny", prompt=prompt, extra_body=extra or {}, **values)


def chat(client, messages=HELLO, extra=None, **values):
    values = {"max_tokens": 20, "seed": 1} | values
    return client.chat.completions.create(model="tiny", messages=messages, extra_body=extra or {}, **values)


def streamed(stream):
    """A stream of completions put together by hand: text, finish reason and token ids of each choice, and the usage."""
    texts, reasons, ids, usage = {}, {}, {}, None
    for event in stream:
        usage = event.usage or usage
        for choice in event.choices:
            text = choice.text if hasattr(choice, "text") else choice.delta.content
            assert choice.index not in reasons, "nothing comes after the end"
            texts[choice.index] = texts.get(choice.index, "") + text
            ids.setdefault(choice.index, []).extend(getattr(choice, "token_ids", None) or [])
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    return texts, reasons, ids, usage


def scores(model, tokens):
    """log p of every symbol after each token, in one pass without a cache."""
    hidden, *_ = model.hidden(jnp.array([tokens]))
    return np.asarray(jax.nn.log_softmax(model.logits(hidden[0])))


def test_models(client):
    (found,) = client.models.list()
    assert (found.id, found.object, found.context_length, found.vocab_size) == ("tiny", "model", CONTEXT, VOCAB)
    assert client.models.retrieve("tiny").id == "tiny"


def test_a_completion_greedily_is_what_the_model_finds_likeliest(client, model, symbols):
    made = complete(client, temperature=0, logprobs=3, extra={"return_token_ids": True})
    (choice,) = made.choices
    prompt = [symbols.document_start, *symbols.encode("hello")]
    assert choice.prompt_token_ids == prompt
    log_p = scores(model, prompt + choice.token_ids)[len(prompt) - 1 : -1]
    assert choice.token_ids == log_p.argmax(axis=1).tolist()
    np.testing.assert_allclose(choice.logprobs.token_logprobs, log_p.max(axis=1), atol=5e-4)
    for at, (token, likeliest) in enumerate(zip(choice.token_ids, choice.logprobs.top_logprobs, strict=True)):
        best = np.argsort(-log_p[at])[:3]
        assert likeliest == pytest.approx({symbols.piece(int(t)): log_p[at, t] for t in best}, abs=5e-4)
        assert choice.logprobs.tokens[at] == symbols.piece(token)
    assert choice.text == symbols.decode(choice.token_ids)
    assert choice.finish_reason == "length"
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (len(prompt), 20)


def test_echo_scores_the_prompt(client, model, symbols):
    prompt = symbols.encode("hello there, you")
    made = complete(client, prompt, max_tokens=0, echo=True, logprobs=2)
    (choice,) = made.choices
    log_p = scores(model, prompt)
    assert choice.text == "hello there, you"
    assert choice.logprobs.token_logprobs[0] is None
    expected = [log_p[at, token] for at, token in enumerate(prompt[1:])]
    np.testing.assert_allclose(choice.logprobs.token_logprobs[1:], expected, atol=5e-4)
    best = {symbols.piece(int(t)): log_p[2, t] for t in [*np.argsort(-log_p[2])[:2], prompt[3]]}
    assert choice.logprobs.top_logprobs[3] == pytest.approx(best, abs=5e-4)
    pieces = [symbols.decode([token]) for token in prompt]
    assert choice.logprobs.text_offset == [len("".join(pieces[:at])) for at in range(len(pieces))]
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (len(prompt), 0)
    # A text begins a document, and that is no part of the echo.
    both = complete(client, "hello there, you", max_tokens=3, echo=True, logprobs=0).choices[0]
    assert both.text == "hello there, you" + complete(client, "hello there, you", max_tokens=3).choices[0].text
    assert len(both.logprobs.tokens) == len(prompt) + 3
    assert None not in both.logprobs.token_logprobs


def test_samples_prompts_and_seeds(client):
    four = complete(client, n=4).choices
    assert [choice.index for choice in four] == [0, 1, 2, 3]
    assert len({choice.text for choice in four}) == 4
    assert [choice.text for choice in complete(client, n=4).choices] == [choice.text for choice in four]
    assert complete(client).choices[0].text == four[0].text
    assert complete(client, seed=2).choices[0].text != four[0].text
    assert complete(client, seed=openai.omit).choices[0].text != complete(client, seed=openai.omit).choices[0].text
    several = complete(client, ["hello", "good day"], n=2).choices
    assert [choice.text for choice in several] == [
        choice.text for prompt in ("hello", "good day") for choice in complete(client, prompt, n=2).choices
    ]
    ids = complete(client, [[20, 21], [22]], extra={"return_token_ids": True}).choices
    assert [choice.prompt_token_ids for choice in ids] == [[20, 21], [22]]
    cold = complete(client, extra={"top_k": 1}).choices[0].text
    assert (
        cold
        == complete(client, temperature=0).choices[0].text
        == complete(client, extra={"min_p": 1.0}).choices[0].text
    )
    assert cold != complete(client, temperature=0, extra={"repetition_penalty": 5.0}).choices[0].text


@pytest.mark.parametrize("call", [complete, chat])
def test_a_stream_says_the_same_as_a_whole_answer(client, call):
    whole = call(client, n=3, max_tokens=60, extra={"return_token_ids": True})
    stream = call(
        client,
        n=3,
        max_tokens=60,
        stream=True,
        stream_options={"include_usage": True},
        extra={"return_token_ids": True},
    )
    texts, reasons, ids, usage = streamed(stream)
    for choice in whole.choices:
        text = choice.text if call is complete else choice.message.content
        assert (texts[choice.index], reasons[choice.index], ids[choice.index]) == (
            text,
            choice.finish_reason,
            choice.token_ids,
        )
    assert usage == whole.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens == sum(map(len, ids.values()))


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_across_tokens(client, symbols, stream):
    """Every stop string that the text holds, at whatever place, cuts it right before; nothing of it is ever told."""
    tries = ((seed, complete(client, max_tokens=60, logprobs=0, seed=seed).choices[0]) for seed in range(50))
    seed, whole = next((seed, choice) for seed, choice in tries if choice.finish_reason == "length")
    cut = 0
    for at in whole.logprobs.text_offset[3::5]:
        stop = whole.text[at - 1 : at + 2]  # the last character of a token, the first of the next
        if "\ufffd" in stop or len(stop) < 3:  # it stands for bytes that are no character: the model did not write one
            continue
        made = complete(client, max_tokens=60, seed=seed, stop=[stop, "no such text"], stream=stream)
        if stream:
            texts, reasons, _, _ = streamed(made)
            text, reason = texts[0], reasons[0]
        else:
            text, reason = made.choices[0].text, made.choices[0].finish_reason
        assert text == whole.text[: whole.text.index(stop)]
        assert reason == "stop"
        cut += 1
    assert cut > 3


def test_chat(client, symbols):
    turns = [said("system", "be brief"), said("user", "hello <|assistant_start|>")]
    messages = [
        {"role": "developer", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "hello "}, {"type": "text", "text": "<|assistant_start|>"}],
        },
    ]
    for style in ("plain", "tokens"):
        made = chat(
            client,
            messages,
            max_tokens=openai.omit,
            max_completion_tokens=9,
            logprobs=True,
            top_logprobs=2,
            extra={"return_token_ids": True, "style": style},
        )
        (choice,) = made.choices
        prompt = protocol.prompt(symbols, turns, style).tokens
        assert made.prompt_token_ids == list(prompt)
        assert prompt.count(symbols.special_tokens[ASSISTANT_START]) == (style == "tokens")
        assert choice.message.role == "assistant"
        text = symbols.decode(choice.token_ids)
        assert choice.message.content == (text.lstrip() if style == "plain" else text)
        assert [bytes(item.bytes or []) for item in choice.logprobs.content] == list(
            map(symbols.token_bytes, choice.token_ids)
        )
        for item in choice.logprobs.content:
            assert len(item.top_logprobs) == 2
            assert item.top_logprobs[0].logprob >= item.top_logprobs[1].logprob
    # What the client was answered can be sent back as it is.
    again = chat(client, [*HELLO, chat(client).choices[0].message, {"role": "user", "content": "and?"}])
    assert again.choices[0].finish_reason in ("length", "stop")


def test_special_tokens_in_text_are_text(client, symbols, url):
    text = "".join(SPECIAL_TOKENS)
    found = fetch(f"{url}/tokenize", {"text": text})
    assert found["ids"] == symbols.encode(text)
    assert not any(found["special"])
    assert "".join(found["pieces"]) == text
    made = complete(client, text, max_tokens=1, extra={"return_token_ids": True}).choices[0]
    assert made.prompt_token_ids == [symbols.document_start, *symbols.encode(text)]
    found = fetch(f"{url}/tokenize", {"messages": HELLO, "style": "tokens"})
    assert [piece for piece, special in zip(found["pieces"], found["special"], strict=True) if special] == [
        "<|document_start|>",
        "<|user_start|>",
        "<|end_of_turn|>",
        "<|assistant_start|>",
    ]


def test_the_context_can_be_filled(client):
    made = complete(client, [20] * (CONTEXT - 3), max_tokens=4)
    assert made.usage.total_tokens == CONTEXT + 1  # the last one need not be read
    rest = chat(client, max_tokens=openai.omit, extra={"return_token_ids": True})
    if rest.choices[0].finish_reason == "length":
        assert rest.usage.total_tokens == CONTEXT + 1


def test_64_clients_at_once_get_what_each_would_get_alone(url, client):
    asks = [
        {"prompt": f"hello {i}", "seed": i, "max_tokens": 5 + i % 20, "temperature": i % 3 / 2, "n": 1 + i % 2}
        for i in range(64)
    ]
    alone = [[choice.text for choice in complete(client, **ask).choices] for ask in asks]

    async def all_at_once():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as together:
            answers = [together.completions.create(model="tiny", **ask) for ask in asks]
            return [[choice.text for choice in answer.choices] for answer in await asyncio.gather(*answers)]

    assert asyncio.run(all_at_once()) == alone


def test_the_playground_is_served(url, tmp_path, monkeypatch):
    monkeypatch.setattr("launch.server.app.PLAYGROUND", tmp_path)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/")
    for name, contents, kind in (
        ("index.html", "<p>é", "text/html; charset=utf-8"),
        ("chat.js", "1", "text/javascript; charset=utf-8"),
        ("style.css", "p {}", "text/css; charset=utf-8"),
    ):
        (tmp_path / name).write_text(contents)
        with urllib.request.urlopen(f"{url}/{'' if name == 'index.html' else name}") as answer:
            assert (answer.headers["Content-Type"], answer.read().decode()) == (kind, contents)
    (tmp_path / "notes.txt").write_text("private")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/notes.txt")
