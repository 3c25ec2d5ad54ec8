"""Running parity: does a row of bits hold an odd number of ones? Easy bit by bit, and next to impossible at one glance.

The smallest task in which a model needs tokens to think (arXiv 2510.11495). Most worked examples give the answer alone; a share of
them write the parity after each bit first:

    0110            0110
    0               0100=0

Only reinforcement learning then finds out that the rare way is the right one.
"""

import random
from collections.abc import Iterator

from data_pipeline.conversation import Conversation, said

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
