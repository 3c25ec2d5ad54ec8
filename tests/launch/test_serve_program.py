"""The program as a user runs it: mistakes in one line, signals that let requests finish, a broken engine that ends it."""

import contextlib
import json
import re
import signal
import socket
import threading
import urllib.error
import urllib.request

import pytest
from programs import start
from serving import fetch, played, save_run, wait_for
from test_mistakes import refused

from launch.serve import listen, serve


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_run(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--workdir is missing: name the folder of a run"),
        (("--workdir=no/such/run",), "holds no run"),
        (("--model=runs/a",), "--model=runs/a: write NAME=FOLDER"),
        (("--model=a=x", "--model=a=y"), "two models are named alike (a, a)"),
        (("--workdir=x", "--port=99999"), "port"),
        (("--workdir=x", "--host=no.such.host.invalid"), "cannot listen at --host=no.such.host.invalid"),
        (("--workdir=x", "--prot=1"), "did you mean --port?"),
    ],
)
def test_mistakes(tmp_path, arguments, told):
    port = () if any("port" in a for a in arguments) else ("--port=0",)
    if not any(a.startswith("--workdir") for a in arguments):
        port += ("--workdir=",)
    assert told in refused(tmp_path, *arguments, *port, module="launch.serve")


def test_a_port_that_is_taken(tmp_path):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        told = refused(tmp_path, "--workdir=x", f"--port={port}", module="launch.serve")
    assert f"cannot listen at --host=127.0.0.1 --port={port}: Address already in use; choose another" in told


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_running_requests_finish(run, tmp_path, signum, code):
    program = start("launch.serve", f"--workdir={run}", "--port=0", log=tmp_path / "log")
    wait_for(lambda: "ready at" in program.output or program.process.exitcode is not None, 60)
    url = re.search(r"ready at (http://[\d.:]+) ", program.output)[1]
    assert fetch(f"{url}/v1/completions", {"prompt": "x", "max_tokens": 2})["model"] == run.name
    request = urllib.request.Request(
        f"{url}/v1/completions",
        json.dumps({"prompt": "x", "max_tokens": 250, "stream": True, "n": 64, "seed": 1}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as stream:
        assert stream.readline().startswith(b"data: ")
        program.kill(signum)
        assert stream.read().endswith(b"data: [DONE]\n\n")
    assert program.wait(20) == code
    assert "Traceback" not in program.output
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url)


def test_a_broken_engine_ends_the_program_with_its_traceback(tmp_path):
    served, engine = played(tmp_path, seconds=0.005)
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    statuses = []

    def client():
        wait_for(lambda: engine.tickets == 0)
        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: engine.rows)
        engine.failing = True
        asking.join()

    def ask():
        try:
            fetch(f"{url}/v1/completions", {"prompt": "x", "max_tokens": 250})
        except urllib.error.HTTPError as error:
            statuses.append(error.code)

    thread = threading.Thread(target=client)
    thread.start()
    with pytest.raises(RuntimeError, match="the played engine breaks"):
        serve({"played": served}, listener, None, 5)
    thread.join()
    assert statuses == [500]
    with contextlib.closing(socket.socket()) as late, pytest.raises(ConnectionRefusedError):
        late.connect(("127.0.0.1", int(url.rpartition(":")[2])))
