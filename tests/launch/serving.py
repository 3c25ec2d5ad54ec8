"""Servers on a loopback port for tests, over a small real model or over an engine that is only played."""

import contextlib
import functools
import hashlib
import json
import pydoc_data.topics
import tempfile
import threading
import time
import traceback
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvicorn

from data_pipeline.conversations import ConversationsConfig
from data_pipeline.prepare import DocumentsConfig
from data_pipeline.tokenizer import train_tokenizer
from launch.serve import listen, serve
from launch.server.app import make_app
from launch.server.engine_thread import EngineThread
from launch.server.generation import Served
from lm.inference.requests import CANCELLED, LENGTH, STOP, Alternative, Request, Update, Written, check_request
from lm.model.config import ModelConfig

CONTEXT = 256
VOCAB = 600
MODEL = ModelConfig(
    vocab_size=VOCAB, context_length=CONTEXT, layers=2, width=32, heads=4, kv_heads=4, mlp_width=48, qk_norm=True
)


@functools.cache
def tokenizer(folder):
    return train_tokenizer(list(pydoc_data.topics.topics.values())[:20], VOCAB, folder / "tokenizer.model")


def played_token(request: Request, sample: int, place: int) -> int:
    """What the played engine writes: anything in the vocabulary that is no special token, always the same."""
    key = repr((request.prompt, request.seed, sample, place)).encode()
    return 12 + int.from_bytes(hashlib.sha256(key).digest()[:4], "big") % (VOCAB - 12)


@dataclass
class PlayedEngine:
    """Follows `Engine`, a token a step, without a model. It knows stop tokens, but no stop strings."""

    slots: int = 4
    failing: bool = False  # the next step raises
    seconds: float = 0.0  # of a step
    cancelled: list[int] = field(default_factory=list)
    most_running: int = 0
    tickets: int = 0
    queue: list = field(default_factory=list)  # [ticket, request, sample, place]
    rows: list = field(default_factory=list)
    updates: list = field(default_factory=list)

    @property
    def idle(self):
        return not (self.queue or self.rows or self.updates or self.failing)

    def submit(self, request):
        check_request(request, CONTEXT)
        self.tickets += 1
        self.queue += [[self.tickets, request, sample, 0] for sample in range(request.samples)]
        return self.tickets

    def cancel(self, ticket):
        self.cancelled.append(ticket)
        for some in (self.queue, self.rows):
            self.updates += [Update(ticket, row[2], Written(), CANCELLED) for row in some if row[0] == ticket]
            some[:] = [row for row in some if row[0] != ticket]

    def step(self):
        if self.failing:
            raise RuntimeError("the played engine breaks")
        time.sleep(self.seconds)
        while self.queue and len(self.rows) < self.slots:
            self.rows.append(self.queue.pop(0))
        self.most_running = max(self.most_running, len(self.rows))
        for row in list(self.rows):
            ticket, request, sample, place = row
            token = played_token(request, sample, place)
            row[3] += 1
            reason = STOP if token in request.stop_tokens else LENGTH if row[3] == request.max_tokens else ""
            alternatives = [[Alternative(token, -1.0)] * request.top] if request.top else []
            self.updates.append(Update(ticket, sample, Written([token], [-1.0], [-1.0], alternatives, [True]), reason))
            if reason:
                self.rows.remove(row)
        updates, self.updates = self.updates, []
        return updates


def played_score(tokens, top):
    log_probs = [float("nan"), *[-2.0] * (len(tokens) - 1)]
    alternatives = [[], *[[Alternative(13, -2.0)] * top] * (len(tokens) - 1)] if top else []
    return Written(list(tokens), log_probs, log_probs, alternatives)


def played(folder, *, queue=64, name="played", **engine):
    engine = PlayedEngine(**engine)
    return Served(name, tokenizer(folder), EngineThread(engine, engine.slots + queue), CONTEXT, played_score), engine


@contextlib.contextmanager
def serving(*models, api_key=None):
    """The address of a server of these models, which ends with the block."""
    listener = listen("127.0.0.1", 0)
    app = make_app({served.name: served for served in models}, api_key)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for served in models:
            if served.engine.failure:  # pytest shows it where a test fails
                traceback.print_exception(served.engine.failure)
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
        for served in models:
            served.engine.close()


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.005)


def fetch(url, body):
    """The answer to a POST of JSON."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def save_run(folder: Path, conversations: tuple[str, ...] | None = None) -> None:
    """A run as training leaves it, but untrained: of documents, or finetuned on these sources of conversations."""
    import jax
    import jax.numpy as jnp

    from lm.checkpoint import Checkpoints
    from lm.experiment import Experiment
    from lm.model.transformer import Transformer

    tokenizer(folder / "tokenizer")
    data = DocumentsConfig() if conversations is None else ConversationsConfig(sources=conversations)
    (folder / "config.json").write_text(json.dumps(asdict(Experiment(model=MODEL, data=data))))
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save(0, jax.jit(Transformer, static_argnums=1)(jax.random.key(0), MODEL), {"none": jnp.zeros(1)}, {})
    checkpoints.wait()
    checkpoints.close()


if __name__ == "__main__":  # a server without a model, in a process of its own
    with tempfile.TemporaryDirectory() as temporary:
        listener = listen("127.0.0.1", 0)
        print(f"ready at http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        serve({"played": played(Path(temporary), slots=16, queue=256)[0]}, listener, None, 5)
