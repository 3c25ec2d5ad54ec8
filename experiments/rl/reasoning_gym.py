"""Practice of any task of reasoning-gym, by variant, perhaps with settings.

    python -m launch.audit --problems='gym:chain_sum?min_digits=1&max_digits=1&max_terms=4'
    python -m launch.train --config=experiments/rl/reasoning_gym.py --workdir=runs/gym
    python -m launch.train --config='experiments/rl/reasoning_gym.py:chain_sum?levels=3' --workdir=runs/levels \
        --config.data.curriculum.raise_at=0.6

It starts from experiments/sft/solutions.py of the same task and settings, which knows the tasks that can be solved step by step;
for any other task name a model that answers it now and then: --config.start_from=FOLDER. With levels, a third from each of the
first three of the task's curriculum, the next one opens when 60% of the tries at the hardest open one succeed.

Measured on 300 held-out sums, one seed each; before, after 20 and after 40 rounds (or as many as stand in brackets). The first
row is the second command; the others have other settings of chain_sum, --config.data.prompts and --config.optimizer.learning_rate
(the last one also --config.data.problems.seed=0, the sums that its examples had):

                                        rounds of   learning   right, greedy   at temperature 1
                                                    rate
    up to four terms of one digit       32 x 8      3e-5       90  94  94%     73  75  77%
    the same                            32 x 8      2e-4       90  68% (10)    73  61% (10)
    two terms of one or two digits      64 x 8      1e-4       30  27  29%     18  18  22%
    up to three of one or two digits    16 x 8      1e-4       18  19  19 (30) 15  15  14%
    as the task has them (six of four)  16 x 8      3e-4        2   1   0%      2   1   0%

A million parameters know sums by heart or not at all, and practice makes likelier what comes up now and then. That is little, and
little by little: where the tries of a round say little, AdamW follows their noise as fast as it would follow a signal, so that
the rate which learns to call Python within ten steps (rl/tiny.py) unlearns sums. A model that reckons: experiments/rl/smollm2.py.
"""

from data_pipeline.gym import STEPS
from data_pipeline.problems import ProblemsConfig
from experiments.rl import tiny
from lm.experiment import EvaluateConfig, Experiment
from lm.practice import PracticeConfig


def get_config(task: str = "chain_sum?min_digits=1&max_digits=1&max_terms=4") -> Experiment:
    """The practice of one task, perhaps with settings."""
    config = tiny.get_config()
    config.start_from = f"experiments/sft/solutions.py:{task}" if task.partition("?")[0] in STEPS else ""
    config.data = PracticeConfig(
        problems=ProblemsConfig(sources=(f"gym:{task}",), seed=1),  # others than its examples are made of
        prompts=32,
        tokens=128,
    )
    config.optimizer.learning_rate = 3e-5
    config.evaluate = EvaluateConfig(every=20)
    return config
