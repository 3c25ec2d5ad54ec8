"""A reward model of a million parameters learns what a rater of jokes likes (map row 24).

    python -m launch.train --config=experiments/reward/tiny.py --workdir=runs/reward
    python -m launch.report --workdir=runs/reward

The assistant of experiments/sft/tiny.py tells 1,000 prompts five jokes each (and 200 more that are held out), and the rater of
data_pipeline/taste.py puts them in order: so 5,000 responses are all that is known of its taste.

Measured, one seed, a minute on two CPU cores: of held-out pairs 80% are ordered as the rater ordered them (70% of neighbours
in a ranking, 87% of the others; 85% where the better one is the shorter, 73% where it is the longer). The rater's own taste,
without its moods, is right about 84.5% of the same pairs: no model does better, and this one is 4.5 points below.
"""

from data_pipeline.errors import UserError
from data_pipeline.rankings import JokesConfig, RankingsConfig
from experiments.sft import tiny
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.objectives.preference import PRESETS, preference_preset
from lm.optimizer import OptimizerConfig


def get_config(variant: str = "plackett_luce") -> Experiment:
    """The experiment: by the loss of Plackett and Luce, which is the likelihood of such a rater, or bradley_terry.

    Or, for a number, from so many rankings in place of 1,000.
    """
    count = int(variant) if variant.isdecimal() else 1_000
    loss = "plackett_luce" if variant.isdecimal() else variant
    if count < 1 or loss not in PRESETS or PRESETS[loss].scores != "head":
        raise UserError(
            f"experiments/reward/tiny.py has no variant {variant!r}: choose plackett_luce, bradley_terry or a number of rankings"
        )
    model = tiny.get_config().model
    model.scalar_head = True
    steps = max(120 * count // 1_000, 32)  # two epochs: a third would learn the rater's moods by heart
    return Experiment(
        steps=steps,
        batch_size=8,
        start_from="experiments/sft/tiny.py",
        model=model,
        data=RankingsConfig(row_length=512, jokes=JokesConfig(prompts=count)),
        objective=preference_preset(loss),
        optimizer=OptimizerConfig(
            name="normuon", learning_rate=2e-3, warmup_steps=10, schedule="cosine", weight_decay=2.0, final_fraction=0.0
        ),
        evaluate=EvaluateConfig(every=steps // 6),
        sample=SampleConfig(prompts=()),
        checkpoint=CheckpointConfig(every=steps // 3, keep_last=1),
    )
