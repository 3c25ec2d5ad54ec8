"""The ranking page's routes: what to rank, what was ranked, and the page itself."""

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic import Field

from launch.ranking.record import Row
from launch.ranking.session import Session
from launch.server.app import FILE_TYPES, read
from launch.server.asks import parse
from launch.server.errors import ApiError, answer_errors
from launch.server.messages import Body

PAGE = Path(__file__).parent


class Ranked(Body):
    """An order: groups of responses by their index, the best first; those of one group are tied."""

    rater: str
    task: str
    order: list[Annotated[list[int], Field(max_length=100)]] = Field(max_length=100)


class Skipped(Body):
    """A prompt that a rater does not want to judge."""

    rater: str
    task: str


class Undone(Body):
    """What a rater takes back: the `last` of the state."""

    rater: str
    id: str


def make_app(session: Session, instructions: str) -> FastAPI:
    """The page of a session. `instructions` (Markdown) are what raters see first."""
    app = FastAPI(title="Trivium ranking", docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)

    @app.get("/api/instructions")
    def told() -> PlainTextResponse:
        return PlainTextResponse(instructions)

    @app.get("/api/state")
    def state(rater: str = "") -> Row:
        return session.state(rater)

    @app.post("/api/rankings")
    async def rank(request: Request) -> Row:
        asked: Ranked = parse(await read(request), Ranked)
        return await asyncio.to_thread(session.rank, asked.rater, asked.task, asked.order)

    @app.post("/api/skips")
    async def skip(request: Request) -> Row:
        asked: Skipped = parse(await read(request), Skipped)
        return await asyncio.to_thread(session.skip, asked.rater, asked.task)

    @app.post("/api/undos")
    async def undo(request: Request) -> Row:
        asked: Undone = parse(await read(request), Undone)
        return await asyncio.to_thread(session.undo, asked.rater, asked.id)

    @app.get("/")
    def page() -> FileResponse:
        return page_file("index.html")

    @app.get("/{name}")
    def page_file(name: str) -> FileResponse:
        file = PAGE / name
        if file.suffix not in FILE_TYPES or not file.is_file():
            raise ApiError(404, f"there is nothing at /{name[:100]}", code="not_found")
        return FileResponse(file, media_type=FILE_TYPES[file.suffix], headers={"Cache-Control": "no-cache"})

    return app
