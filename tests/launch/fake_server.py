"""A server that speaks as launch.serve does and writes what it is told: the playground's counterpart in tests.

    python tests/launch/fake_server.py 8000      # to look at the page without a model

What the model's name says happens: "echo" says the prompt again, "slow" does so forever, "refuses" is refused, "breaks"
breaks off with an error and "cut" without one.
"""

import json
import math
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "launch" / "playground"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
MODELS = ("echo", "slow", "refuses", "breaks", "cut")
START = {"id": 0, "piece": "<|document_start|>", "special": True}


def pieces(text: str) -> list[str]:
    """Words with the space before them; other characters alone."""
    return re.findall(r" ?\w+|[^\w]", text)


def tokens(text: str) -> list[dict]:
    return [{"id": 1 + sum(map(ord, piece)), "piece": piece, "special": False} for piece in pieces(text)]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/v1/models":
            return self.answer({"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})
        file = PAGE / (self.path.lstrip("/") or "index.html")
        if not file.is_file():
            return self.answer({"error": {"message": "not found"}}, 404)
        contents = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", TYPES[file.suffix])
        self.send_header("Content-Length", str(len(contents)))
        self.end_headers()
        self.wfile.write(contents)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body))
        if self.path == "/tokenize":
            said = body.get("messages") or [{"content": body["text"]}]
            return self.answer({"tokens": [one for turn in said for one in (START, *tokens(turn["content"]))]})
        if body["model"] == "refuses":
            return self.answer({"error": {"message": "the prompt has 9 tokens <b>too many</b>: shorten it"}}, 400)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.write_answer(body)
        except OSError:
            self.server.hung_up.set()

    def write_answer(self, body: dict) -> None:
        chat = self.path == "/v1/chat/completions"
        text = body["messages"][-1]["content"] if chat else body["prompt"]
        answer = tokens(text) * (1000 if body["model"] == "slow" else 1)
        for number, token in enumerate(answer[: body["max_tokens"]]):
            if number == 2 and body["model"] == "breaks":
                return self.event({"error": {"message": "the model was lost"}})
            if number == 2 and body["model"] == "cut":
                return
            self.event({"choices": [choice(token["piece"], token, chat)]})
            time.sleep(0.02)
        self.event({"choices": [{"index": 0, "delta": {}, "text": "", "logprobs": None, "finish_reason": "stop"}]})
        self.event("[DONE]")

    def event(self, data: dict | str) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()

    def answer(self, body: dict, status: int = 200) -> None:
        contents = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(contents)))
        self.end_headers()
        self.wfile.write(contents)

    def log_message(self, *_):
        pass


def choice(text: str, token: dict, chat: bool) -> dict:
    """A token as OpenAI's two protocols write it: chosen with 60%, where two others had 25% and 10%."""
    odds = [(token["piece"], 0.6), (" maybe", 0.25), ("<i>", 0.1)]
    alike = {"index": 0, "token_ids": [token["id"]], "finish_reason": None}
    if chat:
        rows = [{"token": piece, "logprob": math.log(p), "bytes": list(piece.encode())} for piece, p in odds]
        return {**alike, "delta": {"content": text}, "logprobs": {"content": [{**rows[0], "top_logprobs": rows}]}}
    top = {piece: math.log(p) for piece, p in odds}
    logprobs = {"tokens": [token["piece"]], "token_logprobs": [math.log(0.6)], "top_logprobs": [top]}
    return {**alike, "text": text, "logprobs": logprobs}


def start(port: int = 0) -> ThreadingHTTPServer:
    """Serve from a thread; `seen` collects the requests, `hung_up` is set when a client left in the middle."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.seen = []
    server.hung_up = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    start(int(sys.argv[1]))
    threading.Event().wait()
