"""Answers on their way to the client: whole or as a stream, and what happens when the client goes away."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from launch.server.answers import event, merge
from launch.server.asks import Chat, Completion
from launch.server.choices import Choices
from launch.server.errors import ApiError, contents

T = TypeVar("T")


async def respond(
    request: Request, ask: Completion | Chat, head: dict[str, Any], choices: Choices, counts: dict[str, int]
) -> Response:
    """The choices as a stream or whole. What goes wrong before the first of them is answered with its status."""
    first = await unless_gone(request, anext(choices))
    if ask.stream:
        with_usage = bool(ask.stream_options and ask.stream_options.include_usage)
        stream = events(head, first, choices, counts if with_usage else None)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    merged = await unless_gone(request, collect(first, choices))
    return JSONResponse(head | {"choices": merged, "usage": counts})


async def collect(first: dict[str, Any], rest: Choices) -> list[dict[str, Any]]:
    """All pieces put together, by index."""
    whole = {first["index"]: first}
    async for piece in rest:
        merge(whole.setdefault(piece["index"], {}), piece)
    return [whole[index] for index in sorted(whole)]


async def events(
    head: dict[str, Any], first: dict[str, Any], rest: Choices, counts: dict[str, int] | None
) -> AsyncGenerator[str, None]:
    """The pieces as server-sent events; at the end the counts, where wanted. An error is the last event."""
    no_usage = {} if counts is None else {"usage": None}
    try:
        yield event(head | {"choices": [first]} | no_usage)
        async for piece in rest:
            yield event(head | {"choices": [piece]} | no_usage)
        if counts is not None:
            yield event(head | {"choices": [], "usage": counts})
        yield "data: [DONE]\n\n"
    except Exception as error:
        if not isinstance(error, ApiError):
            logging.getLogger("uvicorn.error").exception("a stream failed")
        yield event(contents(error))
    finally:
        await rest.aclose()


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of the work. When the client goes away before, the work is cancelled, and `ClientDisconnect` raised."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        watch.cancel()
