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
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

from data_pipeline import gym_settings
from data_pipeline.conversation import Conversation, Text, Turn, said
from data_pipeline.errors import UserError
from data_pipeline.gym_settings import Settings

Item = dict[str, Any]
Solved = tuple[Item, str | None]  # and its solution, where the steps to it are written
GYM_VERSION = 2  # raised whenever the same task and seed would give other conversations
HELD_OUT = 500  # items of each task, at most, that neither examples nor practice are made of
HELD_OUT_SEED = 2**31
SEED_STRIDE = 1_000_003  # more items than anybody asks for
MOST_TRIES = 20  # items drawn for each one wanted, before the task counts as exhausted


class Drawn(NamedTuple):
    """An item, its steps where they are written, and where it is from."""

    item: Item
    steps: str | None
    level: int
    settings: Settings


def conversations(name: str, count: int, seed: int) -> Iterator[Conversation]:
    """`count` different training items of "TASK" or "TASK?SETTINGS", or all there are, then the held-out ones, whatever the seed.

    With levels, both are evenly of all. Items whose steps do not reach the task's own answer are left out. Raises `UserError`
    for a task that has no steps here, settings that it does not have, a count or seed that makes no sense, and where
    reasoning-gym is not installed.
    """
    task = name.partition("?")[0]
    if task not in STEPS:
        raise UserError(f"no steps are written for reasoning-gym's task {task!r}: choose {', '.join(STEPS)}")
    if count < 0 or not 0 <= seed < 2000:
        raise UserError(f"gym: count={count} must be 0 or more, and seed={seed} from 0 to 1999")
    if not count:
        return
    train, held_out = split(name, count, HELD_OUT, seed, solved=True)
    for part, some in (("", train), ("held_out/", held_out)):
        for number, each in enumerate(some):
            if each.steps is not None:
                turns = (said("user", each.item["question"]), Turn("assistant", (Text(each.steps),)))
                yield Conversation(f"gym:{part}{name}/{number}", turns, held_out=bool(part))


def split(name: str, count: int, held_out: int, seed: int, *, solved: bool = False) -> tuple[list[Drawn], list[Drawn]]:
    """So many training items of "TASK?SETTINGS" (or fewer), and held-out ones, `HELD_OUT` at most: evenly of all levels.

    A question is in one of the two, whatever the counts and seeds of other calls. With `solved`, only items that have steps are
    for training.
    """
    task, levels = gym_settings.parse(name)
    taken: set[str] = set()

    def of_levels(count: int, draw: Callable[[int, Settings], list[Solved]]) -> list[Drawn]:
        parts = [count // len(levels) + (level < count % len(levels)) for level in range(len(levels))]
        return [
            Drawn(item, steps, level, settings)
            for level, (part, settings) in enumerate(zip(parts, levels, strict=True))
            for item, steps in draw(part, settings)
        ]

    hidden = of_levels(min(held_out, HELD_OUT), lambda part, settings: held_out_items(task, part, taken, settings))
    start = seed * SEED_STRIDE
    return of_levels(count, lambda part, settings: items(task, part, start, taken, settings, solved=solved)), hidden


def held_out_items(task: str, count: int, taken: set[str], settings: Settings) -> list[Solved]:
    """The first `count` items that no training has, or half of all there are where that is fewer; they join `taken`.

    A smaller count gives the beginning of what a larger one gives.
    """
    found = items(task, 2 * count, HELD_OUT_SEED, set(taken), settings)
    kept = found[: len(found) // 2]
    taken |= {item["question"] for item, _ in kept}
    return kept


def items(
    task: str, count: int, seed: int, taken: set[str], settings: Settings, *, solved: bool = False
) -> list[Solved]:
    """So many items of any task (or fewer), with different questions, none of them in `taken`, which they join.

    With `solved`, only such as have steps.
    """
    import reasoning_gym

    data = reasoning_gym.create_dataset(task, seed=seed, size=MOST_TRIES * count or 1, **dict(settings))
    found: list[Solved] = []
    with localcontext():  # decimal_arithmetic sets the precision of everything after it
        for number in range(MOST_TRIES * count):
            try:
                item = data[number]
            except ArithmeticError:  # it may draw a division by zero
                continue
            steps = STEPS[task](item) if task in STEPS else None
            if item["question"] not in taken and not (solved and steps is None):
                taken.add(item["question"])
                found.append((item, steps))
            if len(found) == count:
                break
    return found


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
