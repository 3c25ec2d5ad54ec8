"""Jagged intelligence (map row 19): is 9.11 larger than 9.9? By kind of pair, directly and through Python.

    python -m launch.lesson --config=experiments/lecture/decimals.py --root=runs/decimals --seeds=3

"longer is larger" pairs are those in which the number with more digits after the point wins, "shorter is larger" those in
which it loses, as 9.11 does.
"""

from experiments.lecture.recipe import check_variant, finetuning
from lm.experiment import Experiment

VARIANTS = ("direct", "python")
MEASURES = {
    "decimals": {
        "whole parts differ": "decimals:{variant}.whole.right",
        "tenths differ": "decimals:{variant}.tenths.right",
        "longer is larger": "decimals:{variant}.longer.right",
        "shorter is larger": "decimals:{variant}.shorter.right",
    }
}


def get_config(variant: str = "direct") -> Experiment:
    """The finetuning on pairs of decimals, answered this way."""
    check_variant(variant, VARIANTS)
    return finetuning((f"decimals:{variant}",), (f"decimals:{variant}",), steps=200)
