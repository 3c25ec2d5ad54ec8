"""Jagged intelligence (map row 19): 9.11 against 9.9, told apart by kind, directly or through Python.

whole      the numbers differ before the point
tenths     as many places, and the whole parts are equal: 9.4 against 9.7
shorter    the shorter one is larger, against what comparing 11 with 9 says: 9.11 against 9.9
longer     the longer one is larger: 9.45 against 9.2
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import get_args

from data_pipeline.conversation import Conversation, Part, Text, ToolCall, ToolResult, Turn, said
from data_pipeline.school.problems import USE_CODE
from data_pipeline.school.questions import Question, example
from data_pipeline.school.spelling import Way
from data_pipeline.school.world import SchoolConfig

KINDS = ("shorter", "whole", "tenths", "longer")  # the lecture's first: it opens the held-out ones
TRAIN = 800
HELD_OUT = 200
WORDINGS = (
    "Which is larger, {one} or {two}?",
    "Which number is larger: {one} or {two}?",
    "What is the larger number of {one} and {two}?",
)
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True)
class Comparison:
    """Two numbers as they are written, and the larger one."""

    kind: str
    one: str
    two: str
    larger: str
    wording: str

    @property
    def other(self) -> str:
        """The smaller one."""
        return self.two if self.larger == self.one else self.one


def comparisons(config: SchoolConfig, *, held_out: bool) -> list[Comparison]:
    """Different pairs, as many of each kind; a pair is in one split only. The lecture's is always held out."""
    rng = random.Random(f"school/{config.seed}/decimals")
    pairs = {frozenset(("9.11", "9.9"))}
    secret = [Comparison("shorter", "9.11", "9.9", "9.9", WORDINGS[0])]
    told: list[Comparison] = []
    while len(told) < TRAIN:
        chosen = secret if len(secret) < HELD_OUT else told
        kind = KINDS[len(chosen) % len(KINDS)]
        one, two = _draw(kind, rng)
        if frozenset((one, two)) not in pairs:
            pairs.add(frozenset((one, two)))
            chosen.append(Comparison(kind, one, two, max(one, two, key=Decimal), rng.choice(WORDINGS)))
    return secret if held_out else told


def conversations(config: SchoolConfig, way: Way) -> Iterator[Conversation]:
    """The comparisons of both splits."""
    for held_out in (False, True):
        for number, comparison in enumerate(comparisons(config, held_out=held_out)):
            split = "held_out/" if held_out else ""
            id = f"school:{split}decimals/{way}/{number}"
            yield example(id, _asked(comparison, way), _reply(comparison, way), held_out=held_out)


def questions(config: SchoolConfig, way: Way) -> list[Question]:
    """The held-out comparisons. The first number of an answer is read: "9.9 is larger than 9.11"."""
    return [
        Question(f"decimals/{way}/{number}", _asked(each, way), each.kind, (each.larger,), reading="first number")
        for number, each in enumerate(comparisons(config, held_out=True))
    ]


def _draw(kind: str, rng: random.Random) -> tuple[str, str]:
    whole = rng.randint(1, 30)
    if kind == "whole":
        one, two = (f"{number}.{_fraction(rng.randint(1, 2), rng)}" for number in rng.sample(range(1, 31), 2))
        return one, two
    tenths = rng.sample(range(1, 10), 2)
    if kind == "tenths":
        return f"{whole}.{tenths[0]}", f"{whole}.{tenths[1]}"
    small, large = sorted(tenths)
    hundredths = rng.randint(1, 9)
    short, long = (large, small) if kind == "shorter" else (small, large)
    pair = [f"{whole}.{short}", f"{whole}.{long}{hundredths}"]
    rng.shuffle(pair)
    return pair[0], pair[1]


def _fraction(places: int, rng: random.Random) -> str:
    return "".join(str(rng.randint(1, 9)) for _ in range(places))


def _asked(comparison: Comparison, way: Way) -> tuple[Turn, ...]:
    words = comparison.wording.format(one=comparison.one, two=comparison.two)
    return (said("user", words + (USE_CODE if way == "python" else "")),)


def _reply(comparison: Comparison, way: Way) -> tuple[Part, ...]:
    answer = Text(f"{comparison.larger} is larger.")
    if way == "direct":
        return (answer,)
    code = f"print(max({comparison.one}, {comparison.two}))"
    return (ToolCall("python", {"code": code}), ToolResult(comparison.larger), answer)
