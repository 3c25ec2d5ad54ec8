"""Tokens to think, found by practice (arXiv 2510.11495)."""

from data_pipeline.problems import ProblemsConfig
from experiments.sft import parity
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.objectives.policy_gradient import PolicyGradientConfig
from lm.optimizer import OptimizerConfig
from lm.practice import PracticeConfig


def get_config(percent: str = "10") -> Experiment:
    """The experiment."""
    return Experiment(
        steps=60,
        batch_size=16,
        start_from=f"experiments/sft/parity.py:{percent}",
        model=parity.get_config(percent).model,
        data=PracticeConfig(problems=ProblemsConfig(sources=("parity",)), prompts=64, samples=8, tokens=24, slots=128),
        objective=PolicyGradientConfig(kl=0.1),
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=5e-4, warmup_steps=5, schedule="linear", final_fraction=0.0, weight_decay=0.0
        ),
        evaluate=EvaluateConfig(every=20),
        sample=SampleConfig(every=0),
        checkpoint=CheckpointConfig(every=0, keep_last=1),
    )
