"""Reward models, DPO and RLHF through the one loop: they go on where they were killed, on any mesh, and know when to end."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rl_world import MODEL, problems
from scripted import a_tokenizer
from test_practice import PRACTICE, experiment, lines
from tiny_models import build

from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.problems import ProblemSets
from data_pipeline.ranking import Ranking
from data_pipeline.rankings import PreparedRankings, RankingsConfig, prepare_rankings, tokenize
from data_pipeline.verifiers import JokeRater
from lm.experiment import CheckpointConfig, EvaluateConfig, check_experiment
from lm.objectives.policy_gradient import PolicyGradientConfig
from lm.objectives.preference import preference_preset
from lm.practice import PracticeConfig, RewardModelConfig, check_practice
from lm.preference_metrics import measured
from lm.preferences import preferences
from lm.rl.rewarding import RewardModel, combined, make_taste, rewards_of
from lm.rl.source import controlled
from lm.rl.stage import PreparedProblems, practice
from lm.sharding import MeshConfig, make_mesh
from lm.train import train

WORDS = ["red", "green", "blue", "grey", "pink", "gold"]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return a_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def rankings(count: int, start: int = 0) -> list[Ranking]:
    """The more a response says "red", the better."""
    rng = np.random.default_rng(start)
    found = []
    for i in range(count):
        responses = [" ".join(rng.choice(WORDS, 4)) for _ in range(3)]
        reds = [text.split().count("red") for text in responses]
        ranks = tuple(sorted(set(reds), reverse=True).index(n) for n in reds)
        turns = tuple(said("assistant", text) for text in responses)
        found.append(Ranking(f"r{start + i}", (said("user", f"Say {i}."),), turns, ranks))
    return [each for each in found if len(set(each.ranks)) > 1]


def run(name, ours, folder, *, devices=None, mesh=MeshConfig(), killed_at=0, **changes):  # noqa: B008
    objective = preference_preset(name)
    config = experiment(
        data=RankingsConfig(sources=("nowhere",)),
        objective=objective,
        model=replace(MODEL, scalar_head=objective.scores == "head"),
        batch_size=4,
        mesh=mesh,
        **changes,
    )
    prepared = PreparedRankings(
        ours, [tokenize(each, ours) for each in rankings(24)], [tokenize(each, ours) for each in rankings(8, 100)], {}
    )
    on = make_mesh(config.mesh, devices or jax.devices()[:1])
    folder.mkdir(exist_ok=True)
    stage = preferences(config, prepared, on, None)
    if killed_at:
        handed_out, stage.source.count = stage.source.next, 0

        def dying(model):
            stage.source.count += 1
            if stage.source._delivered + 1 == killed_at:
                raise KeyboardInterrupt
            return handed_out(model)

        stage.source.next = dying
        with pytest.raises(KeyboardInterrupt):
            train(config, stage, on, folder)
    else:
        train(config, stage, on, folder)
    return lines(folder, "metrics"), lines(folder, "evaluations")


@pytest.mark.parametrize("name", ["bradley_terry", "kto"])
def test_a_killed_run_goes_on_bit_for_bit(name, ours, tmp_path):
    whole = run(name, ours, tmp_path / "whole")
    assert [each["step"] for each in whole[0]] == [1, 2, 3, 4, 5]
    run(name, ours, tmp_path / "killed", killed_at=4)
    assert run(name, ours, tmp_path / "killed") == whole


@pytest.mark.parametrize("name", ["plackett_luce", "dpo"])
def test_eight_devices_make_the_steps_of_one(name, ours, tmp_path, eight_devices):
    one, mesh = run(name, ours, tmp_path / "one", steps=2), MeshConfig(data=2, fsdp=2, tensor=2)
    many = run(name, ours, tmp_path / "many", steps=2, devices=eight_devices, mesh=mesh)
    for a, b in zip(one[0] + one[1], many[0] + many[1], strict=True):
        for key in a.keys() & {"loss", "gradient_norm", "pair_accuracy", "score_std"}:
            assert b[key] == pytest.approx(a[key], rel=2e-4, abs=1e-6), key


@pytest.mark.parametrize("name", ["bradley_terry", "dpo"])
def test_what_people_prefer_is_learnt(name, ours, tmp_path):
    evaluations = run(name, ours, tmp_path / "run", steps=40, evaluate=EvaluateConfig(every=40))[1]
    assert [each["step"] for each in evaluations] == [0, 40]
    assert evaluations[1]["pair_accuracy"] > 0.85 > evaluations[0]["pair_accuracy"]


def test_patience_ends_a_run_and_a_restart_makes_no_more_steps(ours, tmp_path, capsys):
    values = {"steps": 30, "evaluate": EvaluateConfig(every=1, patience=2), "checkpoint": CheckpointConfig(every=0)}
    metrics, evaluations = run("bradley_terry", ours, tmp_path / "run", **values)
    losses = [each["loss"] for each in evaluations]
    assert len(metrics) < 30
    assert min(losses) == losses[-3]
    assert "none of the last 2 evaluations was better" in capsys.readouterr().out
    assert run("bradley_terry", ours, tmp_path / "run", **values) == (metrics, evaluations)


# Rankings as data


def test_rankings_that_cannot_be_used_are_set_aside(ours, tmp_path):
    rows = [
        '{"prompt": "Say 1.", "responses": ["red", "blue"], "ranks": [0, 1]}',
        '{"prompt": "Say 2.", "responses": ["red", "blue %s"], "ranks": [1, 0]}' % ("green " * 200),
        '{"prompt": "Say 3.", "responses": ["red"], "ranks": [0]}',
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(rows) + "\n")
    prepared = prepare_rankings(RankingsConfig(sources=(str(file),), held_out=0.0), ours, 64, tmp_path)
    assert len(prepared.train) == 1
    assert len((tmp_path / "rankings_set_aside.jsonl").read_text().splitlines()) == 2
    file.write_text(rows[2] + "\n")
    with pytest.raises(UserError, match="no ranking is left to learn from"):
        prepare_rankings(RankingsConfig(sources=(str(file),), held_out=0.0), ours, 64, tmp_path)


def test_measures_of_scores_against_loops():
    rng = np.random.default_rng(0)
    scores, ranks, lengths = [], [], []
    for _ in range(7):
        k = int(rng.integers(2, 5))
        scores.append(rng.integers(0, 4, k).astype(float))
        ranks.append(rng.permutation(k) - (rng.random() < 0.4))
        lengths.append(rng.integers(1, 4, k))
    per_ranking, shorter = [], []
    for s, r, n in zip(scores, ranks, lengths, strict=True):
        pairs = [(i, j) for i in range(len(s)) for j in range(len(s)) if 0 <= r[i] < r[j]]
        if pairs:
            right = [1.0 if s[i] > s[j] else 0.5 if s[i] == s[j] else 0.0 for i, j in pairs]
            per_ranking.append(np.mean(right))
            kept = [(x, 1 / len(pairs)) for x, (i, j) in zip(right, pairs, strict=True) if n[i] < n[j]]
            shorter += kept
    found = measured(scores, ranks, lengths)
    assert found["pair_accuracy"] == pytest.approx(np.mean(per_ranking))
    assert found["rank_correlation"] == pytest.approx(2 * np.mean(per_ranking) - 1)
    expected = sum(x * w for x, w in shorter) / sum(w for _, w in shorter)
    assert found["pairs.better_shorter.right"] == pytest.approx(expected)
    sure = measured([np.array([50.0, 0.0])] * 4, [np.array([0, 1])] * 3 + [np.array([1, 0])], [np.ones(2)] * 4)
    assert sure["calibration_error"] == pytest.approx(0.25)  # sure of all, right about three of four


# Reward models at work


def reward_model(seed: int = 0) -> RewardModel:
    model = build(replace(MODEL, scalar_head=True), seed)
    model.scalar_head = jax.random.normal(jax.random.key(seed), (MODEL.width,))
    return RewardModel(model, mean=0.5, std=2.0)


def test_rewards_are_those_of_each_sequence_by_itself(eight_devices):
    rng = np.random.default_rng(1)
    sequences = [rng.integers(1, 600, n).tolist() for n in (5, 60, 128, 9, 31, 5, 70)]
    model = reward_model()
    expected = []
    for each in sequences:
        row = jnp.array(each)[None]
        hidden, _ = model.model.hidden(row, jnp.arange(len(each))[None], jnp.ones_like(row))
        expected.append((float(hidden[0, -1] @ model.model.scalar_head) - 0.5) / 2.0)
    for devices, size in ((jax.devices()[:1], 2), (eight_devices, 8)):
        mesh = make_mesh(MeshConfig(), devices)
        with jax.set_mesh(mesh):
            np.testing.assert_allclose(rewards_of(model, sequences, mesh, size), expected, rtol=1e-4, atol=1e-4)
        taste = make_taste([model, model], RewardModelConfig(), mesh, size)
        values, doubts = taste([*sequences, sequences[0]])
        np.testing.assert_allclose(values, [*expected, expected[0]], rtol=1e-4, atol=1e-4)
        assert values[0] == values[-1]
        assert max(doubts) == 0


def test_models_that_disagree_are_believed_less():
    two = np.array([[1.0, 3.0], [1.0, -1.0]])
    assert combined(two, RewardModelConfig()).tolist() == [1, 1]
    assert combined(two, RewardModelConfig(doubt=0.5)).tolist() == [1, 0]
    assert combined(np.array([[9.0, -9.0]]), RewardModelConfig(clip=2.0)).tolist() == [2, -2]


def rlhf(ours, folder, *, killed_at=0, devices=None, **changes):
    world = [replace(each, verifier=JokeRater("a goose")) for each in problems(6)]
    sets = ProblemSets(tuple(world[:4]), tuple(world[4:]), "")
    data = replace(PRACTICE, taste=RewardModelConfig(models=("somewhere",)), **changes.pop("practice", {}))
    config = experiment(data=data, **changes)
    check_practice(data)
    mesh = make_mesh(config.mesh, devices or jax.devices()[:1])
    folder.mkdir(exist_ok=True)
    stage = practice(config, PreparedProblems(sets, ours), mesh, None, None, folder, [reward_model()])
    handed_out = stage.source.next

    def dying(model):
        if stage.source._step + 1 == killed_at:
            raise KeyboardInterrupt
        return handed_out(model)

    stage.source.next = dying
    if killed_at:
        with pytest.raises(KeyboardInterrupt):
            train(config, stage, mesh, folder)
    else:
        train(config, stage, mesh, folder)
    return lines(folder, "metrics"), lines(folder, "evaluations")


def test_rlhf_goes_on_bit_for_bit_with_what_kl_costs(ours, tmp_path):
    """The coefficient moves with every step: a run that forgot it would go another way."""
    values = {"practice": {"kl_target": 0.01}, "objective": PolicyGradientConfig(kl=0.1), "steps": 4}
    whole = rlhf(ours, tmp_path / "whole", **values)
    assert len({each["kl_coefficient"] for each in whole[0]}) > 2
    assert {"gold", "reward", "kl", "distinct_2", "repeated", "doubt"} <= whole[1][0].keys()
    assert whole[1][0]["loss"] == -whole[1][0]["gold"]
    rlhf(ours, tmp_path / "killed", killed_at=4, **values)
    assert rlhf(ours, tmp_path / "killed", **values) == whole


def test_rlhf_ends_when_its_kl_is_spent(ours, tmp_path, capsys):
    values = {"practice": {"kl_budget": 1e-3}, "steps": 30, "evaluate": EvaluateConfig(every=0)}
    metrics, evaluations = rlhf(ours, tmp_path / "run", **values)
    assert 1 < len(metrics) < 30
    assert metrics[-1]["kl"] >= 1e-3 > metrics[-2]["kl"]
    assert evaluations[-1]["step"] == len(metrics)
    assert "of a budget of 0.001" in capsys.readouterr().out
    assert rlhf(ours, tmp_path / "run", **values) == (metrics, evaluations)


def test_what_kl_costs_follows_its_target():
    assert controlled(0.1, 5.0, 0.0) == 0.1
    assert controlled(0.1, 1.0, 1.0) == 0.1
    assert controlled(0.1, 9.0, 1.0) == pytest.approx(0.102)  # a tenth of at most a fifth
    assert controlled(0.1, 0.9, 1.0) == pytest.approx(0.099)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": PracticeConfig(taste=RewardModelConfig(models=("a",)))}, "cut_off=zero"),
        ({"data": PracticeConfig(taste=RewardModelConfig(doubt=-1.0))}, "data.taste.doubt"),
        ({"data": PracticeConfig(kl_budget=1.0, reference=False)}, "data.kl_budget"),
        ({"data": PracticeConfig(kl_target=1.0)}, "data.kl_target"),
        ({"data": RankingsConfig()}, "PreferenceConfig"),
        ({"data": RankingsConfig(), "objective": preference_preset("dpo"), "start_from": ""}, "start_from"),
        ({"data": RankingsConfig(), "objective": preference_preset("bradley_terry")}, "scalar_head"),
        ({"data": RankingsConfig(sources=()), "objective": preference_preset("dpo")}, "data.sources"),
        ({"evaluate": EvaluateConfig(patience=-1)}, "evaluate.patience"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(UserError, match=message):
        check_experiment(experiment(**changes))
