"""The flags that programs share do something in each of them."""

import re
import subprocess
import sys

import pytest
from programs import ROOT, run, start
from serving import fetch, save_run, wait_for
from test_mistakes import refused

TEXT = "--config=experiments/evaluate/text.py"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_run(folder)
    (folder / "text.txt").write_text("an assert statement is a convenient way to insert debugging assertions")
    return folder


def test_generate(workdir, tmp_path):
    def text(*arguments):
        code, output = run("launch.generate", f"--workdir={workdir}", "--tokens=40", *arguments, log=tmp_path / "log")
        assert code == 0, output
        return output.partition("\n")[2]

    whole = text()
    assert (
        text("--quantize=int4", "--quantize_cache") != whole
    )  # of a model that knows nothing, every token is a close call


def test_evaluate(workdir, tmp_path):
    def nats(*arguments):
        source = f"--config.source={workdir / 'text.txt'}"
        code, output = run("launch.evaluate", f"--workdir={workdir}", TEXT, source, *arguments, log=tmp_path / "log")
        assert code == 0, output
        return re.search(r"nats per token +([\d.]+)", output)[1]

    whole, eight, four = nats(), nats("--quantize=int8"), nats("--quantize=int4")
    assert float(whole) == pytest.approx(float(eight), abs=0.1)
    assert float(whole) == pytest.approx(float(four), abs=1)
    assert whole != four
    results = (workdir / "evaluation" / "results.jsonl").read_text().splitlines()
    assert ['"quantize": "int8"' in line for line in results] == [False, False, True, True, False, False]


def test_chat(workdir):
    command = (sys.executable, "-m", "launch.chat", f"--workdir={workdir}", "--tokens=5", "--top_k=3")
    done = subprocess.run(
        [*command, "--quantize=int8", "--quantize_cache"],
        input=b"hello\n",
        capture_output=True,
        cwd=ROOT,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"(cut after 5 tokens)" in done.stderr


def test_serve(workdir, tmp_path):
    flags = ("--port=0", "--quantize=int4", "--quantize_cache")
    program = start("launch.serve", f"--workdir={workdir}", *flags, log=tmp_path / "log")
    wait_for(lambda: "ready at" in program.output or program.process.exitcode is not None, 60)
    url = re.search(r"ready at (http://[\d.:]+) ", program.output)[1]
    asked = {"prompt": "x", "max_tokens": 2, "echo": True, "logprobs": 1}
    scores = fetch(f"{url}/v1/completions", asked)["choices"][0]["logprobs"]["token_logprobs"]
    program.kill()
    assert len(scores) >= 3  # of the prompt, by the quantized model too, and of what was written
    assert all(score < 0 for score in scores)


@pytest.mark.parametrize(
    ("module", "arguments", "told"),
    [
        ("launch.generate", ("--quantize=int3",), "flag --quantize=int3: value should be one of <int8|int4>"),
        ("launch.chat", ("--min_p=2",), "min_p=2.0: must be between 0 and 1"),
        (
            "launch.evaluate",
            (TEXT, "--config.source=x", "--quantize_cache"),
            "a text task writes nothing, so it has no cache",
        ),
    ],
)
def test_mistakes(tmp_path, module, arguments, told):
    assert told in refused(tmp_path, *arguments, module=module)
