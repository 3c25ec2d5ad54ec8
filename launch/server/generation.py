"""From requests of the engine to text: what a completion, a chat and their streams have in common."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from data_pipeline.conversation import Part, Text
from data_pipeline.errors import UserError
from data_pipeline.protocol import Prompt, Style
from data_pipeline.tokenizer import Tokenizer
from launch.server.asks import Chat, Completion
from launch.server.engine_thread import Busy, EngineFailed, EngineThread
from launch.server.errors import ApiError
from launch.server.turn_deltas import TurnDeltas
from lm.assistant import Toolbox
from lm.inference.requests import Interjection, Request, Update, Written, check_request


@dataclass
class Served:
    """A model that is served."""

    name: str
    tokenizer: Tokenizer
    engine: EngineThread
    context: int  # tokens
    score: Callable[[Sequence[int], int], Written]  # a prompt's own log-probabilities; runs in the engine's thread
    style: Style = "plain"  # how conversations are written unless the client says
    toolbox: Toolbox | None = None  # what answers calls here
    created: int = field(default_factory=lambda: int(time.time()))


@dataclass
class Piece:
    """What a choice grows by."""

    choice: int
    parts: list[Part]
    new: Written
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        """What it says."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def check_number(served: Served, texts: int) -> None:
    """Raise `ApiError` for more texts in one request than are ever taken in at once."""
    if texts > served.engine.capacity:
        raise ApiError(400, f"{texts} texts at once: at most {served.engine.capacity}, over all prompts and n", "n")


def engine_requests(
    served: Served,
    ask: Completion | Chat,
    prompts: Sequence[Prompt],
    *,
    default: int,
    top: int,
    interjection: Interjection | None = None,
) -> list[Request]:
    """A request for each prompt. `default`: how many tokens unless the client says. Raises `ApiError`.

    A seed that the client gave is each prompt's, so that each is answered as if it were alone.
    """
    requests = []
    where = "messages" if isinstance(ask, Chat) else "prompt"
    for prompt in prompts:
        length = len(prompt.tokens)
        room = served.context - length + 1  # the last token need not be read
        if room < 1:
            raise ApiError(
                400,
                f"the {where} has {length} tokens and the model's context {served.context}: shorten it",
                where,
                "context_length_exceeded",
            )
        if ask.max_tokens is not None and ask.max_tokens > room:
            raise ApiError(
                400,
                f"max_tokens={ask.max_tokens}: the {where} has {length} tokens and the context is {served.context}, "
                f"so give at most {room}",
                "max_tokens",
                "context_length_exceeded",
            )
        request = Request(
            prompt.tokens,
            min(default, room) if ask.max_tokens is None else ask.max_tokens,
            ask.sampling(),
            secrets.randbelow(2**32) if ask.seed is None else ask.seed,
            ask.n,
            prompt.stop_tokens,
            (*prompt.stop_strings, *ask.stop),
            top,
            interjection,
        )
        check_request(request, served.context)
        requests.append(request)
    return requests


async def write(
    served: Served, requests: Sequence[Request], *, marked: bool = False, strip_start: bool = False
) -> AsyncGenerator[Piece]:
    """Run the requests and yield what they write; sample s of request r is choice r * samples + s.

    `marked` and `strip_start`: as in `TurnDeltas`.

    When this is closed, what is still running is cancelled. Raises `ApiError` for a full queue and for a dead engine.
    """
    loop = asyncio.get_running_loop()
    news: asyncio.Queue[tuple[int, Update | Exception]] = asyncio.Queue()

    def deliver(number: int, update: Update | Exception) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(news.put_nowait, (number, update))

    try:
        jobs = served.engine.submit(requests, deliver)
    except Busy:
        raise ApiError(429, "the queue is full: try again in a second", code="queue_full") from None
    except EngineFailed:
        raise engine_failed() from None
    turns = {
        (number, sample): TurnDeltas(served.tokenizer, request.stop_strings, marked=marked, strip_start=strip_start)
        for number, request in enumerate(requests)
        for sample in range(request.samples)
    }
    try:
        while turns:
            number, update = await news.get()
            if isinstance(update, UserError):
                raise update
            if isinstance(update, Exception):
                raise engine_failed()
            key = number, update.sample
            parts = turns[key].feed(update.new, ended=bool(update.reason), by_string=isinstance(update.stopped_by, str))
            if update.reason:
                del turns[key]
            yield Piece(number * requests[number].samples + update.sample, parts, update.new, update.reason or None)
    finally:
        for job in jobs:
            served.engine.cancel(job)


async def score(served: Served, tokens: Sequence[int], top: int) -> Written:
    """The tokens of a prompt as if the model had written them. Raises `ApiError`."""
    loop = asyncio.get_running_loop()
    result: asyncio.Queue[Written | Exception] = asyncio.Queue()

    def deliver(scored: Written | Exception) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(result.put_nowait, scored)

    try:
        served.engine.call(lambda: served.score(tokens, top), deliver)
    except EngineFailed:
        raise engine_failed() from None
    scored = await result.get()
    if isinstance(scored, Exception):
        raise engine_failed()
    return scored


def engine_failed() -> ApiError:
    """What those are told who wait for an engine that is no more."""
    return ApiError(500, "the engine failed, and the server is stopping; its log says why", code="engine_failed")
