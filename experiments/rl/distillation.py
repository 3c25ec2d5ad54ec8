r"""A small assistant learns from a larger one that has practised; or practises itself (map row 22).

    python -m launch.train --config=experiments/rl/tiny.py --workdir=runs/teacher
    python -m launch.traces --workdir=runs/teacher --out=runs/traces
    python -m launch.train --config=experiments/rl/distillation.py:distilled --workdir=runs/distilled
    python -m launch.train --config=experiments/rl/distillation.py:practised --workdir=runs/practised
    python -m launch.train --config=experiments/rl/distillation.py:on_policy --workdir=runs/on-policy
    python -m launch.train --config=experiments/rl/distillation.py:practised --workdir=runs/both \
        --config.start_from=runs/distilled

(--config.data.teacher=runs/teacher gives `on_policy` the teacher of above; else it trains the same one.) All begin with
experiments/sft/tiny.py:small, a fifth of the teacher's parameters. `distilled` is finetuned on the teacher's right answers,
`practised` has the rewards of its own tries, `on_policy` the teacher's probabilities of each token of its own tries (arXiv
2306.13649), and no reward. The last command practises on after distillation, and its evaluation at step 0 measures the distilled
model as the others are.

Measured, one seed: right greedy, and in one of four tries, of 300 held-out problems; steps of training after the start.

                                    greedy   one of four   calls Python
    the teacher                     89%      92%           100%
    the small assistant before      13%      27%           19%
    practised itself, 40 steps      15%      20%           0%
    on_policy, 40 steps             7%       20%           100%
    distilled, 200 steps            94%      94%           100%
    distilled, then practised       88%      89%           100%

The teacher solved 1,850 of 2,000 problems in four tries each, which is what `distilled` reads. What the small one finds by its
own tries is to work out everything in its head, which it cannot; from the teacher's probabilities it learns to call, but not with
which numbers. As DeepSeek-R1's authors found at another scale (arXiv 2501.12948), a small model learns more from a large one that
has practised than from practice.
"""

from data_pipeline.conversations import ConversationsConfig
from data_pipeline.errors import UserError
from experiments.rl import tiny as practice
from experiments.sft import tiny as finetuning
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, QuestionsConfig, SampleConfig
from lm.objectives.policy_gradient import PolicyGradientConfig
from lm.practice import PracticeConfig

START = "experiments/sft/tiny.py:small"


def get_config(variant: str = "distilled") -> Experiment:
    """One way to teach the small assistant."""
    if variant not in ("distilled", "practised", "on_policy"):
        raise UserError(f"no variant {variant!r}: choose distilled, practised or on_policy")
    if variant == "distilled":
        config = finetuning.get_config("small")
        config.steps = 200
        config.start_from = START
        config.data = ConversationsConfig(sources=("runs/traces/traces.jsonl",))
        config.evaluate = EvaluateConfig(every=50)
        config.sample = SampleConfig(every=0, prompts=())
        config.questions = QuestionsConfig()
        config.checkpoint = CheckpointConfig(every=0, keep_last=1)
        return config
    config = practice.get_config()
    config.start_from = START
    config.model = finetuning.get_config("small").model
    if variant == "on_policy":
        config.data = PracticeConfig(prompts=16, samples=8, tokens=96, calls=2, teacher="experiments/rl/tiny.py")
        config.objective = PolicyGradientConfig(advantage="teacher")
    return config
