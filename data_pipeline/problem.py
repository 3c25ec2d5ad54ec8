"""`Problem`: a practice problem, the third of the four kinds of data in a textbook. Its answer alone is printed at the back.

A verifier turns a response into a score. It is a frozen dataclass that can be called, so that it can be sent to another process,
where it may take long, fail, or never come back (see `verifying.py`). One that can do none of these has `inline = True`.
Scores are in [0, 1], unless the verifier has `unbounded = True`: its scores are a rater's, with no right and wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass

from data_pipeline.conversation import Turn


@dataclass(frozen=True)
class Response:
    """What a verifier judges: an assistant's turn."""

    text: str  # its words to the user
    well_formed: bool = True  # it ended by itself, and nothing in it is broken
    tokens: int = 0  # that it wrote itself
    calls: int = 0  # tool calls


@dataclass(frozen=True)
class Verdict:
    """A score in [0, 1], and why."""

    score: float
    reason: str


Verifier = Callable[[Response], Verdict]


@dataclass(frozen=True)
class Problem:
    """A prompt and a verifier."""

    id: str
    turns: tuple[Turn, ...]  # the last is the user's
    verifier: Verifier
    kind: str  # problems of one kind are measured together
    level: int = 0  # of difficulty, 0 the easiest
    gold: str | None = None  # a response that scores 1; None where the source has none
