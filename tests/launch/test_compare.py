"""Runs side by side: what differs, groups over seeds, and their intervals against the tables of Student's t."""

import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import ROOT

from data_pipeline.errors import UserError
from launch.compare import expand, gather, groups_table, runs_table, together, write_csv
from launch.compare_figure import common, curves, smooth
from launch.compare_groups import differing, group
from launch.compare_runs import Interval, cell, flat, interval, read_run, split_metric, table

# The 97.5% quantile of Student's t by degrees of freedom, from printed tables.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 29: 2.045}


@pytest.mark.parametrize("freedom", T)
def test_intervals_are_those_of_students_t(freedom):
    values = np.random.default_rng(freedom).normal(3.0, 0.1, freedom + 1).tolist()
    found = interval(values)
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / freedom
    assert found.mean == pytest.approx(mean)
    assert found.half == pytest.approx(T[freedom] * (variance / len(values)) ** 0.5, rel=2e-4)
    assert found.count == freedom + 1


def test_intervals_hold_the_true_mean_in_95_of_100_samples():
    chance = np.random.default_rng(0)
    samples = chance.normal(1.0, 2.0, (2000, 3))
    held = [abs(found.mean - 1.0) <= found.half for found in map(interval, samples.tolist())]
    assert 0.935 < statistics.fmean(held) < 0.965  # three standard errors


def test_one_value_has_no_interval_and_parts_from_nothing():
    assert interval([2.5]) == Interval(2.5, None, 1)
    assert str(interval([2.5])) == "2.5000 (1 seed)"
    assert str(Interval(2.5, 0.25, 3)) == "2.5000 ± 0.2500 (3 seeds)"
    assert interval([1.0]).parts_from(interval([2.0, 2.1])) is None
    assert Interval(1.0, 0.4, 3).parts_from(Interval(2.0, 0.5, 3)) is True
    assert Interval(1.0, 0.6, 3).parts_from(Interval(2.0, 0.5, 3)) is False


