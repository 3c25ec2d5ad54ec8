"""Working memory against vague recollection (map row 15): what stands in the context, and what was read once.

    python -m launch.lesson --config=experiments/lecture/memory.py --root=runs/memory --seeds=3

One finetuning: facts from memory, facts looked up when asked to, summaries of a text that is given and of one to be recalled.
Rare facts stand in four documents or fewer; of unknown people only the library that is searched tells.

"copying" starts from experiments/pretrain/tiny.py:copying, a base that has also read texts which say everything twice.

Measured, three seeds each, means [95% intervals]:

                     memory                                      copying
                     recalled       looked up, or text given     recalled       looked up, or text given
    rare facts       60% [46, 75]   55% [41, 69]                 55% [44, 67]   49% [34, 63]
    unknown people   3% [0, 7]      4% [0, 8]                    2% [1, 4]      34% [23, 45]
    summaries        88% [73, 100]  91% [83, 98]                 57% [0, 100]   61% [9, 100]

The search is called (96% to 100% of the times it is asked for), but from the school alone what it finds is not read: unknown
people are guessed at. Reading a value off the context is copying, and nothing in that text had to be copied. From a base of the
same size that has learnt it, the lecture's effect appears: what stands in the context is told, what was never read is not.
Summaries do not tell the two apart: what they tell was read in pretraining, and recalled as well as read off (from the copying
base they differ from seed to seed, 19% to 81%; it read the school as often, but among three times as much of the other text).
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
