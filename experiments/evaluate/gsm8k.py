"""Grade-school word problems, worked in words (GSM8K, arXiv 2110.14168): the number after #### must be right.

    python -m launch.evaluate --workdir=runs/a --config=experiments/evaluate/gsm8k.py \
        --config.source=gsm8k/test.jsonl.gz --config.shots_source=gsm8k/train.jsonl.gz --config.shots=8

Rows {"question": ..., "answer": "... #### 18"}. The variant `flexible` takes the last number that is written.
"""

from data_pipeline.errors import UserError
from lm.evaluation.task import Task

NUMBER = r"-?\d[\d,]*(?:\.\d+)?"


def get_config(variant: str = "strict") -> Task:
    """No shots unless `shots_source` and `shots` are given."""
    if variant not in ("strict", "flexible"):
        raise UserError(f"experiments/evaluate/gsm8k.py has no variant {variant!r}: choose strict or flexible")
    return Task(
        name="gsm8k",
        prompt="Question: {question}\nAnswer:",
        answer=" {answer}",
        stop=("\n\nQuestion:",),
        extract=rf"#### *({NUMBER})" if variant == "strict" else NUMBER,
    )