def make_run(folder: Path, losses, steps: int | None = None, **values) -> Path:
    """A run on disk that was never trained; evaluated at every other step."""
    folder.mkdir(parents=True)
    config = {"steps": steps or len(losses), "seed": 0, "batch_size": 4, "model": {"context_length": 8, "width": 16}}
    config |= {"optimizer": {"learning_rate": 1e-3}}
    for key, value in values.items():
        first, _, rest = key.partition("__")
        (config[first] if rest else config)[rest or first] = value
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "metrics.jsonl").open("w") as file:
        for step, loss in enumerate(losses, 1):
            record = {"step": step, "loss": loss + 0.5, "tokens_per_second": 10.0 * step, "seconds": 2.0 * step}
            file.write(json.dumps(record) + "\n")
        file.write('{"step": 99, "lo')
    with (folder / "evaluations.jsonl").open("w") as file:
        for step in range(2, len(losses) + 1, 2):
            record = {"step": step, "loss": losses[step - 1], "bits_per_byte": losses[step - 1] / 2}
            file.write(json.dumps(record) + "\n")
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two rates, three seeds each; one more of the second rate that is not finished."""
    made = [
        make_run(
            tmp_path / f"{rate}-{seed}",
            [3.0, 2.0, 1.5, rate * 1000 + seed / 10],
            seed=seed,
            optimizer__learning_rate=rate,
        )
        for rate in (1e-3, 2e-3)
        for seed in range(3)
    ]
    made.append(make_run(tmp_path / "short", [3.0, 0.1], steps=4, seed=9, optimizer__learning_rate=2e-3))
    return [read_run(folder) for folder in made]


def test_a_run_is_summed_up_by_its_last_and_best_values(tmp_path):
    run = read_run(make_run(tmp_path / "a", [4.0, 2.0, 3.0, 2.5, 2.4]))
    assert run.finished
    assert run.tokens_per_step == 32
    assert run.summary() == {
        "step": 5,
        "validation_loss": 2.5,
        "best_validation_loss": 2.0,
        "best_step": 2,
        "training_loss": 2.9,
        "tokens_per_second": 30.0,
        "seconds": 10.0,
    }
    assert run.metric("validation.bits_per_byte") == 1.25
    assert run.metric("validation.nothing") is None
    empty = read_run(make_run(tmp_path / "b", [], steps=3))
    assert not empty.finished
    assert set(empty.summary().values()) == {0, None}


def test_what_differs_is_named_by_its_path(tmp_path):
    one = make_run(tmp_path / "a", [1.0], model__width=16, model__windows=[0])
    other = make_run(tmp_path / "b", [1.0], model__width=32, model__windows=[0, 4], model__new=None)
    found = differing([read_run(one), read_run(other)])
    assert found == {"model.width": [16, 32], "model.windows": [[0], [0, 4]]}
    assert flat({"a": {"b": {"c": 1}, "d": [2]}, "e": 3}) == {"a.b.c": 1, "a.d": [2], "e": 3}


def test_runs_that_differ_by_their_seed_are_a_group(runs):
    groups = group(runs)
    assert [each.values for each in groups] == [{"optimizer.learning_rate": 1e-3}, {"optimizer.learning_rate": 2e-3}]
    assert [len(each.runs) for each in groups] == [3, 4]
    measured = [each.measured("validation.loss") for each in groups]
    # 1.0, 1.1, 1.2: mean 1.1, standard deviation 0.1; the run that is not finished does not count.
    half = T[2] * 0.1 / 3**0.5
    assert [m.mean for m in measured] == pytest.approx([1.1, 2.1])
    assert [m.half for m in measured] == pytest.approx([half, half], rel=2e-4)
    text = groups_table(groups, "validation.loss")
    assert "optimizer.learning_rate=0.001  1.1000 ± 0.2484 (3 seeds)" in text
    assert "optimizer.learning_rate=0.002  2.1000 ± 0.2484 (3 seeds)  +90.91%           parts" in text


def test_a_seed_that_ran_twice_counts_once(tmp_path, runs):
    again = read_run(make_run(tmp_path / "again", [3.0, 2.0, 1.5, 9.0], seed=2, optimizer__learning_rate=1e-3))
    first = group([*runs, again])[0]
    assert len(first.runs) == 4
    assert first.seeds == runs[:3]
    assert first.measured("validation.loss").count == 3


def test_keys_that_change_together_share_a_column(tmp_path):
    made = [
        make_run(
            tmp_path / f"{width}-{rate}",
            [1.0],
            model__width=width,
            model__heads=width // 8,
            optimizer__learning_rate=rate,
        )
        for width in (16, 32)
        for rate in (1e-3, 1e-2)
    ]
    runs = [read_run(folder) for folder in made]
    assert together(runs) == {"model.width": ["model.heads"]}
    header = runs_table(runs, "validation.loss").splitlines()[0].split()
    assert header[:4] == ["run", "model.width", "optimizer.learning_rate", "step"]
    assert len(group(runs)) == 4


def test_the_csv_has_everything(tmp_path, runs):
    write_csv(tmp_path / "a.csv", runs, "train.seconds")
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    assert rows[3]["run"] == str(runs[3].folder)
    assert (rows[3]["optimizer.learning_rate"], rows[3]["seed"], rows[3]["train.seconds"]) == ("0.002", "0", "8.0")
    assert float(rows[4]["validation_loss"]) == pytest.approx(2.1)
    assert (rows[6]["step"], rows[6]["steps"]) == ("2", "4")


def test_a_sweep_stands_for_its_trials(tmp_path):
    with pytest.raises(UserError, match="holds no run and no sweep"):
        read_run(tmp_path / "nothing")
    sweep = tmp_path / "sweep"
    make_run(sweep / "001-b", [1.0])
    make_run(sweep / "000-a", [1.0])
    (sweep / "002-c").mkdir()
    (sweep / "sweep.json").write_text("{}")
    assert expand(sweep) == [sweep / "000-a", sweep / "001-b"]
    assert expand(sweep / "000-a") == [sweep / "000-a"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match="no trial has begun"):
        expand(tmp_path / "empty")


def test_damaged_files_are_told(tmp_path):
    run = make_run(tmp_path / "a", [1.0])
    (run / "metrics.jsonl").write_text("{]\n")
    with pytest.raises(UserError, match="damaged"):
        read_run(run)
    (run / "config.json").write_text("[]")
    (run / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match="is not the config of a run"):
        read_run(run)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.integers(1, 10))
def test_smoothing_is_the_mean_of_the_last_values(values, window):
    slow = [statistics.fmean(values[max(end - window, 0) : end]) for end in range(1, len(values) + 1)]
    assert smooth(values, window) == pytest.approx(slow, abs=1e-9)


def test_curves_meet_at_the_steps_that_all_have(tmp_path, runs):
    steps, losses = common([{2: 1.0, 4: 2.0, 6: 3.0}, {4: 5.0, 2: 4.0}])
    assert steps == [2, 4]
    assert losses.tolist() == [[1.0, 2.0], [4.0, 5.0]]
    empty = read_run(make_run(tmp_path / "empty", [], steps=3))
    assert curves(group([*runs, empty]), tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_tables_line_up():
    text = table(["name", "loss"], [["a", "1.5"], ["longer", "-"], ["b", "10,000"]])
    assert text.splitlines() == ["name      loss", "a          1.5", "longer       -", "b       10,000"]
    assert table(["x"], []) == "x"
    assert [cell(v) for v in (None, 1.23456, 1e-5, 123456.7, 3, True, [1, "a"])] == [
        "-", "1.2346", "1e-05", "123457", "3", "True", "1,a",
    ]  # fmt: skip


def test_metrics_have_a_split_and_a_key():
    assert split_metric("validation.loss") == ("validation", "loss")
    for wrong in ("loss", "test.loss", "train.", ""):
        with pytest.raises(UserError, match="name one such as"):
            split_metric(wrong)


def test_at_least_two_runs_are_wanted(tmp_path, runs):
    one, other = str(runs[0].folder), str(runs[1].folder)
    assert [run.folder.name for run in gather([one, other, one])] == ["0.001-0", "0.001-1"]
    for few in ([], [one], [one, one]):
        with pytest.raises(UserError, match="name at least two runs"):
            gather(few)


def compare(*arguments: object, cwd: Path) -> tuple[int, str]:
    """`python -m launch.compare ARGUMENTS...`, in a process of its own: it alone takes arguments that are no flags."""
    command = [sys.executable, "-m", "launch.compare", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_program_writes_a_table_and_a_figure(tmp_path, runs):
    again = make_run(tmp_path / "again", [3.0, 2.0, 1.5, 9.0], seed=2, optimizer__learning_rate=1e-3)
    code, output = compare(*(run.folder for run in runs), again, "--output=figures/rates.png", cwd=tmp_path)
    assert code == 0, output
    assert "1.1000 ± 0.2484 (3 seeds)" in output
    assert f"not finished, and left out of the intervals: {tmp_path / 'short'} (step 2 of 4)" in output
    assert f"the same seed a second time, and left out of the intervals: {again}" in output
    assert (tmp_path / "figures/rates.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "figures/rates.csv").read_text().splitlines()) == 9


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing", "nowhere"), "error: nothing holds no run and no sweep"),
        (("a", "b", "--output=a.txt"), "error: --output=a.txt: name a .png, .pdf or .svg file"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, arguments, told):
    code, output = compare(*arguments, cwd=tmp_path)
    assert code == 2, output
    assert output.startswith(told)
    assert len(output.strip().splitlines()) == 1
