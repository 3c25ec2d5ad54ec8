"""Tokens hide letters (map row 18): spelling and counting, directly and through Python.

python -m launch.lesson --config=experiments/lecture/spelling.py --root=runs/spelling --seeds=3
"""

from experiments.lecture.recipe import check_variant, finetuning
from experiments.pretrain import tiny
from lm.experiment import Experiment

VARIANTS = ("direct", "bytes", "python")
MEASURES = {
    "spelling": {
        "spell a word": "spelling:*.spell.right",
        "every third letter": "spelling:*.third.right",
        "count a letter": "spelling:*.count.right",
        "count dots": "spelling:*.dots.right",
    }
}


def get_config(variant: str = "direct") -> Experiment:
    """The finetuning on letters and dots, answered this way; "bytes" as "direct", by a model that reads bytes."""
    check_variant(variant, VARIANTS)
    topics = ("spelling:python",) if variant == "python" else ("spelling:direct",)
    config = finetuning(topics, topics)
    if variant == "bytes":
        config.start_from = "experiments/pretrain/tiny.py:bytes"
        config.model = tiny.get_config("bytes").model
        config.steps *= 2  # of rows that are twice as long
    return config
