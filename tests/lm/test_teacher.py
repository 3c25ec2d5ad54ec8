"""On-policy distillation, and expert iteration: learning from a teacher's probabilities, and from one's own right tries."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from policy_tables import Table, V, run, softmax
from rl_world import MODEL, policies, source_of
from tiny_models import build

from lm.objectives.policy_gradient import PolicyGradientConfig, preset
from lm.practice import PracticeConfig

PRACTICE = PracticeConfig(prompts=2, samples=2, tokens=10, slots=16, reference=False)
TEACHER = PolicyGradientConfig(advantage="teacher")


@pytest.fixture(scope="module")
def student_and_teacher():
    return build(MODEL, 0), build(replace(MODEL, layers=1, width=16), 1)


@pytest.fixture(scope="module")
def log_probs_alone():
    """Of each token of one text after the first, read alone: no packing, no chunks."""

    def log_probs(model, tokens):
        logits = model(jnp.array([tokens]))[0].astype(jnp.float32)
        return jnp.take_along_axis(jax.nn.log_softmax(logits[:-1]), jnp.array(tokens)[1:, None], axis=1)[:, 0]

    return log_probs


@pytest.mark.parametrize("updates", [1, 2])
def test_the_advantage_is_what_the_teacher_finds_likelier(tmp_path, student_and_teacher, log_probs_alone, updates):
    """Against both models reading each rollout alone; at the second update, still against the policy that wrote it."""
    student, teacher = student_and_teacher
    source = source_of(tmp_path, replace(PRACTICE, updates=updates), TEACHER, teacher=teacher)
    batch = source.next(lambda: student)
    if updates == 2:
        batch = source.next(lambda: policies(3)[2])
    checked = 0
    for number, rollout in enumerate(source._round.rollouts):
        whole = [*rollout.prompt, *rollout.tokens]
        expected = (log_probs_alone(teacher, whole) - log_probs_alone(student, whole))[-len(rollout.tokens) :]
        places = (batch["document_ids"] == number) & batch["loss_mask"]
        np.testing.assert_allclose(batch["advantages"][places], expected, atol=2e-5)
        checked += int(places.sum())
    assert checked == batch["loss_mask"].sum() > 0
    assert np.abs(batch["advantages"]).max() > 0.1
    source.close()


def test_its_mean_gradient_is_that_of_the_divergence_from_the_teacher():
    """All symbols, each as often as the student draws it."""
    logits, log_teacher = np.array([0.3, -1.0, 0.8, 0.0, -0.4]), np.log(softmax(np.array([-0.6, 0.2, 0.1, 0.9, -1.2])))
    p = softmax(logits)

    def divergence(logits):
        log_p = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_teacher))

    numbers = {"weights": V * p, "shares": V * p, "advantages": log_teacher - np.log(p), "old_log_probs": np.log(p)}
    batch = {name: np.asarray(x, np.float32)[:, None] for name, x in numbers.items()}
    batch |= {name: np.zeros((V, 1), np.int32) for name in ("tokens", "positions")}
    batch |= {"labels": np.arange(V, dtype=np.int32)[:, None], "segment_ids": np.ones((V, 1), np.int32)}
    model = Table(jnp.tile(jnp.asarray(logits, jnp.float32), (V, 1, 1)), jnp.zeros((V, 1)))
    (_, metrics), gradients = run(model, {**batch, "loss_mask": np.ones((V, 1), bool)}, TEACHER)
    np.testing.assert_allclose(gradients.logits.sum(axis=(0, 1)), jax.grad(divergence)(jnp.asarray(logits)), atol=1e-6)
    assert float(metrics["kl_to_teacher"]) == pytest.approx(float(divergence(logits)), abs=1e-6)


def test_expert_iteration_is_next_token_on_the_right_tries(tmp_path, log_probs_alone):
    """Its gradient is that of the mean loss over tokens of right tries, times the share of all tokens that these are."""
    from lm.objectives.policy_gradient import policy_gradient

    student, objective = build(MODEL, 0), preset("expert_iteration")
    source = source_of(tmp_path, replace(PRACTICE, samples=4, cut_off="scored"), objective)
    batch = source.next(lambda: student)
    rollouts = source._round.rollouts
    source.close()
    # What the verifier of this world gives are fifths: only what it gave 1 counts as right here.
    right = [each.reward == 1 for each in rollouts]
    assert any(right)
    assert not all(right)
    gains = np.zeros_like(batch["advantages"])
    for number, is_right in enumerate(right):
        gains[batch["document_ids"] == number] = is_right
    batch = {name: x for name, x in {**batch, "advantages": gains}.items() if name != "document_ids"}
    found = jax.grad(lambda model: policy_gradient(model, batch, objective)[0])(student)

    def loss(model):
        kept = [
            log_probs_alone(model, [*each.prompt, *each.tokens])[-len(each.tokens) :]
            for each, is_right in zip(rollouts, right, strict=True)
            if is_right
        ]
        return -jnp.mean(jnp.concatenate(kept))

    share = sum(each.length for each, is_right in zip(rollouts, right, strict=True) if is_right) / sum(
        each.length for each in rollouts
    )
    difference = jax.tree.map(lambda a, b: a - share * b, found, jax.grad(loss)(student))
    assert float(optax.tree.norm(difference)) < 1e-4 * float(optax.tree.norm(found))
