"""The program: tasks of every kind asked of a small run, what it writes, and what it says about what it could not ask."""

import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from programs import run

from data_pipeline.errors import UserError

CHOICE = "--config=experiments/evaluate/choice.py"
GSM8K = "--config=experiments/evaluate/gsm8k.py"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """A model that has learnt that "a" is followed by "b" and "c" by "d"."""
    folder = tmp_path_factory.mktemp("evaluate")
    chance = np.random.default_rng(0)
    rows = ["".join(f" {x} {'b' if x == 'a' else 'd'}" for x in chance.choice(["a", "c"], 12)) for _ in range(300)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in dict.fromkeys(rows)))
    code, output = run(
        "launch.train",
        "--config=experiments/pretrain/in_context.py",
        f"--workdir={folder / 'run'}",
        f"--cache={folder / 'cache'}",
        f"--config.data.sources={folder / 'text.jsonl'}",
        "--config.model.vocab_size=276",
        "--config.model.context_length=32",
        "--config.model.layers=1",
        "--config.model.width=32",
        "--config.model.heads=1",
        "--config.model.kv_heads=1",
        "--config.steps=40",
        "--config.batch_size=8",
        "--config.optimizer.warmup_steps=4",
        "--config.checkpoint.every=20",
        log=folder / "log",
    )
    assert code == 0, output
    return folder / "run"


def evaluate(workdir: Path, *arguments: str) -> tuple[int, str]:
    return run("launch.evaluate", f"--workdir={workdir}", *arguments, log=workdir / "log.txt")


def records(workdir: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (workdir / "evaluation" / f"{name}.jsonl").read_text().splitlines()]


def write(path: Path, rows: list) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"--config.source={path}"


def test_choices(workdir, tmp_path):
    rows = [{"question": f" {x} b a", "choices": ["b", "d"], "answer": 0} for x in "ac"]
    rows += [
        {"question": " a b c", "choices": ["b", "d"], "answer": 1},
        {"question": " a b c", "choices": ["b", "d"], "answer": 0},
    ]
    rows += [{"question": " a b" * 20, "choices": ["a", "c"], "answer": 0}, {"question": "no answer"}]
    code, output = evaluate(workdir, CHOICE, write(tmp_path / "rows.jsonl", rows), "--config.name=letters")
    assert code == 0, output
    found = records(workdir, "letters")
    assert [one.get("correct") for one in found] == [True, True, True, False, None]
    assert found[-1] == {"example": f"{tmp_path / 'rows.jsonl'}:5", "too_long": True}
    for one in found[:4]:
        assert all(value < 0 for value in one["log_probs"])
    assert "1 of 5 prompts do not fit the model's context and were not asked; the numbers are of the other 4" in output
    assert "set aside 1 row (1 row without a list of choices in choices)" in output
    results = records(workdir, "results")
    accuracy = next(one for one in results if one["task"] == "letters" and one["metric"] == "accuracy")
    assert (accuracy["value"], accuracy["examples"], accuracy["step"]) == (0.75, 4, 40)
    assert accuracy["standard_error"] == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
    assert accuracy["low"] < 0.75 < accuracy["high"]
    assert "0.7500" in output


def test_answers(workdir, tmp_path):
    rows = [{"q": " c d a", "a": "b"}, {"q": " a b c", "a": "b"}]
    source = write(tmp_path / "rows.jsonl", rows)
    common = (GSM8K, source, "--config.prompt={q}", "--config.answer= {a}", "--config.extract=")
    code, output = evaluate(workdir, *common, "--config.stop=(' a',' c')", "--config.name=greedy")
    assert code == 0, output
    found = records(workdir, "greedy")
    assert [one["samples"][0] for one in found] == [
        {"text": " b", "answer": "b", "correct": True, "ended": "stop"},
        {"text": " d", "answer": "d", "correct": False, "ended": "stop"},
    ]
    assert "0.5000" in output
    # Eight at a temperature: nearly all of these are right, and one is enough.
    code, output = evaluate(
        workdir,
        *common,
        "--config.max_tokens=1",
        "--config.samples=8",
        "--config.temperature=0.5",
        "--config.name=sampled",
    )
    assert code == 0, output
    assert [len(one["samples"]) for one in records(workdir, "sampled")] == [8, 8]
    assert "any of 8" in output
    assert "majority of 8" in output
    assert "16 answers were cut off at max_tokens=1" in output


def test_bits_per_byte(workdir, tmp_path):
    rows = [{"id": "long", "text": " a b" * 50}, {"id": "short", "text": " c d"}]
    source = write(tmp_path / "rows.jsonl", rows)
    code, output = evaluate(workdir, "--config=experiments/evaluate/text.py", source)
    assert code == 0, output
    long, short = records(workdir, "text")
    assert (long["bytes"], short["bytes"]) == (200, 4)
    # Every other letter is certain, the others are the same as always: less than the 0.25 bits of a coin for a or c.
    assert 0 < long["bits"] / 200 < 0.5
    bits = next(one for one in records(workdir, "results") if one["metric"] == "bits per byte")
    assert bits["value"] == pytest.approx((long["bits"] + short["bits"]) / 204)
    nats = next(one for one in records(workdir, "results") if one["metric"] == "nats per token")
    assert nats["value"] == pytest.approx(
        (long["bits"] + short["bits"]) * math.log(2) / (long["tokens"] + short["tokens"])
    )
    # An earlier checkpoint knows less.
    code, output = evaluate(workdir, "--config=experiments/evaluate/text.py", source, "--step=20")
    assert code == 0, output
    assert records(workdir, "text")[0]["bits"] > long["bits"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give a task, --config="),
        ((GSM8K,), "source is empty"),
        ((GSM8K, "--config.source=nowhere.jsonl"), "there is no file nowhere.jsonl"),
        ((GSM8K, "--config.sauce=x"), "has no 'sauce': did you mean --config.source?"),
        ((GSM8K, "--config.source=x", "--config.stop=(1,)"), "every item must be a text"),
        ((GSM8K, "--config.source=x", "--step=3"), "no checkpoint 3"),
        (("--config=experiments/pretrain/tiny.py",), "is no task but an experiment"),
        ((GSM8K, "--lm_eval_tasks=x"), "or else --lm_eval_tasks"),
        ((GSM8K, "--config.source=x", "--lm_eval_limit=1"), "need --lm_eval_tasks"),
    ],
)
def test_mistakes(workdir, arguments, told):
    code, output = evaluate(workdir, *arguments)
    assert code == 2, output
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, output
    assert told in lines[0]


def test_a_task_that_fits_nowhere_says_so(workdir, tmp_path):
    source = write(tmp_path / "rows.jsonl", [{"question": " a b" * 20, "choices": ["a", "c"], "answer": 0}])
    code, output = evaluate(workdir, CHOICE, source)
    assert code == 0, output
    assert "1 of 1 prompts do not fit" in output


def test_without_the_harness_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "launch.lm_eval_adapter", raising=False)
    with pytest.raises(UserError, match=r"needs lm_eval: pip install"):
        importlib.import_module("launch.lm_eval_adapter")
