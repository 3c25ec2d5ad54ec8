"""The policy gradient against loops in numpy with gradients derived by hand, toy numbers, and exact enumeration."""

import dataclasses
import functools
import itertools
import math
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import build

from data_pipeline.errors import UserError
from lm import sharding
from lm.model.config import ModelConfig
from lm.objectives import kl
from lm.objectives.advantages import gae, group_advantages, token_rewards, token_weights, whiten
from lm.objectives.policy_gradient import (
    PRESETS,
    PolicyGradientConfig,
    check_policy_gradient,
    policy_gradient,
    preset,
)
from lm.sharding import MeshConfig, make_mesh
from lm.train import accumulated

V = 5
BY_TOKEN = ("advantages", "old_log_probs", "sampler_log_probs", "reference_log_probs", "values_old", "returns")


@functools.partial(jax.tree_util.register_dataclass, data_fields=["logits", "values"], meta_fields=[])
@dataclass(frozen=True)
class Table:
    """In a Transformer's place, a table of its logits (B, T, V) and values (B, T): gradients are with respect to these."""

    logits: jax.Array
    values: jax.Array

    config = SimpleNamespace(logit_soft_cap=0.0)

    def hidden(self, tokens, positions, segment_ids):
        return self.logits, None

    @property
    def head_matrix(self):
        return jnp.eye(self.logits.shape[-1])

    def scalars(self, hidden):
        return self.values


@functools.cache
def compiled(key: tuple):
    objective = functools.partial(policy_gradient, config=PolicyGradientConfig(*key))
    return jax.jit(jax.value_and_grad(objective, has_aux=True))


def run(model, batch, config: PolicyGradientConfig):
    """(loss, metrics), gradients."""
    return compiled(dataclasses.astuple(config))(model, batch)


def lay_out(sequences: list[dict], rows: list[list[int]], length: int, left_out: tuple[str, ...] = ()):
    """A batch of rows, each of the sequences that `rows` lists, and where each sequence begins: (row, column)."""
    shape = (len(rows), length)
    batch = {name: np.zeros(shape, np.int32) for name in ("tokens", "labels", "positions", "segment_ids")}
    batch["loss_mask"] = np.zeros(shape, bool)
    # What stands where no token was drawn must not matter.
    batch |= {name: np.full(shape, np.nan, np.float32) for name in (*BY_TOKEN, "weights", "shares")}
    drawn_tokens = sum(s["drawn"].sum() for s in sequences)
    begins = {}
    for row, members in enumerate(rows):
        at = 0
        for segment, i in enumerate(members, start=1):
            s, n = sequences[i], len(sequences[i]["labels"])
            here = np.s_[row, at : at + n]
            batch["tokens"][here], batch["labels"][here] = s["tokens"], s["labels"]
            batch["positions"][here], batch["segment_ids"][here] = np.arange(n), segment
            batch["loss_mask"][here] = s["drawn"]
            for name in BY_TOKEN:
                batch[name][here] = np.where(s["drawn"], s[name], np.nan)
            batch["weights"][here] = np.where(s["drawn"], len(rows) * s["weight"], np.nan)
            batch["shares"][here] = np.where(s["drawn"], len(rows) / drawn_tokens, np.nan)
            begins[i] = (row, at)
            at += n
    return {name: x for name, x in batch.items() if name not in left_out}, begins


