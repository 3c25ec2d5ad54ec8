"""Working memory against vague recollection (map row 15): what stands in the context, and what was read once.

    python -m launch.lesson --config=experiments/lecture/memory.py --root=runs/memory --seeds=3

One finetuning: facts from memory, facts looked up when asked to, summaries of a text that is given and of one to be recalled.
Rare facts stand in four documents or fewer; of unknown people only the library that is searched tells.
"""

from experiments.lecture.recipe import check_variant, finetuning
from lm.experiment import Experiment

VARIANTS = ("memory",)
TOPICS = ("facts", "search", "summaries:given", "summaries:recalled")
MEASURES = {
    "facts": {
        "rare, recalled": "facts.rare.right",
        "rare, looked up": "search.rare.right",
        "unknown, recalled": "facts.unknown.right",
        "unknown, looked up": "search.unknown.right",
    },
    "summaries": {"text given": "summaries:given.given.right", "recalled": "summaries:recalled.recalled.right"},
}


def get_config(variant: str = "memory") -> Experiment:
    """The finetuning on both."""
    check_variant(variant, VARIANTS)
    return finetuning(TOPICS, TOPICS, steps=600)
