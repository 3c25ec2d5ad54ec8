"""Word problems, each labelled in several ways (map row 17).

    answer_first   the answer in one leap, and the steps afterwards as its reason: the bad label
    steps_first    the same sentences in the order in which each needs little work
    python         asked to use code: a call of the tool, and the answer read off what it printed
    either         not asked to: steps first for most, a call for a few, by a coin; practice finds out which does better

All label the same problems. Sums keep to the split of `arithmetic.split_exercises`: training never shows a held-out sum,
and every held-out problem has one or is a held-out purchase. Sizes are drawn evenly, so that accuracy can be told by size.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from data_pipeline.conversation import Conversation, Part, Text, ToolCall, ToolResult, Turn, said
from data_pipeline.school.arithmetic import FRUIT, THINGS, Exercises, Sum, counted, plural, split_exercises
from data_pipeline.school.names import FEMALE_NAMES, MALE_NAMES
from data_pipeline.school.questions import Question, example
from data_pipeline.school.world import SchoolConfig

Labelling = Literal["answer_first", "steps_first", "python", "either"]
LABELLINGS: tuple[Labelling, ...] = get_args(Labelling)
KINDS = ("sum", "difference", "more", "fewer", "shopping", "chain")
TRAIN = 2_000
HELD_OUT = 300
SIZES = 4  # classes of size: in the lowest, no number is above a quarter of the largest sum
USE_CODE = " Use code."
CALLS_OF_EITHER = 0.2  # the share of problems labelled "either" that are solved by a call
TRIES = 400


@dataclass(frozen=True)
class Split:
    """What problems of one split are made of: its own sums, and every sum that may be a step of them; how large they are."""

    exercises: Exercises
    own: frozenset[Sum]
    usable: frozenset[Sum]
    above: int
    largest: int

    def fits(self, problem: "Problem") -> bool:
        """Whether the problem is of this size."""
        return self.above < problem.size <= self.largest


@dataclass(frozen=True)
class Problem:
    """A problem and its solution. Steps and answer are clauses: no capital, no full stop."""

    kind: str  # one of KINDS
    text: str
    steps: tuple[str, ...]  # "4 plus 9 is 13"
    answer: str  # "Emily has 13 marbles"; the last number in it is the result
    result: int
    code: str
    size: int  # the largest number in it


def problems(config: SchoolConfig, *, held_out: bool, count: int) -> Iterator[Problem]:
    """Different problems of one split; fewer than `count` where the split is too small, none where nothing is held out."""
    rng = random.Random(f"school/{config.seed}/problems/{held_out}")
    train, secret = split_exercises(config)
    exercises = secret if held_out else train
    if not exercises.sums:
        return
    own, usable = frozenset(exercises.sums), frozenset((*train.sums, *train.tables, *exercises.sums))
    bounds = [2 * config.largest_number * place // SIZES for place in range(SIZES + 1)]
    smallest = min(map(sum, exercises.sums))  # a small school has no small problems
    splits = [Split(exercises, own, usable, *pair) for pair in itertools.pairwise(bounds) if pair[1] >= smallest]
    seen: set[str] = set()
    for number in range(count):
        split = splits[number % len(splits)]
        (write,) = rng.choices((_sum, _more_or_fewer, _shopping, _chain), (2, 3, 3, 3))
        for attempt in range(TRIES):
            problem = write(split, rng)
            # There may be no new problem of this kind and size: then any size will do.
            if problem.text not in seen and (split.fits(problem) or attempt > TRIES // 2):
                seen.add(problem.text)
                yield problem
                break


def conversations(config: SchoolConfig, labelling: Labelling) -> Iterator[Conversation]:
    """The problems of both splits with one labelling."""
    for held_out, count in ((False, TRAIN), (True, HELD_OUT)):
        for number, problem in enumerate(problems(config, held_out=held_out, count=count)):
            split = "held_out/" if held_out else ""
            id = f"school:{split}problems/{labelling}/{number}"
            yield example(id, _asked(problem, labelling), solution(problem, labelling), held_out=held_out)


def questions(config: SchoolConfig, labelling: Labelling, *, held_out: bool = True) -> list[Question]:
    """The held-out problems (or those of training); `size` is the upper end of a problem's class of sizes."""
    return [question for _, question in with_questions(config, labelling, held_out=held_out, count=HELD_OUT)]


