"""Whatever a client does wrong is told in OpenAI's form, names the parameter, and leaves the server as it was."""

import collections
import concurrent.futures
import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request

import nonsense
import pytest
from serving import played, serving, wait_for

openai = pytest.importorskip("openai", reason='needs pip install "trivium[dev]"')


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizer")


@pytest.fixture(scope="module")
def server(folder):
    served, engine = played(folder, slots=8)
    with serving(served) as url:
        yield url, served, engine


def fetch(url, contents=None, method=None, **headers):
    """Status, headers and body."""
    headers = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, contents, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def refused(url, path, body, **headers):
    """Status and the `error` of a request that must be refused."""
    contents = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, headers, answer = fetch(url + path, contents, **headers)
    fields = json.loads(answer)
    assert fields.keys() == {"error"}
    assert fields["error"].keys() == {"message", "type", "param", "code"}
    assert headers["Content-Type"] == "application/json"
    return status, fields["error"]


USER = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("body", "status", "param", "told"),
    [
        (b"{", 400, None, "the body is not JSON"),
        (b"", 400, None, "the body is not JSON"),
        (b"[]", 400, None, "must be a JSON object"),
        (b'{"prompt": "caf\xe9"}', 400, None, "not UTF-8: byte 0xe9 at 15"),
        (b'{"prompt": "\\ud800"}', 400, None, "lone surrogate"),
        ({"prompt": "x", "stop": "\udfff"}, 400, None, "lone surrogate"),
        ({"prompt": "x", "\udfff": 1}, 400, None, "lone surrogate"),
        (b'{"prompt": "a", "temperature": NaN}', 400, None, "NaN is not JSON"),
        (b'{"prompt": ' + b"[" * 100_000, 400, None, "the body is not JSON"),
        ({}, 400, "prompt", "prompt is missing"),
        ({"prompt": "x", "model": "other"}, 404, "model", "no model 'other': there is played"),
        ({"prompt": []}, 400, "prompt", "empty prompt"),
        ({"prompt": [[1], []]}, 400, "prompt", "empty prompt"),
        ({"prompt": [1, 600]}, 400, "prompt", "token 600 is outside the vocabulary of 600"),
        ({"prompt": {"text": "x"}}, 400, "prompt", "must be a string, a list of strings"),
        ({"prompt": [True]}, 400, "prompt", "must be a string, a list of strings"),
        ({"prompt": [2] * 257}, 400, "prompt", "the prompt has 257 tokens and the model's context 256"),
        (
            {"prompt": [2] * 257, "max_tokens": 0, "echo": True},
            400,
            "prompt",
            "1 tokens longer than the context of 256",
        ),
        ({"prompt": "a" * 100_000}, 400, "prompt", "tokens and the model's context 256"),
        ({"prompt": "x", "max_tokens": -1}, 400, "max_tokens", "max_tokens=-1: "),
        ({"prompt": "x", "max_tokens": 0}, 400, None, "max_tokens=0: must be at least 1, but with echo"),
        ({"prompt": "x", "max_tokens": 10**30}, 400, "max_tokens", "give at most 255"),
        ({"prompt": "x", "max_tokens": "3"}, 400, "max_tokens", "max_tokens='3': "),
        ({"prompt": "x", "max_tokens": True}, 400, "max_tokens", "max_tokens=True: "),
        ({"prompt": "x", "temperature": -0.5}, 400, "temperature", "temperature=-0.5: "),
        ({"prompt": "x", "temperature": 1e-40}, 400, "temperature", "must be 0 (greedy) or at least 0.001"),
        ({"prompt": "x", "top_p": 1e-50}, 400, "top_p", "top_p=1e-50: "),
        ({"prompt": "x", "top_k": 2**31}, 400, "top_k", "top_k=2147483648: "),
        ({"prompt": "x", "repetition_penalty": 1e-50}, 400, "repetition_penalty", "repetition_penalty=1e-50: "),
        ({"prompt": "x", "top_p": 0}, 400, "top_p", "top_p=0: "),
        ({"prompt": "x", "top_k": -1}, 400, "top_k", "top_k=-1: "),
        ({"prompt": "x", "n": 0}, 400, "n", "n=0: "),
        ({"prompt": ["x"] * 73}, 400, "n", "73 texts at once: at most 72"),
        ({"prompt": ["x"] * 73, "max_tokens": 0, "echo": True}, 400, "n", "73 texts at once: at most 72"),
        ({"prompt": "x", "seed": 2**32}, 400, "seed", "seed=4294967296: "),
        ({"prompt": "x", "stop": ["a"] * 5}, 400, "stop", "at most 4 items"),
        ({"prompt": "x", "stop": ""}, 400, "stop[0]", "at least 1 character"),
        ({"prompt": "x", "logprobs": 21}, 400, "logprobs", "logprobs=21: "),
        ({"prompt": "x", "best_of": 3}, 400, "best_of", "best_of is not served here"),
        ({"prompt": "x", "suffix": "y"}, 400, "suffix", "suffix is not served here"),
        ({"prompt": "x", "frequency_penalty": 0.5}, 400, "frequency_penalty", "is not served here"),
        ({"prompt": "x", "temprature": 1}, 400, "temprature", "did you mean temperature?"),
        ({"prompt": "x", "stream_options": {"include_usage": True}}, 400, None, "needs stream=true"),
        ({"messages": USER}, 400, "messages", "unknown parameter messages"),
    ],
)
def test_completions(server, body, status, param, told):
    found, error = refused(server[0], "/v1/completions", body)
    assert (found, error["param"]) == (status, param), error
    assert told in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "param", "told"),
    [
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": "hello"}, "messages", "valid list"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "messages[0].content is missing"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", "messages[0].role='king': "),
        ({"messages": [*USER, *USER]}, "messages", "a turn of the user after user"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "the user first"),
        ({"messages": [*USER, {"role": "assistant", "content": "x"}]}, "messages", "the last turn must be the user's"),
        ({"messages": [{"role": "user", "content": "a" * 100_000}]}, "messages", "and the model's context 256"),
        ({"messages": USER, "response_format": {"type": "json_object"}}, "response_format", "is not served here"),
        ({"messages": USER, "max_tokens": 1, "max_completion_tokens": 2}, None, "differ: give one of them"),
        ({"messages": USER, "max_completion_tokens": 0}, "max_completion_tokens", "max_completion_tokens=0: "),
        ({"messages": USER, "top_logprobs": 3}, None, "top_logprobs needs logprobs=true"),
        ({"messages": USER, "style": "loud"}, "style", "style='loud': "),
    ],
)
def test_chat(server, body, param, told):
    status, error = refused(server[0], "/v1/chat/completions", body)
    assert (status, error["param"]) == (400, param), error
    assert told in error["message"]


