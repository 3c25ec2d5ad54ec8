"""A finetuned model of a million parameters practises word problems (map rows 20, 21)."""

from experiments.sft import tiny
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.objectives.policy_gradient import PolicyGradientConfig
from lm.optimizer import OptimizerConfig
from lm.practice import PracticeConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        steps=40,
        batch_size=16,
        start_from="experiments/sft/tiny.py",
        model=tiny.get_config().model,
        data=PracticeConfig(prompts=16, samples=8, tokens=96, calls=2),
        objective=PolicyGradientConfig(),
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=3e-4, warmup_steps=5, schedule="constant", weight_decay=0.0
        ),
        evaluate=EvaluateConfig(every=20),
        sample=SampleConfig(every=0),
        checkpoint=CheckpointConfig(every=20, keep_last=1),
    )
