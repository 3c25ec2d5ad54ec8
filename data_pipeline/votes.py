"""Votes between two responses at a time, as ranks of all of them: only the order that the votes imply, never one more pair."""

from collections.abc import Sequence

Ranks = tuple[int | None, ...]


def ranks_of_votes(votes: Sequence[tuple[int, int]], count: int) -> list[Ranks]:
    """Ranks (count,) for each ranking that `votes`, (winner, loser) each, make of `count` responses.

    One ranking where the votes and what follows from them (a over b and b over c: a over c) tell apart exactly the pairs that
    the layers of a topological order do. Votes that leave the order open (a over b, c over d) make one ranking each, in which
    the others are not judged. Raises ValueError for votes that go round in a circle, and for an index that is none.
    """
    if not all(0 <= each < count for vote in votes for each in vote):
        raise ValueError("a vote for a response that is not there")
    better: dict[int, set[int]] = {each: set() for vote in votes for each in vote}  # what beat each directly
    for winner, loser in votes:
        better[loser].add(winner)
    ranks: dict[int, int] = {}
    above: dict[int, set[int]] = {}  # all that is better than each
    left = set(better)
    layers: list[int] = []  # the size of each
    while left:
        top = {each for each in left if not better[each] & left}
        if not top:
            raise ValueError("votes go round in a circle")
        for each in top:
            ranks[each] = len(layers)
            above[each] = better[each].union(*(above[other] for other in better[each]))
        layers.append(len(top))
        left -= top
    apart = (len(better) ** 2 - sum(size**2 for size in layers)) // 2  # pairs in different layers
    if sum(map(len, above.values())) == apart:
        return [tuple(ranks.get(each) for each in range(count))]
    return [tuple({winner: 0, loser: 1}.get(each) for each in range(count)) for winner, loser in dict.fromkeys(votes)]
