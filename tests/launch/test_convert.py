"""launch.convert as a user runs it: a release in and out again, used, trained on; and what is wrong told in one line."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from programs import run
from test_resume import SMALL, losses

from data_pipeline.foreign_tokenizers import BYTE_OF
from data_pipeline.tokenizer import load_tokenizer
from data_pipeline.tokenizer_json import from_byte_level
from lm.checkpoint import read_parameters, save_parameters
from lm.experiment import Experiment
from lm.interop.releases import export_release
from lm.model.config import ModelConfig
from lm.model.transformer import Transformer

safetensors_numpy = pytest.importorskip("safetensors.numpy", reason='needs pip install "trivium[convert]"')
pytest.importorskip("gguf", reason='needs pip install "trivium[convert]"')

MODEL = ModelConfig(
    vocab_size=300, context_length=64, layers=2, width=32, heads=4, kv_heads=2, mlp_width=48, tied_head=False
)


AS_RELEASED = [
    f"--config.model.{name}={getattr(MODEL, name)}"
    for name in ("vocab_size", "layers", "width", "heads", "kv_heads", "mlp_width", "tied_head", "activation")
] + ["--config.model.head_dim=8"]


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """A Llama in Hugging Face's format, in several shards, with a tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("release")
    model = jax.jit(Transformer, static_argnums=1)(jax.random.key(0), MODEL)
    save_parameters(folder / "run" / "checkpoints", jax.tree.map(np.asarray, model))
    (folder / "run" / "tokenizer").mkdir()
    text = from_byte_level([*BYTE_OF, "<|endoftext|>"], [], [256], "gpt-2")
    (folder / "run" / "tokenizer" / "tokenizer.json").write_text(text)
    (folder / "hf").mkdir()
    export_release(
        MODEL, folder / "run" / "checkpoints", None, folder / "run" / "tokenizer", folder / "hf", shard_bytes=30_000
    )
    assert len(list((folder / "hf").glob("*.safetensors"))) > 3
    return folder / "hf"


def convert(tmp_path: Path, *arguments: str, code: int = 0) -> str:
    found, output = run("launch.convert", *arguments, log=tmp_path / "log")
    assert found == code, output
    assert "Traceback" not in output
    return output


def refused(tmp_path: Path, *arguments: str) -> str:
    """The one line that says why; nothing is left behind."""
    before = sorted(tmp_path.rglob("*"))
    output = convert(tmp_path, *arguments, code=2)
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "log") == [p for p in before if p.name != "log"]
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, output
    return lines[0]


def test_in_out_write_and_learn_on(release, tmp_path):
    output = convert(tmp_path, f"--from={release}", f"--workdir={tmp_path / 'run'}")
    assert "Hugging Face llama: " in output
    assert f"train on: python -m launch.train --config=... --config.start_from={tmp_path / 'run'}" in output
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"] == json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(MODEL, head_dim=8))))
    assert config.keys() == dataclasses.asdict(Experiment()).keys()

    code, output = run(
        "launch.generate", f"--workdir={tmp_path / 'run'}", "--tokens=5", "--prompt=ab", log=tmp_path / "log"
    )
    assert code == 0, output
    assert "at step 0" in output

    convert(tmp_path, f"--workdir={tmp_path / 'run'}", f"--to={tmp_path / 'out'}")
    ours = {n: x for f in release.glob("*.safetensors") for n, x in safetensors_numpy.load_file(f).items()}
    theirs = safetensors_numpy.load_file(tmp_path / "out" / "model.safetensors")
    assert theirs.keys() == ours.keys()
    assert all(np.array_equal(theirs[name], x) for name, x in ours.items())
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == json.loads(
        (release / "config.json").read_text()
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_text() == (release / name).read_text()

    # Nothing is overwritten, in either direction.
    assert "is there already" in refused(tmp_path, f"--from={release}", f"--workdir={tmp_path / 'run'}")
    assert "is there already" in refused(tmp_path, f"--workdir={tmp_path / 'run'}", f"--to={tmp_path / 'out'}")

    # The folder itself is not trained in; another one begins with its parameters.
    start = [f"--config.start_from={tmp_path / 'run'}", *AS_RELEASED]
    train = [*SMALL, *start, "--config.steps=5"]
    code, output = run("launch.train", *train, f"--workdir={tmp_path / 'run'}", log=tmp_path / "log")
    assert code == 2
    assert "holds a converted release: train in another --workdir" in output
    code, output = run("launch.train", *train, f"--workdir={tmp_path / 'new'}", log=tmp_path / "log")
    assert code == 0, output
    assert f"starting from {tmp_path / 'run'} at step 0" in output
    assert load_tokenizer(tmp_path / "new" / "tokenizer").encode("ab") == [64, 65]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text("{half"), "config.json is damaged"),
        (lambda f: (f / "config.json").write_text("[1]"), "is not a release's config"),
        (lambda f: config(f, model_type="mamba"), "models of type 'mamba' are not supported"),
        (lambda f: config(f, num_hidden_layers=3), "has no tensor model.layers.2."),
        (lambda f: config(f, num_hidden_layers=1), "no place for: model.layers.1."),
        (lambda f: config(f, tie_word_embeddings=True), "lm_head.weight differs from model.embed_tokens.weight"),
        (lambda f: config(f, intermediate_size=47), "mlp.down_proj.weight is (32, 48) and"),
        (lambda f: shard(f, 2).unlink(), "is missing: fetch it, too"),
        (lambda f: shard(f, 2).write_bytes(shard(f, 2).read_bytes()[:-1]), "is damaged, or not a safetensors file"),
        (lambda f: shard(f, 2).write_bytes(b"GIF89a"), "is damaged, or not a safetensors file"),
        (lambda f: shutil.copy(shard(f, 1), shard(f, 2)), "which model.safetensors.index.json says it has"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "is not an index of safetensors files"),
        (lambda f: (f / "model.safetensors.index.json").unlink(), "has neither model.safetensors nor"),
        (lambda f: (f / "tokenizer.json").unlink(), "brings no tokenizer.json: name the file"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "is not a Hugging Face tokenizer.json"),
        (lambda f: fill(f, "model.norm.weight", np.inf), "model.norm.weight holds values that are not finite"),
    ],
)
def test_damaged_releases(release, tmp_path, damage, told):
    shutil.copytree(release, tmp_path / "hf")
    damage(tmp_path / "hf")
    assert told in refused(tmp_path, f"--from={tmp_path / 'hf'}", f"--workdir={tmp_path / 'run'}")


