"""Preferences against loops over pairs with gradients derived by hand, toy numbers, and one response at a time."""

import itertools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from data_pipeline.ranking_batches import in_batches, pack_rankings
from data_pipeline.rankings import TokenizedRanking
from lm.model.config import ModelConfig
from lm.model.transformer import Transformer
from lm.objectives.preference import (
    ANOTHER,
    PRESETS,
    PreferenceConfig,
    check_preference,
    preference,
    preference_preset,
    ranking_loss,
    response_scores,
)

# The same, slowly: rankings are lists of (score, rank); the loss, and its derivative by each score.


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def slow(rankings: list[list[tuple[float, int]]], config: PreferenceConfig) -> tuple[float, list[list[float]], int]:
    total, count, slopes = 0.0, 0, [[0.0] * len(each) for each in rankings]
    others = [s for each in rankings for s, rank in each if rank == ANOTHER]
    z = max(sum(others) / max(len(others), 1), 0.0)
    for ranking, slope in zip(rankings, slopes, strict=True):
        terms = list(terms_of(ranking, config, z))
        size = sum(weight for weight, _, _ in terms)
        if not size:
            continue
        count += 1
        for weight, value, by_score in terms:
            total += weight * value / size
            for i, d in by_score.items():
                slope[i] += weight * d / size
    return total / max(count, 1), [[d / max(count, 1) for d in slope] for slope in slopes], count


def terms_of(ranking: list[tuple[float, int]], config: PreferenceConfig, z: float):
    """(weight, value, {response: derivative}) of each term of one ranking."""
    judged = [i for i, (_, rank) in enumerate(ranking) if rank >= 0]
    if config.loss == "plackett_luce":
        for i in judged:
            if any(ranking[j][1] > ranking[i][1] for j in judged):
                rest = [j for j in judged if ranking[j][1] >= ranking[i][1]]
                total = sum(math.exp(ranking[j][0]) for j in rest)
                slopes = {j: math.exp(ranking[j][0]) / total for j in rest}
                slopes[i] -= 1
                yield 1.0, math.log(total) - ranking[i][0], slopes
        return
    if config.loss == "prospect":
        middle = sum(ranking[i][1] for i in judged) / max(len(judged), 1)
        for i in judged:
            s, rank = ranking[i]
            if rank < middle:
                value = sigmoid(z - s)
                yield 1.0, config.desired * value, {i: -config.desired * value * (1 - value)}
            elif rank > middle:
                value = sigmoid(s - z)
                yield 1.0, config.undesired * value, {i: config.undesired * value * (1 - value)}
        return
    for i, j in itertools.permutations(judged, 2):
        (a, rank), (b, other) = ranking[i], ranking[j]
        if config.loss == "squared" and rank < other:
            error = (a - b) / config.beta - 1 / (2 * config.beta)
            yield 1.0, error**2, {i: 2 * error / config.beta, j: -2 * error / config.beta}
        if config.loss == "bradley_terry" and (rank < other or (rank == other and config.ties)):
            x = a - b - config.margin * (other - rank)
            value = -(1 - config.smoothing) * math.log(sigmoid(x)) - config.smoothing * math.log(sigmoid(-x))
            d = -(1 - config.smoothing) * sigmoid(-x) + config.smoothing * sigmoid(x)
            value += config.centre * (a + b) ** 2
            yield (
                1.0 if rank < other else config.ties / 2,
                value,
                {i: d + 2 * config.centre * (a + b), j: -d + 2 * config.centre * (a + b)},
            )


