"""What a sweep shows while it runs and what comes out: progress, the table, the CSV, the figure."""

import csv
import json
import time

import numpy as np
import pytest
from played_runs import TINY, TRIALS, PlayedExecutor, play, sweep

from launch.sweep_figure import Point, panels, sweep_figure
from launch.sweep_folder import DONE, FAILED, PRUNED
from launch.sweep_report import report
from launch.sweep_run import known_results
from launch.sweep_settings import settings
from launch.sweep_trials import build
from launch.sweep_view import Estimate, progress
from lm.sweep import product


def test_progress_is_read_from_the_end_of_the_file(tmp_path):
    assert progress(tmp_path, 10, 0.0).note == "starting"
    (tmp_path / "log.txt").write_text("compiling the training step ...\n")
    assert progress(tmp_path, 10, 0.0).note == "compiling the training step ..."
    records = [{"step": s, "loss": 5 - s / 1000, "tokens_per_second": 7.0, "seconds": 3.0 * s} for s in range(1, 2001)]
    text = "".join(json.dumps(record) + "\n" for record in records) + '{"step": 2001, "lo'
    (tmp_path / "metrics.jsonl").write_text(text)
    now = progress(tmp_path, 2100, 0.0)
    assert (now.step, now.loss, now.tokens_per_second, now.spent) == (2000, 3.0, 7.0, 6000.0)
    assert now.left == pytest.approx(300.0)
    assert progress(tmp_path, 2100, time.time() + 60).note == "compiling the training step ..."  # of an earlier process


def test_the_time_left_of_a_sweep():
    estimate = Estimate()
    assert estimate.left([None], 3, 2) is None
    for seconds in (10.0, 20.0):
        estimate.ended(seconds)
    assert estimate.left([5.0, None], 4, 2) == pytest.approx((5 + 15 + 4 * 15) / 2)
    assert estimate.left([60.0], 0, 2) == 60.0  # one trial cannot be shared


def test_the_report_orders_trials_and_tells_everything(tmp_path):
    def script(folder):
        if folder.name.startswith("005"):
            (folder / "log.txt").open("a").write("error: out of memory\n")
            return iter([2])
        return play(folder, [3.0, 2.0 - 0.1 * int(folder.name[:3])])

    values = product({"optimizer.learning_rate": [1e-3, 3e-3], "seed": [0, 1, 2]})
    trials = build(TINY, values)
    _, results = sweep(tmp_path, PlayedExecutor(2, script), values)
    del results[0]  # as if it were still to be run
    text = report(tmp_path, trials, results, "validation.loss")
    rows = [line.split() for line in text.splitlines() if line.strip()[:3].isdigit()]
    assert [row[0] for row in rows] == ["004", "003", "002", "001", "005", "000"]
    assert rows[0][1:5] == ["0.003", "1", "done", "1.6000"]
    assert [row[3] for row in rows[-2:]] == ["failed", "unfinished"]
    # Two values 1.6 and 1.7: mean 1.65, standard error 0.05, t(0.975, 1) = 12.706.
    assert "1.6500 ± 0.6353 (2 seeds)" in text
    with (tmp_path / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["trial"] for row in table] == [str(n) for n in range(6)]
    assert table[4]["folder"] == "004-learning_rate=0.003,seed=1"
    assert float(table[4]["optimizer.learning_rate"]) == 0.003
    assert (float(table[4]["validation_loss"]), float(table[4]["training_loss"])) == pytest.approx((1.6, 2.6))
    assert (table[5]["status"], table[5]["exit_code"], table[5]["error"]) == ("failed", "2", "out of memory")
    assert table[0]["status"] == "unfinished"
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_another_metric_orders_otherwise(tmp_path):
    def script(folder):
        return play(folder, [2.0, 1.0], seconds=10 - int(folder.name[:3]))

    sweep(tmp_path, PlayedExecutor(2, script))
    trials = build(TINY, TRIALS)
    text = report(tmp_path, trials, known_results(tmp_path, trials, "train.seconds"), "train.seconds")
    assert next(line.split()[0] for line in text.splitlines() if line.strip()[:3].isdigit()) == "005"
    nothing = report(tmp_path, trials, known_results(tmp_path, trials, "train.los"), "train.los")
    assert "no trial has train.los: choose another --metric" in nothing


