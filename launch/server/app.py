"""The server's routes: OpenAI's /v1/models, /v1/completions and /v1/chat/completions; /tokenize, /health, the playground."""

import asyncio
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from launch.server.answers import frame, usage
from launch.server.asks import Chat, Completion, Tokenize, parse
from launch.server.choices import chat_choices, completion_choices, completion_prompts, conversation_prompt
from launch.server.errors import ApiError, answer_errors
from launch.server.generation import Served
from launch.server.pages import page_file
from launch.server.respond import respond

LARGEST_BODY = 2 * 2**20  # bytes
BODY_SECONDS = 30.0  # a client that takes longer to send its body is let go
PLAYGROUND = Path(__file__).parents[1] / "playground"


def make_app(models: Mapping[str, Served], api_key: str | None = None) -> FastAPI:
    """The server of these models. With `api_key`, clients must send it."""
    app = FastAPI(title="Trivium", docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)

    def authorize(authorization: Annotated[str, Header()] = "") -> None:
        if api_key and not hmac.compare_digest(authorization.encode(), f"Bearer {api_key}".encode()):
            raise ApiError(401, "the API key is missing or wrong", code="invalid_api_key")

    api = APIRouter(dependencies=[Depends(authorize)])

    def find(name: str | None) -> Served:
        if name is None and len(models) == 1:
            return next(iter(models.values()))
        if name is None:
            raise ApiError(400, f"model is missing: choose one of {', '.join(models)}", "model")
        if name not in models:
            raise ApiError(404, f"no model {name[:100]!r}: there is {', '.join(models)}", "model", "model_not_found")
        return models[name]

    @app.get("/health")
    def health() -> JSONResponse:
        engines = {name: served.engine for name, served in models.items()}
        healthy = not any(engine.failure for engine in engines.values())
        counts = {name: {"samples": e.outstanding, "capacity": e.capacity} for name, e in engines.items()}
        return JSONResponse({"status": "ok" if healthy else "failed", "models": counts}, 200 if healthy else 500)

    @api.get("/v1/models")
    def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [describe(served) for served in models.values()]}

    @api.get("/v1/models/{name:path}")
    def one_model(name: str) -> dict[str, Any]:
        return describe(find(name))

    @api.post("/v1/completions")
    async def completions(request: Request) -> Response:
        ask: Completion = parse(await read(request), Completion)
        served = find(ask.model)
        prompts = await asyncio.to_thread(completion_prompts, served, ask)
        head = frame("text_completion", "cmpl", served.name)
        counts = usage(sum(len(prompt.tokens) for prompt in prompts), 0)
        return await respond(request, ask, head, completion_choices(served, ask, prompts, counts), counts)

    @api.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        ask: Chat = parse(await read(request), Chat)
        served = find(ask.model)
        tools = [] if ask.tool_choice == "none" else ask.tools
        prompt = await asyncio.to_thread(conversation_prompt, served, ask.messages, ask.style, tools)
        head = frame("chat.completion.chunk" if ask.stream else "chat.completion", "chatcmpl", served.name)
        if ask.return_token_ids:
            head["prompt_token_ids"] = prompt.tokens
        counts = usage(len(prompt.tokens), 0)
        return await respond(request, ask, head, chat_choices(served, ask, prompt, counts), counts)

    @api.post("/tokenize")
    async def tokenize(request: Request) -> dict[str, Any]:
        ask: Tokenize = parse(await read(request), Tokenize)
        served = find(ask.model)
        if ask.messages is not None:
            ids = list((await asyncio.to_thread(conversation_prompt, served, ask.messages, ask.style)).tokens)
        else:
            ids = await asyncio.to_thread(served.tokenizer.encode, ask.text or "")
        special = [not served.tokenizer.token_bytes(token) for token in ids]
        return {"model": served.name, "ids": ids, "pieces": list(map(served.tokenizer.piece, ids)), "special": special}

    @app.get("/")
    def playground() -> FileResponse:
        return page_file(PLAYGROUND, "index.html")

    @app.get("/{name}")
    def playground_file(name: str) -> FileResponse:
        return page_file(PLAYGROUND, name)

    app.include_router(api)
    return app


def describe(served: Served) -> dict[str, Any]:
    """A model as /v1/models shows it; the last four fields are ours."""
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "trivium",
        "context_length": served.context,
        "vocab_size": served.tokenizer.vocab_size,
        "style": served.style,
        "tools": [tool.name for tool in served.toolbox.tools] if served.toolbox else [],
    }


async def read(request: Request) -> bytes:
    """The body. Raises `ApiError` for one too large, too slow, or not declared to be JSON."""
    # A web page of another site cannot send this type without asking first, and so cannot make a browser use our model.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "send the body as JSON, with the header Content-Type: application/json")
    too_large = ApiError(413, f"the body is larger than {LARGEST_BODY:,} bytes")
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > LARGEST_BODY:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > LARGEST_BODY:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {BODY_SECONDS:.0f} seconds") from None
    return bytes(body)
