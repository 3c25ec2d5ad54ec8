"""The school's arithmetic in words: sums, tables, counting, comparing, and the lecture's problem of Emily's fruit.

A sum and its inverses ("23 plus 18 is 41", "41 minus 18 is 23") are one exercise: it belongs to training or to the
held-out split. Training never shows a held-out sum, not even as a step of a longer problem. Sums of two numbers up to
10 are tables, and everybody's.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data_pipeline.document import Document
from data_pipeline.school.names import FEMALE_NAMES, MALE_NAMES
from data_pipeline.school.world import SchoolConfig, check

TABLE = 10  # sums and products of numbers up to this are tables that everybody learns by heart
Sum = tuple[int, int]  # the two numbers that are added, the smaller first
Shopping = tuple[int, int, int, int]  # how many of either fruit, and what one of either costs

THINGS = ("marble", "pencil", "shell", "stamp", "coin", "sticker", "bead", "book", "card", "pebble")
FRUIT = ("apple", "orange", "pear", "plum", "lemon", "peach", "melon", "banana", "fig", "lime")


@dataclass(frozen=True)
class Exercises:
    """What one split may use."""

    largest_number: int
    sums: list[Sum]
    shopping: list[Shopping]
    tables: list[Sum]


Writer = Callable[[Exercises, random.Random], str]


def split_exercises(config: SchoolConfig) -> tuple[Exercises, Exercises]:
    """The exercises of training and those held out; nothing but the tables is in both."""
    rng = random.Random(f"school/{config.seed}/exercises")
    numbers = range(1, config.largest_number + 1)
    tables = list(itertools.combinations_with_replacement(range(1, TABLE + 1), 2))
    sums = [pair for pair in itertools.combinations_with_replacement(numbers, 2) if pair[1] > TABLE]
    shopping = list(itertools.product(range(2, 10), range(2, 10), range(2, 6), range(2, 6)))
    rng.shuffle(sums)
    rng.shuffle(shopping)
    # At least one when anything is held out at all, so that there is something to write held-out documents about.
    of_sums = max(1, round(config.held_out * len(sums))) if config.held_out else 0
    of_shopping = max(1, round(config.held_out * len(shopping))) if config.held_out else 0
    secret = set(sums[:of_sums])
    told_shopping = [problem for problem in shopping[of_shopping:] if _sum_within(problem) not in secret]
    train = Exercises(config.largest_number, sums[of_sums:], told_shopping, tables)
    return train, Exercises(config.largest_number, sums[:of_sums], shopping[:of_shopping], tables)


def documents(config: SchoolConfig) -> Iterator[Document]:
    """`config.arithmetic_documents` documents for training, then the held-out ones; no two texts are equal."""
    check(config)
    rng = random.Random(f"school/{config.seed}/arithmetic")
    train, held_out = split_exercises(config)
    # Held-out documents have only what can be held out: there are too few tables and countings to keep some back.
    kinds: dict[Writer, int] = {_sums: 40, _stories: 30, _table: 14, _counting: 8, _comparing: 8}
    seen: set[str] = set()
    for i in range(config.arithmetic_documents):
        yield Document(f"school:arithmetic/{i}", _new_text(kinds, train, rng, seen), held_out=False)
    kinds = {_sums: 40, _stories: 30}
    for i in range(round(config.held_out * config.arithmetic_documents)):
        text = _new_text(kinds, held_out, rng, seen)
        yield Document(f"school:held_out/arithmetic/{i}", text, held_out=True)


def _new_text(kinds: dict[Writer, int], exercises: Exercises, rng: random.Random, seen: set[str]) -> str:
    while True:
        (write,) = rng.choices(list(kinds), list(kinds.values()))
        text = write(exercises, rng)
        if text not in seen:
            seen.add(text)
            return text


def _sums(exercises: Exercises, rng: random.Random) -> str:
    lines = []
    for a, b in rng.choices(exercises.sums, k=6):
        if rng.random() < 0.5:
            a, b = b, a
        wordings = ("{a} plus {b} is {c}.", "{a} plus {b} equals {c}.", "Adding {b} to {a} gives {c}.")
        inverses = ("{c} minus {b} is {a}.", "{c} minus {b} equals {a}.", "Taking {b} from {c} leaves {a}.")
        lines.append(rng.choice(rng.choice((wordings, inverses))).format(a=a, b=b, c=a + b))
    return _join(lines, rng)


def _table(exercises: Exercises, rng: random.Random) -> str:
    wordings = (
        ("{a} times {b} is {p}.", "{p} divided by {b} is {a}."),
        ("{a} plus {b} is {s}.", "{s} minus {b} is {a}."),
    )
    lines = []
    for a, b in rng.choices(exercises.tables, k=6):
        if rng.random() < 0.5:
            a, b = b, a
        lines.append(rng.choice(rng.choice(wordings)).format(a=a, b=b, p=a * b, s=a + b))
    return _join(lines, rng)


def _counting(exercises: Exercises, rng: random.Random) -> str:
    step, start, count = rng.choice((1, 1, 2, 5, 10)), rng.randint(1, exercises.largest_number), rng.randint(5, 10)
    numbers = [start + step * i for i in range(count)]
    down = rng.random() < 0.3
    if down:
        numbers.reverse()
    by = {1: "", 2: " by twos", 5: " by fives", 10: " by tens"}[step]
    way = "Counting down" if down else "Counting"
    return f"{way}{by} from {numbers[0]} to {numbers[-1]}: {', '.join(map(str, numbers))}."


def _comparing(exercises: Exercises, rng: random.Random) -> str:
    lines = []
    for _ in range(5):
        small, large = sorted(rng.sample(range(1, 2 * exercises.largest_number), 2))
        wordings = (
            f"{large} is larger than {small}.",
            f"{small} is smaller than {large}.",
            f"Of {small} and {large}, the larger number is {large}.",
            f"Of {large} and {small}, the smaller number is {small}.",
        )
        lines.append(rng.choice(wordings))
    return _join(lines, rng)


def _stories(exercises: Exercises, rng: random.Random) -> str:
    return "\n".join(_story(exercises, rng) for _ in range(rng.randint(1, 2)))


def _story(exercises: Exercises, rng: random.Random) -> str:
    name, other = rng.sample(FEMALE_NAMES + MALE_NAMES, 2)
    kind = rng.choice(("more", "fewer", "shopping"))
    if kind == "shopping":
        return _shopping(rng.choice(exercises.shopping), name, rng)
    (a, b), thing = rng.choice(exercises.sums), rng.choice(THINGS)
    if rng.random() < 0.5:
        a, b = b, a
    if kind == "more":
        return (
            f"{name} has {counted(a, thing)} and finds {b} more. How many {plural(thing)} does {name} have now? "
            f"{a} plus {b} is {a + b}, so {name} has {counted(a + b, thing)}."
        )
    return (
        f"{name} has {counted(a + b, thing)} and gives {b} of them to {other}. "
        f"How many {plural(thing)} does {name} have left? "
        f"{a + b} minus {b} is {a}, so {name} has {counted(a, thing)} left."
    )


def _shopping(problem: Shopping, name: str, rng: random.Random) -> str:
    """The lecture's problem: every step is small enough to be taken in one token."""
    m, n, price, given = problem
    (one, two), known = rng.sample(FRUIT, 2), n * given
    total = m * price + known
    return (
        f"{name} buys {m} {plural(one)} and {n} {plural(two)}. Each {two} costs {given} dollars. "
        f"Together they cost {total} dollars. How much does each {one} cost? "
        f"{n} times {given} is {known}, so the {plural(two)} cost {known} dollars. "
        f"{total} minus {known} is {total - known}, so the {plural(one)} cost {total - known} dollars. "
        f"{total - known} divided by {m} is {price}, so each {one} costs {price} dollars."
    )


def _sum_within(problem: Shopping) -> Sum:
    """The sum that the subtraction in a shopping problem undoes."""
    m, n, price, given = problem
    return min(m * price, n * given), max(m * price, n * given)


def counted(n: int, thing: str) -> str:
    """As it stands in a sentence: "1 coin", "2 coins"."""
    return f"{n} {thing if n == 1 else plural(thing)}"


def plural(thing: str) -> str:
    """More than one of it."""
    return f"{thing}es" if thing.endswith("ch") else f"{thing}s"


def _join(lines: list[str], rng: random.Random) -> str:
    return rng.choice((" ", "\n")).join(lines)
