"""How well a policy does on problems that it never practises."""

from collections.abc import Callable, Sequence
from functools import partial
from math import comb
from typing import Any

import numpy as np

from data_pipeline.problem import Problem
from data_pipeline.tokenizer import Tokenizer
from data_pipeline.verifying import Verifiers
from lm.assistant import Toolbox
from lm.inference.engine import Engine
from lm.model.transformer import Transformer
from lm.practice import PracticeConfig
from lm.rl.rollout import Rollout, Taste, collect

SHOWN = 15  # rollouts of the one problem that a run's samples show


def pass_at(k: int, n: int, right: int) -> float:
    """The chance that at least one of k tries succeeds, given that `right` of n did: unbiased (arXiv 2107.03374)."""
    return 1.0 - comb(n - right, k) / comb(n, k)


def make_evaluation(
    config: PracticeConfig,
    problems: Sequence[Problem],
    tokenizer: Tokenizer,
    verifiers: Verifiers,
    toolbox: Toolbox | None,
    seed: int,
) -> Callable[[Transformer], dict[str, float]]:
    """A function model -> metrics on held-out problems.

    `loss` is 1 - `accuracy`, the share solved by the likeliest words; `accuracy_well_formed` the same among answers that ended as
    they should; `pass_at_k` for k up to `passes` at the temperature of practice; and for each kind its `accuracy`.
    """
    tries = partial(
        collect,
        verifiers=verifiers,
        rewards=config.reward,
        tokens=config.tokens,
        toolbox=toolbox,
        seed=seed,
    )

    def evaluate(model: Transformer) -> dict[str, float]:
        engine = Engine(model, slots=config.slots, symbols=tokenizer.vocab_size, steady=True)
        greedy = tries(engine, tokenizer, problems, samples=1, temperature=0.0, draw="greedy").rollouts
        right = np.array([each.score >= 1 for each in greedy])
        formed = np.array([each.well_formed for each in greedy])
        metrics = {
            "loss": 1.0 - float(right.mean()),
            "accuracy": float(right.mean()),
            "well_formed": float(formed.mean()),
            **({"accuracy_well_formed": float(right[formed].mean())} if formed.any() else {}),
            "length": float(np.mean([each.length for each in greedy])),
            "called": float(np.mean([each.calls > 0 for each in greedy])),
        }
        n = config.passes
        if n > 1:
            drawn = tries(
                engine, tokenizer, problems, samples=n, temperature=config.temperature, draw="passes"
            ).rollouts
            counts = np.array([each.score >= 1 for each in drawn]).reshape(-1, n).sum(axis=1)
            for k in sorted({1, *(2**i for i in range(n.bit_length()) if 2**i <= n), n}):
                metrics[f"pass_at_{k}"] = float(np.mean([pass_at(k, n, int(count)) for count in counts]))
        kinds = np.array([problem.kind for problem in problems])
        for kind in sorted(set(kinds)) if len(set(kinds)) > 1 else ():
            metrics[f"problems.{kind}.right"] = float(right[kinds == kind].mean())
        return metrics

    return evaluate


def make_samples(
    config: PracticeConfig,
    problem: Problem,
    tokenizer: Tokenizer,
    verifiers: Verifiers,
    toolbox: Toolbox | None,
    seed: int,
    taste: Taste | None = None,
) -> Callable[[Transformer], list[dict[str, Any]]]:
    """A function model -> `SHOWN` rollouts of one held-out problem, with whether each reached the answer, or how it pleased."""

    def sample(model: Transformer) -> list[dict[str, Any]]:
        engine = Engine(model, slots=SHOWN, symbols=tokenizer.vocab_size, steady=True)
        found = collect(
            engine,
            tokenizer,
            [problem],
            verifiers,
            config.reward,
            samples=SHOWN,
            tokens=config.tokens,
            temperature=config.temperature,
            toolbox=toolbox,
            seed=seed,
            draw="shown",
            taste=taste,
        )
        asked = problem.turns[-1].text
        rewards = [{"reward": each.reward} if taste else {} for each in found.rollouts]
        return [
            {"prompt": asked, "text": each.text, **_verdict(each), **reward}
            for each, reward in zip(found.rollouts, rewards, strict=True)
        ]

    return sample


def _verdict(rollout: Rollout) -> dict[str, Any]:
    return {"score": rollout.score, "reason": rollout.reason, "length": rollout.length}
