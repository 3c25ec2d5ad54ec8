"""The arena's page over answers that are only played, in this process or, run as a program, in one of its own."""

import contextlib
import sys
import threading
from pathlib import Path

import uvicorn

from data_pipeline.conversation import said
from data_pipeline.problem import Problem
from data_pipeline.verifiers import NotJudged
from launch.arena_page import make_app
from launch.arena_people import Ballots
from launch.arena_votes import Pair
from launch.ranking.record import Record
from launch.serve import listen

RUNS = {name: {"run": f"runs/{name}", "step": 60, "quantize": None} for name in ("base", "assistant", "practice")}
NASTY = '<img src=x onerror="window.hacked=1"> <b>bold</b> &amp; ünï ☃\n\n  twice ' + "unbroken" * 20


def played_pairs(count, names=("base", "assistant")):
    """Answers that name who wrote them: a rater who can read sees through it, and so does a test."""
    return [
        Pair(
            Problem(f"p{i}", (said("user", f"Prompt {i}: why is the sea salt?"),), NotJudged(), "prompt"),
            left,
            right,
            f"{left} says {i}",
            f"{right} says {i}: rivers carry salt to it, and only water leaves again.",
        )
        for i in range(count)
        for at, left in enumerate(names)
        for right in names[at + 1 :]
    ]


@contextlib.contextmanager
def serving(path, pairs, seed=0):
    """(address, ballots) of a page until the block ends."""
    record = Record(Path(path))
    ballots = Ballots(record, pairs, seed, RUNS)
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(make_app(ballots, None, seed), log_level="error", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", ballots
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
        record.close()


if __name__ == "__main__":
    out, port, count = sys.argv[1:]
    app = make_app(Ballots(Record(Path(out)), played_pairs(int(count)), 0, RUNS), None, 0)
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(
        sockets=[listen("127.0.0.1", int(port))]
    )
