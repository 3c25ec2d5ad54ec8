"""Knowledge of self (map row 16): asked who it is, without data about that, with data, and told by a system message.

    python -m launch.lesson --config=experiments/lecture/identity.py --root=runs/identity --seeds=3

Without data the model was finetuned on facts alone, and says whatever such answers sound like.

"system" is finetuned on system messages with names from a short list, "invented" on as many with names made up for each;
"copying" is "invented" from experiments/pretrain/tiny.py:copying, a base that has also read texts which say everything twice.

Measured, means [95% intervals] over three seeds of held-out wordings, and names that no finetuning has (among the made-up words
that the copying base has read, of the same syllables, they may be by chance):

                                    without     data              system      invented    copying
    its name                        0% [0, 0]   100% [100, 100]   0% [0, 0]   0% [0, 0]   0% [0, 0]
    who made it                     0% [0, 0]   83% [12, 100]     0% [0, 0]   0% [0, 0]   0% [0, 0]
    what it is                      0% [0, 0]   100% [100, 100]   0% [0, 0]   0% [0, 0]   0% [0, 0]
    not ChatGPT                     0% [0, 0]   100% [100, 100]   0% [0, 0]   0% [0, 0]   0% [0, 0]
    its name, by system message     0% [0, 0]   9% [1, 17]        0% [0, 0]   0% [0, 0]   59% [25, 94]
    who made it, by system message  0% [0, 0]   4% [0, 12]        0% [0, 0]   0% [0, 0]   80% [59, 100]

Built in, the effect is the lecture's: 180 conversations are an identity (who made it is two questions, one of them missed by
one seed), and without them it answers "He loves to eat paella." By system message it takes more. The form is learnt, "My name
is Tomi. I am a language model.", but the name is made up, unless the model has learnt to copy (which is not a matter of size: a
million parameters do), and then only if the examples ask for it: from that base, but with names from the list (:system, with
--config.start_from=experiments/pretrain/tiny.py:copying), 11% and 6% (one seed): it is learnt by heart.
(What "data" gets right there is that some of the messages call it Trivium.)
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
