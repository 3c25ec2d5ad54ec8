"""Running parity: does a row of bits hold an odd number of ones? Easy bit by bit, and next to impossible at one glance.

The smallest task in which a model needs tokens to think (arXiv 2510.11495). Most worked examples give the answer alone; a share
of them write the parity after each bit first:

    0110            0110
    0               0100=0

Only reinforcement learning then finds out that the rare way is the right one.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from data_pipeline.conversation import Conversation, said
from data_pipeline.errors import UserError
from data_pipeline.problem import Problem, Response, Verdict

VERSION = 1  # raised whenever the same source would give others
BITS = 16
TRAIN = 20_000
HELD_OUT = 300


def rows(*, held_out: bool, count: int, bits: int = BITS) -> list[str]:
    """Different rows of bits, always the same ones; no row is in both splits."""
    rng = random.Random(f"parity/{bits}")
    secret = _different(rng, min(HELD_OUT, 2**bits // 4), bits, set())
    return list(secret)[:count] if held_out else list(_different(rng, min(count, 3 * 2**bits // 4), bits, set(secret)))


def _different(rng: random.Random, count: int, bits: int, taken: set[str]) -> dict[str, None]:
    found: dict[str, None] = {}
    while len(found) < count:
        row = f"{rng.getrandbits(bits):0{bits}b}"
        if row not in taken:
            found[row] = None
    return found


def running(row: str) -> str:
    """The parity after each bit."""
    ones, said = 0, ""
    for bit in row:
        ones += bit == "1"
        said += str(ones % 2)
    return said


def percent(source: str) -> int:
    """Of "parity:PERCENT". Raises `UserError` for what is no percentage."""
    text = source.removeprefix("parity:")
    if not text.isdigit() or int(text) > 100:
        raise UserError(f"{source}: say how many percent are worked bit by bit, such as parity:10")
    return int(text)


def conversations(percent: int) -> Iterator[Conversation]:
    """Worked examples of both splits, `percent` of them bit by bit."""
    for held_out, count in ((False, TRAIN), (True, HELD_OUT)):
        for number, row in enumerate(rows(held_out=held_out, count=count)):
            steps = running(row)
            # Spread evenly, and the same for the row whatever the percentage beyond it.
            bit_by_bit = random.Random(f"parity/{row}").randrange(100) < percent
            answer = f"{steps}={steps[-1]}" if bit_by_bit else steps[-1]
            turns = (said("user", row), said("assistant", answer))
            yield Conversation(f"parity:{'held_out/' if held_out else ''}{number}", turns, held_out=held_out)


@dataclass(frozen=True)
class Parity:
    """Whether a response ends in the right bit, and says nothing else but bits."""

    row: str
    inline: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        """1 or 0."""
        right = running(self.row)[-1]
        said = response.text.rpartition("=")[2]
        return Verdict(float(said == right), f"{said!r} where {right} is right")


def problems(*, held_out: bool, count: int) -> list[Problem]:
    """One split as problems."""
    split = "held_out/" if held_out else ""
    return [
        Problem(f"parity:{split}{number}", (said("user", row),), Parity(row), "parity", gold=running(row)[-1])
        for number, row in enumerate(rows(held_out=held_out, count=count))
    ]
