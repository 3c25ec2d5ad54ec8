"""How well a policy pleases, on held-out prompts: the reward model's view, and the rater's own where it is known."""

from collections.abc import Callable, Sequence

import numpy as np

from data_pipeline.problem import Problem
from data_pipeline.tokenizer import Tokenizer
from data_pipeline.verifiers import NotJudged
from data_pipeline.verifying import Verifiers
from lm.assistant import Toolbox
from lm.inference.engine import Engine
from lm.model.transformer import Transformer
from lm.practice import PracticeConfig
from lm.rl.rollout import Rollout, Taste, collect, variety


def make_taste_evaluation(
    config: PracticeConfig,
    problems: Sequence[Problem],
    tokenizer: Tokenizer,
    verifiers: Verifiers,
    toolbox: Toolbox | None,
    seed: int,
    taste: Taste,
    kl: Callable[[Sequence[Rollout]], float] | None,
) -> Callable[[Transformer], dict[str, float]]:
    """A function model -> metrics of `passes` responses to each held-out prompt, at the temperature of practice.

    `loss` is -`gold`, the rater's own taste, or -`reward` where nobody knows that; `reward` is what reward models say, `kl` is
    nats a response to the reference, and `variety` says whether the policy stammers.
    """
    known = any(not isinstance(problem.verifier, NotJudged) for problem in problems)

    def evaluate(model: Transformer) -> dict[str, float]:
        engine = Engine(model, slots=config.slots, symbols=tokenizer.vocab_size, steady=True)
        rollouts = collect(
            engine,
            tokenizer,
            problems,
            verifiers,
            config.reward,
            samples=config.passes,
            tokens=config.tokens,
            temperature=config.temperature,
            toolbox=toolbox,
            seed=seed,
            draw="pleasing",
            taste=taste,
        ).rollouts
        gold = float(np.mean([each.score for each in rollouts]))
        reward = float(np.mean([each.reward for each in rollouts]))
        return {
            "loss": -gold if known else -reward,
            **({"gold": gold} if known else {}),
            "reward": reward,
            **({"kl": kl(rollouts)} if kl else {}),
            "length": float(np.mean([each.length for each in rollouts])),
            "well_formed": float(np.mean([each.well_formed for each in rollouts])),
            **variety(rollouts),
        }

    return evaluate
