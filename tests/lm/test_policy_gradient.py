"""The policy gradient against loops in numpy with gradients derived by hand, and against toy numbers."""

import math
import re
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from policy_tables import BY_TOKEN, Table, V, lay_out, random_sequences, run, softmax, table_of

from data_pipeline.errors import UserError
from lm.objectives import kl
from lm.objectives.advantages import gae, group_advantages, token_rewards, token_weights, whiten
from lm.objectives.policy_gradient import PRESETS, PolicyGradientConfig, check_policy_gradient, preset

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
    sequences = random_sequences(seed=3, normaliser=config.normaliser)
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
    "expert_iteration": (-math.log(3 / 16) / 3, (-1 / 3, -1 / 3, 0)),
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
            "advantage='normalised': choose one of reward, centred, leave_one_out, standardised, whitened, gae, teacher",
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
