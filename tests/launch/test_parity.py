"""Tokens to think (running parity, arXiv 2510.11495): practice finds the long way where a few examples showed it.

Pretraining from random parameters, practice, and what it finds as conversations for others: the whole chain, once.
"""

import json
from pathlib import Path

import pytest
from programs import run

from data_pipeline.chat_formats import conversation_of
from data_pipeline.parity import running
from lm.metrics import read_json_lines

# Unlike other tests, these compute more than they compile.
OPTIMISED = {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}


def both_stages(percent: int, folder: Path, steps: int, *more: str) -> Path:
    """Base and practice, as a user trains them; the folder of the practice."""
    base, workdir, cache = folder / f"base-{percent}", folder / f"practice-{percent}", f"--cache={folder / 'cache'}"
    arguments = (f"--config=experiments/sft/parity.py:{percent}", f"--workdir={base}", "--config.sample.prompts=()")
    code, output = run("launch.train", *arguments, *more, cache, log=folder / "log", environment=OPTIMISED)
    assert code == 0, output
    quick = (f"--config.steps={steps}", f"--config.evaluate.every={steps}", "--config.data.problems.held_out=100")
    arguments = (f"--config=experiments/rl/parity.py:{percent}", f"--workdir={workdir}", f"--config.start_from={base}")
    arguments += (*quick, "--config.data.passes=1", *more[:1], cache)
    code, output = run("launch.train", *arguments, log=folder / "log", environment=OPTIMISED)
    assert code == 0, output
    return workdir


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module")
def practised(folder):
    return both_stages(10, folder, 45)


def test_practice_finds_the_long_way(practised):
    before, after = read_json_lines(practised / "evaluations.jsonl")
    assert 0.35 < before["accuracy"] < 0.65
    assert before["length"] < 4
    assert after["accuracy"] > 0.95
    assert after["length"] > 15


def test_where_nothing_showed_it_there_is_nothing_to_find(folder, practised):
    """With the other arm's vocabulary, so that no program is compiled twice."""
    tokenizer = f"--config.data.tokenizer={folder / 'base-10' / 'tokenizer'}"
    workdir = both_stages(0, folder, 15, "--config.model.vocab_size=274", tokenizer, "--config.steps=100")
    before, after = read_json_lines(workdir / "evaluations.jsonl")
    for each in (before, after):
        assert 0.3 < each["accuracy"] < 0.7
        assert each["length"] < 4


def test_what_was_found_is_kept_for_others(practised, tmp_path):
    """Killed on the way and started again, it does nothing twice and keeps the same."""
    arguments = (f"--workdir={practised}", "--count=80", "--samples=1", "--tokens=24", "--calls=0", "--temperature=0")
    code, output = run("launch.traces", *arguments, f"--out={tmp_path / 'out'}", log=tmp_path / "log")
    assert code == 0, output
    assert "80 problems, " in output
    traces = [json.loads(line) for line in (tmp_path / "out" / "traces.jsonl").read_text().splitlines()]
    assert len(traces) > 70
    for trace in traces:
        asked, answered = conversation_of("", trace).turns
        assert answered.text == f"{running(asked.text)}={running(asked.text)[-1]}"
    tries = tmp_path / "out" / "tries.jsonl"
    whole, kept = tries.read_text(), (tmp_path / "out" / "traces.jsonl").read_text()
    tries.write_text("".join(whole.splitlines(keepends=True)[:64]) + '{"id": "par')
    code, output = run("launch.traces", *arguments, f"--out={tmp_path / 'out'}", log=tmp_path / "log")
    assert code == 0, output
    assert tries.read_text() == whole
    assert (tmp_path / "out" / "traces.jsonl").read_text() == kept


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["--out=", "--problems=parity"], "--out is missing"),
        (["--problems=school:nothing"], "choose school: and answer_first"),
        (["--workdir=no/run"], "no/run holds no run"),
        (["--temperature=0.5"], "was begun with other settings: temperature (1.0, now 0.5)"),
    ],
)
def test_mistakes(practised, folder, tmp_path, changes, told):
    out = folder / "begun"
    out.mkdir(exist_ok=True)
    if "other settings" in told:
        arguments = (f"--workdir={practised}", f"--out={out}", "--count=2", "--samples=1", "--tokens=2", "--calls=0")
        assert run("launch.traces", *arguments, log=tmp_path / "log")[0] == 0
    else:
        arguments = (f"--workdir={practised}", f"--out={out}")
    code, output = run("launch.traces", *arguments, *changes, log=tmp_path / "log")
    assert code == 2, output
    assert told in output
    assert "Traceback" not in output
