"""Agreement among samples: told often, rarely, never (map row 10). The run is tiny.py's on the school."""

from experiments.pretrain import tiny
from lm.experiment import Experiment


def get_config() -> Experiment:
    """The school, 300 steps."""
    return tiny.get_config("school")
