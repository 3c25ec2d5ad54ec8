"""A model of nothing but running parity: where experiments/rl/parity.py begins.

    python -m launch.train --config=experiments/sft/parity.py:10 --workdir=runs/parity-10

From random parameters, with a tokenizer of its own. The variant says how many percent of the examples are worked bit by bit; all
others are the answer alone, which cannot be learnt at this size: half of them come out right. (Measured in experiments/rl.)
"""

from data_pipeline.conversations import ConversationsConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.model.config import ModelConfig
from lm.optimizer import OptimizerConfig


def get_config(percent: str = "10") -> Experiment:
    """The experiment."""
    return Experiment(
        steps=200,
        batch_size=32,
        model=ModelConfig(
            vocab_size=273
            if percent == "0"
            else 274,  # special tokens, bytes, a space, 0, 1, and = where there are steps
            context_length=128,
            layers=2,
            width=64,
            heads=2,
            kv_heads=2,
            mlp_width=256,
            activation="relu2",
            rope_theta=100.0,  # what counts is a bit's distance, which is short
        ),
        data=ConversationsConfig(sources=(f"parity:{percent}",)),
        optimizer=OptimizerConfig(name="normuon", learning_rate=8e-3, warmup_steps=20, weight_decay=0.1),
        evaluate=EvaluateConfig(every=0),
        sample=SampleConfig(every=0, prompts=("0110100010111011",), tokens=24),
        checkpoint=CheckpointConfig(every=0, keep_last=1),
    )
