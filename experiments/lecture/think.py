"""Models need tokens to think (map row 17): the same word problems labelled three ways.

    python -m launch.lesson --config=experiments/lecture/think.py --root=runs/think --seeds=3

Answer first is the bad label: all the work in one token, the steps only afterwards. Steps first spreads it over tokens. Python
hands it to the tool. Emily's purchase of fruit is "shopping"; sizes are of the largest number in a problem.

Measured, three seeds, means [95% intervals] of held-out problems:

                        answer first   steps first    python
    a sum               8% [0, 30]     9% [4, 14]     71% [10, 100]
    a difference        1% [0, 7]      9% [3, 14]     88% [42, 100]
    more                3% [3, 3]      12% [7, 17]    99% [94, 100]
    fewer               5% [2, 8]      11% [0, 22]    96% [93, 99]
    two steps           3% [1, 4]      2% [0, 5]      69% [12, 100]
    Emily's purchase    50% [30, 69]   69% [61, 77]   98% [87, 100]

    numbers up to 25    9% [1, 18]     16% [10, 21]   88% [64, 100]
    up to 50            12% [9, 15]    18% [13, 23]   86% [60, 100]
    up to 75            11% [6, 16]    22% [20, 24]   86% [52, 100]
    up to 100           35% [15, 54]   43% [40, 47]   85% [56, 100]

Python is what helps. Steps before the answer are ahead nearly everywhere, but beyond the intervals only in "more" and up to 75:
this model cannot do a single step, since a sum that it never read comes out wrong however many tokens lead to it. Where it can,
in Emily's purchase, the lead is largest. What Python misses are numbers miscopied into a call or off its result; how often is a
matter of the seed. Accuracy does not fall with size: of the large problems more are purchases.
"""

from experiments.lecture.recipe import check_variant, finetuning
from lm.experiment import Experiment

VARIANTS = ("answer_first", "steps_first", "python")
MEASURES = {
    "kinds": {
        "a sum": "problems:*.sum.right",
        "a difference": "problems:*.difference.right",
        "more": "problems:*.more.right",
        "fewer": "problems:*.fewer.right",
        "two steps": "problems:*.chain.right",
        "Emily's purchase": "problems:*.shopping.right",
    },
    "sizes": {f"up to {size}": f"problems:*.up_to_{size}.right" for size in (25, 50, 75, 100)},
}


def get_config(variant: str = "steps_first") -> Experiment:
    """The finetuning on problems with this labelling."""
    check_variant(variant, VARIANTS)
    return finetuning((f"problems:{variant}",), (f"problems:{variant}",))
