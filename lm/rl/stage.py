"""Reinforcement learning as a `Stage`, against verifiers or reward models: the source lets the model write its batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from jax.sharding import Mesh

from data_pipeline.errors import UserError
from data_pipeline.problem import Problem
from data_pipeline.problems import ProblemSets
from data_pipeline.protocol import prompt
from data_pipeline.tokenizer import Tokenizer
from data_pipeline.verifying import Verifiers
from lm import sharding
from lm.assistant import Toolbox
from lm.experiment import Experiment
from lm.model.attention import check_attention
from lm.model.transformer import Transformer
from lm.objectives.policy_gradient import PolicyGradientConfig, policy_gradient
from lm.practice import PracticeConfig
from lm.rl.held_out import make_evaluation, make_samples
from lm.rl.pleasing import make_taste_evaluation
from lm.rl.rewarding import RewardModel, make_taste
from lm.rl.rollout import collect
from lm.rl.source import RolloutSource
from lm.stage import Stage, Start

HOST_ONLY = frozenset({"document_ids"})
WORKERS = 2  # that verify


@dataclass(frozen=True)
class PreparedProblems:
    """The problems of a run, and the tokenizer that its prompts are written with."""

    problems: ProblemSets
    tokenizer: Tokenizer
    models: dict[str, str] = field(default_factory=dict)  # a fingerprint of each other model that it learns from

    @property
    def fingerprints(self) -> dict[str, str]:
        """What must not change while a run goes on."""
        data = {"data.problems": self.problems.fingerprint, "the tokenizer": self.tokenizer.fingerprint}
        return data | self.models


def practice(
    config: Experiment,
    prepared: PreparedProblems,
    mesh: Mesh,
    start: Start | None,
    toolbox: Toolbox | None,
    workdir: Path,
    reward_models: Sequence[RewardModel] = (),
    teacher: Transformer | None = None,
) -> Stage:
    """The stage for prepared problems; the best, worst and odd rollouts go to WORKDIR/rollouts.jsonl.

    With `reward_models`, it is they who reward (RLHF), and verifiers only measure.

    Raises `UserError` when the batch or the attention does not suit the mesh, and when no problem leaves room for an answer.
    """
    data, objective = config.data, config.objective
    assert isinstance(data, PracticeConfig)
    assert isinstance(objective, PolicyGradientConfig)
    check_attention(config.model, mesh.devices.flat[0].platform)
    sharding.batch_rows(mesh, config.batch_size)
    tokenizer, room = prepared.tokenizer, config.model.context_length
    train, held_out = (fitting(each, tokenizer, room) for each in (prepared.problems.train, prepared.problems.held_out))
    verifiers = Verifiers(WORKERS, data.verify_seconds)
    taste = make_taste(reward_models, data.taste, mesh, config.batch_size) if reward_models else None
    source = RolloutSource(
        data,
        objective,
        train,
        tokenizer,
        verifiers,
        toolbox,
        mesh,
        seed=config.seed,
        row_length=room,
        batch_size=config.batch_size,
        log=workdir / "rollouts.jsonl",
        taste=taste,
        teacher=teacher,
    )
    tries = partial(
        collect,
        verifiers=verifiers,
        rewards=data.reward,
        tokens=data.tokens,
        toolbox=toolbox,
        seed=config.seed,
        taste=taste,
        chances=data.chances,
    )
    if taste:
        kl = source.kl_of if data.reference else None
        evaluate = make_taste_evaluation(data, held_out, tokenizer, tries, kl)
    else:
        evaluate = make_evaluation(data, held_out, tokenizer, tries)
    return Stage(
        source=source,
        objective=partial(policy_gradient, config=objective),
        host_only=HOST_ONLY,
        evaluate=evaluate,
        sample=make_samples(data, held_out[0], tokenizer, tries, by_taste=taste is not None),
        start=start,
        looks_first=True,
        remember_start=source.remember_start if data.reference else None,
        numbers=source.numbers,
        enough=source.enough,
        close=source.close,
    )


def fitting(problems: tuple[Problem, ...], tokenizer: Tokenizer, context: int) -> list[Problem]:
    """Those whose prompt leaves half of the context for an answer. Raises `UserError` when none does."""
    kept = [each for each in problems if 2 * len(prompt(tokenizer, each.turns, "tokens").tokens) <= context]
    if len(kept) < len(problems):
        print(
            f"set aside: {len(problems) - len(kept):,} of {len(problems):,} problems fill more than half of the context"
        )
    if not kept:
        raise UserError(
            f"none of the {len(problems):,} problems leaves half of the context of {context} tokens for an answer: choose "
            "others, or a larger model.context_length"
        )
    return kept
