"""The routes of the arena's pages: what to vote on, votes, ratings, and the pages themselves."""

import asyncio
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse

from launch.arena_people import Ballots
from launch.arena_report import ratings_of
from launch.server.app import FILE_TYPES, read
from launch.server.asks import parse
from launch.server.errors import ApiError, answer_errors
from launch.server.messages import Body

PAGES = Path(__file__).parent / "voting"


class Cast(Body):
    """A vote on a ballot."""

    rater: str
    ballot: str
    outcome: Literal["left", "right", "tie", "both_bad", "skip"]


class Undone(Body):
    """What a rater takes back: the `last` of the state."""

    rater: str
    id: str


def make_app(ballots: Ballots, anchor: str | None, seed: int) -> FastAPI:
    """The pages of an arena."""
    app = FastAPI(title="Trivium arena", docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)

    @app.get("/api/state")
    def state(rater: str = "") -> dict[str, Any]:
        return ballots.state(rater)

    @app.post("/api/votes")
    async def vote(request: Request) -> dict[str, Any]:
        asked: Cast = parse(await read(request), Cast)
        return await asyncio.to_thread(ballots.vote, asked.rater, asked.ballot, asked.outcome)

    @app.post("/api/undos")
    async def undo(request: Request) -> dict[str, Any]:
        asked: Undone = parse(await read(request), Undone)
        return await asyncio.to_thread(ballots.undo, asked.rater, asked.id)

    @app.get("/api/ratings")
    def ratings() -> dict[str, Any]:
        return {**ratings_of(ballots.votes(), anchor, seed), "raters": ballots.raters()}

    @app.get("/")
    def page() -> FileResponse:
        return file("index.html")

    @app.get("/ratings")
    def ratings_page() -> FileResponse:
        return file("ratings.html")

    @app.get("/{name}")
    def file(name: str) -> FileResponse:
        found = PAGES / name
        if found.suffix not in FILE_TYPES or not found.is_file():
            raise ApiError(404, f"there is nothing at /{name[:100]}", code="not_found")
        return FileResponse(found, media_type=FILE_TYPES[found.suffix], headers={"Cache-Control": "no-cache"})

    return app