def test_other_mistakes(server):
    url = server[0]
    assert refused(url, "/v1/embeddings", {})[0] == 404
    assert refused(url, "/no.js", b"", method="GET")[0] == 404
    assert refused(url, "/..%2fserve.py", b"", method="GET")[0] == 404
    status, headers, answer = fetch(url + "/v1/completions")
    assert (status, headers["Allow"], json.loads(answer)["error"]["type"]) == (405, "POST", "invalid_request_error")
    assert refused(url, "/v1/models/other", b"", method="GET")[1]["code"] == "model_not_found"
    assert refused(url, "/v1/completions", {"prompt": "x"}, Content_Type="text/plain")[0] == 415
    assert "one of them" in refused(url, "/tokenize", {"text": "a", "messages": USER})[1]["message"]


def test_a_large_body_is_refused_whether_or_not_it_says_so(server):
    url = server[0]
    large = json.dumps({"prompt": "a" * 10_000_000}).encode()
    host, _, port = url.removeprefix("http://").partition(":")
    start = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(start + b"Content-Length: %d\r\n\r\n" % len(large))
        assert b"413" in connection.recv(1000).split(b"\r\n")[0]
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(start + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it does not read to the end
            for _ in range(100):
                connection.sendall(b"%x\r\n" % 100_000 + b"a" * 100_000 + b"\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"413" in connection.recv(1000).split(b"\r\n")[0]


def test_a_body_that_does_not_come(server, monkeypatch):
    monkeypatch.setattr("launch.server.app.BODY_SECONDS", 0.1)
    host, _, port = server[0].removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        assert b"408" in connection.recv(1000).split(b"\r\n")[0]


def test_an_api_key(folder):
    served, _ = played(folder)
    with serving(served, api_key="sesame") as url:
        assert refused(url, "/v1/completions", {"prompt": "x"})[0] == 401
        assert (
            refused(url, "/v1/models", b"", method="GET", Authorization="Bearer other")[1]["code"] == "invalid_api_key"
        )
        assert [model.id for model in openai.OpenAI(base_url=f"{url}/v1", api_key="sesame").models.list()] == ["played"]
        assert fetch(f"{url}/health")[0] == 200


def test_two_models_by_name(folder):
    with serving(played(folder, name="a")[0], played(folder, name="b/2")[0]) as url:
        assert (
            "model is missing: choose one of a, b/2" in refused(url, "/v1/completions", {"prompt": "x"})[1]["message"]
        )
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="-")
        assert [model.id for model in client.models.list()] == ["a", "b/2"]
        assert client.models.retrieve("b/2").id == "b/2"
        assert client.completions.create(model="b/2", prompt="x").model == "b/2"


def test_a_full_queue_says_when_to_come_again(folder):
    served, engine = played(folder, slots=1, queue=1, seconds=0.02)
    with serving(served) as url:
        body = json.dumps({"prompt": "x", "max_tokens": 200, "n": 2, "stream": True}).encode()
        request = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as running:
            assert running.readline().startswith(b"data: ")
            status, headers, answer = fetch(f"{url}/v1/completions", b'{"prompt": "x"}')
            assert (status, headers["Retry-After"]) == (429, "1")
            assert json.loads(answer)["error"]["type"] == "rate_limit_error"
        # The stream was left, so its slots are free.
        wait_for(lambda: served.engine.outstanding == 0)
        assert engine.cancelled == [1]
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="-")
        assert client.completions.create(model="played", prompt="x", max_tokens=2).usage.completion_tokens == 2


