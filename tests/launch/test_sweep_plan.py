"""What a sweep will try: the `--sweep` expression, the types of values, mistakes told before anything starts."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from played_runs import TINY
from programs import run

from launch.sweep_expression import flag_text, parse
from launch.sweep_trials import build, read, without_repeats
from lm.sweep import Choice, Uniform


def test_lists_multiply_and_zip():
    text = "optimizer.learning_rate=1e-3, 3e-3 ; model.width=64,128 & model.heads=2,4"
    assert parse(text).trials(0, 0) == [
        {"optimizer.learning_rate": rate, "model.width": width, "model.heads": heads}
        for rate in ("1e-3", "3e-3")
        for width, heads in (("64", "2"), ("128", "4"))
    ]


def test_draws_are_one_factor_of_the_product():
    expression = parse("seed=0,1 ; a=log_uniform(1e-4,1e-2) ; b=choice(x,(1,2))")
    trials = expression.trials(3, 5)
    assert len(trials) == 6
    drawn = {(trial["a"], trial["b"]) for trial in trials}
    assert len(drawn) == 3  # the same three for both seeds
    assert all(1e-4 <= a <= 1e-2 and b in ("x", "(1,2)") for a, b in drawn)
    assert expression.space == {"a": Uniform(1e-4, 1e-2, log=True), "b": Choice(("x", "(1,2)"))}


@given(st.lists(st.text(alphabet="ab,;&=() ", min_size=1), min_size=1, max_size=4))
def test_anything_may_stand_in_quotes(values):
    quoted = [json.dumps(value) for value in values]
    trials = parse(f"data.tokenizer={','.join(quoted)} ; seed=1").trials(0, 0)
    assert [flag_text(trial["data.tokenizer"], "") for trial in trials] == values


def test_values_get_the_type_of_the_field_as_launch_train_reads_them():
    text = (
        "optimizer.learning_rate=1 ; model.layers=2 ; model.qk_norm=true ; data.sources=('school','pydoc') ; "
        'model.windows=0 ; optimizer.name=muon ; sample.prompts="a, b" ; data.weights=(1,2)'
    )
    (trial,) = build(TINY, parse(text).trials(0, 0))
    assert trial.values == {
        "optimizer.learning_rate": 1.0,
        "model.layers": 2,
        "model.qk_norm": True,
        "data.sources": ("school", "pydoc"),
        "model.windows": (0,),
        "optimizer.name": "muon",
        "sample.prompts": ("a, b",),
        "data.weights": (1, 2),
    }
    assert {path: type(value) for path, value in trial.values.items()}["optimizer.learning_rate"] is float
    assert read((*TINY.flags, *trial.flags)) == trial.experiment


def test_values_from_python_and_from_a_stored_plan_read_the_same():
    values = {
        "optimizer.learning_rate": np.float32(0.5),
        "model.layers": np.int64(3),
        "model.qk_norm": True,
        "model.windows": (0, 128),
        "optimizer.name": "adamw",
    }
    (trial,) = build(TINY, [values])
    (again,) = build(TINY, json.loads(json.dumps([trial.values])))
    assert trial == again
    assert trial.values == {**values, "optimizer.learning_rate": 0.5, "model.layers": 3}


def test_draws_of_whole_number_fields_are_whole():
    expression = parse("model.mlp_width=log_uniform(32,256)").for_config({"model.mlp_width": 512})
    trials = build(TINY, expression.trials(5, 0))
    assert all(
        isinstance(t.values["model.mlp_width"], int) and 32 <= t.values["model.mlp_width"] <= 256 for t in trials
    )


def test_repeated_trials_are_left_out():
    kept, repeats = without_repeats(build(TINY, [{"seed": 1}, {"seed": 0}, {"optimizer.name": "normuon"}, {"seed": 2}]))
    assert [trial.values for trial in kept] == [{"seed": 1}, {"seed": 0}, {"seed": 2}]  # normuon and 0 are the defaults
    assert (repeats, [trial.number for trial in kept]) == (1, [0, 1, 2])


def test_names_of_folders_say_what_was_tried():
    (trial,) = build(TINY, [{"optimizer.learning_rate": 3e-4, "data.sources": ("school", "../a b")}], first=7)
    assert trial.name == "007-learning_rate=0.0003,sources=school+.._a_b"
    (long,) = build(TINY, [{"data.tokenizer": "x" * 200}])
    assert len(long.name) < 80


def refused(tmp_path: Path, *arguments: str, config: str = "--config=experiments/pretrain/tiny.py") -> str:
    workdir, cache = f"--workdir={tmp_path / 'sweep'}", f"--cache={tmp_path / 'cache'}"
    code, output = run("launch.sweep", config, workdir, cache, *arguments, log=tmp_path / "log")
    assert code == 2, output
    assert "Traceback" not in output
    assert not list((tmp_path / "sweep").glob("0*")), "a trial was started"
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--sweep=learning_rate=1,2",), "did you mean --config.optimizer.learning_rate?"),
        (("--sweep=optimizer=1,2",), "is a group"),
        (("--sweep=model.layers=1,many",), "must be a whole number"),
        (("--sweep=model.qk_norm=true,perhaps",), "perhaps"),
        (("--sweep=model.windows=0,a",), "every item must be a whole number"),
        (("--sweep=seed=0,1 ; optimizer.learning_rate=1e-3,-1",), "trial 1 (seed=0, learning_rate=-1)"),
        (("--sweep=model.heads=4,3",), "trial 1 (heads=3)"),
        (("--sweep=steps=10,20", "--config.steps=5"), "steps is swept, and set by --config.steps as well"),
        (("--sweep=seed",), "'seed' is not PATH=VALUE"),
        (("--sweep=seed=",), "'seed=' is not PATH=VALUE"),
        (("--sweep=seed=1,,2",), "nothing before or after a ','"),
        (("--sweep=seed=(1,2",), "'(' is not closed"),
        (("--sweep=seed=1)",), "')' closes nothing"),
        (("--sweep=seed='1",), '"\'" is not closed'),
        (("--sweep=seed=1;seed=2",), "seed is named twice"),
        (("--sweep=seed=1 & seed=2",), "seed is named twice"),
        (("--sweep=seed=1,2 & steps=1",), "seed has 2, steps has 1"),
        (("--sweep=seed=1,2 & steps=uniform(1,9)",), "steps is drawn and seed listed"),
        (("--sweep=seed=unform(1,2)",), "did you mean uniform?"),
        (("--sweep=seed=uniform(1,)",), "nothing before or after a ','"),
        (("--sweep=seed=uniform(1)",), "uniform takes two numbers"),
        (("--sweep=optimizer.learning_rate=log_uniform(0,1)", "--trials=2"), "must be above 0"),
        (("--sweep=steps=uniform(1,9)",), "say how many trials"),
        (("--sweep=seed=1,2", "--trials=3"), "draws nothing"),
        ((), "nothing to sweep: give --sweep"),
        (("--trials=3",), "--trials needs --sweep"),
        (("--sampler=optuna", "--trials=3"), "--sampler=optuna needs --sweep"),
        (("--sampler=optuna", "--sweep=seed=1,2"), "say how many trials"),
        (("--sampler=optuna", "--trials=3", "--sweep=seed=1,2 & steps=50,60"), "cannot be zipped"),
        (("--sampler=grid", "--sweep=seed=1,2"), "--sampler"),
        (("--sweep=seed=1,2", "--metric=loss"), "--metric=loss: name one such as validation.loss"),
        (("--sweep=seed=1,2", "--parallel=-1"), "--parallel=-1: must be at least 1"),
        (("--sweep=seed=1,2", "--workdir="), "--workdir is missing"),
        (("--sweep=seed=1,2", "--workdir=README.md"), "--workdir=README.md is a file"),
        (("--sweep=data.sources=no/such.txt",), "no/such.txt"),
    ],
)
def test_mistakes_are_told_before_anything_starts(tmp_path, arguments, told):
    assert told in refused(tmp_path, *arguments)


def test_the_config_must_be_given(tmp_path):
    assert "--config is missing" in refused(tmp_path, "--sweep=seed=1", config="--workdir=x")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return {'seed': 1}", "must return a list of dicts"),
        ("return []", "returns no trials"),
        ("return [{'sed': 1}]", "did you mean --config.seed?"),
        ("return [{3: 1}]", "3 is no config path"),
        ("return [{'seed': 1.5}]", "must be a whole number"),
        ("return [{'model.windows': ('a',)}]", "every item must be a whole number"),
    ],
)
def test_mistakes_in_the_experiments_own_sweep(tmp_path, body, told):
    file = tmp_path / "experiment.py"
    file.write_text(
        f"from lm.experiment import Experiment\ndef get_config(): return Experiment()\ndef sweep(): {body}\n"
    )
    assert told in refused(tmp_path, config=f"--config={file}")