def random_sequences(seed: int, count: int = 6, vocab: int = V, normaliser: str = "sequences") -> list[dict]:
    """Sequences of a prompt, drawn tokens, a tool's, and drawn tokens again; log-probabilities near the policy's."""
    rng = np.random.default_rng(seed)
    sequences = []
    for i in range(count):
        parts = rng.integers(1, 4, 4)
        drawn = np.repeat([False, True, False, True], parts)[1:]  # labels: the first token is nobody's label
        n = len(drawn)
        tokens = rng.integers(0, vocab, n + 1)
        logits = rng.standard_normal((n, vocab))
        s = {"tokens": tokens[:-1], "labels": tokens[1:], "drawn": drawn, "logits": logits, "group": i // 3}
        log_p = np.log(softmax(logits))[np.arange(n), s["labels"]]
        for name, spread in (("old_log_probs", 0.4), ("sampler_log_probs", 0.4), ("reference_log_probs", 0.8)):
            s[name] = log_p + spread * rng.standard_normal(n)
        for name in ("advantages", "values", "returns"):
            s[name] = rng.standard_normal(n)
        s["advantages"] += 0.5 * rng.choice([-1, 1]) - s["advantages"] * (normaliser == "one advantage a sequence")
        s["values_old"] = s["values"] + 0.4 * rng.standard_normal(n)
        sequences.append(s)
    lengths, groups = [s["drawn"].sum() for s in sequences], [s["group"] for s in sequences]
    for s, weight in zip(sequences, token_weights(lengths, groups, "sequences", 8), strict=True):
        s["weight"] = weight
    return sequences


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def table_of(sequences, begins, shape) -> Table:
    rng = np.random.default_rng(9)
    logits, values = rng.standard_normal((*shape, V)), rng.standard_normal(shape)
    for i, (row, at) in begins.items():
        n = len(sequences[i]["labels"])
        logits[row, at : at + n], values[row, at : at + n] = sequences[i]["logits"], sequences[i]["values"]
    return Table(jnp.asarray(logits, jnp.float32), jnp.asarray(values, jnp.float32))


# The same, slowly: one token at a time, in float64, each gradient derived by hand.


def slow(sequences: list[dict], config: PolicyGradientConfig, left_out: tuple[str, ...]):
    """The loss, and for each sequence its gradients with respect to logits (n, V) and values (n,)."""
    loss, gradients = 0.0, []
    for s in sequences:
        p = softmax(s["logits"])
        log_p = {t: math.log(p[t, s["labels"][t]]) for t in np.flatnonzero(s["drawn"])}
        old = {t: log_p[t] if "old_log_probs" in left_out else s["old_log_probs"][t] for t in log_p}
        sampler = {t: old[t] if "sampler_log_probs" in left_out else s["sampler_log_probs"][t] for t in log_p}
        by_logits, by_values = np.zeros_like(p), np.zeros(len(p))
        total_correction = 0.0
        for t in log_p:
            ratio, inner = level(config.surrogate, log_p, old, t)
            correction = level(config.surrogate, old, sampler, t)[0]
            if config.importance_cap:
                correction = min(correction, config.importance_cap)
            else:
                correction = 1.0
            total_correction += correction
            value, by_log_p = piece(config, ratio, log_p[t], s["advantages"][t])
            loss += s["weight"] * correction * value
            if inner is None:
                by_logits[t] += s["weight"] * correction * by_log_p * pull(p[t], s["labels"][t])
            else:  # the token's loss hangs on all the tokens of its sequence
                for u in log_p:
                    by_logits[u] += s["weight"] * correction * by_log_p * inner * pull(p[u], s["labels"][u])
            if config.kl:
                value, by_log_p = kl_piece(
                    config.kl_form, log_p[t], s["reference_log_probs"][t], math.exp(log_p[t] - old[t])
                )
                loss += s["weight"] * correction * config.kl * value
                by_logits[t] += s["weight"] * correction * config.kl * by_log_p * pull(p[t], s["labels"][t])
            entropy = -sum(x * math.log(x) for x in p[t])
            loss -= s["weight"] * config.entropy * entropy
            by_logits[t] += s["weight"] * config.entropy * p[t] * (np.log(p[t]) + entropy)
            if config.advantage == "gae":
                value, by_value = value_piece(s["values"][t], s["values_old"][t], s["returns"][t], config.value_clip)
                loss += s["weight"] * config.value * value
                by_values[t] = s["weight"] * config.value * by_value
        gradients.append((by_logits, by_values))
    return loss, gradients


def pull(p: np.ndarray, label: int) -> np.ndarray:
    """The gradient of log p(label) with respect to the logits."""
    return np.eye(len(p))[label] - p


def level(surrogate: str, of: dict, other: dict, t: int) -> tuple[float, float | None]:
    """The ratio, and for one of a sequence how fast its log grows with each token's log p."""
    if surrogate == "sequence_ratio":
        return math.prod(math.exp(of[u]) / math.exp(other[u]) for u in of), 1.0
    if surrogate == "sequence_mean_ratio":
        return math.prod(math.exp(of[u] - other[u]) for u in of) ** (1 / len(of)), 1 / len(of)
    return math.exp(of[t] - other[t]), None


def piece(config: PolicyGradientConfig, ratio: float, log_p: float, a: float) -> tuple[float, float]:
    """A token's surrogate and its derivative with respect to the log of what the ratio is of."""
    if config.surrogate == "log_prob":
        return -a * log_p, -a
    if config.surrogate == "capped_ratio":
        capped = config.ratio_cap if ratio > config.ratio_cap else ratio
        return -capped * a * log_p, -capped * a
    if a > 0 and ratio > 1 + config.clip_high:
        return -(1 + config.clip_high) * a, 0.0
    if a < 0 and ratio < 1 - config.clip_low:
        return -(1 - config.clip_low) * a, 0.0
    if a < 0 and config.dual_clip and ratio > config.dual_clip:
        return -config.dual_clip * a, 0.0
    return -ratio * a, -ratio * a


def kl_piece(form: str, log_p: float, reference: float, ratio: float) -> tuple[float, float]:
    x = math.exp(reference - log_p)
    k1, k3 = -math.log(x), x - 1 - math.log(x)
    return {
        "reward_k1": (0.0, 0.0),
        "loss_k2": (k1**2 / 2, k1),
        "loss_k3": (k3, 1 - x),
        "weighted_k1": (ratio * k1, ratio * (k1 + 1)),
        "weighted_k3": (ratio * k3, ratio * (k3 + 1 - x)),
    }[form]


def value_piece(value: float, old: float, target: float, clip: float) -> tuple[float, float]:
    near = min(max(value, old - clip), old + clip) if clip else value
    if (near - target) ** 2 > (value - target) ** 2:
        return (near - target) ** 2 / 2, 0.0
    return (value - target) ** 2 / 2, value - target


NO_OLD = ("old_log_probs",)
ON_POLICY = ("old_log_probs", "sampler_log_probs")
CASES = [(name, config, ()) for name, config in PRESETS.items()]
CASES += [(f"{name}, one update", PRESETS[name], NO_OLD) for name in ("reinforce", "rloo", "gspo", "cispo", "ppo")]
CASES += [
    ("no sampler", preset("grpo"), ("sampler_log_probs",)),
    ("on policy", preset("dr_grpo"), ON_POLICY),
    ("no correction", PolicyGradientConfig(importance_cap=0.0), ()),
    ("a cap on the correction that binds", PolicyGradientConfig(importance_cap=0.9), ()),
    ("a cap on the ratio that binds", replace(preset("cispo"), ratio_cap=0.9), ()),
    ("dual clip", PolicyGradientConfig(dual_clip=1.25), ()),
    ("values not clipped", replace(preset("ppo"), value_clip=0.0, value=0.7), ()),
    ("entropy", PolicyGradientConfig(entropy=0.3), ()),
    *((form, PolicyGradientConfig(kl=0.3, kl_form=form), ()) for form in kl.FORMS),
    ("KL of sequences", replace(preset("gspo"), kl=0.3, kl_form="weighted_k3", entropy=0.1), NO_OLD),
]


@pytest.mark.parametrize(("config", "left_out"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_loss_and_gradient_are_those_of_a_loop_by_hand(config, left_out):
    check_policy_gradient(config)
    sequences = random_sequences(seed=3)
    batch, begins = lay_out(sequences, [[0, 1], [2], [3, 4, 5]], 30, left_out)
    (loss, metrics), gradients = run(table_of(sequences, begins, (3, 30)), batch, config)
    expected, by_sequence = slow(sequences, config, left_out)
    assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert float(metrics["weight"]) == 3
    by_logits, by_values = np.zeros((3, 30, V)), np.zeros((3, 30))
    for i, (row, at) in begins.items():
        n = len(sequences[i]["labels"])
        by_logits[row, at : at + n], by_values[row, at : at + n] = by_sequence[i]
    np.testing.assert_allclose(gradients.logits, by_logits, atol=1e-6, rtol=2e-5)
    np.testing.assert_allclose(gradients.values, by_values, atol=1e-6, rtol=2e-5)
    # Prompts, tools' results and padding get exactly nothing, and every drawn token, the last of a turn too, is in play.
    assert not np.any(np.asarray(gradients.logits)[~batch["loss_mask"]])
    assert not np.any(np.asarray(gradients.values)[~batch["loss_mask"]])


def test_every_drawn_token_is_pulled_and_no_other():
    """Among them the first and the last of each stretch, which a mask off by one would miss."""
    sequences = random_sequences(seed=4)
    batch, begins = lay_out(sequences, [[0, 1], [2], [3, 4, 5]], 30, ON_POLICY)
    for config in (preset("reinforce"), preset("rloo"), preset("gspo"), preset("cispo"), PolicyGradientConfig()):
        _, gradients = run(table_of(sequences, begins, (3, 30)), batch, config)
        np.testing.assert_array_equal(np.any(np.asarray(gradients.logits), axis=-1), batch["loss_mask"])


# Toy numbers. Two symbols of probabilities 3/4 and 1/4; before, both were 1/2. One group: a response of the two tokens
# "0 1", rewarded 1, and a response "0", rewarded 0. So the ratios are 3/2, 1/2 and 3/2.

A = 0.5 / math.sqrt(0.5)  # (1 - 1/2) / the standard deviation of 1 and 0 with G - 1
TOYS = {  # the loss, and its derivative with respect to each log p
    "reinforce": (0.5 * math.log(4) / 3, (-0.5 / 3, -0.5 / 3, 0.5 / 3)),
    "rloo": ((-0.75 + 1.5) / 2, (-0.75 / 2, -0.75 / 2, 1.5 / 2)),  # the first ratio is 3/2 x 1/2
    "grpo": (A * (-(1.2 + 0.5) / 2 + 1.5) / 2, (0, -0.5 * A / 4, 1.5 * A / 2)),
    "dr_grpo": (-0.0125, (0, -0.25 / 8, 0.75 / 8)),  # at most 4 tokens
    "dapo": (A * (-1.28 - 0.5 + 1.5) / 3, (0, -0.5 * A / 3, 1.5 * A / 3)),
    "gspo": (A * (-math.sqrt(0.75) + 1.5) / 2, (-math.sqrt(0.75) * A / 4, -math.sqrt(0.75) * A / 4, 1.5 * A / 2)),
    "cispo": (A * 0.5 * math.log(4) / 3, (-1.5 * A / 3, -0.5 * A / 3, 1.5 * A / 3)),
    # Values 1/2, 1/4 and 1/2: deltas -1/4, 3/4 and -1/2, so estimates 0.4625, 0.75, -0.5, and whitened those below.
    "ppo": (0.312421, (0, -0.5 * 0.782836 / 3, 1.5 * 1.126520 / 3)),
}


@pytest.mark.parametrize("name", PRESETS)
def test_toy_numbers(name):
    config = preset(name)
    labels, lengths, rewards, groups = [[0, 1], [0]], [2, 1], [1.0, 0.0], [0, 0]
    values = [np.array([0.5, 0.25]), np.array([0.5])]
    weights = token_weights(lengths, groups, config.normaliser, max_tokens=4)
    returns = [np.zeros(2), np.zeros(1)]
    if config.advantage == "gae":
        drawn = [np.ones(n, bool) for n in lengths]
        given = [token_rewards(r, mask, np.zeros(len(mask)), 0.0) for r, mask in zip(rewards, drawn, strict=True)]
        both = [
            gae(r, v, mask, config.gamma, config.gae_lambda) for r, v, mask in zip(given, values, drawn, strict=True)
        ]
        advantages, returns = whiten([a for a, _ in both], drawn), [r for _, r in both]
    else:
        advantages = group_advantages(np.array(rewards), groups, config.advantage)
    sequences = [
        {
            "tokens": np.zeros(n, int),
            "labels": np.array(labels[i]),
            "drawn": np.ones(n, bool),
            "logits": np.tile([math.log(3), 0.0], (n, 1)),
            "advantages": advantages[i],
            "weight": weights[i],
            "old_log_probs": math.log(0.5),
            "sampler_log_probs": math.log(0.5),
            "reference_log_probs": 0.0,
            "values": values[i],
            "values_old": values[i],
            "returns": returns[i],
        }
        for i, n in enumerate(lengths)
    ]
    batch, _ = lay_out(sequences, [[0], [1]], 2)
    model = Table(jnp.tile(jnp.array([math.log(3), 0.0]), (2, 2, 1)), jnp.array([[0.5, 0.25], [0.5, 0.0]]))
    (loss, _), gradients = run(model, batch, config)
    expected, by_log_p = TOYS[name]
    assert float(loss) == pytest.approx(expected, abs=2e-6)
    found = gradients.logits[jnp.array([0, 0, 1]), jnp.array([0, 1, 0])]
    by_hand = [c * g for c, g in zip(by_log_p, np.array([[0.25, -0.25], [-0.75, 0.75], [0.25, -0.25]]), strict=True)]
    np.testing.assert_allclose(found, by_hand, atol=2e-6)


def test_presets_differ_in_their_triples():
    triples = {name: (each.advantage, each.surrogate, each.normaliser) for name, each in PRESETS.items()}
    assert len(set(triples.values())) == len(triples)


# KL and importance weights by exact enumeration: all symbols, each as often as it is drawn.


@functools.partial(jax.tree_util.register_dataclass, data_fields=["logits"], meta_fields=[])
@dataclass(frozen=True)
class Symbols:
    """A policy that draws one symbol from logits (V,): row i of the batch is the case that it draws symbol i."""

    logits: jax.Array

    config = SimpleNamespace(logit_soft_cap=0.0)
    head_matrix = property(lambda self: jnp.eye(len(self.logits)))

    def hidden(self, tokens, positions, segment_ids):
        return jnp.broadcast_to(self.logits, (*tokens.shape, len(self.logits))), None


LOGITS = np.array([0.3, -1.0, 0.8, 0.0, -0.4])
P, REFERENCE = softmax(LOGITS), softmax(np.array([-0.6, 0.2, 0.1, 0.9, -1.2]))
TO_REFERENCE = P * (np.log(P / REFERENCE) - np.sum(P * np.log(P / REFERENCE)))  # the gradient of KL(pi || reference)
FROM_REFERENCE = P - REFERENCE  # and of KL(reference || pi)


def expected_gradient(
    config: PolicyGradientConfig, drawn_from: np.ndarray, advantages: np.ndarray, **more
) -> np.ndarray:
    batch = {name: np.zeros((V, 1), np.int32) for name in ("tokens", "positions")}
    batch |= {"labels": np.arange(V, dtype=np.int32)[:, None], "segment_ids": np.ones((V, 1), np.int32)}
    numbers = {"weights": V * drawn_from, "shares": V * drawn_from, "advantages": advantages, **more}
    batch |= {name: np.asarray(x, np.float32)[:, None] for name, x in numbers.items()}
    model = Symbols(jnp.asarray(LOGITS, jnp.float32))
    return run(model, {**batch, "loss_mask": np.ones((V, 1), bool)}, config)[1].logits


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("loss_k2", TO_REFERENCE),
        ("loss_k3", FROM_REFERENCE),
        ("weighted_k1", TO_REFERENCE),
        ("weighted_k3", TO_REFERENCE),
        ("reward_k1", 0 * P),
    ],
)
@pytest.mark.parametrize("old", [True, False])
def test_kl_in_the_loss_has_the_gradient_that_its_form_says(form, expected, old):
    config = PolicyGradientConfig(kl=1.0, kl_form=form)
    more = {"old_log_probs": np.log(P)} if old else {}
    found = expected_gradient(config, P, 0 * P, reference_log_probs=np.log(REFERENCE), **more)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.allclose(TO_REFERENCE, FROM_REFERENCE, atol=0.02)  # or this test could not tell


@pytest.mark.parametrize("form", ["weighted_k1", "weighted_k3"])
def test_weighted_kl_is_right_too_where_an_older_policy_drew(form):
    older = softmax(LOGITS + np.array([0.1, 0.4, -0.3, 0.0, -0.2]))
    config = PolicyGradientConfig(kl=1.0, kl_form=form)
    more = {"reference_log_probs": np.log(REFERENCE), "old_log_probs": np.log(older)}
    np.testing.assert_allclose(expected_gradient(config, older, 0 * P, **more), TO_REFERENCE, atol=1e-6)
    # Unweighted it would be another gradient.
    config.kl_form = "loss_k2"
    assert not np.allclose(expected_gradient(config, older, 0 * P, **more), TO_REFERENCE, atol=0.01)


def test_k1_as_a_reward_has_the_gradient_of_kl_and_in_the_loss_none():
    def k1(logits):
        log_p = jax.nn.log_softmax(logits)
        return jnp.sum(P * kl.estimates(log_p, jnp.log(REFERENCE))[0])

    np.testing.assert_allclose(jax.grad(k1)(jnp.asarray(LOGITS)), 0 * P, atol=1e-6)
    for surrogate in ("log_prob", "token_ratio", "sequence_ratio", "capped_ratio"):
        config = PolicyGradientConfig(surrogate=surrogate)
        np.testing.assert_allclose(expected_gradient(config, P, -np.log(P / REFERENCE)), TO_REFERENCE, atol=1e-6)


def test_k1_summed_over_a_sequence_is_the_kl_of_sequences():
    """All sequences of two of three symbols; the second one's law hangs on the first: what a choice leads to counts."""
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal(3), rng.standard_normal((3, 3))
    log_reference = [np.log(softmax(rng.standard_normal(shape))) for shape in (3, (3, 3))]

    def divergence(first, second):
        a, b = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
        of_rest = jnp.sum(jnp.exp(b) * (b - log_reference[1]), axis=1)
        return jnp.sum(jnp.exp(a) * (a - log_reference[0] + of_rest))

    expected = jax.grad(divergence, argnums=(0, 1))(jnp.asarray(first), jnp.asarray(second))
    log_p = [np.log(softmax(first)), np.log(softmax(second))]
    by_first, by_second = np.zeros(3), np.zeros((3, 3))
    for i, j in itertools.product(range(3), repeat=2):
        k1 = np.array([log_p[0][i] - log_reference[0][i], log_p[1][i, j] - log_reference[1][i, j]])
        advantage = token_rewards(0.0, np.ones(2, bool), k1, 1.0).sum()
        drawn = math.exp(log_p[0][i] + log_p[1][i, j])
        batch = {name: np.zeros((1, 2), np.int32) for name in ("tokens", "positions")}
        batch |= {"labels": np.array([[i, j]], np.int32), "segment_ids": np.ones((1, 2), np.int32)}
        batch |= {"loss_mask": np.ones((1, 2), bool), "shares": np.ones((1, 2), np.float32)}
        batch |= {name: np.full((1, 2), x, np.float32) for name, x in (("weights", drawn), ("advantages", advantage))}
        model = Table(jnp.asarray([[first, second[i]]], jnp.float32), jnp.zeros((1, 2)))
        gradient = run(model, batch, PolicyGradientConfig())[1].logits[0]
        by_first += gradient[0]
        by_second[i] += gradient[1]
    np.testing.assert_allclose(by_first, expected[0], atol=1e-6)
    np.testing.assert_allclose(by_second, expected[1], atol=1e-6)


@pytest.mark.parametrize(
    "surrogate", ["log_prob", "token_ratio", "sequence_ratio", "sequence_mean_ratio", "capped_ratio"]
)
def test_a_sampler_of_other_probabilities_is_corrected_for(surrogate):
    advantages = np.array([1.0, -0.5, 0.2, -2.0, 0.7])
    sampler = softmax(LOGITS * 1.5)
    wanted = expected_gradient(PolicyGradientConfig(), P, advantages)
    config = PolicyGradientConfig(surrogate=surrogate, importance_cap=10.0)
    found = expected_gradient(config, sampler, advantages, sampler_log_probs=np.log(sampler))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    config.importance_cap = 0.0
    biased = expected_gradient(config, sampler, advantages, sampler_log_probs=np.log(sampler))
    assert np.max(np.abs(biased - wanted)) > 0.04


def test_equal_rewards_pull_nothing_and_a_ratio_beyond_all_bounds_stays_finite():
    advantages = group_advantages(np.full(V, 0.1), np.zeros(V, int), "standardised")
    config = preset("grpo")
    assert not np.any(expected_gradient(config, P, advantages))
    for name in PRESETS.keys() - {"ppo"}:
        for a in (-1.0, 1.0):
            more = {"old_log_probs": np.full(V, -500.0), "sampler_log_probs": np.full(V, -1000.0)}
            assert np.all(np.isfinite(expected_gradient(preset(name), P, np.full(V, a), **more)))


# A real Transformer: however the sequences are laid out, the update is the same.

MODEL = ModelConfig(
    vocab_size=32, context_length=32, layers=1, width=16, heads=2, kv_heads=2, mlp_width=16, scalar_head=True
)
KINDS = {
    "tokens": PolicyGradientConfig(
        "gae", "token_ratio", "sequences", kl=0.1, kl_form="weighted_k3", entropy=0.05, chunk=8
    ),
    "sequences": replace(preset("gspo"), entropy=0.05, kl=0.1, kl_form="loss_k2", clip_low=0.05, clip_high=0.05),
}
ONE_A_ROW = [[i] for i in range(8)]


@functools.cache
def sequences_of_the_model():
    """Sequences with old and other log-probabilities near those of the model."""
    sequences = random_sequences(seed=5, count=8, vocab=32)
    rng = np.random.default_rng(6)
    padded = np.stack([np.pad(s["tokens"], (0, 12 - len(s["tokens"]))) for s in sequences])
    all_log_p = np.asarray(jax.jit(lambda model, tokens: jax.nn.log_softmax(model(tokens)))(build(MODEL), padded))
    for s, log_p in zip(sequences, all_log_p, strict=True):
        log_p = log_p[np.arange(len(s["labels"])), s["labels"]]
        for name in ("old_log_probs", "sampler_log_probs", "reference_log_probs"):
            s[name] = log_p + 0.3 * rng.standard_normal(len(log_p))
    return sequences


@functools.cache
def one_a_row(kind: str):
    batch, _ = lay_out(sequences_of_the_model(), ONE_A_ROW, 12)
    (loss, metrics), gradients = run(build(MODEL), batch, KINDS[kind])
    assert 0 < float(metrics["clip_fraction_low"]) < 1
    return {"loss": loss, **metrics}, gradients


def agree(found, wanted):
    for name in wanted[0].keys() - {"weight", "ratio_max", "sampler_gap_max"}:
        np.testing.assert_allclose(found[0][name], wanted[0][name], rtol=1e-4, atol=1e-5, err_msg=name)
    scale = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(wanted[1]))
    assert scale > 0.01
    for one, other in zip(jax.tree.leaves(found[1]), jax.tree.leaves(wanted[1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("rows", "length"),
    [([[3, 0], [1, 2], [5, 7, 4], [6]], 32), ([*ONE_A_ROW, [], [], []], 20)],
    ids=["packed", "padded"],
)
def test_packing_and_padding_change_nothing(kind, rows, length):
    batch, _ = lay_out(sequences_of_the_model(), rows, length)
    (loss, metrics), gradients = run(build(MODEL), batch, KINDS[kind])
    agree(({"loss": loss, **metrics}, gradients), one_a_row(kind))
    for name in ("ratio_max", "sampler_gap_max"):
        np.testing.assert_allclose(metrics[name], one_a_row(kind)[0][name], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_change_nothing(kind):
    batch, _ = lay_out(sequences_of_the_model(), ONE_A_ROW, 12)
    value = jax.value_and_grad(functools.partial(policy_gradient, config=KINDS[kind]), has_aux=True)

    def part(piece):
        (loss, metrics), gradients = value(build(MODEL), piece)
        return gradients, {"loss": loss, **metrics}

    gradients, metrics = jax.jit(lambda batch: accumulated(part, batch, 4))(batch)
    agree((metrics, gradients), one_a_row(kind))
    assert float(metrics["weight"]) == 8


@pytest.mark.parametrize(
    ("kind", "config"), [("tokens", MeshConfig(data=2, fsdp=2, tensor=2)), ("sequences", MeshConfig(data=8))]
)
def test_eight_devices_change_nothing(kind, config, eight_devices):
    batch, _ = lay_out(sequences_of_the_model(), ONE_A_ROW, 12)
    mesh = make_mesh(config, eight_devices)
    model = jax.device_put(build(MODEL), sharding.tree_shardings(mesh, build(MODEL)))
    with jax.set_mesh(mesh):
        objective = functools.partial(policy_gradient, config=KINDS[kind])
        value = jax.jit(jax.value_and_grad(objective, has_aux=True))
        (loss, metrics), gradients = value(model, sharding.put_batch(mesh, batch, 8))
        agree(jax.device_get(({"loss": loss, **metrics}, gradients)), one_a_row(kind))


def test_metrics_tell_what_the_policy_did():
    sequences = random_sequences(seed=3)
    batch, begins = lay_out(sequences, [[0, 1], [2], [3, 4, 5]], 30)
    config = PolicyGradientConfig(dual_clip=1.3, importance_cap=1.5)
    (_, metrics), _ = run(table_of(sequences, begins, (3, 30)), batch, config)
    drawn = [(s, t) for s in sequences for t in np.flatnonzero(s["drawn"])]
    p = [softmax(s["logits"])[t] for s, t in drawn]
    log_p = np.array([math.log(q[s["labels"][t]]) for q, (s, t) in zip(p, drawn, strict=True)])
    old, sampler, reference, a = (np.array([s[name][t] for s, t in drawn]) for name in (*BY_TOKEN[1:4], "advantages"))
    ratio, gap = np.exp(log_p - old), np.abs(old - sampler)
    expected = {
        "entropy": np.mean([-(q @ np.log(q)) for q in p]),
        "ratio": ratio.mean(),
        "ratio_max": ratio.max(),
        "clip_fraction_low": np.mean((ratio < 0.8) & (a < 0)),
        "clip_fraction_high": np.mean(((ratio > 1.2) & (a > 0)) | ((ratio > 1.3) & (a < 0))),
        "sampler_gap": gap.mean(),
        "sampler_gap_max": gap.max(),
        "importance_weight": np.exp(old - sampler).mean(),
        "kl_to_reference": np.mean(log_p - reference),
        "kl_to_reference_k3": np.mean(np.exp(reference - log_p) - 1 + log_p - reference),
    }
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-4, abs=1e-6), name
        assert value != 0, name
    assert metrics.keys() - expected.keys() == {"weight", "policy_loss"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"advantage": "normalised"},
            "advantage='normalised': choose one of reward, centred, leave_one_out, standardised, whitened, gae",
        ),
        (
            {"kl_form": "loss_k1"},
            "kl_form='loss_k1': choose one of reward_k1, loss_k2, loss_k3, weighted_k1, weighted_k3",
        ),
        ({"normaliser": "mean"}, "normaliser='mean': choose one of tokens, sequences, prompts, constant"),
        ({"clip_low": 1.5}, "clip_low=1.5: must be between 0 and 1"),
        ({"clip_high": -0.1}, "clip_high=-0.1: must not be negative"),
        ({"kl": math.nan}, "kl=nan: must not be negative"),
        ({"dual_clip": 1.1}, "dual_clip=1.1: must be above 1 + clip_high, or 0 for none"),
        ({"ratio_cap": 0.0}, "ratio_cap=0.0: must be above 0"),
        ({"std_ddof": 2}, "std_ddof=2: must be 0 or 1"),
        ({"gae_lambda": 1.1}, "gae_lambda=1.1: must be between 0 and 1"),
        ({"chunk": 0}, "chunk=0: must be at least 1 position"),
    ],
)
def test_values_that_make_no_sense_are_one_clear_line(changes, message):
    for config in (PolicyGradientConfig(), *PRESETS.values()):
        check_policy_gradient(config)
    with pytest.raises(UserError, match=f"^objective.{re.escape(message)}$"):
        check_policy_gradient(PolicyGradientConfig(**changes))


def test_an_unknown_algorithm_is_one_clear_line_and_a_preset_is_ones_own():
    with pytest.raises(UserError, match=r"^algorithm 'trpo': choose one of reinforce, rloo, grpo, "):
        preset("trpo")
    preset("grpo").clip_high = 9.0
    assert preset("grpo").clip_high == 0.2
