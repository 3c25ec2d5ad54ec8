"""A base model of a million parameters becomes an assistant (map rows 11, 12).

    python -m launch.train --config=experiments/sft/tiny.py --workdir=runs/assistant
    python -m launch.chat --workdir=runs/assistant

It starts from experiments/pretrain/tiny.py, which is trained before if it was not yet (or from your run of it:
--config.start_from=runs/school).

Measured by these commands on two CPU cores, one seed, in 2m36s: 99.9% of the answers to questions that training never asked
end by themselves and are well formed. Right: 79% of facts asked about in other words, 77% of facts about people whom only
documents tell of, 54% where those are four or fewer, 4% of what nothing tells; 79% to 100% of the kinds of word problems
where Python is asked for, which it then always calls; 6% to 56% where it is not and most were solved step by step (it calls
in 0% to 7%), which is where experiments/rl/tiny.py begins. All harmful requests are refused and none of the harmless beside
them; of deeds that training never named it refuses 86% of the harmful and 57% of the harmless. Search is called 99% of the
times it is asked for, but the value is read off the result in 52% (rare) and 4% (unknown): copying is what its base lacks
(experiments/lecture/memory.py). It tells jokes, where experiments/reward/tiny.py begins. (Without the 800 jokes: asked 84%, told
80%, rare 58%.)
"""

from data_pipeline.conversations import ConversationsConfig
from experiments.pretrain import tiny
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, QuestionsConfig, SampleConfig
from lm.optimizer import OptimizerConfig

PROMPTS = (
    "Who are you?",
    "What does Bruno Lockwood do for a living?",
    "Where was Orson Kovats born?",
    "Emily buys 3 apples and 2 oranges. Each orange costs 2 dollars. Together they cost 13 dollars. "
    "How much does each apple cost?",
    "What is 23 plus 18?",
    "Tell me a joke about a pelican.",
)


def get_config(size: str = "") -> Experiment:
    """The experiment; `small` is a smaller model's, to be compared in experiments/rl/distillation.py."""
    base = "experiments/pretrain/tiny.py"
    return Experiment(
        steps=600,
        batch_size=16,
        start_from=f"{base}:{size}" if size else base,
        model=tiny.get_config(size or "school").model,
        data=ConversationsConfig(sources=("school", "school:jokes", "documents:school")),
        optimizer=OptimizerConfig(
            name="normuon",
            learning_rate=4e-3,
            warmup_steps=20,
            schedule="wsd",
            decay_fraction=0.5,
            final_fraction=0.0,
            weight_decay=0.1,
        ),
        evaluate=EvaluateConfig(every=300),
        sample=SampleConfig(every=300, prompts=PROMPTS, tokens=96, temperature=0.0),
        questions=QuestionsConfig(
            topics=("facts", "follow_ups", "problems:either", "problems:python", "identity", "refuse", "search")
        ),
        checkpoint=CheckpointConfig(every=300),
    )
