"""What the lessons share: a short finetuning on some topics of the school, and the questions that measure them."""

from data_pipeline.conversations import ConversationsConfig
from data_pipeline.errors import UserError
from experiments.sft import tiny
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, QuestionsConfig, SampleConfig


def finetuning(topics: tuple[str, ...], asked: tuple[str, ...], *, count: int = 150, steps: int = 300) -> Experiment:
    """experiments/sft/tiny.py on these topics alone, beside the documents; `asked` are measured at the end."""
    config = tiny.get_config()
    config.steps = steps
    config.data = ConversationsConfig(sources=(*(f"school:{topic}" for topic in topics), "documents:school"))
    config.evaluate = EvaluateConfig(every=0)
    config.sample = SampleConfig(every=0, prompts=())
    config.questions = QuestionsConfig(topics=asked, count=count)
    config.checkpoint = CheckpointConfig(every=0, keep_last=1)
    return config


def check_variant(variant: str, variants: tuple[str, ...]) -> None:
    """Raise `UserError` for a variant that is not one of these."""
    if variant not in variants:
        raise UserError(f"there is no variant {variant!r}: choose {', '.join(variants)}")
