"""Worked examples of one kind of practice problem, read by the base model: where practising that kind begins.

    python -m launch.train --config=experiments/sft/solutions.py:chain_sum --workdir=runs/chain-sum
    python -m launch.train --config=experiments/sft/solutions.py:countdown --workdir=runs/countdown

Variants: countdown, and the tasks of reasoning-gym whose solutions are written step by step (data_pipeline/gym.py), perhaps with
settings: 'chain_sum?max_terms=2&max_digits=2'. It is left early, with much still to learn, so that practice can find something.
"""

from data_pipeline.conversations import ConversationsConfig
from experiments.sft import tiny
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, QuestionsConfig, SampleConfig


def get_config(task: str = "chain_sum") -> Experiment:
    """The finetuning on examples of one task."""
    config = tiny.get_config()
    config.steps = 200
    config.data = ConversationsConfig(sources=("countdown" if task == "countdown" else f"gym:{task}",))
    config.evaluate = EvaluateConfig(every=0)
    config.sample = SampleConfig(every=0, prompts=())
    config.questions = QuestionsConfig()
    config.checkpoint = CheckpointConfig(every=0, keep_last=1)
    return config
