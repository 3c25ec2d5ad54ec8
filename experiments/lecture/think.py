"""Models need tokens to think (map row 17): the same word problems labelled three ways.

    python -m launch.lesson --config=experiments/lecture/think.py --root=runs/think --seeds=3

Answer first is the bad label: all the work in one token, the steps only afterwards. Steps first spreads it over tokens. Python
hands it to the tool. Emily's purchase of fruit is "shopping"; sizes are of the largest number in a problem.
"""

from experiments.lecture.recipe import check_variant, finetuning
from lm.experiment import Experiment

VARIANTS = ("answer_first", "steps_first", "python")
MEASURES = {
    "kinds": {
        "a sum": "problems:{variant}.sum.right",
        "a difference": "problems:{variant}.difference.right",
        "more": "problems:{variant}.more.right",
        "fewer": "problems:{variant}.fewer.right",
        "two steps": "problems:{variant}.chain.right",
        "Emily's purchase": "problems:{variant}.shopping.right",
    },
    "sizes": {f"up to {size}": f"problems:{{variant}}.up_to_{size}.right" for size in (25, 50, 75, 100)},
}


def get_config(variant: str = "steps_first") -> Experiment:
    """The finetuning on problems with this labelling."""
    check_variant(variant, VARIANTS)
    return finetuning((f"problems:{variant}",), (f"problems:{variant}",))
