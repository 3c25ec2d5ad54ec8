"""Seeded nonsense for the server: bodies that are nearly right, bytes that are not, clients that go away.

Each request must be answered in OpenAI's form (or be given up by us), and the server must go on. `send` is one of them.
"""

import contextlib
import json
import random
import socket
from urllib.parse import urlsplit

from data_pipeline.special_tokens import SPECIAL_TOKENS

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "1", "content": "x"}]
FIELDS = {
    "model": ["played", "no such", "", 3, None, ["played"]],
    "prompt": [
        "hello",
        "",
        "x" * 5000,
        ["a", "b"],
        [1, 2, 3],
        [[1], [2, 3]],
        [],
        [[]],
        [-1],
        [10**9],
        {"a": 1},
        None,
        True,
    ],
    "messages": [
        [{"role": "user", "content": "hello"}],
        [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "assistant", "content": "hello"}],
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": ""}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": "hello", "name": 3}],
        [{"role": "user", "content": "hello"}, *CALLED],
        [{"role": "user", "content": "hello"}, *CALLED[::-1]],
        [{"role": "user", "content": "hello"}, {**CALLED[0], "parts": [{"type": "thinking", "at": 9}]}, CALLED[1]],
        [],
        "hello",
        [None],
        {"role": "user"},
    ],
    "text": ["hello", "", 3, "\ud800", "<|user_start|>"],
    "max_tokens": [1, 2, 5, 0, -1, 10**6, 10**30, 1.5, "3", None, True],
    "max_completion_tokens": [1, 3, -2],
    "temperature": [0, 1, 0.5, 0.001, 1000, 1e-40, -1, 1e308, 1e309, "hot", None, [], 10**400],
    "top_p": [1, 0.5, 1e-6, 1e-300, 0, -1, 2, None],
    "top_k": [0, 5, 2**31 - 1, -1, 10**30, 1.5],
    "min_p": [0, 1e-300, 0.1, 1, 2],
    "repetition_penalty": [1, 0.01, 1.3, 100, 0, 1e-50],
    "n": [1, 2, 3, 0, -1, 1000, "2"],
    "best_of": [1, 2],
    "seed": [0, 1, 2**32, -1, 2**64, 1.0],
    "stop": ["x", ["x", "yy"], [], "", [""], ["a"] * 5, "z" * 5000, "\udfff", 3, [3], None],
    "logprobs": [True, False, 0, 1, 20, 21, -1, "yes", None],
    "top_logprobs": [0, 2, 30],
    "stream": [True, True, False, 1, "true"],
    "stream_options": [{"include_usage": True}, {}, {"include_usage": 3}, {"other": 1}, 3],
    "echo": [True, False, 1],
    "return_token_ids": [True, False],
    "tools": [[], [{"type": "function"}], [{"type": "function", "function": {"name": "f", "parameters": {}}}], 3],
    "tool_choice": ["none", "auto", "required", {}, 3],
    "frequency_penalty": [0, 0.0, 1, "x"],
    "response_format": [{"type": "text"}, {"type": "json_object"}],
    "style": ["plain", "tokens", "other"],
    "user": ["me", 3],
    "temprature": [1],
    "x" * 3000: [1],
    "\udfff": [1],
}
PATHS = ["/v1/completions", "/v1/chat/completions", "/tokenize"]
NEEDED = {"/v1/completions": "prompt", "/v1/chat/completions": "messages", "/tokenize": "text"}
TEXTS = [*SPECIAL_TOKENS, "\x00", "\U0010ffff", "漢字", "\n", "User:", "\\ud800", "👩‍👩‍👧"]
RAW = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"3",
    b'"x"',
    b'{"prompt": NaN}',
    b'{"prompt": "\\ud800"}',
    b'{"prompt": "a", "max_tokens": -Infinity}',
    b'{"prompt": "caf\xe9"}',
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"prompt": ' + b"[" * 100_000,
    b'{"prompt": ' + b"9" * 5000 + b"}",
    b'{"a": 1, "a": 2}',
    b"prompt=hello",
]


