"""Reinforcement learning through the one loop: it goes on where it was killed, on any mesh, whatever its verifiers do."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import numpy as np
import pytest
from rl_world import MODEL, Length, Never, problems, train_until
from scripted import a_tokenizer

from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.problem import Response, Verdict
from data_pipeline.problems import ProblemSets
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.objectives.policy_gradient import PolicyGradientConfig, preset
from lm.optimizer import OptimizerConfig
from lm.practice import PracticeConfig
from lm.rl.stage import PreparedProblems, fitting, practice
from lm.sharding import MeshConfig, make_mesh

LENGTH = Length()
PRACTICE = PracticeConfig(prompts=2, samples=2, tokens=10, slots=16, passes=2, cut_off="scored")


def experiment(**changes) -> Experiment:
    values = {
        "steps": 5,
        "batch_size": 2,
        "start_from": "somewhere",
        "model": MODEL,
        "data": PRACTICE,
        "objective": PolicyGradientConfig(),
        "optimizer": OptimizerConfig(learning_rate=1e-2, warmup_steps=0, schedule="constant"),
        "evaluate": EvaluateConfig(every=3),
        "sample": SampleConfig(every=0),
        "checkpoint": CheckpointConfig(every=2),
    }
    return Experiment(**{**values, **changes})


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return a_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def run(config, ours, folder, devices=None, verifier=LENGTH, killed_at=0):
    """The lines that the run wrote; `killed_at`: its source dies before handing out that batch."""
    world = [replace(each, verifier=verifier) for each in problems(6)]
    sets = ProblemSets(tuple(world[:4]), tuple(world[4:]), "")
    mesh = make_mesh(config.mesh, devices or jax.devices()[:1])
    folder.mkdir(exist_ok=True)
    stage = practice(config, PreparedProblems(sets, ours), mesh, None, None, folder)
    train_until((lambda: stage.source._step + 1 == killed_at) if killed_at else None, config, stage, mesh, folder)
    return lines(folder, "metrics"), lines(folder, "evaluations"), lines(folder, "rollouts")


TIMES = ("seconds", "tokens_per_second", "mfu", "sampling_seconds", "verifying_seconds", "sampled_tokens_per_second")


def lines(folder, name):
    records = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    return [{key: value for key, value in each.items() if key not in TIMES} for each in records]


def test_a_killed_run_goes_on_bit_for_bit(ours, tmp_path):
    """With rollouts that wait to be trained on once more, and a round ahead that the policy of before has sampled."""
    config = experiment(data=replace(PRACTICE, updates=2, behind=True))
    whole = run(config, ours, tmp_path / "whole")
    assert [each["step"] for each in whole[0]] == [1, 2, 3, 4, 5]
    assert [each["step"] for each in whole[1]] == [0, 3, 5]
    assert len({each["loss"] for each in whole[0]}) == 5
    for killed_at in (2, 4):
        run(config, ours, tmp_path / "killed", killed_at=killed_at)
    assert run(config, ours, tmp_path / "killed") == whole


def test_eight_devices_make_the_first_step_of_one(ours, tmp_path, eight_devices):
    data = replace(PRACTICE, prompts=4)
    one = run(experiment(steps=1, data=data, batch_size=4), ours, tmp_path / "one")[0][0]
    mesh = MeshConfig(data=2, fsdp=2, tensor=2)
    many = run(experiment(steps=1, data=data, batch_size=4, mesh=mesh), ours, tmp_path / "many", eight_devices)[0][0]
    assert one["reward"] == many["reward"] > 0
    for name in ("loss", "gradient_norm", "entropy", "kl_to_reference"):
        assert many[name] == pytest.approx(one[name], rel=1e-4, abs=1e-6), name


def test_parts_of_a_batch_make_the_same_step(ours, tmp_path):
    config = experiment(steps=2, model=replace(MODEL, scalar_head=True), objective=preset("ppo"), batch_size=4)
    whole = run(config, ours, tmp_path / "whole")[0]
    parts = run(replace(config, accumulate=2), ours, tmp_path / "parts")[0]
    for a, b in zip(whole, parts, strict=True):
        assert b["gradient_norm"] == pytest.approx(a["gradient_norm"], rel=1e-4)
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4, abs=1e-6)


def test_a_policy_learns_what_is_rewarded(ours, tmp_path):
    """Answers without an e pay: from its own tries alone the policy comes to write those."""
    data = replace(PRACTICE, prompts=4, samples=8, reference=False)
    config = experiment(steps=25, data=data, evaluate=EvaluateConfig(every=0), checkpoint=CheckpointConfig(every=0))
    rewards = [each["reward"] for each in run(config, ours, tmp_path / "run", verifier=WithoutE())[0]]
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.2


@dataclass(frozen=True)
class WithoutE:
    """Scores 1 unless there is an e."""

    inline: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        return Verdict(float("e" not in response.text), "")


@pytest.mark.parametrize("answer", [float("nan"), "throws"])
def test_a_verifier_that_fails_costs_its_rollouts_and_is_counted(ours, tmp_path, answer):
    found = run(experiment(steps=1), ours, tmp_path / "run", verifier=Broken(answer))[0]
    assert found[0]["verifier_failed"] == 1
    assert found[0]["reward"] == 0


@dataclass(frozen=True)
class Broken:
    """Throws, or gives what is no score."""

    answer: object
    inline: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        if self.answer == "throws":
            raise ZeroDivisionError("no")
        return Verdict(self.answer, "")  # type: ignore[arg-type]


def test_nothing_is_learnt_from_equal_rewards(ours, tmp_path):
    found = run(experiment(steps=2), ours, tmp_path / "run", verifier=Never())[0]
    assert [(each["gradient_norm"], each["no_signal"]) for each in found] == [(0, 1)] * 2


def test_problems_that_fill_the_context_are_set_aside(ours, capsys):
    long = replace(problems(1)[0], turns=(said("user", "word " * 200),))
    assert len(fitting((*problems(3), long), ours, 128)) == 3
    assert "set aside: 1 of 4 problems" in capsys.readouterr().out
    with pytest.raises(UserError, match="none of the 1 problems leaves"):
        fitting((long,), ours, 128)
