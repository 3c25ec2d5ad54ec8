"""`launch.train --estimate`: the lecture's GPT-2 as a user asks for it, an MFU that a run measured, and mistakes."""

import json
import re

import pytest
from programs import run

GPT2 = "--config=experiments/pretrain/gpt2.py:1558m"


def estimate(tmp_path, *arguments: str) -> tuple[int, str]:
    return run("launch.train", "--estimate", *arguments, log=tmp_path / "log")


def number(output: str, name: str) -> float:
    """The first number of the first line that begins with `name`."""
    line = next(line for line in output.splitlines() if line.strip().startswith(name))
    return float(re.search(r"[\d,.]+(e\+\d+)?", line.strip()[len(name) :]).group().replace(",", ""))


def test_the_lectures_gpt2(tmp_path):
    run_of_33_billion_tokens = ("--config.steps=32000", "--config.batch_size=1024", "--config.accumulate=8")
    code, output = estimate(tmp_path, GPT2, *run_of_33_billion_tokens, "--hardware=h100:8", "--mfu=0.5")
    assert code == 0, output
    assert number(output, "parameters ") == 1_557_611_200
    assert number(output, "tokens ") == 32_000 * 1024 * 1024
    assert number(output, "FLOPs") == pytest.approx(3.45e20, rel=0.01)
    assert number(output, "dollars") == pytest.approx(672, rel=0.03)  # what llm.c paid, and the lecture's "$600"
    assert "time                    1d00h" in output
    assert "WARNING: it does not fit" in output
    assert "--config.accumulate=32" in output
    assert "--config.model.remat=dots" in output
    assert not list(tmp_path.glob("*/")), "an estimate makes no folder"


def test_what_it_proposes_fits(tmp_path):
    proposed = ("--config.steps=32000", "--config.batch_size=1024", "--config.accumulate=32")
    code, output = estimate(tmp_path, GPT2, *proposed)
    assert code == 0, output
    assert "it fits, with XLA_CLIENT_MEM_FRACTION=" in output
    assert "WARNING" not in output
    assert "assumed; see --mfu" in output


def test_mfu_of_a_run_and_a_price(tmp_path):
    lines = [{"step": step, "mfu": mfu} for step, mfu in enumerate([0.001, 0.001, 0.2, 0.25, 0.3], start=1)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    common = (GPT2, "--hardware=h100:8", "--price=2")
    code, measured = estimate(tmp_path, *common, f"--mfu_from={tmp_path}")
    assert code == 0, measured
    assert f"MFU 25% (the median of {tmp_path})" in measured
    assert number(measured, "dollars") == number(estimate(tmp_path, *common, "--mfu=0.25")[1], "dollars")
    assert number(estimate(tmp_path, *common, "--mfu=0.5")[1], "dollars") == pytest.approx(
        number(measured, "dollars") / 2, rel=1e-3
    )


def test_a_model_in_float32_is_told_about_the_peak(tmp_path):
    code, output = estimate(tmp_path, "--config=experiments/pretrain/tiny.py", "--hardware=l4")
    assert code == 0, output
    assert "its MFU will be far lower" in output
    assert "memory on each device, about (MiB)" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--hardware=h101:8",), "hardware 'h101:8' is not known: choose one of a10, "),
        (("--mfu=50",), "--mfu=50.0: a share, above 0 and at most 1 (50% is 0.5)"),
        (("--mfu=0.4", "--mfu_from=runs/a"), "--mfu and --mfu_from are both given: choose one"),
        (("--mfu_from=absent",), "--mfu_from=absent: absent/metrics.jsonl has no steps beyond the second"),
        (("--price=-1",), "--price=-1.0: dollars for an hour of one chip must not be negative"),
        (
            ("--hardware=h100:3", "--config.accumulate=8"),
            "batch_size=512 in accumulate=8 parts does not divide over mesh data x fsdp = 3",
        ),
        (("--config.mesh.data=3",), "does not fit the 8 devices"),
    ],
)
def test_mistakes(tmp_path, arguments, message):
    code, output = estimate(tmp_path, GPT2, *arguments)
    assert code == 2
    assert output.startswith("error: ")
    assert message in output
    assert len(output.strip().splitlines()) == 1
