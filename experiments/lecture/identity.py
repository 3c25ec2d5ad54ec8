"""Knowledge of self (map row 16): asked who it is, without data about that, with data, and told by a system message.

    python -m launch.lesson --config=experiments/lecture/identity.py --root=runs/identity --seeds=3

Without data the model was finetuned on facts alone, and says whatever such answers sound like.

Measured, three seeds, means [95% intervals] of held-out wordings; "system" is finetuned on messages with other names:

                                    without     data              system
    its name                        0% [0, 0]   100% [100, 100]   0% [0, 0]
    who made it                     0% [0, 0]   83% [12, 100]     0% [0, 0]
    what it is                      0% [0, 0]   100% [100, 100]   0% [0, 0]
    not ChatGPT                     0% [0, 0]   100% [100, 100]   0% [0, 0]
    its name, by system message     0% [0, 0]   9% [1, 17]        0% [0, 0]
    who made it, by system message  0% [0, 0]   4% [0, 12]        0% [0, 0]

Built in, the effect is the lecture's: 180 conversations are an identity (who made it is two questions, one of them missed by one
seed), and without them it answers "He loves to eat paella." By system message it does not appear. The form is learnt, "My name
is Tomi. I am a language model.", but the name is made up: a model of this size does not copy a name that it never read. (What
"data" gets right there is that some of the messages call it Trivium.)
"""

from experiments.lecture.recipe import check_variant, finetuning
from lm.experiment import Experiment

VARIANTS = ("without", "data", "system", "invented", "copying")
TOPICS = {
    "without": (),
    "data": ("identity",),
    "system": ("identity:system",),
    "invented": ("identity:invented",),
    "copying": ("identity:invented",),
}
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
    """The finetuning with, or without, conversations about the model; "copying" is "invented" from a base that copies."""
    check_variant(variant, VARIANTS)
    config = finetuning(("facts", *TOPICS[variant]), ("identity", "identity:system"), steps=300)
    if variant == "copying":
        config.start_from = "experiments/pretrain/tiny.py:copying"
    return config