def with_questions(
    config: SchoolConfig, labelling: Labelling, *, held_out: bool, count: int
) -> Iterator[tuple[Problem, Question]]:
    """Problems of one split, each with its question."""
    largest = 2 * config.largest_number
    for number, problem in enumerate(problems(config, held_out=held_out, count=count)):
        size = largest * (((problem.size - 1) * SIZES) // largest + 1) // SIZES
        yield (
            problem,
            Question(
                f"problems/{labelling}/{'held_out' if held_out else 'train'}/{number}",
                _asked(problem, labelling),
                problem.kind,
                (str(problem.result),),
                reading="first number" if labelling == "answer_first" else "last number",
                size=size,
            ),
        )


def solution(problem: Problem, labelling: Labelling) -> tuple[Part, ...]:
    """What the assistant writes."""
    answer = f"{capital(problem.answer)}."
    if labelling == "either":
        by_call = random.Random(f"either/{problem.text}").random() < CALLS_OF_EITHER
        labelling = "python" if by_call else "steps_first"
    if labelling == "python":
        return (ToolCall("python", {"code": problem.code}), ToolResult(str(problem.result)), Text(answer))
    if labelling == "answer_first":
        return (Text(" ".join((answer, *(f"{capital(step)}." for step in problem.steps)))),)
    *early, last = problem.steps
    return (Text(" ".join((*(f"{capital(step)}." for step in early), f"{capital(last)}, so {problem.answer}."))),)


def capital(text: str) -> str:
    """With its first letter a capital."""
    return text[0].upper() + text[1:]


def _asked(problem: Problem, labelling: Labelling) -> tuple[Turn, ...]:
    return (said("user", problem.text + (USE_CODE if labelling == "python" else "")),)


def _sum(split: Split, rng: random.Random) -> Problem:
    a, b = rng.sample(rng.choice(split.exercises.sums), 2)
    c = a + b
    if rng.random() < 0.5:
        text = rng.choice(("What is {a} plus {b}?", "How much is {a} plus {b}?", "Add {b} to {a}."))
        return Problem(
            "sum", text.format(a=a, b=b), (f"{a} plus {b} is {c}",), f"the answer is {c}", c, f"print({a} + {b})", c
        )
    text = rng.choice(("What is {c} minus {b}?", "How much is {c} minus {b}?", "Take {b} from {c}."))
    return Problem(
        "difference", text.format(b=b, c=c), (f"{c} minus {b} is {a}",), f"the answer is {a}", a, f"print({c} - {b})", c
    )


def _more_or_fewer(split: Split, rng: random.Random) -> Problem:
    a, b = rng.sample(rng.choice(split.exercises.sums), 2)
    return _story(a, [b], rng) if rng.random() < 0.5 else _story(a + b, [-b], rng)


def _chain(split: Split, rng: random.Random) -> Problem:
    """Two or three changes; one of them is an exercise of the split, so a held-out chain cannot be in training."""
    while True:
        count = start = rng.randint(2, min(split.largest, split.exercises.largest_number))
        changes: list[int] = []
        own = False
        for _ in range(rng.randint(2, 3)):
            options = [
                change
                for change in range(1 - count, split.largest + 1 - count)
                if change and _sum_of(count, change) in split.usable
            ]
            ours = [change for change in options if _sum_of(count, change) in split.own]
            if not options:
                break
            changes.append(rng.choice(options if own or not ours else ours))
            own = own or bool(ours)
            count += changes[-1]
        if len(changes) > 1 and own:
            return _story(start, changes, rng)


def _sum_of(count: int, change: int) -> Sum:
    """The sum that this step does or undoes."""
    one, two = (count, change) if change > 0 else (count + change, -change)
    return min(one, two), max(one, two)


GAINS = ("finds {n} more", "buys {n} more", "is given {n} more")
LOSSES = ("gives {n} of them to {other}", "loses {n} of them", "sells {n} of them to {other}")


def _story(start: int, changes: list[int], rng: random.Random) -> Problem:
    name, other = rng.sample(FEMALE_NAMES + MALE_NAMES, 2)
    thing = rng.choice(THINGS)
    count = start
    events, steps, code, numbers = [f"{name} has {counted(start, thing)}"], [], str(start), [start]
    for change in changes:
        events.append(rng.choice(GAINS if change > 0 else LOSSES).format(n=abs(change), other=other))
        steps.append(f"{count} {'plus' if change > 0 else 'minus'} {abs(change)} is {count + change}")
        code += f" {'+' if change > 0 else '-'} {abs(change)}"
        count += change
        numbers += [abs(change), count]
    left = " left" if changes[-1] < 0 else ""
    asks = rng.choice(("How many {things} does {name} have{now}?", "How many {things} has {name} got{now}?"))
    ask = asks.format(things=plural(thing), name=name, now=left or " now")
    story = f"{', '.join(events[:-1])} and {events[-1]}"
    return Problem(
        "chain" if len(changes) > 1 else "more" if changes[0] > 0 else "fewer",
        f"{story}. {ask}",
        tuple(steps),
        f"{name} has {counted(count, thing)}{left}",
        count,
        f"print({code})",
        max(numbers),
    )


def _shopping(split: Split, rng: random.Random) -> Problem:
    """The lecture's problem of Emily's fruit."""
    m, n, price, given = rng.choice(split.exercises.shopping)
    name, (one, two) = rng.choice(FEMALE_NAMES + MALE_NAMES), rng.sample(FRUIT, 2)
    known, rest = n * given, m * price
    total = known + rest
    fruit = f"{m} {plural(one)} and {n} {plural(two)}"
    text = rng.choice(
        (
            f"{name} buys {fruit}. Each {two} costs {given} dollars. Together they cost {total} dollars. "
            f"How much does each {one} cost?",
            f"{name} pays {total} dollars for {fruit}. Each {two} costs {given} dollars. How much does each {one} cost?",
            f"{name} buys {fruit} for {total} dollars. If each {two} costs {given} dollars, what does each {one} cost?",
            f"At the market {fruit} cost {total} dollars together, and each {two} costs {given} dollars. "
            f"How much does {name} pay for each {one}?",
        )
    )
    return Problem(
        "shopping",
        text,
        (
            f"{n} times {given} is {known}, so the {plural(two)} cost {known} dollars",
            f"{total} minus {known} is {rest}, so the {plural(one)} cost {rest} dollars",
            f"{rest} divided by {m} is {price}",
        ),
        f"each {one} costs {price} dollars",
        price,
        f"print(({total} - {n} * {given}) // {m})",
        total,
    )
