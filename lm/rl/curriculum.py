"""Which problems come next: easy ones first if so asked, and again those that the policy solves now and then."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

from data_pipeline.problem import Problem
from lm.practice import CurriculumConfig


class Curriculum:
    """Chooses the problems of each round, from the seed, the number of the round, and what became of earlier ones."""

    def __init__(self, config: CurriculumConfig, problems: Sequence[Problem], seed: int) -> None:
        self._config, self._problems, self._seed = config, problems, seed
        self._by_id = {problem.id: problem for problem in problems}
        self._levels = sorted({problem.level for problem in problems})
        self.open = self._levels[0] if config.raise_at else self._levels[-1]
        self._recent: list[float] = []  # shares of tries that succeeded, of groups at the hardest open level
        self._mixed: dict[
            str, float
        ] = {}  # the share of a problem's last tries that succeeded, where that is not all or none

    def choose(self, count: int, draw: str) -> list[Problem]:
        """`count` different problems (all that are open, if those are fewer); `draw` names this choice among all of a run."""
        rng = random.Random(f"practice/{self._seed}/{draw}")
        replayed = self._replayed(round(self._config.replay * count), rng)
        taken = {problem.id for problem in replayed}
        rest = [problem for problem in self._problems if problem.level <= self.open and problem.id not in taken]
        return replayed + rng.sample(rest, min(count - len(replayed), len(rest)))

    def _replayed(self, count: int, rng: random.Random) -> list[Problem]:
        # Weighted by p (1 - p), the variance of a try: where a group's tries differ the most (Efraimidis and Spirakis, 2006).
        keyed = {id: rng.random() ** (1 / (p * (1 - p))) for id, p in self._mixed.items()}
        return [self._by_id[id] for id in sorted(keyed, key=lambda id: keyed[id], reverse=True)[:count]]

    def learn(self, outcomes: Iterable[tuple[Problem, float]]) -> None:
        """Take in, of each problem tried, the share of its tries that succeeded."""
        for problem, share in outcomes:
            self._mixed.pop(problem.id, None)
            if 0 < share < 1:
                self._mixed[problem.id] = share
            if problem.level == self.open:
                self._recent = [*self._recent, share][-self._config.groups :]
        full = len(self._recent) == self._config.groups
        if full and self.open < self._levels[-1] and sum(self._recent) / len(self._recent) >= self._config.raise_at:
            self.open = self._levels[self._levels.index(self.open) + 1]
            self._recent = []

    def get_state(self) -> dict[str, Any]:
        """What it has learnt, as JSON."""
        return {"open": self.open, "recent": self._recent, "mixed": dict(self._mixed)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to what `get_state` gave."""
        self.open, self._recent, self._mixed = state["open"], list(state["recent"]), dict(state["mixed"])
