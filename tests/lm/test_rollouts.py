"""Rollouts: packed without loss, the sampler's numbers those of the trainer, the same after any restart."""

import json
from dataclasses import asdict, replace
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rl_world import Never, policies, problems, source_of

from lm.objectives.policy_gradient import PolicyGradientConfig, policy_gradient
from lm.practice import CurriculumConfig, PracticeConfig
from lm.rl.batch import gather, pack, spread
from lm.rl.curriculum import Curriculum
from lm.rl.held_out import pass_at
from lm.rl.rollout import Rollout, numbers_of, seed_of
from lm.sharding import MeshConfig, make_mesh, tree_shardings

SMALL = PracticeConfig(prompts=3, samples=2, tokens=12, slots=8, reference=False)
EMPTY = Rollout("p", [1, 2], [3], [True], [-0.5], 1.0, 1.0, "", 0.0, False, False, True, 0, "")


def rollout(prompt: int, tokens: int, **more) -> Rollout:
    written = list(range(tokens))
    return replace(
        EMPTY,
        prompt=[9] * prompt,
        tokens=written,
        drawn=[t % 3 > 0 for t in written],
        sampler_log_probs=[-t / 8 for t in written],
        **more,
    )


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 12)), min_size=1, max_size=12), st.integers(1, 3))
def test_packing_keeps_every_token_once(sizes, batch_size):
    rollouts = [rollout(*size) for size in sizes]
    batch, placed = pack(rollouts, 32, batch_size)
    assert len(batch["tokens"]) % batch_size == 0
    length = batch["tokens"].shape[1]  # of rows of 32: no eighth is there that no row fills
    assert length % 4 == 0
    assert length <= 32
    assert (batch["segment_ids"][:, length - 4 :] > 0).any()
    taken = np.zeros(batch["tokens"].shape, int)
    for number, (each, place) in enumerate(zip(rollouts, placed, strict=True)):
        here = np.s_[place.row, place.start : place.stop]
        assert batch["labels"][here].tolist() == each.tokens
        assert batch["loss_mask"][here].tolist() == each.drawn
        whole = batch["document_ids"][place.row] == number
        assert batch["tokens"][place.row][whole].tolist() == [*each.prompt, *each.tokens][:-1]
        assert batch["positions"][place.row][whole].tolist() == list(range(whole.sum()))
        assert len(np.unique(batch["segment_ids"][place.row][whole])) == 1
        taken[here] += 1
    assert taken.max() == 1
    assert not batch["loss_mask"][taken == 0].any()
    values = [each.sampler_log_probs for each in rollouts]
    for back, value in zip(gather(spread(batch, placed, values), placed), values, strict=True):
        assert back.tolist() == np.float32(value).tolist()


def test_rollouts_survive_a_checkpoint_exactly():
    kept = [rollout(3, 7, reason="not 5\n"), EMPTY]
    assert [Rollout(**each) for each in json.loads(json.dumps([asdict(each) for each in kept]))] == kept


def test_numbers_by_hand():
    tries = [
        replace(EMPTY, reward=r, score=s, cut_off=c)
        for r, s, c in [(1, 1, False), (0, 0, True), (0.5, 0.5, False), (0.5, 0, False)]
    ]
    found = numbers_of(tries, 2)
    assert found["reward"] == 0.5
    assert found["right"] == 1 / 4
    assert found["pass_at_2"] == 1 / 2
    assert found["no_signal"] == 1 / 2
    assert found["cut_off"] == 1 / 4
    assert found["length"] == found["length_max"] == 1


def test_pass_at_k_is_the_share_of_choices_with_a_success():
    for n, right in ((5, 0), (5, 2), (6, 6), (4, 1)):
        tries = [True] * right + [False] * (n - right)
        for k in range(1, n + 1):
            choices = list(combinations(tries, k))
            assert pass_at(k, n, right) == pytest.approx(sum(map(any, choices)) / len(choices))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rollouts")


def batches(source, models) -> list:
    return [source.next(lambda model=model: model) for model in models]


