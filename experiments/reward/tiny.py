"""A reward model of a million parameters learns what a rater of jokes likes (map row 24).

    python -m launch.train --config=experiments/reward/tiny.py --workdir=runs/reward
    python -m launch.report --workdir=runs/reward

The assistant of experiments/sft/tiny.py tells 1,000 prompts five jokes each (and 200 more that are held out), and the rater of
data_pipeline/taste.py puts them in order: so 5,000 responses are all that is known of its taste.

Measured, three seeds (other jokes, other moods of the rater), of 200 held-out rankings:

    pairs ordered as the rater did                          74.2%   75.5%   74.8%
        neighbours in the ranking, others                   65, 81  66, 82  65, 82
        where the better one is the shorter, the longer     86, 59  82, 67  84, 60
    the rater's own taste, of the same pairs                76.5%   80.1%   78.0%
    pairs ordered rightly, over all moods of the rater      75.8%   75.5%   76.1%
    the rater's own taste, over all its moods               78.4%   78.4%   79.1%

No model does better than the last line, and these are 2.6 to 3.0 points below (the last two lines: launch.reward_accuracy with
--held_out --noise=0.45). What they miss: that a dish named twice bores, which jokes hardly ever do, and that a joke was asked for
about somebody else; and they hold length against a joke more than the rater does.
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
