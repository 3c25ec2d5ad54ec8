"""Algorithms of practice at equal rollouts, and what the group's size, KL and clipping do.

    python -m launch.sweep --config=experiments/rl/algorithms.py --workdir=runs/algorithms --parallel=2
    python -m launch.sweep --config=experiments/rl/algorithms.py:groups --workdir=runs/groups --parallel=2
    python -m launch.sweep --config=experiments/rl/algorithms.py:kl --workdir=runs/kl --parallel=2
    python -m launch.sweep --config=experiments/rl/algorithms.py:clipping --workdir=runs/clipping --parallel=2
    python -m launch.compare runs/algorithms

Each is experiments/rl/parity.py with one change, three seeds, all from one base; the metric, validation.loss, is 1 - accuracy on
held-out rows. Every run has 40 rounds of 512 rollouts, each used for two updates (four in the ablation of clipping, which does
nothing at the first), so that the surrogates differ; in `groups` the rounds are made of fewer problems the more tries each has.
A variant may also be one algorithm, to be trained by itself: experiments/rl/algorithms.py:gspo.

Measured on 300 held-out rows, 27 runs of 2.5 to 3.5 minutes, two at a time on two CPU cores that had other work too: right greedy
after all 20,480 rollouts (three seeds, their mean), after half of them, and at temperature 1. Before it is 43%, and 55%.

                         40 rounds               20 rounds       at temperature 1, after 40
    rloo                 100% 100% 100%   100%   91% 100%  91%        98%
    cispo                100% 100% 100%   100%   100% 100% 76%        95%
    expert_iteration     100% 100% 100%   100%   100% 91% 100%        97%
    dapo                 91% 100% 91%      94%   91% 91% 91%          93%
    dr_grpo              100% 100% 80%     93%   91% 80% 80%          90%
    gspo                 92% 91% 89%       91%   91% 91% 43%          84%
    grpo                 91% 89% 91%       90%   91% 89% 91%          87%
    reinforce            54% 100% 91%      82%   54% 76% 91%          80%
    ppo                  87% 54% 54%       65%   54% 54% 54%          60%

Three seeds tell only the ends of this list apart. None has KL here, and DAPO is its objective alone: data.refill=0.
What most of them differ in is whether the last rows are found that are still answered shortly (at 91% the mean length is 15, at
100% it is 19): groups that are all right or all wrong teach nothing, and in the second half most groups are so. One seed of
reinforce, which updates twice and knows no ratio, collapsed: sixteen zeros for steps, and "=0", whatever was asked. PPO has a
value head to learn besides: in two seeds its answers were still short.

How many tries a problem has (`groups`; as many rollouts in all, so fewer problems), right greedy and at temperature 1 after all
rounds, and the share of groups without a signal in the second half:

    tries    problems    greedy                        at temperature 1    no signal
    2        256         100%  91% 100%    97%         96%                 94%
    4        128         100% 100%  91%    97%         96%                 89%
    8         64          91% 100%  91%    94%         93%                 82%
    16        32         100% 100%  91%    97%         96%                 78%
    32        16         100% 100%  91%    97%         97%                 61%

No size is better than another here: what large groups gain in signal they lose in problems.

KL to the model it began with, and clipping (four updates a round), three seeds: greedy after 10 and 20 rounds, means; after all
40; at temperature 1 after all, and the entropy in the second half, nats a token, means.

                                10     20     40                 at temperature 1    entropy
    KL 0                        91%    91%     91% 100%  91%     93%                 0.030
    0.01, k1 in the reward      91%    91%     91% 100%  91%     94%                 0.032
    0.01, k3 in the loss        91%    91%     91% 100%  91%     93%                 0.037
    0.1, k1 in the reward       80%    87%    100% 100% 100%     88%                 0.058
    0.1, k3 in the loss         87%   100%    100% 100% 100%     87%                 0.075

    clip 0.1                    99%   100%    100% 100% 100%     99%                 0.021
    0.2                         87%   100%    100% 100% 100%    100%                 0.015
    0.2 below, 0.28 above       91%   100%    100% 100% 100%    100%                 0.016
    none                        91%    94%     91% 100%  91%     94%                 0.006

KL of 0.1 leaves so much entropy that the last rows are found by every seed (and costs some of them at temperature 1, where it
goes on trying); without a clip there is little left to find them with, although the ratios seldom are where a clip would matter:
in the first seed 0.1 to 0.4% of tokens on either side, the largest of a step 1.5 on the average.
"""

from dataclasses import asdict
from typing import Any

from data_pipeline.problems import ProblemsConfig
from experiments.rl import parity
from lm.experiment import EvaluateConfig, Experiment
from lm.objectives.policy_gradient import PRESETS, PolicyGradientConfig, preset
from lm.practice import PracticeConfig

ROUNDS, ROLLOUTS = 40, 512
KL: list[dict[str, Any]] = [{"objective.kl": 0.0}] + [
    {"objective.kl": kl, "objective.kl_form": form} for kl in (0.01, 0.1) for form in ("reward_k1", "loss_k3")
]
CLIPS: list[dict[str, Any]] = [
    {"objective.clip_low": low, "objective.clip_high": high}
    for low, high in ((0.1, 0.1), (0.2, 0.2), (0.2, 0.28), (1.0, 1e6))
]


def get_config(variant: str = "algorithms") -> Experiment:
    """One algorithm, or what all runs of a study share."""
    config = parity.get_config()
    updates = 4 if variant == "clipping" else 2
    config.steps = ROUNDS * updates
    problems = ProblemsConfig(sources=("parity",))
    config.data = PracticeConfig(
        problems=problems, prompts=ROLLOUTS // 8, samples=8, tokens=24, slots=128, updates=updates
    )
    config.objective = PolicyGradientConfig()
    config.evaluate = EvaluateConfig(every=config.steps // 4)
    config.checkpoint.every = 0
    if variant not in ("algorithms", "groups", "kl", "clipping"):
        config.objective = preset(variant)
        config.model.scalar_head = variant == "ppo"
    return config


def sweep(study: str = "algorithms") -> list[dict[str, Any]]:
    """The runs of a study."""
    sizes: list[dict[str, Any]] = [
        {"data.samples": size, "data.prompts": ROLLOUTS // size} for size in (2, 4, 8, 16, 32)
    ]
    studies: dict[str, list[dict[str, Any]]] = {
        "algorithms": [_changes(name) for name in PRESETS],
        "groups": sizes,
        "kl": KL,
        "clipping": CLIPS,
    }
    return [{**change, "seed": seed} for seed in range(3) for change in studies[study]]


def _changes(algorithm: str) -> dict[str, Any]:
    """What a preset has other values for than the defaults; a value for each part, so that the table tells them apart."""
    default, values = asdict(PolicyGradientConfig()), asdict(preset(algorithm))
    parts = ("advantage", "surrogate", "normaliser")
    changes = {f"objective.{name}": x for name, x in values.items() if name in parts or x != default[name]}
    return {**changes, "model.scalar_head": algorithm == "ppo"}
