"""Jagged intelligence (map row 19): is 9.11 larger than 9.9? By kind of pair, directly and through Python.

    python -m launch.lesson --config=experiments/lecture/decimals.py --root=runs/decimals --seeds=3

"longer is larger" pairs are those in which the number with more digits after the point wins, "shorter is larger" those in
which it loses, as 9.11 does.

Measured, three seeds, means [95% intervals], 50 held-out pairs a kind:

                         direct         python
    whole parts differ   19% [12, 27]   93% [85, 100]
    tenths differ        94% [85, 100]  100% [100, 100]
    longer is larger     47% [28, 65]   98% [93, 100]
    shorter is larger    83% [80, 86]   100% [100, 100]

Jagged it is, but not where the lecture's models are: of 9.11 and 9.9 every seed says 9.9, as 800 such pairs were shown. What is
easiest for us is hardest: of 24.6 and 30.9 it says "26.9 is larger", since with different numbers before the point it mixes the
two where it should copy one. Python mends that.
"""

from experiments.lecture.recipe import check_variant, finetuning
from lm.experiment import Experiment

VARIANTS = ("direct", "python")
MEASURES = {
    "decimals": {
        "whole parts differ": "decimals:*.whole.right",
        "tenths differ": "decimals:*.tenths.right",
        "longer is larger": "decimals:*.longer.right",
        "shorter is larger": "decimals:*.shorter.right",
    }
}


def get_config(variant: str = "direct") -> Experiment:
    """The finetuning on pairs of decimals, answered this way."""
    check_variant(variant, VARIANTS)
    return finetuning((f"decimals:{variant}",), (f"decimals:{variant}",), steps=200)
