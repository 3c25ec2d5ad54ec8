"""BIG-Bench Hard (arXiv 2210.09261), without its worked solutions: what follows "A:" must be the target.

    python -m launch.evaluate --workdir=runs/a --config=experiments/evaluate/bbh.py \
        --config.source=bbh/boolean_expressions.json --config.name=boolean_expressions

The files are its 27 tasks as published: {"examples": [{"input": ..., "target": ...}, ...]}.
"""

from lm.evaluation.task import Task


def get_config() -> Task:
    """One line is written."""
    return Task(name="bbh", prompt="Q: {input}\nA:", answer=" {target}", stop=("\n",), max_tokens=32)
