"""People as judges: a page with two nameless answers side by side, and a file that every vote is in before the next one is shown.

A row of the file is a ranking (data_pipeline/ranking_rows.py), so that a reward model can learn from it:

    {"id", "prompt", "responses", "ranks", "outcome", "left", "right", "prompt_id", "seed", "runs", "rater", "time"}
    {"id", "skip": true, "rater", "time"}
    {"undo": id, "rater", "time"}

Which pair a rater sees next, and which answer stands left, follows from the rater's name, the seed and the file alone: a page
that is loaded again, or a server that is killed and started again, goes on where it was.
"""

import hashlib
import json
import os
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from data_pipeline.resumable import Row, read_rows
from launch.arena_answers import key, seed_of
from launch.arena_votes import Pair
from lm.ratings import Outcome, Vote

if TYPE_CHECKING:
    from fastapi import FastAPI

RANKS: dict[Outcome, list[int]] = {"left": [0, 1], "right": [1, 0], "tie": [0, 0], "both_bad": [0, 0]}
PAGE = Path(__file__).parent / "voting"
FILE_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


@dataclass(frozen=True)
class Ballot:
    """A pair as one rater sees it."""

    id: str
    pair: Pair


class Ballots:
    """Who has voted on what. Safe to share between threads; one process at a time."""

    def __init__(self, path: Path, pairs: Sequence[Pair], seed: int, runs: dict[str, Row]) -> None:
        """Pairs of equal texts are left out. `runs` says of each contender, by name, what it is ("run", "step", "quantize")."""
        self._pairs = [pair for pair in pairs if pair.left_text != pair.right_text]
        self._seed, self._runs = seed, runs
        self._rows = read_rows(path)
        self._file: IO[bytes] = path.open("ab")
        self._turn = threading.Lock()
        self._orders: dict[str, list[Ballot]] = {}

    def next(self, rater: str) -> dict[str, Any]:
        """What the page shows: {"ballot", "prompt", "left", "right", "done", "total"}; of the first four None at the end."""
        with self._turn:
            return self._next(rater)

    def vote(self, rater: str, ballot: str, outcome: Outcome | Literal["skip"]) -> dict[str, Any]:
        """Write it down; returns who the two were and what comes next. Raises `LookupError` for another ballot than the next."""
        with self._turn:
            now = self._waiting(rater)
            if now is None or now.id != ballot:
                raise LookupError("this vote is there already, or was taken back: load the page again")
            pair = now.pair
            row: Row = {"id": now.id, "skip": True}
            if outcome != "skip":
                row = {
                    "id": now.id,
                    "prompt": [{"role": turn.role, "content": turn.text} for turn in pair.problem.turns],
                    "responses": [pair.left_text, pair.right_text],
                    "ranks": RANKS[outcome],
                    "outcome": outcome,
                    "left": pair.left,
                    "right": pair.right,
                    "prompt_id": key(pair.problem),
                    "seed": seed_of(self._seed, key(pair.problem)),
                    "runs": [self._runs[name] for name in (pair.left, pair.right)],
                }
            self._append({**row, "rater": rater})
            return {"voted": outcome, "left": pair.left, "right": pair.right, "next": self._next(rater)}

    def undo(self, rater: str) -> dict[str, Any]:
        """Take back the rater's last row, and return what comes next: the same pair. Raises `LookupError` where there is none."""
        with self._turn:
            own = [row for row in self._standing() if row["rater"] == rater]
            if not own:
                raise LookupError("there is nothing to take back")
            self._append({"undo": own[-1]["id"], "rater": rater})
            return self._next(rater)

    def votes(self) -> list[Vote]:
        """The votes that stand, of everybody, on those that are in the arena."""
        with self._turn:
            return [
                Vote(row["prompt_id"], row["left"], row["right"], row["outcome"], *map(len, row["responses"]))
                for row in self._standing()
                if "outcome" in row and {row["left"], row["right"]} <= self._runs.keys()
            ]

    def raters(self) -> int:
        """How many people's votes stand."""
        with self._turn:
            return len({row["rater"] for row in self._standing() if "outcome" in row})

    def _standing(self) -> list[Row]:
        """Votes and skips that were not taken back, in their order."""
        rows: dict[str, Row] = {}
        for row in self._rows:
            if "undo" in row:
                rows.pop(row["undo"], None)
            else:
                rows[row["id"]] = row
        return list(rows.values())

    def _waiting(self, rater: str) -> Ballot | None:
        done = {row["id"] for row in self._standing()}
        return next((ballot for ballot in self._order(rater) if ballot.id not in done), None)

    def _next(self, rater: str) -> dict[str, Any]:
        order, ballot = self._order(rater), self._waiting(rater)
        standing = {row["id"] for row in self._standing()}
        shown: dict[str, Any] = {"ballot": None, "prompt": None, "left": None, "right": None}
        if ballot is not None:
            prompt = [{"role": turn.role, "text": turn.text} for turn in ballot.pair.problem.turns]
            texts = {"left": ballot.pair.left_text, "right": ballot.pair.right_text}
            shown = {"ballot": ballot.id, "prompt": prompt, **texts}
        return {**shown, "done": sum(each.id in standing for each in order), "total": len(order)}

    def _order(self, rater: str) -> list[Ballot]:
        """All pairs in the rater's own order and with sides by chance."""
        if rater not in self._orders:
            chance = random.Random(f"{self._seed}/{rater}")
            ballots = []
            for pair in chance.sample(self._pairs, len(self._pairs)):
                if chance.random() < 0.5:
                    pair = replace(
                        pair, left=pair.right, right=pair.left, left_text=pair.right_text, right_text=pair.left_text
                    )
                name = hashlib.sha256(json.dumps([self._seed, rater, pair.id]).encode()).hexdigest()[:16]
                ballots.append(Ballot(name, pair))
            self._orders[rater] = ballots
        return self._orders[rater]

    def _append(self, row: Row) -> None:
        row = {**row, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())  # on the disk before the page is told
        self._rows.append(row)


