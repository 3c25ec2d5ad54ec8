"""An assistant of a million parameters practises word problems (map rows 20, 21).

    python -m launch.train --config=experiments/rl/tiny.py --workdir=runs/practice
    python -m launch.report --workdir=runs/practice

It starts from experiments/sft/tiny.py (or your run of it: --config.start_from=runs/assistant), whose worked examples solved a
fifth of these problems by a call of Python and the others step by step. Nobody tells it which is better; the verifier looks at
the last number alone.

Measured on 300 held-out problems, three seeds of practice from one assistant, means [95% intervals]; two minutes each on two CPU
cores (four where no program is compiled yet):

                                     before         step 20       step 40
    right, greedy                    21%            89% [87, 92]  93% [84, 100]
    right, at temperature 1          27% [25, 30]   81% [78, 84]  86% [76, 96]
    right in one of four tries       60% [56, 64]   93% [90, 95]  95% [90, 100]
    calls Python, greedy             2%             100%          100%
    ends by itself, well formed      100%           100%          100%

What it learns is to call, within about ten steps. The sampler's log-probabilities were within 2e-5 nats of the
trainer's at every token.
"""

from experiments.sft import tiny
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.objectives.policy_gradient import PolicyGradientConfig
from lm.optimizer import OptimizerConfig
from lm.practice import PracticeConfig


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        steps=40,
        batch_size=16,
        start_from="experiments/sft/tiny.py",
        model=tiny.get_config().model,
        data=PracticeConfig(prompts=16, samples=8, tokens=96, calls=2),
        objective=PolicyGradientConfig(),
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=3e-4, warmup_steps=5, schedule="constant", weight_decay=0.0
        ),
        evaluate=EvaluateConfig(every=20),
        sample=SampleConfig(every=0),
        checkpoint=CheckpointConfig(every=20, keep_last=1),
    )
