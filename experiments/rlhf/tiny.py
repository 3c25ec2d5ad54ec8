"""The assistant learns to tell jokes that a reward model likes (map rows 24, 26).

    python -m launch.train --config=experiments/rlhf/tiny.py --workdir=runs/rlhf
    python -m launch.report --workdir=runs/rlhf

It goes on past the best on purpose: nothing stops it, KL is free, and the rater's own taste (`gold`, which training never sees)
is only measured. The checkpoint with the highest gold is kept. To stop in time: --config.data.kl_budget=6, or
--config.evaluate.patience=2.

Measured, three seeds, each with a reward model of its own, two jokes to each of 200 held-out prompts; reward is the reward
model's, in its standard deviations; two minutes each on two busy CPU cores:

    step                             0       5      10      15      20      25      30      35      40
    KL, nats a joke                0.0     2.3     7.4    10.1    19.6    28.9    40.4    54.0   132.1
                                   0.0     1.1     9.4    23.9    65.4    77.0   111.6   190.1   164.9
                                   0.0     0.9     5.2     9.3    23.1    93.1    94.2   171.2   191.0
    reward (proxy)                0.04    0.58    0.95    1.09    1.13    1.19    1.24    1.32    1.33
                                 -0.05    0.68    1.09    1.39    1.62    1.77    1.88    1.94    2.04
                                  0.04    0.67    1.01    1.21    1.42    1.67    1.79    1.98    2.10
    the rater's (gold)            0.36    0.70    0.93    1.03    0.83    0.51    0.21   -0.22   -2.32
                                  0.30    0.77    0.94    0.87   -0.91   -1.54   -2.85   -3.97   -3.96
                                  0.33    0.75    1.01    1.06    0.61   -2.06   -2.40   -3.94   -4.00

At its best gold has gained 0.68 [0.56, 0.80] (mean of the seeds, 95% interval); at the end it has changed by -3.76 [-6.07, -1.44]
and the reward model's by 1.81 [0.70, 2.93]. The lecture's "the the the the" is here "Why did the goat eat gnocchi hummus hummus
gnocchi hummus hummus hummus hummus hummus hummus" (reward 2.19; -4 is where the rater walks out): it likes a dish, and rankings
of jokes that hardly ever name one twice could not tell the model that it bores the second time. What putting such jokes into the
rankings does is in overoptimization.py.
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