def body(chance: random.Random, path: str) -> bytes:
    """Mostly a request with a few strange fields, sometimes no JSON."""
    if chance.random() < 0.1:
        return chance.choice(RAW)
    fields = {name: chance.choice(FIELDS[name]) for name in chance.sample(list(FIELDS), chance.randrange(4))}
    if chance.random() < 0.9:
        fields.setdefault(NEEDED[path], FIELDS[NEEDED[path]][0])
    if chance.random() < 0.9:
        fields["model"] = "played"
    if chance.random() < 0.3 and path != "/tokenize":
        fields["stream"] = True
    if chance.random() < 0.3 and path != "/v1/chat/completions":
        fields[NEEDED[path]] = "".join(chance.choices(TEXTS, k=5))
    contents = json.dumps(fields).encode()
    if chance.random() < 0.1:  # a few bytes changed
        damaged = bytearray(contents)
        for _ in range(3):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        contents = bytes(damaged)
    return contents


def send(url: str, seed: int) -> tuple[int, str]:
    """One request: the status, and what happened. Raises AssertionError for an answer that is not in form."""
    chance = random.Random(seed)
    path = chance.choice([*PATHS, *PATHS, "/v1/models", "/v1/nothing", "/", "/health", "/../serve.py"])
    method = "POST" if path in PATHS else "GET"
    if chance.random() < 0.03:
        method = chance.choice(["PUT", "DELETE", "HEAD", "OPTIONS", "GET", "POST"])
    contents = body(chance, path) if path in PATHS else b""
    kind = "text/plain" if chance.random() < 0.02 else "application/json"
    address = urlsplit(url)
    head = f"{method} {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {kind}\r\nConnection: close\r\n"
    whole = f"{head}Content-Length: {len(contents)}\r\n\r\n".encode() + contents
    goes_away = chance.random() < 0.1
    with socket.create_connection((address.hostname, address.port), timeout=300) as connection:
        if goes_away:
            connection.sendall(whole[: chance.randrange(1, len(whole) + 1)])
            if chance.random() < 0.5:
                connection.settimeout(0.02)
                with contextlib.suppress(TimeoutError):
                    connection.recv(100)
            return 0, "went away"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was read
            connection.sendall(whole)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return check(answer, method, contents, path)


def check(answer: bytes, method: str, contents: bytes, path: str) -> tuple[int, str]:
    """Status and kind of a raw HTTP answer, which must be in form."""
    top, _, content = answer.partition(b"\r\n\r\n")
    status = int(top.split()[1])
    told = f"{path} {contents[:300]!r}: {answer[:500]!r}"
    assert status in (200, 400, 404, 405, 415, 429), told
    headers = top.decode().lower()
    if method == "HEAD":
        return status, "head"
    if b"\r\ntransfer-encoding: chunked" in top.lower():
        content = dechunked(content)
    if "text/event-stream" in headers:
        events = content.decode().split("\n\n")
        assert events[-1] == "", told
        assert events[-2] == "data: [DONE]", told
        assert all("choices" in json.loads(event.removeprefix("data: ")) for event in events[:-2]), told
        return status, "stream"
    if "application/json" in headers:
        fields = json.loads(content)
        if status != 200:
            assert fields.keys() == {"error"}, told
            assert fields["error"].keys() == {"message", "type", "param", "code"}, told
            assert 0 < len(fields["error"]["message"]) < 700, told
        return status, "json"
    assert path == "/", told
    return status, "page"


def dechunked(content: bytes) -> bytes:
    """The body of a chunked answer."""
    whole = b""
    while content:
        size, _, content = content.partition(b"\r\n")
        whole += content[: int(size, 16)]
        content = content[int(size, 16) + 2 :]
    return whole
