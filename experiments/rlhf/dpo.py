"""The assistant learns from rankings of its jokes without a reward model between: DPO, IPO or KTO (map row 24).

    python -m launch.train --config=experiments/rlhf/dpo.py:dpo --workdir=runs/dpo

The rankings are those of experiments/reward/tiny.py: the same model tells the same jokes to the same rater.
"""

from data_pipeline.errors import UserError
from experiments.reward import tiny
from lm.experiment import Experiment
from lm.objectives.preference import PRESETS, preference_preset
from lm.optimizer import OptimizerConfig


def get_config(variant: str = "dpo") -> Experiment:
    """The experiment: dpo, ipo or kto."""
    if variant not in PRESETS or PRESETS[variant].scores != "log_ratio":
        raise UserError(f"experiments/rlhf/dpo.py has no variant {variant!r}: choose dpo, ipo or kto")
    config = tiny.get_config()
    config.model.scalar_head = False
    config.objective = preference_preset(variant)
    config.optimizer = OptimizerConfig(
        name="adamw", learning_rate=1e-4, warmup_steps=10, schedule="constant", weight_decay=0.0
    )
    return config
