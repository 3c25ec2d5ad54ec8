from collections.abc import Callable
from dataclasses import dataclass
from data_pipeline.conversation import Turn
@dataclass(frozen=True)
class Response:
    text: str
    thinking: str = ""
    well_formed: bool = True
    tokens: int = 0
    calls: int = 0
@dataclass(frozen=True)
class Verdict:
    score: float
    reason: str
Verifier = Callable[[Response], Verdict]
@dataclass(frozen=True)
class Problem:
    id: str
    turns: tuple[Turn, ...]
    verifier: Verifier
    kind: str
    level: int = 0
    gold: str | None = None
