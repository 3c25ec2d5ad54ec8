"""The parts of the benchmark commands that could be wrong without anybody noticing, and one that runs as a whole."""

import os
import subprocess
import sys
from pathlib import Path

import accelerator
import checkpointing
import loader
import numpy as np
import pytest
import startup
from our_side import RandomDocuments
from side_by_side import ROOT

from data_pipeline.errors import UserError
from data_pipeline.loader import PackedSource
from lm.model.presets import preset


def test_the_cost_of_a_save_is_its_share_of_the_time_until_the_next():
    assert checkpointing.share([1.0, 0.0], every=60, step=0.4) == [1 / 25, 0.0]
    assert checkpointing.cadence("tiny") == 60
    row = checkpointing.cost_row("tiny", 60, {"extra": [1.0, 0.0, 0.5], "step": 0.4, "blocking": 0.1})
    assert row[-1] == "2.04% (0.00 to 4.00)"  # 0.5 s in 24.5


def test_speeds_are_in_seconds_a_gigabyte():
    found = {"bytes": 500_000_000, "save": 1.0, "restore": 0.25}
    assert checkpointing.speed_row("5m", found, (2.0, 1.5)) == ("5m", "0.500", "2.00", "0.50", "4.00", "3.00")
    assert checkpointing.speed_row("5m", found, None)[-2:] == ("-", "-")


class InMemory(list):
    lengths = property(lambda self: np.array([len(tokens) for _, tokens in self], np.int32))


def test_the_loaders_peer_reads_the_same_tokens():
    documents = InMemory([("a", np.array([0, 5, 6, 0])), ("b", np.array([0, 7, 0])), ("c", np.array([0, 8, 9, 0]))])
    joined = loader.concatenated(documents)
    assert joined.tolist() == [0, 5, 6, 0, 7, 0, 8, 9]
    assert joined.dtype == np.int64


def test_random_documents_fill_rows():
    documents = RandomDocuments(vocab_size=50, row_length=32, total=4096)
    assert len(documents) == len(documents.lengths)
    assert all(len(documents[i][1]) == documents.lengths[i] for i in range(len(documents)))
    tokens = np.concatenate([documents[i][1] for i in range(len(documents))])
    assert (tokens.min(), tokens.max()) == (0, 49)
    source = PackedSource([documents], ["random"], None, row_length=32, batch_size=4, seed=0, packing="split")
    batch = source.next()
    assert batch["loss_mask"].all()
    assert batch["segment_ids"].max() > 1  # the mask of packed documents has work to do


def test_mfu_is_of_the_devices_own_peak():
    model = preset("gpt2-124m")
    per_token = 6 * (124_439_808 - 1024 * 768) + 12 * 12 * 768 * 1024
    assert accelerator.mfu(model, 400_000, 989e12) == pytest.approx(400_000 * per_token / 989e12, rel=0.01)
    assert accelerator.peak_of("NVIDIA H200") == 989e12
    assert accelerator.peak_of("NVIDIA L40S") is None  # not an L4
    assert accelerator.peak_of("cpu") is None


def test_a_start_that_fails_is_told():
    with pytest.raises(UserError, match=r"ended before its first step: .*no experiment file"):
        startup.seconds_to_first_step("experiments/pretrain/absent.py", Path("unused"), Path("unused"))


def run(name: str, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess:
    """A benchmark command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / name), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=240)


def test_the_accelerator_benchmark_runs_without_pytorch_and_says_so(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no PyTorch here')")
    trace = tmp_path / "trace"
    options = ("--tiny", "--models=gpt2-124m", "--rounds=1", "--seconds=0", f"--trace={trace}")
    done = run("accelerator.py", *options, path=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING: NO PEER (no PyTorch here)" in done.stdout
    table = done.stdout.splitlines()[-3:]
    assert table[0].startswith("| training in bfloat16 ")
    assert table[2].startswith("| gpt2-124m, Trivium ")
    assert list(trace.rglob("*.trace.json.gz")) or list(trace.rglob("*.xplane.pb"))


def test_a_mistake_is_told_in_a_line():
    done = run("training.py", "--sizes=6m")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --sizes=6m is not known: choose of 0.9m, 5m, 124m, tiny"


def test_the_generation_benchmark_refuses_a_batch_of_none():
    done = run("generation.py", "--batches=0")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --batches=0 is not known: give numbers from 1 on, or mixed"
