"""The assistant imitates jokes, with as many labels as experiments/reward/tiny.py has rankings (map row 25).

    python -m launch.train --config=experiments/rlhf/imitation.py:best --workdir=runs/imitates-best
    python -m launch.train --config=experiments/rlhf/imitation.py:written --workdir=runs/imitates-written

best: the best of each ranking of runs/reward. written: 1,000 jokes more by whoever wrote the first 800, who knows what is funny
no better than that: to tell which of five jokes is the best is easier than to write one.

Measured in dpo.py: imitating more written jokes changes nothing (0.31 -> 0.27), imitating what was ranked best gains 0.39, and
learning from the whole rankings 0.69. That is the gap between telling what is good and making it.
"""

from data_pipeline.conversations import ConversationsConfig
from data_pipeline.errors import UserError
from experiments.sft import tiny
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.optimizer import OptimizerConfig

SOURCES = {"best": "best:runs/reward/rankings.jsonl", "written": "school:jokes:more"}


def get_config(variant: str = "best") -> Experiment:
    """The experiment: best or written."""
    if variant not in SOURCES:
        raise UserError(f"experiments/rlhf/imitation.py has no variant {variant!r}: choose best or written")
    return Experiment(
        steps=60,
        batch_size=16,
        start_from="experiments/sft/tiny.py",
        model=tiny.get_config().model,
        data=ConversationsConfig(sources=(SOURCES[variant],)),
        optimizer=OptimizerConfig(
            name="normuon", learning_rate=1e-3, warmup_steps=5, schedule="cosine", weight_decay=0.1, final_fraction=0.0
        ),
        evaluate=EvaluateConfig(every=20),
        sample=SampleConfig(every=0, prompts=()),
        checkpoint=CheckpointConfig(every=0, keep_last=1),
    )
