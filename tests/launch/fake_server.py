"""A server that speaks as launch.serve does and writes what it is told: the playground's counterpart in tests.

    python tests/launch/fake_server.py 8000      # to look at the page without a model

What the model's name says happens: "echo" says the prompt again, "slow" does so forever, "refuses" is refused, "breaks"
breaks off with an error and "cut" without one; "tools" calls one before it says the prompt again, and tries to after.
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
MODELS = ("echo", "slow", "refuses", "breaks", "cut", "tools")
CALL = {"type": "tool_call", "at": 0, "name": "python", "arguments": {"code": "print(1)\n<b>2</b>"}}
RESULT = {"type": "tool_result", "at": 0, "text": "1 <i>"}
BROKEN = {"type": "broken_call", "text": "python", "problem": "the arguments are not JSON"}
START, TURN, END = (0, "<|document_start|>", ""), (1, "<|turn|>", ""), (2, "<|end|>", "")


def tokens(text: str) -> list[tuple[int, str, str]]:
    """Ids, pieces, and the text they bring: words with the space before, other characters alone; a snowman is two tokens."""
    found = []
    for piece in re.findall(r" ?\w+|[^\w]", text):
        if piece == "☃":
            found += [(7, r"\xe2", ""), (8, r"\x98\x83", piece)]
        else:
            found.append((10 + sum(map(ord, piece)), piece, piece))
    return found


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if (
            self.path == "/v1/models"
            and self.server.key
            and self.headers["Authorization"] != f"Bearer {self.server.key}"
        ):
            return self.answer({"error": {"message": "the API key is missing or wrong"}}, 401)
        if self.path == "/v1/models":
            return self.answer({"data": [{"id": name, "context_length": 300, "style": "plain"} for name in MODELS]})
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
            read = conversation(body["messages"]) if "messages" in body else tokens(body["text"])
            ids, pieces, _ = zip(*read, strict=True) if read else ((), (), ())
            return self.answer({"ids": ids, "pieces": pieces, "special": [token < 7 for token in ids]})
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
        read = conversation(body["messages"]) if chat else [START, *tokens(body["prompt"])]
        text = body["messages"][-1]["content"] if chat else body["prompt"]
        answer = tokens(f" {text}" if chat else text) * (1000 if body["model"] == "slow" else 1)
        if len(answer) >= body["max_tokens"]:
            answer, reason = answer[: body["max_tokens"]], "length"
        else:
            answer, reason = [*answer, END], "stop"
        for at in range(0, len(answer), 3):
            if at == 3 and body["model"] == "breaks":
                return self.event({"error": {"message": "the model was lost"}})
            if at == 3 and body["model"] == "cut":
                return
            made = choice(answer[at : at + 3], chat, strip=at == 0)
            made["finish_reason"] = reason if at + 3 >= len(answer) else None
            ids = {"prompt_token_ids": [token for token, _, _ in read]}
            if body["model"] == "tools" and at == 0:
                self.event({"choices": [{"index": 0, "delta": {"content": "", "parts": [CALL]}}], **ids})
                self.event({"choices": [{"index": 0, "delta": {"content": "", "parts": [RESULT]}}], **ids})
                made["delta"]["parts"] = [BROKEN | {"at": len(made["delta"]["content"])}]
            # A chat's are in the frame of every event, a completion's in the choice of the first.
            self.event({"choices": [made], **ids} if chat else {"choices": [made | ids if at == 0 else made]})
            time.sleep(0.03)
        self.event({"choices": [], "usage": {}})
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


def conversation(messages: list[dict]) -> list[tuple[int, str, str]]:
    return [START, *(token for message in messages for token in (TURN, *tokens(message["content"])))]


def choice(written: list[tuple[int, str, str]], chat: bool, strip: bool) -> dict:
    """Tokens as OpenAI's two protocols write them: each chosen with 60%, where two others had 25% and 10%."""
    text = "".join(text for _, _, text in written)
    others = [(" maybe", math.log(0.25)), ("<i>", math.log(0.1))]
    own = math.log(0.6)
    made = {"index": 0, "token_ids": [token for token, _, _ in written]}
    if chat:
        rows = [[(piece, own), *others] for _, piece, _ in written]
        listed = [[{"token": name, "logprob": log_prob, "bytes": None} for name, log_prob in row] for row in rows]
        content = [{**row[0], "top_logprobs": row} for row in listed]
        return made | {"delta": {"content": text.lstrip() if strip else text}, "logprobs": {"content": content}}
    top = [dict([(piece, own), *others]) for _, piece, _ in written]
    logprobs = {"tokens": [piece for _, piece, _ in written], "token_logprobs": [own] * len(top), "top_logprobs": top}
    return made | {"text": text, "logprobs": logprobs}


def start(port: int = 0, key: str = "") -> ThreadingHTTPServer:
    """Serve from a thread; `seen` collects the requests, `hung_up` is set when a client left in the middle."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.seen = []
    server.key = key
    server.hung_up = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    start(int(sys.argv[1]))
    threading.Event().wait()
