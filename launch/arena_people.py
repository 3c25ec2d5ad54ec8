"""People as judges: who has voted on what, told by the rows of a file, and what each is shown next.

    {"id", "prompt", "responses", "ranks", "outcome", "left", "right", "prompt_id", "seed", "runs", "rater", "time"}    a vote
    {"skip": prompt, "id", "rater", "time"}                                                                a pair passed over
    {"undo": id, "rater", "time"}                                                          the row of this id taken back

`data_pipeline/ranking_rows.py` reads such a file as rankings of two, so that a reward model can learn from it. Which pair a rater
sees next, and which answer stands left, follows from the rater's name, the seed and the file alone: a page that is loaded again,
or a server that is killed and started again, goes on where it was.
"""

import hashlib
import json
import os
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from data_pipeline.conversation import said
from data_pipeline.ranking import Ranking
from data_pipeline.ranking_rows import write_row
from launch.arena_answers import key, seed_of
from launch.arena_votes import Pair
from launch.ranking.record import Record, Row
from launch.ranking.session import rater_name
from launch.server.errors import ApiError
from lm.ratings import Outcome, Vote

RANKS: dict[Outcome, tuple[int, int]] = {"left": (0, 1), "right": (1, 0), "tie": (0, 0), "both_bad": (0, 0)}


@dataclass(frozen=True)
class Ballot:
    """A pair as one rater sees it."""

    id: str
    pair: Pair


class Ballots:
    """Any number of raters at once. Every method may be called from any thread, and raises `ApiError` for what cannot be."""

    def __init__(self, record: Record, pairs: Sequence[Pair], seed: int, runs: dict[str, Row]) -> None:
        """Pairs of equal texts are left out. `runs` says of each contender, by name, what it is ("run", "step", "quantize")."""
        self._pairs = [pair for pair in pairs if pair.left_text != pair.right_text]
        self._record, self._seed, self._runs = record, seed, runs
        self._lock = threading.Lock()
        self._orders: dict[str, list[Ballot]] = {}
        self._standing: dict[str, dict[str, Row]] = {}  # rater -> id -> the row that stands, in the order of time
        for row in record.rows():
            self._take_in(row)

    def state(self, rater: str) -> Row:
        """What a rater's page shows; without "prompt", "left" and "right" where nothing is left to vote on."""
        rater = rater_name(rater)
        with self._lock:
            mine = self._standing.get(rater, {})
            ballot = self._waiting(rater)
            order = self._order(rater)
            state: Row = {
                "rater": rater,
                "ballot": ballot and ballot.id,
                "done": sum(each.id in mine for each in order),
                "total": len(order),
                "last": next(reversed(mine), None),
            }
            if ballot:
                state["prompt"] = [{"role": turn.role, "text": turn.text} for turn in ballot.pair.problem.turns]
                state |= {"left": ballot.pair.left_text, "right": ballot.pair.right_text}
            return state

    def vote(self, rater: str, ballot: str, outcome: Outcome | Literal["skip"]) -> Row:
        """Save a vote; the state after it, and "voted": what, and on whom."""
        rater = rater_name(rater)
        with self._lock:
            now = self._waiting(rater)
            if now is None or now.id != ballot:
                raise ApiError(409, "you have been through this pair: here is the next")
            pair, time = now.pair, _now()
            row: Row = {"skip": key(pair.problem), "id": now.id, "rater": rater, "time": time}
            if outcome != "skip":
                responses = (said("assistant", pair.left_text), said("assistant", pair.right_text))
                row = write_row(
                    Ranking(now.id, pair.problem.turns, responses, RANKS[outcome], rater, time),
                    outcome=outcome,
                    left=pair.left,
                    right=pair.right,
                    prompt_id=key(pair.problem),
                    seed=seed_of(self._seed, key(pair.problem)),
                    runs=[self._runs[name] for name in (pair.left, pair.right)],
                )
            self._append(row)
        return {**self.state(rater), "voted": {"outcome": outcome, "left": pair.left, "right": pair.right}}

    def undo(self, rater: str, row_id: str) -> Row:
        """Take back the last thing that a rater did, which must be the row of this id."""
        rater = rater_name(rater)
        with self._lock:
            if next(reversed(self._standing.get(rater, {})), None) != row_id:
                raise ApiError(409, "that is not the last thing you did: look again")
            self._append({"undo": row_id, "rater": rater, "time": _now()})
        return self.state(rater)

    def votes(self) -> list[Vote]:
        """The votes that stand, of everybody, on those that are in the arena."""
        return [
            Vote(row["prompt_id"], row["left"], row["right"], row["outcome"], *map(len, row["responses"]))
            for rows in self._of_votes().values()
            for row in rows
        ]

    def raters(self) -> int:
        """How many people's votes these are."""
        return len(self._of_votes())

    def _of_votes(self) -> dict[str, list[Row]]:
        with self._lock:
            standing = {rater: list(rows.values()) for rater, rows in self._standing.items()}
        found = {
            rater: [row for row in rows if "outcome" in row and {row["left"], row["right"]} <= self._runs.keys()]
            for rater, rows in standing.items()
        }
        return {rater: rows for rater, rows in found.items() if rows}

    def _waiting(self, rater: str) -> Ballot | None:
        mine = self._standing.get(rater, {})
        return next((ballot for ballot in self._order(rater) if ballot.id not in mine), None)

    def _order(self, rater: str) -> list[Ballot]:
        """All pairs in the rater's own order, with sides by chance."""
        if rater not in self._orders:
            chance = random.Random(f"{self._seed}/{rater}")
            ballots = []
            for pair in chance.sample(self._pairs, len(self._pairs)):
                name = hashlib.sha256(json.dumps([self._seed, rater, pair.id]).encode()).hexdigest()[:16]
                if chance.random() < 0.5:
                    pair = replace(
                        pair, left=pair.right, right=pair.left, left_text=pair.right_text, right_text=pair.left_text
                    )
                ballots.append(Ballot(name, pair))
            self._orders[rater] = ballots
        return self._orders[rater]

    def _append(self, row: Row) -> None:
        try:
            self._record.append(row)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise ApiError(507, f"nothing was saved: {why} ({self._record.path}); make room, then vote again") from None
        self._take_in(row)

    def _take_in(self, row: Row) -> None:
        mine = self._standing.setdefault(str(row.get("rater")), {})
        if "undo" in row:
            mine.pop(row["undo"], None)
        elif "id" in row:
            mine[row["id"]] = row


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
