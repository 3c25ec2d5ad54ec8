"""A small policy and problems whose rewards differ from try to try, for the tests of reinforcement learning."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
from scripted import a_tokenizer
from tiny_models import build

from data_pipeline.conversation import said
from data_pipeline.problem import Problem, Response, Verdict
from data_pipeline.verifying import Verifiers
from lm.model.config import ModelConfig
from lm.objectives.policy_gradient import PolicyGradientConfig
from lm.practice import PracticeConfig
from lm.rl.source import RolloutSource
from lm.sharding import MeshConfig, make_mesh

MODEL = ModelConfig(
    vocab_size=600, context_length=128, layers=1, width=32, heads=2, kv_heads=2, mlp_width=48, tied_head=False
)


@dataclass(frozen=True)
class Length:
    """Scores a response by its length: any rewards that are not all the same."""

    inline: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        return Verdict(len(response.text) % 5 / 4, f"{len(response.text)} characters")


@dataclass(frozen=True)
class Never:
    """Nothing is ever right."""

    inline: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        return Verdict(0.0, "never")


def problems(count: int = 6, levels: int = 1) -> list[Problem]:
    return [
        Problem(f"p{i}", (said("user", f"What is {i} plus {i}?"),), Length(), "sum", level=i % levels)
        for i in range(count)
    ]


def source_of(
    folder: Path, practice: PracticeConfig, objective: PolicyGradientConfig | None = None, **more
) -> RolloutSource:
    """A source over `problems` with a batch size of 2."""
    values = {"seed": 3, "row_length": MODEL.context_length, "batch_size": 2, "log": folder / "rollouts.jsonl", **more}
    return RolloutSource(
        practice,
        objective or PolicyGradientConfig(),
        values.pop("problems", problems()),
        a_tokenizer(folder),
        Verifiers(1, 5.0),
        None,
        values.pop("mesh", make_mesh(MeshConfig(), jax.devices()[:1])),
        **values,
    )


def policies(count: int, config: ModelConfig = MODEL) -> list:
    """As if a policy had been trained: another one for each step."""
    return [build(config, seed) for seed in range(count)]
