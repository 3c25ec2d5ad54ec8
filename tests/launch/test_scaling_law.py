"""`launch.scaling_law` on sweeps written by hand: a law we know goes in, and must come out."""

import importlib.util
import json
import os
import re
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from programs import ROOT, run

from lm.experiment import check_experiment

SCALING = "experiments/pretrain/scaling.py"
E, A, ALPHA, B, BETA = 1.5, 40.0, 0.35, 400.0, 0.45


def experiment_file():
    spec = importlib.util.spec_from_file_location("scaling", ROOT / SCALING)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parameters(model: dict) -> int:
    """N by hand: the embedding, which is the head too; of each block four projections and two of the MLP, and norms."""
    width, per_head = model["width"], model["width"] // model["heads"]
    block = 4 * width**2 + 2 * width * model["mlp_width"] + 2 * width + 2 * per_head
    return model["vocab_size"] * width + model["layers"] * block + width


def true_loss(config: dict) -> float:
    tokens = config["steps"] * config["batch_size"] * config["model"]["context_length"]
    return E + A * parameters(config["model"]) ** -ALPHA + B * tokens**-BETA


def with_values(config: dict, values: dict) -> dict:
    changed = json.loads(json.dumps(config))
    for path, value in values.items():
        *groups, key = path.split(".")
        place = changed
        for group in groups:
            place = place[group]
        assert key in place, path
        place[key] = value
    return changed


def write_run(folder: Path, config: dict, loss: float, step: int | None = None) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    record = {"step": config["steps"] if step is None else step, "loss": loss}
    (folder / "evaluations.jsonl").write_text(json.dumps(record) + "\n")


def write_sweep(
    root: Path, noise: float = 0.0, trials: slice = slice(None), overrides: tuple[str, ...] = ()
) -> list[Path]:
    module, rng = experiment_file(), np.random.default_rng(0)
    base = asdict(module.get_config())
    if overrides:
        base["data"]["sources"] = ["pydoc"]
    folders = []
    for number, values in enumerate(module.sweep()[trials]):
        config = with_values(base, values)
        folders.append(root / f"{number:03d}-width={values['model.width']}")
        write_run(folders[-1], config, true_loss(config) * float(np.exp(noise * rng.normal())))
    plan = {"config": SCALING, "overrides": list(overrides), "experiment": base, "sampler": None, "trials": []}
    (root / "sweep.json").write_text(json.dumps(plan))
    return folders


def larger(**changes) -> dict:
    return with_values(json.loads(json.dumps(asdict(experiment_file().get_config("larger")))), changes)


