"""Sequences for the tests of the policy gradient, laid out as batches, and a table in a Transformer's place."""

import dataclasses
import functools
from dataclasses import dataclass
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from lm.objectives.advantages import token_weights
from lm.objectives.policy_gradient import PolicyGradientConfig, policy_gradient

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
        s["values_old"] = s["values"] + 0.4 * rng.standard_normal(n)
        sequences.append(s)
    lengths, groups = [s["drawn"].sum() for s in sequences], [s["group"] for s in sequences]
    for s, weight in zip(sequences, token_weights(lengths, groups, normaliser, 8), strict=True):
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