def points(values, metric):
    return [Point(v, DONE, metric(v)) for v in values]


def test_a_figure_averages_over_seeds_and_draws_a_line_for_each_other_value():
    grid = product({"rate": [1e-3, 1e-2, 1e-1], "layers": [2, 4], "seed": [0, 1]})
    drawn = panels(points(grid, lambda v: v["rate"] * v["layers"] + v["seed"]))
    assert [(p.path, p.scale, p.ticks) for p in drawn] == [
        ("rate", "log", [1e-3, 1e-2, 1e-1]),
        ("layers", "linear", [2, 4]),
    ]
    assert [line.label for line in drawn[0].lines] == ["layers=2", "layers=4"]
    assert [mean.mean for mean in drawn[0].lines[1].means] == pytest.approx([x * 4 + 0.5 for x in (1e-3, 1e-2, 1e-1)])
    assert {mean.count for line in drawn[0].lines for mean in line.means} == {2}
    assert len(drawn[1].lines) == 3


def test_a_figure_knows_zips_draws_names_and_seeds():
    zipped = [{"width": w, "heads": w // 32, "rate": r} for w in (64, 128, 256) for r in (1, 2)]
    drawn = panels(points(zipped, lambda v: v["width"]))
    assert [p.label for p in drawn] == ["width (with heads)", "rate"]
    assert [len(p.lines) for p in drawn] == [2, 3]
    random = np.random.default_rng(0).random((20, 2)).tolist()
    drawn = panels(points([{"a": a, "b": b} for a, b in random], lambda v: v["a"]))
    assert [(p.path, p.lines) for p in drawn] == [("a", []), ("b", [])]  # dots alone
    names = panels(
        points([{"name": n, "sources": s} for n in ("muon", "adamw") for s in (("x",), ("x", "y"))], lambda v: 1.0)
    )
    assert [p.scale for p in names] == ["names", "names"]
    assert [p.path for p in panels(points([{"seed": s} for s in range(3)], lambda v: v["seed"]))] == ["seed"]
    with_zero = panels(points([{"decay": d} for d in (0, 0.01, 0.1, 1.0)], lambda v: 1.0))
    assert with_zero[0].scale == "names"
    assert panels(points([{"a": 1}], lambda v: 1.0)) == []


def test_failed_and_pruned_trials_are_in_the_figure_but_in_no_mean(tmp_path):
    grid = [
        Point({"a": 1, "b": True}, DONE, 2.0),
        Point({"a": 2, "b": True}, DONE, 1.0),
        Point({"a": 2, "b": False}, PRUNED, 9.0),
        Point({"a": 4, "b": False}, FAILED, None),
    ]
    drawn = panels(grid)
    assert [(p.path, p.ticks) for p in drawn] == [("a", [1, 2, 4]), ("b", [False, True])]
    assert [mean.mean for line in drawn[0].lines for mean in line.means] == [2.0, 1.0]
    assert sweep_figure(grid, "validation.loss", tmp_path / "a.png", "a")
    assert sweep_figure(grid[3:], "validation.loss", tmp_path / "b.png", "b") is None


def test_a_list_of_changes_is_told_by_what_differs_from_the_usual_values(tmp_path):
    base = {"optimizer.name": "muon", "model.qk_norm": True, "model.norm": "rmsnorm", "model.biases": False}
    changes = [
        {},
        {"optimizer.name": "adamw", "model.norm": "layernorm"},
        {"model.qk_norm": False},
        {"model.biases": True},
    ]
    trials = [
        ({**base, **change, "seed": seed}, 2.0 + number + seed)
        for number, change in enumerate(changes)
        for seed in (0, 2)
    ]
    points = [Point(values, DONE, metric) for values, metric in trials]
    found = settings([*points, Point({**base, "seed": 5}, FAILED, None)], "seed")
    assert [(label, values, interval.mean) for label, values, interval in found] == [
        ("(the usual values)", [2.0, 4.0], 3.0),
        ("name=adamw, norm=layernorm", [3.0, 5.0], 4.0),
        ("qk_norm=False", [4.0, 6.0], 5.0),
        ("biases=True", [5.0, 7.0], 6.0),
    ]
    assert sweep_figure(points, "validation.loss", tmp_path / "list.png", "a list")
