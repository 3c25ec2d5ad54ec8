"""How far several raters agree, on the pairs of responses that two of them told apart."""

import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from data_pipeline.ranking import Ranking
from launch.compare_runs import table

RESAMPLES = 1000

Ranks = Sequence[int | None]


@dataclass
class Tally:
    """An item a prompt that two raters or more ranked, or one of them together with the others."""

    same: list[int] = field(default_factory=list)  # pairs of responses that two raters order the same way
    apart: list[int] = field(default_factory=list)  # pairs that both tell apart
    taus: list[float] = field(default_factory=list)  # the sum of tau-b over pairs of raters
    counts: list[int] = field(default_factory=list)  # how many are summed


def report(rankings: Iterable[Ranking]) -> str:
    """A row for each rater, and the agreement of all with 95% intervals by bootstrap over prompts.

    Raters are compared where they ranked the same responses to the same prompt.
    """
    shared: dict[tuple, dict[str, Ranking]] = defaultdict(dict)
    for ranking in rankings:
        shared[ranking.prompt, ranking.responses][ranking.rater] = ranking
    names = sorted({name for given in shared.values() for name in given})
    everybody = Tally()
    rows = []
    for name in [*names, None]:
        tally = Tally() if name is not None else everybody
        for given in shared.values():
            couples = [pair for pair in itertools.combinations(given, 2) if name is None or name in pair]
            if couples:
                compare([(given[a].ranks, given[b].ranks) for a, b in couples], tally)
        if name is not None:
            ranked = sum(name in given for given in shared.values())
            agreed = f"{sum(tally.same) / sum(tally.apart):.1%}" if sum(tally.apart) else "-"
            rows.append([name or "(no name)", str(ranked), str(len(tally.same)), str(sum(tally.apart)), agreed])
    lines = [table(["rater", "ranked", "shared", "pairs", "as the others"], rows)]
    if not sum(everybody.apart):
        return "\n".join([*lines, "no two raters told the same two responses apart: nothing to compare"])
    lines.append("")
    lines.append(f"{len(everybody.same)} prompts were ranked by at least two raters")
    lines.append(f"ordered the same way: {_interval(everybody.same, everybody.apart)} of pairs, by chance 0.500")
    lines.append(f"Kendall's tau-b: {_interval(everybody.taus, everybody.counts)}, by chance 0")
    return "\n".join(lines)


def compare(couples: Sequence[tuple[Ranks, Ranks]], tally: Tally) -> None:
    """Add one prompt: the ranks that two raters gave the same responses, for every two of its raters."""
    same = apart = 0
    taus = []
    for one, other in couples:
        agree, differ, tau = agreement(one, other)
        same += agree
        apart += agree + differ
        if tau is not None:
            taus.append(tau)
    tally.same.append(same)
    tally.apart.append(apart)
    tally.taus.append(sum(taus))
    tally.counts.append(len(taus))


def agreement(one: Ranks, other: Ranks) -> tuple[int, int, float | None]:
    """(pairs ordered the same way, pairs ordered the other way, Kendall's tau-b: Biometrika 33, 1945) of two raters.

    What one of them did not judge is left out. tau-b is None where one of them has nothing but ties.
    """
    judged = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    signs = [(_sign(a - c), _sign(b - d)) for (a, b), (c, d) in itertools.combinations(judged, 2)]
    same = sum(x * y > 0 for x, y in signs)
    differ = sum(x * y < 0 for x, y in signs)
    told = sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs)
    return same, differ, (same - differ) / told**0.5 if told else None


def bootstrap(numerators: Sequence[float], denominators: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95% interval of the ratio of the sums, by the percentiles of resampled items (Efron 1979)."""
    chance = random.Random(seed)
    ratios = []
    for _ in range(RESAMPLES):
        drawn = chance.choices(range(len(numerators)), k=len(numerators))
        total = sum(denominators[each] for each in drawn)
        if total:
            ratios.append(sum(numerators[each] for each in drawn) / total)
    ratios.sort()
    return ratios[int(0.025 * len(ratios))], ratios[int(0.975 * len(ratios))]


def _interval(numerators: Sequence[float], denominators: Sequence[float]) -> str:
    value = sum(numerators) / sum(denominators) if sum(denominators) else float("nan")
    if len(numerators) < 2:
        return f"{value:.3f} (one prompt: no interval)"
    low, high = bootstrap(numerators, denominators)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
