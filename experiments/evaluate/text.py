"""Bits per byte of texts, however long, read in windows that overlap by half.

    python -m launch.evaluate --workdir=runs/a --config=experiments/evaluate/text.py --config.source='books/*.jsonl.gz'

The source is anything that can be trained on: a file or a glob of text or JSONL, tfds:NAME:SPLIT, pydoc.
"""

from lm.evaluation.task import Task


def get_config() -> Task:
    """All texts of the source."""
    return Task(name="text", kind="text")
