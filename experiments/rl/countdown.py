"""Countdown: reach a number from three or four others. Nobody shows the way; a verifier says whether one was found.

    python -m launch.audit --problems=countdown
    python -m launch.train --config=experiments/rl/countdown.py --workdir=runs/countdown
    python -m launch.report --workdir=runs/countdown

It starts from experiments/sft/solutions.py:countdown: examples that only say how an answer is written, since they name no search.
Problems of three numbers are level 0, of four level 1: --config.data.curriculum.raise_at=0.6 begins with the first. Look at
problems.3 numbers.right and problems.4 numbers.right in evaluations.jsonl. Not measured yet.
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