def make_app(ballots: Ballots, anchor: str | None, seed: int) -> "FastAPI":
    """The page and what it asks: /api/next, /api/vote, /api/undo, /api/ratings."""
    from typing import Annotated

    from fastapi import FastAPI, Request
    from fastapi.responses import FileResponse
    from pydantic import StringConstraints

    from launch.arena_report import ratings_of
    from launch.server.app import read
    from launch.server.asks import parse
    from launch.server.errors import ApiError, answer_errors
    from launch.server.messages import Body

    app = FastAPI(title="Trivium arena", docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)

    class Rater(Body):
        rater: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]

    class Cast(Rater):
        ballot: str
        outcome: Literal["left", "right", "tie", "both_bad", "skip"]

    @app.get("/api/next")
    def following(rater: str) -> dict[str, Any]:
        return ballots.next(parse(json.dumps({"rater": rater}).encode(), Rater).rater)

    @app.post("/api/vote")
    async def vote(request: Request) -> dict[str, Any]:
        cast: Cast = parse(await read(request), Cast)
        try:
            return ballots.vote(cast.rater, cast.ballot, cast.outcome)
        except LookupError as error:
            raise ApiError(409, str(error)) from None

    @app.post("/api/undo")
    async def undo(request: Request) -> dict[str, Any]:
        try:
            return ballots.undo(parse(await read(request), Rater).rater)
        except LookupError as error:
            raise ApiError(409, str(error)) from None

    @app.get("/api/ratings")
    def ratings() -> dict[str, Any]:
        return ratings_of(ballots.votes(), anchor, seed) | {"raters": ballots.raters()}

    @app.get("/")
    def page() -> FileResponse:
        return file("index.html")

    @app.get("/ratings")
    def ratings_page() -> FileResponse:
        return file("ratings.html")

    @app.get("/{name}")
    def file(name: str) -> FileResponse:
        found = PAGE / name
        if found.suffix not in FILE_TYPES or not found.is_file():
            raise ApiError(404, f"there is nothing at /{name[:100]}", code="not_found")
        return FileResponse(found, media_type=FILE_TYPES[found.suffix], headers={"Cache-Control": "no-cache"})

    return app
