"""Errors as OpenAI's clients expect them: {"error": {"message", "type", "param", "code"}}, whatever went wrong."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pydantic
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from data_pipeline.errors import UserError


@dataclass
class ApiError(Exception):
    """What the client is answered in place of what it asked for."""

    status: int
    message: str
    param: str | None = None  # the field of the request that is wrong
    code: str | None = None


def contents(error: Exception) -> dict[str, Any]:
    """The JSON of any exception. One that nobody foresaw says nothing of our insides; the log has its traceback."""
    error = foreseen(error)
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(error.status, "invalid_request_error")
    kind = "server_error" if error.status >= 500 else kind
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


def foreseen(error: Exception) -> ApiError:
    """Any exception as an answer."""
    match error:
        case ApiError():
            return error
        case UserError():
            return ApiError(400, str(error))
        case pydantic.ValidationError():
            return wrong_value(error)
        case ClientDisconnect():
            return ApiError(499, "the client went away")  # nobody reads it
        case HTTPException():
            return ApiError(
                error.status_code, f"{HTTPStatus(error.status_code).phrase}: see the README for what is served"
            )
        case _:
            return ApiError(500, "the server failed; its log says why", code="internal_error")


def wrong_value(error: pydantic.ValidationError) -> ApiError:
    """The first value that pydantic found wrong: which, what it is, what it should be."""
    first = error.errors(include_url=False, include_context=False)[0]
    param = ""
    for part in first["loc"]:
        param += f"[{part}]" if isinstance(part, int) else f"{'.' * bool(param)}{part}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = f"{param} is missing"
    elif first["type"] == "extra_forbidden":
        message = f"unknown parameter {param[:100]}"
    elif param:
        given = repr(first["input"])
        message = f"{param}={given if len(given) <= 80 else given[:80] + '...'}: {message}"
    return ApiError(400, message, param or None)


def answer_errors(app: FastAPI) -> None:
    """Every error of the app, 404 and 405 too, in this form."""

    def answer(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
        known = foreseen(error)
        headers = dict(getattr(error, "headers", None) or {})  # a 405 says what is allowed
        if known.status == 429:
            headers["Retry-After"] = "1"  # seconds
        return JSONResponse(contents(known), known.status, headers)

    for kind in (ApiError, UserError, pydantic.ValidationError, ClientDisconnect, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
