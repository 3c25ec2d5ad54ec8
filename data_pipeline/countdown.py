"""Countdown: reach a number from others with + - * /, each used once at most. Many ways are right, so only a verifier can say.

Scored by our own reader of arithmetic: reasoning-gym's hands the answer to sympy, which runs what it reads.
"""

import ast
import operator
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from data_pipeline.conversation import Conversation, said
from data_pipeline.final_answer import final_answer
from data_pipeline.problem import Problem, Response, Verdict

OPERATORS: dict[type, tuple[str, Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}
ALLOWED = re.compile(r"[\d+\-*/() ]{1,100}", re.ASCII)
WRITTEN = {
    r"\times": "*",
    r"\cdot": "*",
    r"\div": "/",
    r"\left": "",
    r"\right": "",
    "×": "*",
    "·": "*",
    "÷": "/",
    "−": "-",
}
LARGEST = 25
EXAMPLES = 2_000  # worked ones, to learn from
HELD_OUT = 1_000  # problems that none of them is, however many are measured
VERSION = 1  # raised whenever the same source would give other examples


@dataclass(frozen=True)
class Countdown:
    """Whether an expression reaches `target` with these numbers, each used at most once."""

    target: int
    numbers: tuple[int, ...]
    inline: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        """1 or 0."""
        answer = final_answer(response.text)
        for sign, ours in WRITTEN.items():
            answer = answer.replace(sign, ours)
        sides = [side.strip() for side in answer.split("=")]
        if len(sides) == 2 and str(self.target) in sides:
            sides.remove(str(self.target))
        try:
            value, used = evaluate("=".join(sides))  # which is no expression where the equation was another
        except ValueError as error:
            return Verdict(0.0, str(error))
        if extra := Counter(used) - Counter(self.numbers):
            return Verdict(0.0, f"{next(iter(extra))} is not there, or not so often")
        return Verdict(float(value == self.target), f"it makes {value}, and {self.target} was wanted")


def evaluate(expression: str) -> tuple[Fraction, list[int]]:
    """The value of an expression of whole numbers, and the numbers in it. Raises `ValueError` for anything else."""
    if not ALLOWED.fullmatch(expression) or "**" in expression or "//" in expression:
        raise ValueError("no expression of whole numbers with + - * / and brackets")
    used: list[int] = []

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)][1](value(node.left), value(node.right))
        if isinstance(node, ast.Constant) and type(node.value) is int:
            used.append(node.value)
            return Fraction(node.value)
        raise ValueError("no expression of whole numbers with + - * / and brackets")

    try:
        return value(ast.parse(expression, mode="eval").body), used
    except (SyntaxError, ZeroDivisionError, RecursionError, MemoryError) as error:
        raise ValueError(f"the expression has no value ({type(error).__name__})") from None


def problems(count: int, seed: str, taken: set[str], numbers: tuple[int, ...] = (3, 4)) -> list[Problem]:
    """`count` different problems that can be solved, none with a question in `taken`; levels by how many numbers there are."""
    rng = random.Random(f"countdown/{seed}")
    made: dict[str, Problem] = {}
    while len(made) < count:
        size = numbers[len(made) % len(numbers)]
        given = tuple(rng.randint(1, LARGEST) for _ in range(size))
        text, value = str(given[0]), Fraction(given[0])
        for number in given[1:]:
            sign, apply = rng.choice(list(OPERATORS.values())[:3])
            text, value = f"({text} {sign} {number})", apply(value, Fraction(number))
        if not 0 < value <= 100:
            continue
        shown = sorted(given)
        question = (
            f"Make {value} from {', '.join(map(str, shown))}. Use + - * / and brackets, and each number at most once."
        )
        if question in taken or question in made:
            continue
        verifier = Countdown(int(value), given)
        gold = f"{text[1:-1]} = {value}"
        id = f"countdown:{seed}/{len(made)}"
        made[question] = Problem(id, (said("user", question),), verifier, f"{size} numbers", numbers.index(size), gold)
    return list(made.values())


def conversations() -> Iterator[Conversation]:
    """Worked examples: problems with a way to the answer, and not a word on how it was found."""
    taken = {each.turns[-1].text for each in problems(HELD_OUT, "held_out", set())}
    for number, each in enumerate(problems(EXAMPLES, "examples", taken)):
        assert each.gold is not None
        yield Conversation(f"countdown:examples/{number}", (*each.turns, said("assistant", each.gold)))
