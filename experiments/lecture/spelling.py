"""Tokens hide letters (map row 18): spelling and counting, directly, by a model that reads bytes, and through Python.

    python -m launch.lesson --config=experiments/lecture/spelling.py --root=runs/spelling --seeds=3

"bytes" starts from experiments/pretrain/tiny.py:bytes, and both of its trainings read about as many epochs as the others.

Measured, three seeds, means [95% intervals] of held-out words and numbers of dots:

                         direct        bytes         python
    spell a word         0% [0, 0]     2% [0, 6]     0% [0, 0]
    every third letter   0% [0, 0]     6% [0, 13]    0% [0, 0]
    count a letter       71% [71, 71]  71% [71, 71]  39% [25, 52]
    count dots           0% [0, 0]     0% [0, 0]     4% [0, 22]

That tokens hide the letters shows only faintly. With BPE sticker becomes "c a n t e r": nothing tells the model which letters a
token holds. With bytes it becomes "s a r v e r": it begins right, is as long, and then is another word, since spelling is
copying, which no model of this size has learnt here, whatever its tokens. So Python does not help either: print(*'plum') is the
call for sticker. Counting a letter says "1 time" every time, which is right for 41 of the 58 questions.
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
