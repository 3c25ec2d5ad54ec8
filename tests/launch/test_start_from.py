"""Finetuning from a run, a release or an experiment file, as a user does it; and what is wrong told in one line."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from programs import run
from test_resume import SMALL_FINETUNING, losses

from data_pipeline.conversations import ConversationsConfig
from data_pipeline.errors import UserError
from data_pipeline.foreign_tokenizers import BYTE_OF
from data_pipeline.special_tokens import SPECIAL_TOKENS
from data_pipeline.tokenizer_json import from_byte_level
from launch import start_from
from launch.start_from import find_base, make_start, tokenizer_in
from launch.workdir import load_model, of_hardware
from lm.checkpoint import save_parameters
from lm.experiment import Experiment
from lm.model.transformer import Transformer

QUICK = (
    *SMALL_FINETUNING,
    "--config.steps=3",
    "--config.optimizer.name=adamw",
    "--config.optimizer.warmup_steps=1",
    "--config.model.layers=1",
    "--config.model.activation=swiglu",
    "--config.questions.topics=()",
    "--config.data.sources=('school:identity',)",
)
BASE = """
from experiments.pretrain import tiny
from lm.experiment import SampleConfig


def get_config(variant="good"):
    config = tiny.get_config()
    config.steps, config.batch_size, config.optimizer.warmup_steps = 2, 4, 1
    config.optimizer.name = "adamw"
    config.sample = SampleConfig(prompts=())
    config.data.sources = ("school",) if variant == "good" else ("no/such/file.txt",)
    config.data.school.people, config.data.school.arithmetic_documents = 20, 50
    config.evaluate.batches = 1
    model = config.model
    model.vocab_size, model.context_length, model.layers, model.width = 512, 64, 1, 32
    model.activation = "swiglu"
    model.heads, model.kv_heads, model.mlp_width = 2, 2, 64
    return config
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start_from")
    (folder / "base.py").write_text(BASE)
    return folder


def train(folder: Path, name: str, base: str, *more: str, code: int = 0) -> str:
    arguments = (*QUICK, f"--config.start_from={base}", f"--workdir={folder / name}", f"--cache={folder / 'cache'}")
    found, output = run("launch.train", *arguments, *more, log=folder / "log")
    assert found == code, output
    assert "Traceback" not in output
    return output


def errors(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("error: ")]


@pytest.fixture(scope="module")
def first(folder) -> str:
    """What the first run from the experiment file prints."""
    return train(folder, "first", f"{folder / 'base.py'}")


def base_of(folder: Path) -> Path:
    """The run that was trained for it."""
    (done,) = (folder / "cache" / "runs").glob("*/done")
    return done.parent


def test_an_experiment_file_is_trained_once(folder, first):
    assert f"{folder / 'base.py'} is not trained yet: training it first, in {base_of(folder)}" in first
    assert f"starting from {base_of(folder)} at step 2" in first
    assert len(losses(base_of(folder))) == 2
    assert len(losses(folder / "first")) == 3
    again = train(folder, "again", f"{folder / 'base.py'}")
    assert "is not trained yet" not in again
    assert losses(folder / "again") == losses(folder / "first")


def test_a_run_that_has_begun_needs_its_base_no_more(folder, first):
    base = base_of(folder)
    hidden = [path.rename(path.with_name(f"{path.name}-hidden")) for path in (base, folder / "base.py")]
    (folder / "base.py").touch()  # of which nothing is asked
    output = train(folder, "first", f"{folder / 'base.py'}")
    assert "resuming after step 3 of 3" in output
    for path in hidden:
        path.rename(path.with_name(path.name.removesuffix("-hidden")))


def test_a_base_that_fails_ends_it(folder):
    output = train(folder, "failed", f"{folder / 'base.py'}:bad", code=2)
    why, ended = errors(output)  # one line of the training that failed, and one of ours
    assert "no/such/file.txt" in why
    assert ended.startswith(f"error: the training of {folder / 'base.py'}:bad ended with exit code 2: see above")
    assert not (folder / "failed").exists()
    again = train(folder, "failed", f"{folder / 'base.py'}:bad", code=2)
    assert "is not trained yet" in again


def test_a_cluster_does_not_train_its_base(folder, monkeypatch):
    monkeypatch.setattr(start_from.jax.distributed, "is_initialized", lambda: True)
    with pytest.raises(UserError, match="is done by a process alone"):
        find_base(f"{folder / 'base.py'}", folder / "empty-cache")


