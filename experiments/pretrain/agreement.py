"""Do samples agree? Facts that were told often, rarely and never (map row 10). The run is tiny.py's on the school.

    python -m launch.train --config=experiments/pretrain/agreement.py --workdir=runs/school
    python -m launch.agreement --workdir=runs/school

Measured (one seed, 300 steps; 8 samples of each fact at temperature 1, up to 120 facts of each kind; the 95% intervals, up to 10
points to either side, are in agreement.csv):

    told in documents   never   1       2       4       8       12      16      24      32
    two answers agree   38.2%   38.4%   56.3%   68.3%   80.9%   86.5%   90.3%   94.8%   92.4%
    an answer is right   3.0%   35.8%   66.0%   78.7%   89.4%   93.0%   95.0%   97.4%   96.1%

Of what nobody told it the model says one thing now and another then ("was born in the city of" Velmont, Maravel, Elverton,
Kestrin), each as readily as what it knows. Yet two such answers agree far more often than the 4% of a fair draw from 24 values:
agreement alone does not tell a guess from a fact that was told once.
"""

from experiments.pretrain import tiny
from lm.experiment import Experiment


def get_config() -> Experiment:
    """The school, 300 steps."""
    return tiny.get_config("school")
