"""The assistant learns to tell jokes that a reward model likes (map rows 24, 26).

python -m launch.train --config=experiments/rlhf/tiny.py --workdir=runs/rlhf
python -m launch.report --workdir=runs/rlhf
"""

from data_pipeline.errors import UserError
from data_pipeline.problems import ProblemsConfig
from data_pipeline.rewards import RewardConfig
from experiments.sft import tiny
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.objectives.policy_gradient import PolicyGradientConfig, preset
from lm.optimizer import OptimizerConfig
from lm.practice import PracticeConfig, RewardModelConfig


def get_config(variant: str = "rloo") -> Experiment:
    """The experiment, by leave-one-out advantages, group-normalised ones, or PPO with a value head."""
    objective = {
        "rloo": PolicyGradientConfig("leave_one_out", "token_ratio", "tokens"),
        "grpo": preset("grpo"),
        "ppo": preset("ppo"),
    }.get(variant)
    if objective is None:
        raise UserError(f"experiments/rlhf/tiny.py has no variant {variant!r}: choose rloo, grpo or ppo")
    config = Experiment(
        steps=40,
        batch_size=16,
        start_from="experiments/sft/tiny.py",
        model=tiny.get_config().model,
        data=PracticeConfig(
            problems=ProblemsConfig(sources=("jokes",), held_out=200),
            prompts=32,
            samples=4,
            tokens=64,
            cut_off="scored",
            reward=RewardConfig(broken=1.0),
            taste=RewardModelConfig(models=("experiments/reward/tiny.py",)),
            passes=2,
        ),
        objective=objective,
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=3e-4, warmup_steps=5, schedule="constant", weight_decay=0.0
        ),
        evaluate=EvaluateConfig(every=5),
        sample=SampleConfig(every=10),
        checkpoint=CheckpointConfig(every=20, keep_last=1),
    )
    config.model.scalar_head = variant == "ppo"
    return config
