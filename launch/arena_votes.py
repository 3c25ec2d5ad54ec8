"""Every pair of contenders on every prompt, judged twice: with each of the two answers first."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from data_pipeline.errors import UserError
from data_pipeline.problem import Problem
from data_pipeline.resumable import Row, do_rows
from launch.arena_answers import key
from launch.arena_judges import Judge, Match
from lm.ratings import Vote

BATCH = 16  # pairs that are judged at once, in both orders
Answers = Mapping[str, Mapping[str, Row]]  # by contender and prompt


@dataclass(frozen=True)
class Pair:
    """Two contenders on one prompt."""

    problem: Problem
    left: str
    right: str
    left_text: str
    right_text: str

    @property
    def id(self) -> str:
        """Changes when an answer does: a verdict is on texts."""
        told = [key(self.problem), self.left, self.right, self.left_text, self.right_text]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def pairs(problems: Sequence[Problem], answers: Answers) -> Iterator[Pair]:
    """Every two contenders on every prompt that both could read."""
    for problem in problems:
        for left, right in combinations(answers, 2):
            texts = [answers[name][key(problem)]["text"] for name in (left, right)]
            if None not in texts:
                yield Pair(problem, left, right, *texts)


def judged(path: Path, all_pairs: Sequence[Pair], judge: Judge) -> list[Row]:
    """Rows {"id", "prompt", "left", "right", "lengths", "outcomes"} in `path`; what is there already is not judged again.

    `outcomes` has two: of left and right as they are named, then swapped (so that "left" is the one named right); None where the
    judge gave no verdict. Lengths are in characters: contenders may have different tokenizers. Equal texts tie without a judge.
    """

    def work(some: list[tuple[str, Pair]]) -> list[Row]:
        asked = [pair for _, pair in some if pair.left_text != pair.right_text]
        matches = [
            Match(pair.problem, *texts)
            for pair in asked
            for texts in ((pair.left_text, pair.right_text), (pair.right_text, pair.left_text))
        ]
        outcomes = iter(judge(matches) if matches else ())
        return [
            {
                "id": name,
                "prompt": key(pair.problem),
                "left": pair.left,
                "right": pair.right,
                "lengths": [len(pair.left_text), len(pair.right_text)],
                "outcomes": [next(outcomes), next(outcomes)] if pair.left_text != pair.right_text else ["tie", "tie"],
            }
            for name, pair in some
        ]

    rows = list(do_rows(path, [(pair.id, pair) for pair in all_pairs], work, batch=BATCH, name="judging").values())
    if rows and not any(outcome for row in rows for outcome in row["outcomes"]):
        raise UserError(f"the judge gave no verdict on any of {len(rows)} pairs: see {path}, and try another --judge")
    return rows


def votes_of(rows: Sequence[Row]) -> list[Vote]:
    """The verdicts that were given."""
    votes = []
    for row in rows:
        (one, other), (first, second) = row["outcomes"], row["lengths"]
        left, right = row["left"], row["right"]
        votes += [Vote(row["prompt"], left, right, one, first, second)] * (one is not None)
        votes += [Vote(row["prompt"], right, left, other, second, first)] * (other is not None)
    return votes


def remarks(rows: Sequence[Row]) -> list[str]:
    """What the ratings do not say of the verdicts."""
    both = [tuple(row["outcomes"]) for row in rows]
    missing = sum(outcome is None for outcomes in both for outcome in outcomes)
    swapped = {("left", "right"), ("right", "left"), ("tie", "tie"), ("both_bad", "both_bad")}
    whole = Counter(outcomes in swapped for outcomes in both if None not in outcomes)
    lines = [f"{missing} of {2 * len(both)} verdicts could not be read, and are left out"] if missing else []
    if whole[False]:
        lines.append(f"{whole[False]} of {whole.total()} pairs were judged otherwise when the answers changed places")
    return lines
