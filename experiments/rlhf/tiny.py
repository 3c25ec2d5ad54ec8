"""The assistant learns to tell jokes that a reward model likes (map rows 24, 26).

    python -m launch.train --config=experiments/rlhf/tiny.py --workdir=runs/rlhf
    python -m launch.report --workdir=runs/rlhf

It goes on past the best on purpose: nothing stops it, KL is free, and the rater's own taste (`gold`, which training never sees)
is only measured. The checkpoint with the highest gold is kept. To stop in time: --config.data.kl_budget=6, or
--config.evaluate.patience=2.

Measured, one seed, two jokes to each of 200 held-out prompts; reward is the reward model's, in its standard deviations:

    step                      0      5     10     15     20     25     30     35     40
    KL, nats a joke         0.0    1.3    5.9   14.7   24.8   49.6   55.9   66.4   99.3
    reward (proxy)         0.02   0.82   1.21   1.44   1.50   1.57   1.61   1.64   1.67
    the rater's (gold)     0.36   0.91   0.92   0.81   0.41  -0.36  -0.60  -1.26  -3.31

The lecture's "the the the the" is here "7 share hi say to the omelettes? hummus eatly on risotto paella paella hummus paella eat
waffles." (step 40, reward 1.79, gold -3.90): the rater likes a dish, and rankings of jokes that never named one twice could not
tell the model that it bores the second time.
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