def same(a, b) -> bool:
    return all(np.array_equal(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in x)


def test_the_sampler_and_the_trainer_agree(folder):
    """What decoding recorded, against a teacher-forced pass over the packed rows; tolerance 1e-4 nats in float32."""
    source = source_of(folder, SMALL)
    (model,) = policies(1)
    batch = source.next(lambda: model)
    logits = jax.nn.log_softmax(model(batch["tokens"], batch["positions"], batch["segment_ids"]))
    trained = np.take_along_axis(np.asarray(logits), batch["labels"][..., None], axis=-1)[..., 0]
    mask = batch["loss_mask"]
    assert mask.sum() > 20
    assert np.abs(trained - batch["sampler_log_probs"])[mask].max() < 1e-4
    source.close()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"updates": 3},
        {"behind": True},
        {"behind": True, "updates": 2},
        {"refill": 2},
        {"chances": 2},
        {"curriculum": CurriculumConfig(raise_at=0.1, groups=2, replay=0.5)},
    ],
    ids=lambda changes: ",".join(changes) or "plain",
)
def test_a_source_goes_on_as_if_never_stopped(folder, changes):
    """The state goes through JSON, and rollouts that were not trained yet are in it: the policies that wrote them are gone."""
    practice, models = replace(SMALL, **changes), policies(5)
    world = problems(6, levels=3)
    whole = source_of(folder, practice, problems=world)
    expected = batches(whole, models)
    assert len({each["tokens"].tobytes() for each in expected}) == -(-5 // practice.updates)
    for stop in (1, 2, 4):
        first = source_of(folder, practice, problems=world)
        batches(first, models[:stop])
        state = json.loads(json.dumps(first.get_state()))
        first.close()
        second = source_of(folder, practice, problems=world)
        second.set_state(state)
        assert same(batches(second, models[stop:]), expected[stop:]), stop
        second.close()
    whole.close()


def test_one_step_behind_samples_with_the_policy_before(folder):
    models = policies(3)
    behind = source_of(folder, replace(SMALL, behind=True))
    late = batches(behind, models)
    behind.close()
    plain = source_of(folder, SMALL)
    on_time = batches(plain, [models[0], models[0], models[1]])
    plain.close()
    assert same(late, on_time)


def test_a_sample_does_not_depend_on_the_others(folder):
    """The same problem, in other company: its random numbers come from the run, the round, the problem and the place."""
    (model,) = policies(1)
    alone = source_of(folder, replace(SMALL, prompts=1), problems=problems(1))
    among = source_of(folder, replace(SMALL, prompts=6, slots=4), problems=problems(6))
    first, all_ = alone.next(lambda: model), among.next(lambda: model)
    wanted = first["tokens"][first["document_ids"] == 0]
    rows = [
        all_["tokens"][row][all_["document_ids"][row] == i] for row in range(len(all_["tokens"])) for i in range(12)
    ]
    assert any(np.array_equal(wanted, each) for each in rows if len(each))
    alone.close()
    among.close()


def test_seeds_differ_by_run_round_and_problem():
    seeds = {seed_of(run, f"{number}/0", f"p{i}") for run in range(3) for number in range(20) for i in range(20)}
    assert len(seeds) == 3 * 20 * 20
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_kl_needs_the_reference_and_starts_at_zero(folder):
    source = source_of(folder, replace(SMALL, reference=True), PolicyGradientConfig(kl=0.1))
    (model,) = policies(1)
    source.remember_start(model)
    batch = source.next(lambda: model)
    mask = batch["loss_mask"]
    assert np.abs(batch["reference_log_probs"] - batch["sampler_log_probs"])[mask].max() < 1e-4
    source.close()


def test_what_was_cut_off_can_be_left_out(folder):
    (model,) = policies(1)
    masked, scored = (source_of(folder, replace(SMALL, cut_off=kind, tokens=4)) for kind in ("masked", "scored"))
    out, kept = masked.next(lambda: model), scored.next(lambda: model)
    assert masked.numbers()["cut_off"] > 0.5
    assert out["loss_mask"].sum() < kept["loss_mask"].sum()
    assert not out["weights"][~out["loss_mask"]].any()
    masked.close()
    scored.close()


def test_sampling_on_another_mesh(folder, eight_devices):
    """Two of eight devices sample, all of them train: the same rollouts as on one."""
    (model,) = policies(1)
    one = source_of(folder, SMALL)
    expected = one.next(lambda: model)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2), eight_devices)
    spread_out = jax.device_put(model, tree_shardings(mesh, model))
    for practice in (SMALL, replace(SMALL, mesh=MeshConfig(data=4, fsdp=2, tensor=1))):
        many = source_of(folder, practice, mesh=mesh, batch_size=4)
        got = many.next(lambda: spread_out)
        mask, ours = got["loss_mask"], expected["loss_mask"]
        assert got["labels"][mask].tolist() == expected["labels"][ours].tolist()
        np.testing.assert_allclose(got["sampler_log_probs"][mask], expected["sampler_log_probs"][ours], atol=1e-5)
        many.close()
    one.close()


def test_a_curriculum_opens_levels_and_replays_what_is_undecided():
    world = problems(9, levels=3)
    curriculum = Curriculum(CurriculumConfig(raise_at=0.5, groups=2, replay=0.5), world, seed=0)
    assert {each.level for each in curriculum.choose(9, "0")} == {0}
    curriculum.learn([(world[0], 1.0), (world[3], 0.0)])
    assert curriculum.open == 1
    assert curriculum.choose(4, "1") == curriculum.choose(4, "1") != curriculum.choose(4, "2")
    curriculum.learn([(world[1], 0.25), (world[4], 0.0)])
    assert curriculum.open == 1
    assert all(world[1] in curriculum.choose(2, str(draw)) for draw in range(20))
    again = Curriculum(CurriculumConfig(raise_at=0.5, groups=2, replay=0.5), world, seed=0)
    again.set_state(json.loads(json.dumps(curriculum.get_state())))
    assert again.choose(5, "x") == curriculum.choose(5, "x")


def test_equal_rewards_are_said_aloud_and_train_nothing(folder, capsys):
    world = [replace(each, verifier=Never()) for each in problems(3)]
    source = source_of(folder, replace(SMALL, constant=2), problems=world)
    models = policies(2)
    found = batches(source, models)
    assert all(not each["advantages"].any() for each in found)
    assert source.numbers()["no_signal"] == 1
    assert "WARNING: for 2 rounds every rollout had the reward 0" in capsys.readouterr().out
    source.close()


@pytest.mark.parametrize(("sampler", "least"), [("bfloat16", 1e-4), ("int8", 1e-4), ("int4", 1e-3)])
def test_a_coarser_sampler_differs_from_the_trainer_and_is_corrected(folder, sampler, least):
    """Its own log-probabilities are told, so that the objective can weigh each token by how much too often it was drawn."""
    source = source_of(folder, replace(SMALL, sampler=sampler))
    (model,) = policies(1)
    batch = source.next(lambda: model)
    _, metrics = policy_gradient(model, {name: jnp.asarray(x) for name, x in batch.items()}, PolicyGradientConfig())
    assert least < metrics["sampler_gap"] < 0.5
    assert metrics["sampler_gap"] < metrics["sampler_gap_max"]
    assert metrics["importance_weight"] != 1
    source.close()
