"""Optuna as the sampler of a sweep."""

import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from played_runs import TINY, PlayedExecutor, play, send_after

from data_pipeline.errors import UserError
from launch.sweep_expression import parse
from launch.sweep_folder import DONE, PRUNED, keep_plan, planned_values
from launch.sweep_optuna import OptunaSampler
from launch.sweep_run import Sweep, known_results
from launch.sweep_trials import Base, build, read


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna", reason='Optuna is not installed: pip install "trivium[sweep]"')


SPACE = "optimizer.learning_rate=log_uniform(1e-5,1e-1) ; optimizer.name=muon,adamw ; model.windows=0,(0,128)"


THREE_STEPS = Base(TINY.file, ("--config.steps=3", "--config.optimizer.warmup_steps=0"))


def optuna_sampler(root: Path, count: int, **more):
    space = parse(SPACE).as_space()

    def keep(values):
        keep_plan(root, THREE_STEPS, read(THREE_STEPS.flags), values, {"name": "optuna"})

    root.mkdir(exist_ok=True)
    trials = build(THREE_STEPS, planned_values(root), check=False)
    results = known_results(root, trials, "validation.loss")
    settings = {"count": count, "seed": 3, "metric": "validation.loss", "keep": keep}
    return (
        OptunaSampler(THREE_STEPS, space, root=root, known=trials, results=results, **{**settings, **more}),
        trials,
        results,
    )


def run_optuna(root: Path, count: int, executor):
    sampler, trials, results = optuna_sampler(root, count)
    queue = [trial for trial in trials if trial.number not in results]
    whole = Sweep(root, executor, lambda trial, _: trial.flags, "validation.loss", queue, results, sampler)
    whole.pause = lambda _: None
    return whole.run(), sampler, results


def bowl(folder: Path):
    """The best rate is 1e-3: a loss that grows with the square of the distance in decades."""
    words = folder.name.partition("learning_rate=")[2].partition(",")[0]
    distance = (np.log10(float(words)) + 3) ** 2
    return play(folder, [9.0, 8.0 + distance, 1.0 + distance])


def test_optuna_finds_what_is_better_and_gives_up_what_is_worse(tmp_path, optuna):
    code, sampler, results = run_optuna(tmp_path / "a", 30, PlayedExecutor(2, bowl))
    assert code == 0
    assert len(results) == len(sampler.trials) == 30
    statuses = Counter(result.status for result in results.values())
    assert set(statuses) == {DONE, PRUNED}
    assert all(results[number].status == DONE for number in range(4))
    worst_done = [results[n].metric for n in results if results[n].status == DONE]
    early = [abs(np.log10(t.values["optimizer.learning_rate"]) + 3) for t in sampler.trials[:10]]
    late = [abs(np.log10(t.values["optimizer.learning_rate"]) + 3) for t in sampler.trials[-10:]]
    assert np.median(late) < np.median(early)
    assert min(worst_done) < 1.1


def test_optuna_leaves_the_beginning_of_a_trial_alone(tmp_path, optuna):
    _, sampler, _ = run_optuna(tmp_path / "a", 6, PlayedExecutor(1, bowl))
    trial = sampler.trials[-1]
    bad = [{"step": step, "loss": 1e6} for step in (1, 2)]
    for steps, given_up in ((9, False), (8, True)):
        sampler._asked[trial.number] = sampler._study.ask(sampler._space)
        sampler._reported.clear()
        trial.experiment.steps = steps
        assert sampler.should_prune(trial, bad) is given_up


def test_optuna_goes_on_where_a_killed_sweep_was(tmp_path, optuna):
    root = tmp_path / "a"
    executor = PlayedExecutor(2, bowl)
    send_after(executor, {20: signal.SIGTERM})
    code, sampler, results = run_optuna(root, 12, executor)
    assert code == 143
    planned = [trial.values for trial in sampler.trials]
    assert len(results) < len(planned) < 12
    rest = PlayedExecutor(2, bowl)
    code, sampler, after = run_optuna(root, 12, rest)
    assert code == 0
    assert [trial.values for trial in sampler.trials][: len(planned)] == planned
    assert len({str(trial.values) for trial in sampler.trials}) == 12  # the first draws are not repeated
    assert {int(number) for number in rest.submitted} == set(range(12)) - set(results)
    assert len(after) == 12
    known = {t.number: t.state.name for t in optuna_sampler(root, 12)[0]._study.trials}
    assert known == {n: "COMPLETE" if r.status == DONE else "PRUNED" for n, r in after.items()}


def test_without_optuna_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install \"trivium\[sweep\]\""):
        optuna_sampler(tmp_path, 3)
