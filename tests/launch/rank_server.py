"""The ranking page over a sampler that is only played, in this process or, run as a program, in one of its own."""

import contextlib
import json
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import uvicorn

from data_pipeline.conversation import said
from launch.rank import serve
from launch.ranking.app import make_app
from launch.ranking.prompts import INSTRUCTIONS
from launch.ranking.record import Record
from launch.ranking.rollouts import Rollout, Rollouts
from launch.ranking.session import Session
from launch.serve import listen

FACTS = {"workdir": "/runs/played", "step": 7, "temperature": 1.0}


def prompts(count):
    return [(said("user", f"Prompt {number}"),) for number in range(count)]


def played_sampler(asked, samples=5):
    """Responses that name their prompt; sample 0 is the best, and so on."""
    return [
        [Rollout(said("assistant", f"{prompt[-1].text}: response {i}"), (i, i + 1), seed, i) for i in range(samples)]
        for prompt, seed in asked
    ]


def make_session(out, some, sampler=played_sampler, seed=0):
    rollouts = Rollouts(some, sampler, Record(Path(out).with_suffix(".rollouts.jsonl")), FACTS, seed)
    return Session(Record(Path(out)), rollouts), rollouts


@contextlib.contextmanager
def serving(out, some, sampler=played_sampler):
    """The address of a page, until the block ends."""
    session, rollouts = make_session(out, some, sampler)
    listener = listen("127.0.0.1", 0)
    app = make_app(session, INSTRUCTIONS.read_text())
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
        rollouts.close()
        session._record.close()
        rollouts._record.close()


def ask(url, body=None):
    """(status, JSON) of a GET, or of a POST of `body`."""
    contents = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, contents, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


if __name__ == "__main__":
    out, port, count = sys.argv[1:]
    listener = listen("127.0.0.1", int(port))
    record, sampled = Record(Path(out)), Record(Path(out).with_suffix(".rollouts.jsonl"))
    serve(record, Rollouts(prompts(int(count)), played_sampler, sampled, FACTS, 0), "# Told", listener)
