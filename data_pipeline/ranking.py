"""`Ranking`: responses to one prompt in the order in which someone likes them, the fourth way to teach: by taste.

A rank is a place: 0 is the best, equal ranks are a tie, and None was not judged. Only the order of ranks means anything.
"""

from dataclasses import dataclass

from data_pipeline.conversation import Conversation, Turn

ANOTHER = -2  # in a batch, the rank of a response to another prompt, which only KTO looks at


@dataclass(frozen=True)
class Ranking:
    """A prompt and K responses."""

    id: str
    prompt: tuple[Turn, ...]  # the last is the user's
    responses: tuple[Turn, ...]  # K turns of the assistant
    ranks: tuple[int | None, ...]  # K
    rater: str = ""
    time: str = ""  # ISO 8601
    held_out: bool | None = None  # None: decided by a hash of the prompt


def pairs(ranking: Ranking) -> list[tuple[int, int]]:
    """(better, worse) for every two responses that the ranking tells apart."""
    ranked = [(rank, i) for i, rank in enumerate(ranking.ranks) if rank is not None]
    return [(i, j) for rank, i in ranked for other, j in ranked if rank < other]


def best(ranking: Ranking) -> Conversation:
    """The prompt with its best response, the first of those that tie. Raises `ValueError` where nothing is ranked."""
    _, place = min((rank, place) for place, rank in enumerate(ranking.ranks) if rank is not None)
    return Conversation(ranking.id, (*ranking.prompt, ranking.responses[place]), ranking.held_out)


def fault(ranking: Ranking) -> str:
    """Why nobody can learn from it, or "". Everything is fine but what cannot be compared."""
    texts = [turn.parts for turn in ranking.responses]
    judged = [i for i, rank in enumerate(ranking.ranks) if rank is not None]
    if len(ranking.ranks) != len(ranking.responses):
        return f"{len(ranking.ranks)} ranks for {len(ranking.responses)} responses"
    if len(judged) < 2:
        return "fewer than two responses are ranked"
    if any(turn.role != "assistant" for turn in ranking.responses):
        return "a response is not the assistant's"
    if any(not turn.parts or not any(vars(part).get("text", "x") for part in turn.parts) for turn in ranking.responses):
        return "a response is empty"
    if any(texts[i] == texts[j] for i, j in pairs(ranking)):
        return "one response stands at two ranks"
    return ""