def program(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    return run("launch.scaling_law", *arguments, log=tmp_path / "log")


def refused(tmp_path: Path, *arguments: str) -> str:
    code, output = program(tmp_path, *arguments)
    assert code == 2, output
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    return line


def test_every_trial_of_the_grid_makes_sense_and_the_larger_run_is_larger():
    module = experiment_file()
    trials = module.sweep()
    configs = [with_values(asdict(module.get_config()), values) for values in trials]
    sizes = {parameters(config["model"]) for config in configs}
    budgets = {config["steps"] for config in configs}
    assert len(trials) == len(sizes) * len(budgets) == 16
    for config in configs:
        experiment = module.get_config()
        for group in ("model", "optimizer"):
            for name, value in config[group].items():
                if not isinstance(value, dict):
                    setattr(getattr(experiment, group), name, value)
        experiment.steps = config["steps"]
        check_experiment(experiment)
    check_experiment(module.get_config("larger"))
    assert parameters(larger()["model"]) / max(sizes) == pytest.approx(3.7, abs=0.05)
    assert larger()["steps"] == 2 * max(budgets)


def test_predicts_then_checks(tmp_path):
    root, run_folder = tmp_path / "sweep", tmp_path / "larger"
    write_sweep(root, overrides=("--config.data.sources=('pydoc',)",))
    (root / "016-failed").mkdir()
    (root / "016-failed/log.txt").write_text("error: no\n")
    truth = true_loss(larger())

    code, output = program(tmp_path, f"--workdir={root}", f"--predict={SCALING}:larger")
    assert code == 0, output
    assert "1 runs have not finished and are left out: 016-failed" in output
    for name, value in (("E", E), ("A", A), ("alpha", ALPHA), ("B", B), ("beta", BETA)):
        row = re.search(rf"^{name} +(\S+) +(\S+) +(\S+)", output, re.MULTILINE)
        assert [float(number) for number in row.groups()] == pytest.approx([value] * 3, rel=5e-3), output
    assert "--config=experiments/pretrain/scaling.py:larger '--config.data.sources=('" in output.replace('"\'"', "")
    assert (root / "scaling_law.png").stat().st_size > 10_000
    (written,) = json.loads((root / "prediction.json").read_text())
    assert written["loss"] == pytest.approx(truth, rel=1e-5)
    assert written["parameters"] == parameters(larger()["model"])
    assert written["tokens"] == 400 * 16 * 256
    assert written["experiment"]["data"]["sources"] == ["pydoc"], "the sweep's own flags apply"
    before = (root / "prediction.json").read_bytes()

    assert "already has a prediction" in refused(tmp_path, f"--workdir={root}", f"--predict={SCALING}:larger")

    # Another seed is still the run that was predicted; the found loss is far from what was said.
    write_run(run_folder, larger(**{"data.sources": ["pydoc"], "seed": 7}), truth * 1.1)
    os.utime(run_folder / "evaluations.jsonl", (time.time() + 5,) * 2)
    picture = (root / "scaling_law.png").read_bytes()
    code, output = program(tmp_path, f"--workdir={root}", f"--check={run_folder}")
    assert code == 0, output
    assert f"found {truth * 1.1:.4f}: OUTSIDE the interval, +10.00% from the prediction" in output
    assert "had ended before" not in output
    assert (root / "prediction.json").read_bytes() == before
    assert (root / "scaling_law.png").read_bytes() != picture


def test_says_what_a_noisy_grid_leaves_open(tmp_path):
    root = tmp_path / "sweep"
    write_sweep(root, noise=0.01)
    code, output = program(tmp_path, f"--workdir={root}", f"--predict={SCALING}:larger")
    assert code == 0, output
    assert "alpha is not settled by these runs" in output
    (written,) = json.loads((root / "prediction.json").read_text())
    assert written["low"] < true_loss(larger()) < written["high"]

    # A run that was there first was not foretold.
    write_run(tmp_path / "larger", larger(), true_loss(larger()))
    os.utime(tmp_path / "larger/evaluations.jsonl", (time.time() - 3600,) * 2)
    code, output = program(tmp_path, f"--workdir={root}", f"--check={tmp_path / 'larger'}")
    assert code == 0, output
    assert "inside the interval" in output
    assert "had ended before the prediction was written" in output


def test_folders_that_hold_no_law(tmp_path):
    empty, few, alike = tmp_path / "empty", tmp_path / "few", tmp_path / "alike"
    empty.mkdir()
    assert "--workdir is missing" in refused(tmp_path)
    assert "is no folder" in refused(tmp_path, f"--workdir={tmp_path / 'nowhere'}")
    assert "has no finished runs (there is none in it)" in refused(tmp_path, f"--workdir={empty}")
    write_run(empty / "000", larger(), 3.0, step=100)
    assert "has no finished runs (none of its 1 runs has finished)" in refused(tmp_path, f"--workdir={empty}")
    assert "holds one run" in refused(tmp_path, f"--workdir={empty / '000'}")
    write_sweep(few, trials=slice(0, 16, 4))
    assert "4 runs are too few" in refused(tmp_path, f"--workdir={few}")
    write_sweep(alike, trials=slice(0, 8))
    assert "2 different sizes: at least 3" in refused(tmp_path, f"--workdir={alike}")


def test_runs_that_cannot_be_compared(tmp_path):
    root = tmp_path / "sweep"
    folders = write_sweep(root)
    config = json.loads((folders[3] / "config.json").read_text())
    (folders[3] / "config.json").write_text(json.dumps(with_values(config, {"data.held_out": 0.2})))
    assert "data.held_out: 0.05 there, 0.2 here" in refused(tmp_path, f"--workdir={root}")
    (folders[3] / "config.json").write_text(json.dumps(config))
    (folders[0] / "data.json").write_text('{"books": "a"}')
    (folders[3] / "data.json").write_text('{"books": "b"}')
    assert "was trained when books had changed" in refused(tmp_path, f"--workdir={root}")


def test_predictions_that_cannot_be_made_or_checked(tmp_path):
    root, run_folder = tmp_path / "sweep", tmp_path / "larger"
    write_sweep(root)
    write_run(run_folder, larger(), 3.0)
    here = f"--workdir={root}"
    assert "has no prediction.json" in refused(tmp_path, here, f"--check={run_folder}")
    assert "both given" in refused(tmp_path, here, f"--check={run_folder}", f"--predict={SCALING}")
    assert "has no variant 'huge'" in refused(tmp_path, here, f"--predict={SCALING}:huge")
    assert "has been run, in" in refused(tmp_path, here, f"--predict={SCALING}:grid")
    assert "losses cannot be compared" in refused(tmp_path, here, "--predict=experiments/pretrain/tiny.py")
    (root / "prediction.json").write_text("[{")
    assert "prediction.json is damaged" in refused(tmp_path, here)
    (root / "prediction.json").unlink()
    assert program(tmp_path, here, f"--predict={SCALING}:larger")[0] == 0
    write_run(tmp_path / "other", larger(**{"optimizer.learning_rate": 1.0}), 3.0)
    line = refused(tmp_path, here, f"--check={tmp_path / 'other'}")
    assert "is not the run that was predicted" in line
    assert "optimizer.learning_rate" in line
    write_run(tmp_path / "half", larger(), 3.0, step=200)
    assert "has not finished" in refused(tmp_path, here, f"--check={tmp_path / 'half'}")
