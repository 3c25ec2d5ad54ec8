"""Tokens hide letters (map row 18): spelling and counting, directly and through Python.

python -m launch.lesson --config=experiments/lecture/spelling.py --root=runs/spelling --seeds=3
"""

from experiments.lecture.recipe import check_variant, finetuning
from lm.experiment import Experiment

VARIANTS = ("direct", "python")
MEASURES = {
    "spelling": {
        "spell a word": "spelling:{variant}.spell.right",
        "every third letter": "spelling:{variant}.third.right",
        "count a letter": "spelling:{variant}.count.right",
        "count dots": "spelling:{variant}.dots.right",
    }
}


def get_config(variant: str = "direct") -> Experiment:
    """The finetuning on letters and dots, answered this way."""
    check_variant(variant, VARIANTS)
    return finetuning((f"spelling:{variant}",), (f"spelling:{variant}",))