def test_a_client_that_leaves_while_it_waits_is_cancelled(folder):
    served, engine = played(folder, seconds=0.01)
    with serving(served) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        body = b'{"prompt": ["x", "y"], "max_tokens": 250}'
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            wait_for(lambda: len(engine.rows) == 2)
        wait_for(lambda: served.engine.outstanding == 0)
        assert sorted(engine.cancelled) == [1, 2]


def test_a_failing_engine_is_told_to_those_who_wait(folder):
    served, engine = played(folder, seconds=0.01)
    with serving(served) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0)
        stream = client.completions.create(model="played", prompt="x", max_tokens=250, stream=True)
        next(iter(stream))
        waiting = concurrent.futures.ThreadPoolExecutor().submit(
            client.completions.create, model="played", prompt="x", max_tokens=250
        )
        wait_for(lambda: len(engine.rows) == 2)
        engine.failing = True
        with pytest.raises(openai.APIError, match="the engine failed"):
            list(stream)
        with pytest.raises(openai.InternalServerError, match="the engine failed"):
            waiting.result()
        with pytest.raises(openai.InternalServerError, match="the engine failed"):
            client.completions.create(model="played", prompt="x")
        with pytest.raises(openai.InternalServerError):
            client.completions.create(model="played", prompt="x", logprobs=1, echo=True)
        assert fetch(f"{url}/health")[0] == 500


def test_a_mistake_of_ours_is_an_error_500_without_its_insides(folder, monkeypatch):
    served, _ = played(folder)
    served.tokenizer = None
    with serving(served) as url:
        status, error = refused(url, "/v1/completions", {"prompt": "x"})
        assert (status, error["type"], error["code"]) == (500, "server_error", "internal_error")
        assert "NoneType" not in error["message"]


def test_nonsense(server):
    """Some hundred seeded requests, eight at a time; 10,000 with tests/benchmarks/serve_fuzz.py."""
    url, served, engine = server
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        kinds = collections.Counter(pool.map(lambda seed: nonsense.send(url, seed), range(400)))
    assert (
        min(kinds[kind] for kind in [(200, "json"), (200, "stream"), (400, "json"), (404, "json"), (0, "went away")])
        > 5
    )
    wait_for(lambda: served.engine.outstanding == 0)
    assert not engine.rows
    assert not engine.queue
    assert threading.active_count() < 60
    assert fetch(f"{url}/health")[0] == 200
