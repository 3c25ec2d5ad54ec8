"""The ranking page as a user starts it: mistakes in one line, and a real model whose rollouts can be written again."""

import json
import re
import signal

import pytest
from programs import run, start
from rank_server import ask
from serving import save_run, wait_for
from test_mistakes import refused

from data_pipeline.conversation import said
from data_pipeline.ranking_rows import read_rankings
from data_pipeline.set_aside import SetAside


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--prompts=x",), "--out is missing"),
        (("--out=x.jsonl",), "--prompts is missing"),
        (("--workdir=", "--prompts=x", "--out=x.jsonl"), "--workdir is missing"),
        (("--prompts=no.txt", "--out=x.jsonl"), "there is no file no.txt"),
        (("--prompts=README.md", "--out=x.txt"), "--out=x.txt: name a file that ends in .jsonl"),
        (("--prompts=README.md", "--out=x.jsonl", "--temperature=0"), "all responses are alike"),
        (("--prompts=README.md", "--out=x.jsonl", "--samples=1"), "samples"),
        (("--prompts=README.md", "--out=/proc/no/x.jsonl", "--workdir=no/run", "--port=0"), "/proc/no"),
        (("--agreement=no.jsonl",), "there is no file no.jsonl"),
        (("--agreement=README.md",), "holds no ranking"),
        (("--write_prompts=x",), "ends in .jsonl"),
        (("--agrement=x",), "did you mean --agreement?"),
    ],
)
def test_mistakes(tmp_path, arguments, told):
    assert told in refused(tmp_path, *arguments, module="launch.rank")
    assert not (tmp_path / "run").exists()


def test_a_session_is_written_and_compared(tmp_path):
    path = tmp_path / "prompts.jsonl"
    code, output = run("launch.rank", f"--write_prompts={path}", log=tmp_path / "log")
    assert code == 0, output
    assert f"wrote {path} and {tmp_path / 'prompts.md'}" in output
    rankings = tmp_path / "rankings.jsonl"
    row = {"id": "a", "prompt": "x", "responses": ["a", "b"], "ranks": [0, 1]}
    rankings.write_text("".join(json.dumps(row | {"rater": rater}) + "\n" for rater in ("Ada", "Ben")))
    code, output = run("launch.rank", f"--agreement={rankings}", log=tmp_path / "log")
    assert code == 0, output
    assert "ordered the same way: 1.000 (one prompt: no interval)" in output


@pytest.mark.parametrize("kind", ["documents", "conversations"])
def test_a_real_model_ranked_and_written_again(tmp_path, kind):
    """The tokens in the file are what the engine writes from the prompt, the seed and the sample that stand beside them."""
    folder, out = tmp_path / "run", tmp_path / "rankings.jsonl"
    folder.mkdir()
    save_run(folder, ("school",) if kind == "conversations" else None)
    (tmp_path / "prompts.txt").write_text(f"What is it?\nWho was it?\n{'too long ' * 300}\n")
    arguments = (
        f"--workdir={folder}",
        f"--prompts={tmp_path / 'prompts.txt'}",
        f"--out={out}",
        "--tokens=12",
        "--port=0",
    )
    program = start("launch.rank", *arguments, log=tmp_path / "log")
    wait_for(lambda: "ready at" in program.output or program.process.exitcode is not None, 60)
    url = re.search(r"ready at (http://[\d.:]+);", program.output)[1]
    assert "2 prompts, 5 responses each" in program.output
    assert "no room for 12 tokens more in a context of 256" in program.output
    wait_for(lambda: ask(f"{url}/api/state?rater=Ada")[1]["task"], 60)
    assert "another program writes to" in refused(tmp_path, *arguments, module="launch.rank")
    task = ask(f"{url}/api/state?rater=Ada")[1]["task"]
    assert len({response["text"] for response in task["responses"]}) == 5
    order = [[response["index"]] for response in task["responses"]]
    assert ask(f"{url}/api/rankings", {"rater": "Ada", "task": task["id"], "order": order})[0] == 200
    program.kill(signal.SIGTERM)
    assert program.wait(20) == 143
    assert "Traceback" not in program.output

    (ranking,) = read_rankings(str(out), SetAside(tmp_path / "aside.jsonl"))
    row = json.loads(out.read_text())
    assert (row["workdir"], row["step"]) == (str(folder), 0)

    from launch.talking import load_talker
    from lm.assistant import request
    from lm.inference.engine import Engine
    from lm.inference.generate import generate
    from lm.inference.sampling import Sampling

    talker = load_talker(folder)
    engine = Engine(talker.model, symbols=talker.tokenizer.vocab_size, token_bytes=talker.tokenizer.token_bytes)
    assert ranking.prompt == (said("user", "What is it?"),)
    for turn, tokens, (seed, sample) in zip(ranking.responses, row["tokens"], row["draws"], strict=True):
        again = request(
            talker.tokenizer,
            ranking.prompt,
            row["max_tokens"],
            Sampling(temperature=row["temperature"]),
            seed=seed,
            samples=row["samples"],
            style=talker.style,
        )
        ((*completions,),) = generate(engine, [again])
        assert completions[sample].written.tokens == tokens
        assert turn.text in talker.tokenizer.decode(tokens)
