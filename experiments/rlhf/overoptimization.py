r"""Reward models from few and from many rankings, each pleased far beyond what is good for it (map row 26; arXiv 2210.10760).

    python -m launch.sweep --config=experiments/rlhf/overoptimization.py --workdir=runs/hump
    R=experiments/reward/tiny.py; python -m launch.best_of --workdir=runs/assistant --prompts=jokes --n=64 --out=runs/best-of \
        --rule=data_pipeline.taste:gold --reward=$R:100,$R:300,$R:1000,$R:3000,$R:10000
    python -m launch.overoptimization --workdir=runs/hump --best_of=runs/best-of

Each run is experiments/rlhf/tiny.py with another reward model; the reward models are trained first, once.

Measured, one seed; gains in the rater's own taste over the assistant, with d the root of KL in nats a joke:

                   RL                                                      best of n
    rankings       best   at KL   step 40   at KL   fitted                  of 64   fitted
    100            0.81   12.3    -0.43      46.7   d (0.61 - 0.34 log d)   0.88    d (0.77 - 0.16 d)
    300            0.74    9.0     0.32      15.3   d (0.45 - 0.23 log d)   1.00    d (0.70 - 0.07 d)
    1,000          0.67   10.1    -2.68     132.1   d (0.56 - 0.32 log d)   1.03    d (0.83 - 0.15 d)
    3,000          0.65   11.1    -4.33     183.0   d (0.58 - 0.34 log d)   1.00    d (0.87 - 0.17 d)
    10,000         0.73    7.5    -4.36     208.0   d (0.57 - 0.34 log d)   1.06    d (0.85 - 0.15 d)

The curves of the paper fit. Its finding that more rankings make a reward model safer appears for the best of n (0.88 to 1.06),
and not for RL: what is gamed, a dish again and again, is in none of the rankings, however many. evaluate.patience=2 would have
stopped the runs at KL 27, 11, 29, 117 and 77: too late for the last two, whose evaluations are too far apart for their speed.

The jokes that please too well can be put back: the policy that games the reward model takes turns with the assistant at telling
jokes, the rater ranks them, a new reward model learns, and another policy pleases it (then both are put back, and so on).

    python -m launch.train --config=experiments/reward/tiny.py --workdir=runs/reward-1 \
        --config.data.jokes.tellers='("runs/rlhf",)'
    python -m launch.train --config=experiments/rlhf/tiny.py --workdir=runs/rlhf-1 \
        --config.data.taste.models='("runs/reward-1",)'

    rounds            gold before   at its best   at step 40   KL at step 40   what it says then
    none              0.36          1.03          -2.32        132             "kedgeree eat kedgeree eat risotto"
    one               0.36          0.99          0.27         34              "We only have couscous and couscous."
    two               0.36          0.83          0.32         12              "sit on the hummus? ... no more hummus."

Each round takes away a trick, and the next policy finds a subtler one, a dish named twice in a joke that is one: as the lecture
has it, nobody wins that game. (One seed.)
"""

from typing import Any

from experiments.rlhf import tiny
from lm.experiment import Experiment
from lm.practice import PracticeConfig

RANKINGS = (100, 300, 1_000, 3_000, 10_000)


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
