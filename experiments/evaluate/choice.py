"""Multiple choice from rows such as {"question": ..., "choices": [..., ...], "answer": 1}: which choice is the likeliest?

    python -m launch.evaluate --workdir=runs/a --config=experiments/evaluate/choice.py --config.source=questions.jsonl

Other rows are read by other templates, such as those of ARC:

    --config.choices=choices.text --config.right='{answerKey}' --config.right_is=letter
"""

from lm.evaluation.task import Task


def get_config() -> Task:
    """`answer` is the number of the right choice, from 0."""
    return Task(name="choice", kind="choice", prompt="{question}", choices="choices", right_is="number")
