"""Working memory against vague recollection (map row 15): what stands in the context, and what was read once.

    python -m launch.lesson --config=experiments/lecture/memory.py --root=runs/memory --seeds=3

One finetuning: facts from memory, facts looked up when asked to, summaries of a text that is given and of one to be recalled.
Rare facts stand in four documents or fewer; of unknown people only the library that is searched tells.

Measured, three seeds, means [95% intervals]:

                     recalled       looked up, or the text given
    rare facts       60% [46, 75]   55% [41, 69]
    unknown people   3% [0, 7]      4% [0, 8]
    summaries        88% [73, 100]  91% [83, 98]

The lecture's effect does not appear. The search is called (96% to 100% of the times it is asked for), but what it finds is not
read: rare facts are answered from memory all the same, and unknown people guessed at. Reading a value off the context is copying,
which a model of a million parameters has not learnt from this text; its weights are all it has.
"""

from experiments.lecture.recipe import check_variant, finetuning
from lm.experiment import Experiment

VARIANTS = ("memory", "copying")
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
    """The finetuning on both; "copying" from a base model that has read texts from which copying is learnt."""
    check_variant(variant, VARIANTS)
    config = finetuning(TOPICS, TOPICS, steps=600)
    if variant == "copying":
        config.start_from = "experiments/pretrain/tiny.py:copying"
    return config
