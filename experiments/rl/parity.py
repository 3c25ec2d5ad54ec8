"""Tokens to think, found by practice: running parity (map rows 17, 21; arXiv 2510.11495).

    python -m launch.train --config=experiments/rl/parity.py --workdir=runs/parity
    python -m launch.train --config=experiments/rl/parity.py:0 --workdir=runs/parity-control
    python -m launch.report --workdir=runs/parity

It starts from experiments/sft/parity.py, of the same percentage: a model of nothing but this task, in whose examples a tenth
write the parity after each of 16 bits and the others the answer alone. Its likeliest answer is the short one, and a coin's toss.
Practice is rewarded for the last bit and for nothing else; where the examples showed no steps, it has nothing to find.

Measured on 300 held-out rows, three seeds (--config.seed, of both stages); on two CPU cores that were busy with other programs a
base took 40 to 65 seconds, and practice 45 to 175:

                                     before           step 20          step 40          step 60
    10%  right, greedy               43% 43% 43%      86% 100% 100%    100% 100% 100%   100% 100% 100%
         length, greedy              2  2  2          13  19  19       19  19  19       19  19  19
         right, at temperature 1     55% 54% 56%      80% 84% 87%      87% 95% 96%      90% 96% 97%
    0%   right, greedy               46% 54% 54%      54% 54% 54%      46% 54% 54%      46% 54% 54%
         length, greedy              2  2  2          2  2  2          2  2  2          2  2  2

Without KL some seeds stayed for 60 steps at 87%: a quarter of the rows was answered shortly for good. KL to the base
keeps the long way in play until it is found everywhere.
"""

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
