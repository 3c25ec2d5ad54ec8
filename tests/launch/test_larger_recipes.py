"""The recipes for released models, a few steps of them: a small Llama, public conversations and problems as published."""

import gzip
import itertools
import json
import re
from pathlib import Path

import pytest
from programs import run
from test_convert import AS_RELEASED, convert, release  # noqa: F401

from lm.metrics import read_json_lines

DATA = Path(__file__).parents[3] / "shared" / "data"
pytest.importorskip("math_verify", reason='problems in mathematics need math-verify: pip install "trivium[math]"')
if not DATA.is_dir():
    pytest.skip(f"GSM8K and OpenAssistant are not in {DATA}", allow_module_level=True)
CONTEXT = 768
# The release's shape, with room for a conversation, and for the protocol's tokens besides its own.
SHAPE = [
    *(each for each in AS_RELEASED if "vocab_size" not in each),
    "--config.model.vocab_size=320",
    "--config.model.rope_theta=10000.0",
    "--config.model.rope_scaling.factor=1.0",
    "--config.model.norm_epsilon=1e-6",
]
QUICK = ("--config.batch_size=2", "--config.accumulate=1", "--config.sample.prompts=()", "--config.checkpoint.every=0")


def sample(path: Path, source: str, count: int, longest: int) -> str:
    """The first rows of a published file that are short enough for a model that reads bytes."""
    with gzip.open(DATA / source, "rt") as lines:
        kept = itertools.islice((line for line in lines if len(line) < longest), count)
        path.write_text("".join(kept))
    return str(path)


def train(tmp_path: Path, name: str, experiment: str, *arguments: str) -> str:
    given = (f"--config=experiments/{experiment}", f"--workdir={tmp_path / name}", *QUICK, *arguments)
    code, output = run("launch.train", *given, log=tmp_path / "log")
    assert code == 0, output
    return output


def test_a_converted_llama_is_finetuned_by_adapters_and_practises(release, tmp_path):  # noqa: F811
    convert(tmp_path, f"--from={release}", f"--workdir={tmp_path / 'release'}")
    shape = (*SHAPE, f"--config.model.context_length={CONTEXT}")
    chats = (
        sample(tmp_path / "gsm8k.jsonl", "gsm8k/train.jsonl.gz", 12, 800),
        sample(tmp_path / "oasst.jsonl", "oasst_sample/en_100_tree.jsonl.gz", 100, 10**6),
    )
    output = train(
        tmp_path,
        "chat",
        "sft/llama3.py:1b",
        f"--config.start_from={tmp_path / 'release'}",
        *shape,
        f"--config.data.sources={chats!r}",
        "--config.lora.rank=2",
        "--config.optimizer.learning_rate=1e-2",
        "--config.optimizer.warmup_steps=1",
        "--config.evaluate.every=0",
        "--config.steps=4",
    )
    assert "gsm8k.jsonl: 12 conversations" in output
    assert re.search(r"oasst.jsonl: [1-9]\d* conversations", output)
    losses = [record["loss"] for record in read_json_lines(tmp_path / "chat" / "metrics.jsonl")]
    assert len(losses) == 4
    assert losses[-1] < losses[0]

    train(
        tmp_path,
        "practice",
        "rl/gsm8k.py",
        f"--config.start_from={tmp_path / 'chat'}",
        *shape,
        f"--config.data.problems.sources={(chats[0],)!r}",
        f"--config.data.problems.held_out_sources={(sample(tmp_path / 'test.jsonl', 'gsm8k/test.jsonl.gz', 3, 500),)!r}",
        "--config.data.prompts=2",
        "--config.data.samples=2",
        "--config.data.tokens=12",
        "--config.data.slots=4",
        "--config.data.passes=1",
        "--config.optimizer.warmup_steps=1",
        "--config.evaluate.every=0",
        "--config.steps=1",
    )
    (step,) = read_json_lines(tmp_path / "practice" / "metrics.jsonl")
    assert step["reward"] == 0  # nobody learns it in a step
    assert step["length"] > 0
    rollouts = read_json_lines(tmp_path / "practice" / "rollouts.jsonl")
    asked = [json.loads(line)["question"] for line in Path(chats[0]).read_text().splitlines()]
    assert {each["prompt"] for each in rollouts} <= set(asked)