def test_the_protocols_tokens_are_new_to_a_base_model(folder, first):
    """A run of ours that read documents knows the document's start alone; an assistant knows all of them."""
    ours = tokenizer_in(folder / "first")
    protocol = {ours.special_tokens[name] for name in SPECIAL_TOKENS}
    config = Experiment(data=ConversationsConfig())
    for name, new in ((base_of(folder), protocol - {ours.document_start}), (folder / "first", set())):
        config.model = start_from.model_config(json.loads((name / "config.json").read_text())["model"])
        assert set(make_start(name, config, ours).new_tokens) == new
    # Reading on is no reason to forget anything.
    documents = Experiment(model=config.model)
    assert make_start(base_of(folder), documents, ours).new_tokens == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["--config.questions.topics=('history',)"], "the school has no topic 'history': choose school, facts"),
        (
            ["--config.questions.topics=('facts',)", "--config.questions.count=0"],
            "questions.count=0: must be at least 1",
        ),
        (["--config.data.sources=('school:history',)"], "the school has no topic 'history'"),
        (["--config.data.sources=('pydoc',)"], "pydoc holds documents and no conversations"),
        (["--config.data.sources=('paragraphs:x.txt',)"], "holds documents and no conversations"),
        (["--config.data.weights=(1,2)"], "data.weights has 2 numbers for 1 data.sources"),
        (["--config.data.too_long=drop"], "choose set_aside or cut"),
        (["--config.model.context_length=8"], "no conversation to learn from in a context of 8 tokens"),
        (
            ["--config.model.width=64"],
            "holds another model (model.width: 32 there, 64 here): set --config.model.width=32",
        ),
        (["--config.model.vocab_size=500"], "holds another model (model.vocab_size: 512 there, 500 here)"),
        (["--config.lora.rank=-1"], "lora.rank=-1: must not be negative"),
        (["--config.lora.rank=2", "--config.lora.targets=('querry',)"], "lora.targets names 'querry'"),
        (["--config.start_from=no/run"], "no/run"),
        (["--config.start_from=experiments/pretrain/tinny.py"], "did you mean experiments/pretrain/tiny.py?"),
    ],
)
def test_mistakes(folder, first, tmp_path, changes, told):
    arguments = (*QUICK, f"--config.start_from={base_of(folder)}", f"--workdir={tmp_path / 'run'}")
    code, output = run("launch.train", *arguments, f"--cache={folder / 'cache'}", *changes, log=tmp_path / "log")
    assert code == 2, output
    assert "Traceback" not in output
    (line,) = errors(output)
    assert told in line
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


# --- adapters


def test_adapters_are_trained_kept_and_merged(folder, first, tmp_path):
    """Written with, and given out as one model, whose tensors are those that `load_model` has."""
    numpy_files = pytest.importorskip("safetensors.numpy", reason='needs pip install "trivium[convert]"')
    train(folder, "adapters", str(base_of(folder)), "--config.lora.rank=2", "--config.optimizer.weight_decay=0.0")
    workdir = folder / "adapters"
    kept = sum(path.stat().st_size for path in (workdir / "checkpoints" / "3").rglob("*") if path.is_file())
    whole = sum(path.stat().st_size for path in (folder / "first" / "checkpoints" / "3").rglob("*") if path.is_file())
    assert kept < whole / 2
    code, output = run("launch.generate", f"--workdir={workdir}", "--prompt=a", "--tokens=3", log=tmp_path / "log")
    assert code == 0, output
    assert "at step 3" in output
    code, output = run("launch.convert", f"--workdir={workdir}", f"--to={tmp_path / 'out'}", log=tmp_path / "log")
    assert code == 0, output
    tensors = numpy_files.load_file(tmp_path / "out" / "model.safetensors")
    model, _, step = load_model(workdir)
    assert step == 3
    np.testing.assert_array_equal(tensors["model.embed_tokens.weight"], model.token_embedding)
    found = tensors["model.layers.0.mlp.down_proj.weight"].T
    np.testing.assert_array_equal(found, model.blocks.mlp.down.kernel[0])
    base = load_model(base_of(folder))[0]
    assert not np.array_equal(found, base.blocks.mlp.down.kernel[0])
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == []
    output = train(folder, "on", str(workdir), "--config.optimizer.learning_rate=1e-12")
    assert f"starting from {workdir} at step 3" in output
    continued = load_model(folder / "on")[0]
    np.testing.assert_allclose(continued.token_embedding, model.token_embedding, atol=1e-6)


# --- from a release without the protocol's tokens


@pytest.fixture(scope="module")
def release(folder, first) -> Path:
    """A converted model of 300 rows whose tokenizer has 257 symbols: bytes, and the end of a text."""
    pytest.importorskip("tokenizers", reason='needs pip install "trivium[tokenizers]"')
    values = json.loads((folder / "first" / "config.json").read_text())
    values["model"]["vocab_size"] = 300
    run_folder = folder / "release"
    (run_folder / "tokenizer").mkdir(parents=True)
    config = start_from.model_config(values["model"])
    model = jax.jit(Transformer, static_argnums=1)(jax.random.key(0), config)
    save_parameters(run_folder / "checkpoints", jax.tree.map(np.asarray, model))
    text = from_byte_level([*BYTE_OF, "<|endoftext|>"], [], [256], "gpt-2")
    (run_folder / "tokenizer" / "tokenizer.json").write_text(text)
    (run_folder / "config.json").write_text(json.dumps(values))
    (run_folder / "converted.json").write_text("{}")
    return run_folder


def test_the_protocols_tokens_are_added_to_a_release(folder, release):
    """In rows that the model has to spare; fewer than it has is one line with the number to set."""
    short = ["--config.data.too_long=cut", "--config.model.context_length=256", "--config.batch_size=2"]
    train(folder, "spare", str(release), *short, "--config.model.vocab_size=300")
    known, longer = (tokenizer_in(path) for path in (release, folder / "spare"))
    added = [name for name in SPECIAL_TOKENS if name not in known.special_tokens]
    assert len(added) >= 10
    assert longer.vocab_size == known.vocab_size + len(added)
    output = train(folder, "few", str(release), *short, "--config.model.vocab_size=260", code=2)
    (line,) = errors(output)
    assert "holds another model (model.vocab_size: 300 there, 260 here): set --config.model.vocab_size=300" in line


def test_hardware_is_no_part_of_an_experiment():
    assert of_hardware("mesh.data: -1 there, 2 here")
    assert of_hardware("data.mesh.fsdp: 1 there, 2 here")
    assert not of_hardware("data.meshes: 1 there, 2 here")
    assert not of_hardware("model.width: 64 there, 128 here")