def laid_out(rows: list[list[list[tuple[float, int]]]], slots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of rankings as arrays (B, R)."""
    s, rankings, ranks = (np.zeros((len(rows), slots), kind) for kind in (np.float32, np.int32, np.int32))
    for b, row in enumerate(rows):
        flat = [(number, *each) for number, ranking in enumerate(row, start=1) for each in ranking]
        for r, (number, score, rank) in enumerate(flat):
            s[b, r], rankings[b, r], ranks[b, r] = score, number, rank
    return s, rankings, ranks


CONFIGS = {
    "pairs": PreferenceConfig(),
    "all of it": PreferenceConfig(ties=0.7, margin=0.3, smoothing=0.1, centre=0.05),
    "plackett_luce": PreferenceConfig(loss="plackett_luce"),
    "ipo": PreferenceConfig("log_ratio", "squared", beta=0.5),
    "kto": PreferenceConfig("log_ratio", "prospect", desired=1.3, undesired=0.8),
}
ranking_lists = st.lists(
    st.tuples(st.floats(-3, 3, width=32), st.sampled_from([-1, 0, 1, 2, 3, ANOTHER])), min_size=1, max_size=5
)


@pytest.mark.parametrize("name", CONFIGS)
@given(rows=st.lists(st.lists(ranking_lists, min_size=1, max_size=2), min_size=1, max_size=3))
def test_loss_and_gradient_equal_loops(name: str, rows: list) -> None:
    config = CONFIGS[name]
    s, rankings, ranks = laid_out(rows, 12)
    rows += [[]] * (3 - len(rows))
    s, rankings, ranks = (np.concatenate([x, np.zeros((3 - len(x), 12), x.dtype)]) for x in (s, rankings, ranks))
    (loss, weight), slopes = jax.jit(jax.value_and_grad(lambda s, g, r: ranking_loss(s, g, r, config), has_aux=True))(
        s, rankings, ranks
    )
    expected, by_score, count = slow([ranking for row in rows for ranking in row], config)
    assert weight == count
    np.testing.assert_allclose(loss, expected, rtol=2e-5, atol=1e-6)
    found = [x for row, line in zip(rows, np.asarray(slopes), strict=True) for x in line[: sum(map(len, row))]]
    np.testing.assert_allclose(found, [x for each in by_score for x in each], rtol=1e-4, atol=1e-5)
    assert all(not line[sum(map(len, row)) :].any() for row, line in zip(rows, np.asarray(slopes), strict=True))


def loss_of(scores: list[float], ranks: list[int], config: PreferenceConfig) -> float:
    s, rankings, places = laid_out([[list(zip(scores, ranks, strict=True))]], len(scores) + 2)
    return float(ranking_loss(jnp.array(s), jnp.array(rankings), jnp.array(places), config)[0])


def test_toy_numbers() -> None:
    assert loss_of([1, 0], [0, 1], PreferenceConfig()) == pytest.approx(0.313262, abs=1e-6)  # log(1 + 1/e)
    assert loss_of([1, 0], [1, 0], PreferenceConfig()) == pytest.approx(1.313262, abs=1e-6)
    # Three in a row, each pair a third: (log(1 + 1/e) + log(1 + 1/e) + log(1 + 1/e^2)) / 3.
    assert loss_of([2, 1, 0], [0, 1, 2], PreferenceConfig()) == pytest.approx(0.251151, abs=1e-6)
    # Plackett-Luce: log(e^2 + e + 1) - 2, and log(e + 1) - 1, over two.
    assert loss_of([2, 1, 0], [0, 1, 2], PreferenceConfig(loss="plackett_luce")) == pytest.approx(0.360434, abs=1e-6)
    assert loss_of([0.5, 0.5], [3, 3], PreferenceConfig(ties=1.0)) == pytest.approx(math.log(2), abs=1e-6)
    assert loss_of([0.2, 0.1], [0, 1], PreferenceConfig("log_ratio", "squared", beta=0.1)) == pytest.approx(
        16, abs=1e-4
    )
    kto = PreferenceConfig("log_ratio", "prospect")
    assert loss_of([1, -1, 0.5], [0, 1, ANOTHER], kto) == pytest.approx((sigmoid(-0.5) + sigmoid(-1.5)) / 2, abs=1e-6)


@given(st.tuples(st.floats(-5, 5), st.floats(-5, 5)))
def test_two_responses_are_a_pair_however_it_is_called(scores: tuple[float, float]) -> None:
    one, other = (
        loss_of(list(scores), [0, 1], PreferenceConfig(loss=loss)) for loss in ("bradley_terry", "plackett_luce")
    )
    assert one == pytest.approx(other, rel=1e-5, abs=1e-6)


def some_rankings(count: int, vocabulary: int = 20, seed: int = 0) -> list[TokenizedRanking]:
    """Rankings of two to four responses of a few tokens."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        k, prompt = rng.integers(2, 5), rng.integers(1, vocabulary, rng.integers(2, 4))
        responses = [rng.integers(1, vocabulary, rng.integers(1, 5)) for _ in range(k)]
        found.append(
            TokenizedRanking(
                str(number),
                [np.concatenate([prompt, each]).astype(np.int32) for each in responses],
                [np.arange(len(prompt) + len(each)) >= len(prompt) for each in responses],
                rng.permutation(k).astype(np.int32) - (rng.random() < 0.3),
            )
        )
    return found


def tiny_model() -> Transformer:
    config = ModelConfig(vocab_size=24, width=16, layers=1, heads=2, kv_heads=2, mlp_width=32, context_length=32)
    model = Transformer(jax.random.key(1), replace(config, scalar_head=True))
    model.scalar_head = jax.random.normal(jax.random.key(2), (16,))
    return model


def naive_scores(
    model: Transformer, ranking: TokenizedRanking, config: PreferenceConfig, reference: list[float]
) -> list[float]:
    """Each response by itself, with the softmax written out."""
    found = []
    for tokens, trained, before in zip(ranking.tokens, ranking.trained, reference, strict=True):
        row = jnp.array(tokens)[None]
        hidden, _ = model.hidden(row, jnp.arange(row.shape[1])[None], jnp.ones_like(row))
        if config.scores == "head":
            found.append(float(jnp.dot(hidden[0, -1], model.scalar_head)))
        else:
            logits = np.asarray(hidden[0] @ model.head_matrix, np.float64)
            log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            own = sum(log_p[t, tokens[t + 1]] for t in range(len(tokens) - 1) if trained[t + 1])
            found.append(config.beta * (own - before) / (trained.sum() if config.per_token else 1))
    return found


@pytest.mark.parametrize("name", ["bradley_terry", "plackett_luce", "dpo", "ipo", "kto"])
def test_packed_rows_score_as_each_response_by_itself(name: str) -> None:
    config = preference_preset(name)
    config.per_token = name == "ipo"
    model, rankings = tiny_model(), some_rankings(6)
    another = name == "kto"
    packed = pack_rankings(rankings, 40, seed=3, another=another)
    (batch,) = in_batches(packed, 8, slice(0, 8))
    rng = np.random.default_rng(5)
    batch["reference"] = rng.normal(size=batch["ranks"].shape).astype(np.float32)
    arrays = {key: jnp.array(value) for key, value in batch.items() if key not in ("document_ids", "row")}
    s = np.asarray(response_scores(model, arrays, config))
    whole = []
    for b, members in enumerate(packed.members):
        at = 0
        for which in members:
            own = rankings[which]
            if another:
                other = rankings[(which + 1) % len(rankings)]
                mine, its = own.trained[0].argmin() + (~own.trained[0]).sum(), (~other.trained[0]).sum()
                stray = np.concatenate([own.tokens[0][:mine], other.tokens[0][its:]])
                own = replace(
                    own,
                    tokens=[*own.tokens, stray],
                    trained=[*own.trained, np.arange(len(stray)) >= mine],
                    ranks=np.append(own.ranks, ANOTHER),
                )
            k = len(own.tokens)
            expected = naive_scores(model, own, config, batch["reference"][b, at : at + k].tolist())
            np.testing.assert_allclose(s[b, at : at + k], expected, rtol=1e-4, atol=1e-5)
            whole.append(list(zip(expected, own.ranks.tolist(), strict=True)))
            at += k
    loss, metrics = preference(model, arrays, config)
    expected_loss, _, count = slow(whole, config)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert metrics["weight"] == count
    ordered = [(a > b) for each in whole for (a, i) in each for (b, j) in each if 0 <= i < j]
    if len({len([0 for _, i in each if i >= 0]) for each in whole}) == 1:
        assert metrics["pair_accuracy"] == pytest.approx(np.mean(ordered))


@pytest.mark.parametrize("name", ["bradley_terry", "plackett_luce", "dpo", "ipo"])
def test_neither_order_nor_padding_nor_parts_change_anything(name: str) -> None:
    config, model, rankings = preference_preset(name), tiny_model(), some_rankings(8, seed=1)

    def loss_and_gradient(batches: list[dict]) -> tuple[float, list[np.ndarray]]:
        total, weight, summed = 0.0, 0.0, None
        for batch in batches:
            arrays = {key: jnp.array(value) for key, value in batch.items() if key not in ("document_ids", "row")}
            arrays["reference"] = -0.1 * arrays["ends"].astype(jnp.float32)  # of a response: its place in the row
            arrays["reference"] = jnp.where(arrays["rankings"] > 0, -2.0 - arrays["ranks"], 0.0)
            (loss, metrics), grads = jax.value_and_grad(lambda m, a: preference(m, a, config), has_aux=True)(
                model, arrays
            )
            part = [np.asarray(x) * float(metrics["weight"]) for x in jax.tree.leaves(grads)]
            summed = part if summed is None else [a + b for a, b in zip(summed, part, strict=True)]
            total, weight = total + float(loss) * float(metrics["weight"]), weight + float(metrics["weight"])
        return total / weight, [x / weight for x in summed or []]

    def batches(order: list[int], row_length: int, size: int, seed: int) -> list[dict]:
        packed = pack_rankings([rankings[i] for i in order], row_length, seed)
        return list(in_batches(packed, size, slice(0, size)))

    loss, grads = loss_and_gradient(batches(list(range(8)), 40, 8, 0))
    for other in (
        batches([3, 1, 7, 0, 2, 6, 5, 4], 40, 8, 0),
        batches(list(range(8)), 90, 8, 2),
        batches(list(range(8)), 40, 2, 1),
    ):
        again, slopes = loss_and_gradient(other)
        assert again == pytest.approx(loss, rel=1e-5)
        for a, b in zip(grads, slopes, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * max(np.abs(a).max(), 0.1))


def test_gradient_reaches_no_prompt_and_no_padding_through_the_mask() -> None:
    """Were the prompt's tokens trained too, its log p would be part of the score."""
    config, model, rankings = preference_preset("dpo"), tiny_model(), some_rankings(1)
    (batch,) = in_batches(pack_rankings(rankings, 40, 0), 1, slice(0, 1))
    of_response = sum(int(mask[1:].sum()) for mask in rankings[0].trained)
    assert batch["loss_mask"].sum() == of_response
    ends = batch["ends"][0, : len(rankings[0].tokens)]
    assert [batch["tokens"][0, end] for end in ends] == [each[-1] for each in rankings[0].tokens]
    assert (batch["segment_ids"][0][ends + 1] != batch["segment_ids"][0][ends]).all()
    arrays = {key: jnp.array(value) for key, value in batch.items() if key not in ("document_ids", "row")}
    s = response_scores(model, {**arrays, "reference": jnp.zeros(arrays["ends"].shape)}, config)
    changed = {**arrays, "labels": jnp.where(arrays["loss_mask"], arrays["labels"], 5), "reference": jnp.zeros(s.shape)}
    np.testing.assert_array_equal(s, response_scores(model, changed, config))


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "dpo"},
        {"scores": "tail"},
        {"beta": 0.0},
        {"smoothing": 0.5},
        {"ties": -1.0},
        {"loss": "squared"},
        {"loss": "plackett_luce", "ties": 1.0},
        {"chunk": 0},
        {"margin": float("nan")},
    ],
)
def test_values_that_make_no_sense(wrong: dict) -> None:
    with pytest.raises(UserError, match="objective"):
        check_preference(PreferenceConfig(**wrong))


def test_presets() -> None:
    for name in PRESETS:
        check_preference(preference_preset(name))
    with pytest.raises(UserError, match="choose one of bradley_terry, plackett_luce, dpo, ipo, kto"):
        preference_preset("orpo")
