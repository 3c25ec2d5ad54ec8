"""Who is Orson Kovats? Invention by imitation, and its cure by probing (map rows 13 and 14).

    python -m launch.hallucination --root=runs/hallucination --seeds=3

Finetuned on answers alone, the model answers whatever it is asked about people it never read of. It is then asked about many
people, some never told of; where it is wrong nearly every time, "I don't know" becomes the worked example, and it is finetuned
anew from the base model with these among the answers. The control has as many refusals, of questions drawn at random.
"""

from data_pipeline.conversations import ConversationsConfig
from experiments.sft import tiny
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, QuestionsConfig, SampleConfig

SOURCES = ("school:facts", "school:follow_ups", "documents:school")


def get_config() -> Experiment:
    """The finetuning without refusals."""
    config = tiny.get_config()
    config.steps = 500
    config.data = ConversationsConfig(sources=SOURCES)
    config.evaluate = EvaluateConfig(every=0)
    config.sample = SampleConfig(every=0, prompts=("Where was Orson Kovats born?",), temperature=0.0)
    config.questions = QuestionsConfig(topics=("facts",), count=200, tokens=48)
    config.checkpoint = CheckpointConfig(every=0, keep_last=1)
    return config