def shard(folder: Path, number: int) -> Path:
    return sorted(folder.glob("*.safetensors"))[number]


def config(folder: Path, **changes) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


def fill(folder: Path, name: str, value: float) -> None:
    for file in folder.glob("*.safetensors"):
        tensors = safetensors_numpy.load_file(file)
        if name in tensors:
            safetensors_numpy.save_file(tensors | {name: np.full_like(tensors[name], value)}, file)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give --workdir and either --from"),
        (("--workdir=x",), "give --workdir and either --from"),
        (("--workdir=x", "--from=a", "--to=b"), "give --workdir and either --from"),
        (("--workdir=x", "--from=a", "--step=3"), "--step goes with --to"),
        (("--workdir=x", "--from=no/such/place"), "no/such/place: there is no such folder or file"),
        (("--workdir=x", "--from=README.md"), "README.md is not a GGUF file"),
        (("--workdir=x", "--from=lm"), "lm has no config.json"),
        (("--workdir=x", "--to=y"), "x holds no run"),
        (("--workdir=x", "--form=y"), "did you mean --from?"),
    ],
)
def test_mistakes(tmp_path, arguments, told):
    assert told in refused(tmp_path, *arguments)


def test_llama2c_files_that_are_none(tmp_path):
    for contents, told in [
        (b"12", "too short"),
        (bytes(28), "is not a llama2.c checkpoint"),
        (np.array([8, 8, 1, 2, 1, 9, 4], "<i4").tobytes(), "has 28 bytes and its header promises"),
    ]:
        (tmp_path / "a.bin").write_bytes(contents)
        assert told in refused(tmp_path, f"--from={tmp_path / 'a.bin'}", f"--workdir={tmp_path / 'run'}")


# --- start_from between runs of ours


def test_a_run_starts_from_another_and_then_needs_it_no_more(tmp_path):
    code, output = run("launch.train", *SMALL, "--config.steps=6", f"--workdir={tmp_path / 'a'}", log=tmp_path / "log")
    assert code == 0, output
    more = [
        *SMALL,
        "--config.steps=8",
        f"--config.start_from={tmp_path / 'a'}",
        "--config.optimizer.learning_rate=1e-9",
    ]
    code, output = run("launch.train", *more, f"--workdir={tmp_path / 'b'}", log=tmp_path / "log")
    assert code == 0, output
    assert "starting from" in output
    assert "at step 6" in output
    # At a learning rate of nothing it stays where the first run came to, far below where that began.
    assert losses(tmp_path / "b")[0][1] < losses(tmp_path / "a")[0][1] - 0.3
    last = dict(parameters(tmp_path / "a"))
    for name, x in parameters(tmp_path / "b"):
        assert np.allclose(x, last[name], atol=1e-6), name
    assert (tmp_path / "b" / "tokenizer" / "tokenizer.model").read_bytes() == (
        tmp_path / "a" / "tokenizer" / "tokenizer.model"
    ).read_bytes()

    # With the other folder gone, it goes on all the same.

    kept = json.loads((tmp_path / "b" / "config.json").read_text())
    assert kept["start_from"] == str(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    code, output = run("launch.train", *more, f"--workdir={tmp_path / 'b'}", log=tmp_path / "log")
    assert code == 0, output
    assert "resuming after step 8 of 8" in output


def parameters(workdir: Path):
    from launch.workdir import model_config, read_config

    config = model_config(read_config(workdir)["model"])
    shapes = jax.eval_shape(lambda: Transformer(jax.random.key(0), config))
    return read_parameters(workdir / "checkpoints", shapes)[0]


def test_another_model_or_tokenizer_to_start_from_is_refused(release, tmp_path):
    convert(tmp_path, f"--from={release}", f"--workdir={tmp_path / 'run'}")
    train = [*SMALL, f"--workdir={tmp_path / 'new'}"]
    code, output = run("launch.train", *train, f"--config.start_from={tmp_path / 'run'}", log=tmp_path / "log")
    assert code == 2
    assert "holds another model (model." in output
    flags = output.split(": set ")[1].split()
    assert not (tmp_path / "new").exists()
    train += flags
    code, output = run("launch.train", *train, "--config.start_from=no/run", log=tmp_path / "log")
    assert code == 2
    assert "no/run holds no run" in output
    assert not (tmp_path / "new").exists()
    (tmp_path / "other.json").write_text(from_byte_level([*BYTE_OF, "<|endoftext|>", "ab"], ["a b"], [256], "gpt-2"))
    other = f"--config.data.tokenizer={tmp_path / 'other.json'}"
    code, output = run("launch.train", *train, f"--config.start_from={tmp_path / 'run'}", other, log=tmp_path / "log")
    assert code == 2
    assert "is not the one that the model in" in output
