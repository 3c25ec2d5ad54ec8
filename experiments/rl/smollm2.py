"""SmolLM2-135M-Instruct practises sums of one and two digits: a released model, on two CPU cores (map rows 20, 21).

    python -m launch.convert --from=SmolLM2-135M-Instruct.Q4_1.gguf --workdir=runs/smollm2
    python -m launch.train --config=experiments/rl/smollm2.py --workdir=runs/sums
    python -m launch.report --workdir=runs/sums

The release in four bits (Q4_1, 98 MB), converted. Problems are reasoning-gym's chain_sum with two terms, of one digit or of two,
after a system message; the reward is the task's own score of what the answer states. Measured on 100 held-out problems, half of
each, greedy (one seed; 50 steps of 64 rollouts in 33 minutes on two CPU cores, 37 s each, 5 s of that sampling):

                                       before    step 25    step 50
    right                              16%       42%        52%
    one digit                          32%                  62%
    two digits                         0%                   42%
    the last number is right           20%                  52%
    ends by itself within 16 tokens    81%       100%       100%
    tokens of an answer                12        9          9

(By digits, and by the last number, counted afterwards from the answers of both models, which no program of ours prints; before,
the answers had up to 48 tokens.) So it is not the form alone, "The final answer is 104.", all
the same whatever is asked: at temperature 1 the release rambles (reward 0.01 in the first step), with the right answer somewhere
in what it could say, and practice finds it within ten steps. None of 21 sums below zero is right, before or after: it answers 4
for 5 - 9, is never rewarded, and so learns nothing there. Entropy falls from 1.7 to 0.2 nats a token within 12 steps, after which
four fifths of the groups are all right or all wrong.
"""

from data_pipeline.problems import ProblemsConfig
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.model.config import ModelConfig
from lm.objectives.policy_gradient import PolicyGradientConfig
from lm.optimizer import OptimizerConfig
from lm.practice import PracticeConfig

SOURCES = tuple(f"gym:chain_sum?min_terms=2&max_terms=2&min_digits={n}&max_digits={n}" for n in (1, 2))


def get_config() -> Experiment:
    """Rounds of 8 problems, 8 tries each of 16 tokens at most, one update a round."""
    return Experiment(
        steps=50,
        batch_size=8,
        start_from="runs/smollm2",
        model=ModelConfig(
            vocab_size=49152,
            context_length=108,
            layers=30,
            width=576,
            heads=9,
            kv_heads=3,
            mlp_width=1536,
            rope_theta=100_000.0,
            norm_epsilon=1e-5,
            tied_head=True,
        ),
        data=PracticeConfig(
            problems=ProblemsConfig(SOURCES, count=120, held_out=50, system="Answer with the number alone."),
            prompts=8,
            samples=8,
            tokens=16,
            slots=64,
            passes=1,
            reference=False,
        ),
        objective=PolicyGradientConfig(),
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=2e-5, warmup_steps=2, schedule="constant", weight_decay=0.0
        ),
        evaluate=EvaluateConfig(every=25),
        sample=SampleConfig(every=0),
        checkpoint=CheckpointConfig(every=25, keep_last=1),
    )
