"""Who is Orson Kovats? Invention by imitation, and its cure by probing (map rows 13 and 14).

    python -m launch.hallucination --root=runs/hallucination --seeds=3

Finetuned on answers alone, the model answers whatever it is asked about people it never read of. It is then asked about many
people, some never told of; where it is wrong nearly every time, "I don't know" becomes the worked example, and it is finetuned
anew from the base model with these among the answers. The control has as many refusals, of questions drawn at random.

Measured, three seeds, means [95% intervals]. "Asked" are people whom training asks about, in other words; "told" those of whom
documents tell as much, but training never asks; of "unknown" people nothing tells, and the probe never named them.

             unknown: refuses   asked: right       told: right        told: refuses
    before   0% [0, 0]          75% [67, 83]       78% [63, 94]       0% [0, 0]
    after    81% [67, 96]       82% [79, 84]       21% [19, 24]       73% [67, 79]
    control  72% [59, 84]       69% [45, 93]       22% [11, 32]       70% [66, 74]

The invention is cured and what was asked is kept. But a model of this size does not refuse by what it read: whom finetuning
never mentioned it refuses, told or not.
"""

from data_pipeline.conversations import ConversationsConfig
from experiments.sft import tiny
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, QuestionsConfig, SampleConfig

SOURCES = ("school:facts", "school:follow_ups", "documents:school")


def get_config() -> Experiment:
    """The finetuning without refusals."""
    config = tiny.get_config()
    config.steps = 300
    config.data = ConversationsConfig(sources=SOURCES)
    config.evaluate = EvaluateConfig(every=0)
    config.sample = SampleConfig(every=0, prompts=("Where was Orson Kovats born?",), temperature=0.0)
    config.questions = QuestionsConfig(topics=("facts",), count=150, tokens=32)
    config.checkpoint = CheckpointConfig(every=0, keep_last=1)
    return config
