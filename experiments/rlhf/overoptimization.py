"""Reward models from few and from many rankings, each pleased far beyond what is good for it (map row 26; arXiv 2210.10760).

    python -m launch.sweep --config=experiments/rlhf/overoptimization.py --workdir=runs/hump
    python -m launch.best_of --workdir=runs/assistant --prompts=jokes --rule=data_pipeline.taste:gold --n=64 --out=runs/best-of \
        --reward=experiments/reward/tiny.py:100,experiments/reward/tiny.py:300,experiments/reward/tiny.py:1000
    python -m launch.overoptimization --workdir=runs/hump --best_of=runs/best-of

Each run is experiments/rlhf/tiny.py with another reward model; the reward models are trained first, once.
"""

from typing import Any

from experiments.rlhf import tiny
from lm.experiment import Experiment
from lm.practice import PracticeConfig

RANKINGS = (100, 300, 1_000, 3_000)


def get_config(rankings: str = "1000") -> Experiment:
    """RLHF by a reward model that has read so many rankings."""
    config = tiny.get_config()
    assert isinstance(config.data, PracticeConfig)
    config.data.taste.models = (f"experiments/reward/tiny.py:{rankings}",)
    return config


def sweep(rankings: str = "") -> list[dict[str, Any]]:
    """A run for each number of rankings; or three seeds of one."""
    if rankings:
        return [{"seed": seed} for seed in range(3)]
    return [{"data.taste.models": (f"experiments/reward/tiny.py:{count}",)} for count in RANKINGS]
