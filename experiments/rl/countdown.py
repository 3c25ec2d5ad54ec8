"""Countdown: reach a number from three or four others. Nobody shows the way; a verifier says whether one was found.

    python -m launch.audit --problems=countdown
    python -m launch.train --config=experiments/rl/countdown.py --workdir=runs/countdown
    python -m launch.report --workdir=runs/countdown

It starts from experiments/sft/solutions.py:countdown: examples that only say how an answer is written, since they name no search.
Problems of three numbers are level 0, of four level 1: --config.data.curriculum.raise_at=0.6 begins with the first. Look at
problems.3 numbers.right and problems.4 numbers.right in evaluations.jsonl.

Measured on 300 held-out problems, one seed, 9 minutes on two CPU cores that had other work too:

                                     before   step 20   step 40
    right at temperature 1           17%      23%       25%
    right in one of four tries       42%      46%       46%
    right, greedy                    30%      28%       30%
        of three numbers             45%      37%       37%
        of four                      15%      19%       23%

A model of a million parameters cannot reckon here, it guesses how the numbers go together: what it tries now and then it comes to
try more often, and its best guess does not get better. At the learning rate of rl/tiny.py, 3e-4, with half as many problems a
round, luck was followed too far: 16% greedy after 20 steps.
"""

from data_pipeline.problems import ProblemsConfig
from experiments.rl import tiny
from lm.experiment import EvaluateConfig, Experiment
from lm.practice import PracticeConfig


def get_config() -> Experiment:
    """The experiment."""
    config = tiny.get_config()
    config.start_from = "experiments/sft/solutions.py:countdown"
    config.steps = 40
    config.data = PracticeConfig(
        problems=ProblemsConfig(sources=("countdown",), count=10_000), prompts=32, samples=16, tokens=48
    )
    config.optimizer.learning_rate = 5e-5  # of few groups that teach anything, 3e-4 follows the noise
    config.evaluate = EvaluateConfig(every=20)
    return config
