"""Practice of any task of reasoning-gym, by variant, perhaps with settings.

    python -m launch.audit --problems=gym:chain_sum
    python -m launch.train --config=experiments/rl/reasoning_gym.py:chain_sum --workdir=runs/gym
    python -m launch.train --config='experiments/rl/reasoning_gym.py:chain_sum?levels=3' --workdir=runs/levels \
        --config.data.curriculum.raise_at=0.6

It starts from experiments/sft/solutions.py of the same task, which knows the tasks that can be solved step by step; for any other
name a model that answers it now and then: --config.start_from=FOLDER. With levels, a third from each of the first three of the
task's curriculum, the next one opens when 60% of the tries at the hardest open one succeed.

Measured: chain_sum as the task itself has it (up to six terms of four digits) is too hard for where it starts, with 1.7% of 300
held-out sums right. Nine groups in ten have nothing to teach, and at the learning rate of rl/tiny.py, 3e-4, the policy followed
the noise in the rest: nothing right after 12 steps, KL 100 nats. The rate is a sixth of that since, which is not measured. Sums
in reach, for a model that is larger: experiments/rl/smollm2.py.
"""

from data_pipeline.gym import STEPS
from data_pipeline.problems import ProblemsConfig
from experiments.rl import tiny
from lm.experiment import EvaluateConfig, Experiment
from lm.practice import PracticeConfig


def get_config(task: str = "chain_sum") -> Experiment:
    """The practice of one task."""
    config = tiny.get_config()
    name = task.partition("?")[0]
    config.start_from = f"experiments/sft/solutions.py:{name}" if name in STEPS else ""
    config.steps = 60
    config.data = PracticeConfig(problems=ProblemsConfig(sources=(f"gym:{task}",)), tokens=128)
    config.optimizer.learning_rate = 5e-5  # of few groups that teach anything, 3e-4 follows the noise
    config.evaluate = EvaluateConfig(every=20)
    return config
