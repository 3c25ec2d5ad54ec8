"""Reasoning-gym's tasks as worked examples, where the solution can be written step by step.

    letter_counting      each word that has the letter, with a running count
    spell_backward       the letters forward, then backward
    decimal_arithmetic   one operation at a time, innermost first
    chain_sum            one operation at a time, from the left
    gsm_symbolic         the steps that the task itself brings

Reasoning-gym makes item i of seed s from s + i, so data sets of near seeds overlap, and few items have many twins. Seeds here are
spread far apart, and held-out items are drawn first: a question is in one split only, whatever the seed of the training items.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, localcontext
from typing import Any

from data_pipeline.conversation import Conversation, Text, Turn, said
from data_pipeline.errors import UserError

Item = dict[str, Any]
GYM_VERSION = 1  # raised whenever the same task and seed would give other conversations
HELD_OUT = 200  # items of each task that no training has
HELD_OUT_SEED = 2**31
SEED_STRIDE = 1_000_003  # more items than anybody asks for
MOST_TRIES = 20  # items drawn for each one wanted, before the task counts as exhausted


def conversations(task: str, count: int, seed: int) -> Iterator[Conversation]:
    """`count` different training items of `task`, then `HELD_OUT` held-out ones, which do not depend on the seed.

    Items whose steps do not reach the task's own answer are left out. Raises `UserError` for a task that has no steps here,
    for a count or seed that makes no sense, where reasoning-gym is not installed, and where a task has too few items.
    """
    if task not in STEPS:
        raise UserError(f"no steps are written for reasoning-gym's task {task!r}: choose {', '.join(STEPS)}")
    if count < 0 or not 0 <= seed < 2000:
        raise UserError(f"gym: count={count} must be 0 or more, and seed={seed} from 0 to 1999")
    if not count:
        return
    held_out = _solved(task, HELD_OUT, HELD_OUT_SEED, {})
    train = _solved(task, count, seed * SEED_STRIDE, held_out)
    for secret, solved in ((False, train), (True, held_out)):
        for number, (question, steps) in enumerate(solved.items()):
            turns = (said("user", question), Turn("assistant", (Text(steps),)))
            yield Conversation(f"gym:{'held_out/' if secret else ''}{task}/{number}", turns, held_out=secret)


def _solved(task: str, count: int, seed: int, taken: dict[str, str]) -> dict[str, str]:
    """So many questions with their solutions, none of them among `taken`."""
    try:
        import reasoning_gym
    except ImportError:
        raise UserError("reasoning-gym's tasks need the package reasoning-gym: pip install reasoning-gym") from None
    items = reasoning_gym.create_dataset(task, seed=seed, size=MOST_TRIES * count, **SETTINGS.get(task, {}))
    solved: dict[str, str] = {}
    with localcontext():  # decimal_arithmetic sets the precision of everything after it
        for number in range(MOST_TRIES * count):
            try:
                item = items[number]
            except ArithmeticError:  # it may draw a division by zero
                continue
            steps = STEPS[task](item)
            if steps is not None and item["question"] not in taken:
                solved[item["question"]] = steps
            if len(solved) == count:
                return solved
    raise UserError(f"reasoning-gym's task {task} has only {len(solved)} of {count} different items: ask for fewer")


def items(task: str, count: int, seed: int, taken: set[str], settings: Sequence[tuple[str, Any]]) -> list[Item]:
    """So many items of any task (or fewer), with different questions, none of them in `taken`, which they join."""
    import reasoning_gym

    data = reasoning_gym.create_dataset(task, seed=seed, size=MOST_TRIES * count or 1, **dict(settings))
    found: dict[str, Item] = {}
    for number in range(MOST_TRIES * count):
        with localcontext():  # decimal_arithmetic sets the precision of everything after it
            try:
                item = data[number]
            except ArithmeticError:  # it may draw a division by zero
                continue
        if item["question"] not in taken:
            taken.add(item["question"])
            found[item["question"]] = item
        if len(found) == count:
            break
    return list(found.values())


def _letter_counting(item: Item) -> str | None:
    letter, count, lines = item["metadata"]["target_letter"], 0, []
    for word in item["metadata"]["span"]:
        here = word.lower().count(letter)
        if here:
            count += here
            lines.append(f"{word} ({' '.join(word)}) has {here}, which makes {count}.")
    return _ending(lines, count, item)


def _spell_backward(item: Item) -> str | None:
    word = item["metadata"]["word"]
    lines = [f"The letters are {' '.join(word)}.", f"Backward they are {' '.join(reversed(word))}."]
    return _ending(lines, word[::-1], item)


def _chain_sum(item: Item) -> str | None:
    first, *rest = item["metadata"]["expression"].split()
    total, lines = int(first), []
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        new = total + int(number) if sign == "+" else total - int(number)
        lines.append(f"{total} {sign} {number} = {new}.")
        total = new
    return _ending(lines, total, item)


OPERATORS: dict[type, tuple[str, Callable[[Decimal, Decimal], Decimal]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}


def _decimal_arithmetic(item: Item) -> str | None:
    expression = item["question"].rpartition("\n")[2].removesuffix(" = ?")
    lines: list[str] = []

    def value(node: ast.expr) -> Decimal:
        if isinstance(node, ast.BinOp):
            sign, apply = OPERATORS[type(node.op)]
            left, right = value(node.left), value(node.right)
            result = apply(left, right)
            lines.append(f"{left} {sign} {right} = {result}.")
            return result
        assert isinstance(node, ast.Constant)
        return Decimal(str(node.value))

    return _ending(lines, value(ast.parse(expression, mode="eval").body), item)


def _gsm_symbolic(item: Item) -> str | None:
    """The task's own steps, where they end with the answer that it gives."""
    steps, mark, result = item["metadata"]["answer_cot"].rpartition("####")
    if not mark or result.strip() != item["answer"]:
        return None
    return _ending(
        [re.sub(r"\s+", " ", line).strip() for line in steps.splitlines() if line.strip()], item["answer"], item
    )


def _ending(lines: list[str], result: object, item: Item) -> str | None:
    """The lines and the answer; None where they disagree with the task."""
    if str(result) != item["answer"]:
        return None
    return "\n".join([*lines, f"The answer is {result}."])


STEPS: dict[str, Callable[[Item], str | None]] = {
    "letter_counting": _letter_counting,
    "spell_backward": _spell_backward,
    "decimal_arithmetic": _decimal_arithmetic,
    "chain_sum": _chain_sum,
    "gsm_symbolic": _gsm_symbolic,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "decimal_arithmetic": {"min_num_decimal_places": 1, "max_num_decimal_places": 2, "max_terms": 4},
}
"""Where the task's own are too long for a short context."""
