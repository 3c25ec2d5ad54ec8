r"""Competition problems (MATH, arXiv 2103.03874): the last \boxed{...} must hold the answer, letter by letter.

    python -m launch.evaluate --workdir=runs/a --config=experiments/evaluate/math.py --config.source=math500_test.json

Rows {"problem": ..., "answer": ...}. Equal answers written in another way (1/2 and 0.5) count as wrong.
"""

from lm.evaluation.task import Task

BOXED = r"\\boxed\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"  # braces nested twice, as in \boxed{\frac{\sqrt{3}}{2}}


def get_config() -> Task:
    """The solution is asked for as it would be written in a textbook."""
    return Task(
        name="math",
        prompt="Problem: {problem}\nSolution:",
        answer=" \\boxed{{{answer}}}",
        stop=("\n\nProblem:",),
        extract=BOXED,
        max_tokens=1024,
    )
