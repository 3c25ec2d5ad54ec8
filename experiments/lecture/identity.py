"""Knowledge of self (map row 16): asked who it is, without data about that, with data, and told by a system message.

    python -m launch.lesson --config=experiments/lecture/identity.py --root=runs/identity --seeds=3

Without data the model was finetuned on facts alone, and says whatever such answers sound like.
"""

from experiments.lecture.recipe import check_variant, finetuning
from lm.experiment import Experiment

VARIANTS = ("without", "data", "system")
TOPICS = {"without": (), "data": ("identity",), "system": ("identity:system",)}
KINDS = {
    "its name": "name",
    "who made it": "maker",
    "what it is": "what",
    "not ChatGPT": "another",
}
MEASURES = {
    "built in": {label: f"identity.{kind}.right" for label, kind in KINDS.items()},
    "by system message": {"its name": "identity:system.name.right", "who made it": "identity:system.maker.right"},
}


def get_config(variant: str = "data") -> Experiment:
    """The finetuning with, or without, conversations about the model."""
    check_variant(variant, VARIANTS)
    return finetuning(("facts", *TOPICS[variant]), ("identity", "identity:system"), steps=300)
