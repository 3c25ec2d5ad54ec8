"""What a client may ask for. Every field is checked; one that we do not know or cannot serve is refused, not passed over."""

import difflib
import json
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from data_pipeline.protocol import Style
from launch.server.client_tools import ClientTool, Tools
from launch.server.errors import ApiError
from launch.server.messages import Body, Message
from lm.inference.sampling import Sampling

# Parts of OpenAI's interface that are not served, and the values that ask for nothing.
NOT_SERVED: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "suffix": ("",),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
LONGEST_STOP = 1000  # characters of a stop string

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]


class StreamOptions(Body):
    """Of a stream."""

    include_usage: bool = False


class Generation(Body):
    """What completions and chat have in common. Fields marked (ours) are no part of OpenAI's interface."""

    model: str | None = None  # may be left out where one model is served
    n: int = Field(1, ge=1, le=128)
    max_tokens: int | None = Field(None, ge=1)
    # The engine computes in float32 and int32: what would round to 0 or to infinity there is refused here.
    temperature: float = Field(1.0, ge=0, le=1000)
    top_p: float = Field(1.0, ge=1e-6, le=1)
    top_k: int = Field(0, ge=0, lt=2**31)  # (ours)
    min_p: float = Field(0.0, ge=0, le=1)  # (ours)
    repetition_penalty: float = Field(1.0, ge=0.01, le=100)  # (ours)
    stop: list[Stop] = Field([], max_length=4)
    seed: Seed | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str = ""
    return_token_ids: bool = False  # (ours) prompt_token_ids and token_ids, with those of what ended the text

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("temperature")
    @classmethod
    def _greedy_or_not(cls, value: float) -> float:
        if 0 < value < 1e-3:
            raise ValueError("must be 0 (greedy) or at least 0.001")
        return value

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> Self:
        if self.stream_options and not self.stream:
            raise ValueError("stream_options needs stream=true")
        return self

    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
        )


class Completion(Generation):
    """The body of /v1/completions."""

    prompt: Any
    max_tokens: int | None = Field(None, ge=0)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=20)

    @field_validator("prompt", mode="after")
    @classmethod
    def _prompts(cls, value: Any) -> list[str | list[int]]:
        """As a list of prompts, of whatever form it came in."""
        prompts = value if isinstance(value, list) and value and not _are_tokens(value) else [value]
        for prompt in prompts:
            if not isinstance(prompt, str) and not _are_tokens(prompt):
                raise ValueError("must be a string, a list of strings, a list of token ids, or a list of such lists")
            if prompt == []:
                raise ValueError("an empty prompt: give at least one token")
        return prompts

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens=0: must be at least 1, but with echo")
        return self


class Chat(Generation):
    """The body of /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    tools: Tools = Field([])
    tool_choice: str = "auto"
    style: Style | None = None  # (ours) how the conversation is written: data_pipeline/protocol.py

    @field_validator("tools")
    @classmethod
    def _one_of_each(cls, value: list[ClientTool]) -> list[ClientTool]:
        names = [tool.function.name for tool in value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two tools are named {twice[0]}")
        return value

    @field_validator("tool_choice", mode="before")
    @classmethod
    def _free_choice(cls, value: Any) -> str:
        if value not in ("none", "auto"):
            raise ValueError('must be "none" or "auto": nothing here can make a model call a tool')
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs=true")
        if self.max_completion_tokens is not None:
            if self.max_tokens not in (None, self.max_completion_tokens):
                raise ValueError("max_tokens and max_completion_tokens differ: give one of them")
            self.max_tokens = self.max_completion_tokens
        return self


class Tokenize(Body):
    """The body of /tokenize."""

    model: str | None = None
    text: str | None = None
    messages: list[Message] | None = Field(None, min_length=1)
    style: Style | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give text or messages, one of them")
        return self


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and all(type(token) is int for token in value)


def parse(contents: bytes, kind: type[Body]) -> Any:
    """The body of a request. Raises `ApiError` and pydantic's `ValidationError`."""
    try:
        fields = json.loads(contents.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not UTF-8: byte {contents[error.start]:#04x} at {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {str(error)[:200]}") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "the body must be a JSON object")
    if b"\\ud" in contents.lower():
        try:
            json.dumps(fields, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ApiError(400, r"the body holds half a character (a lone surrogate, \ud800 to \udfff)") from None
    fields = {
        name: value for name, value in fields.items() if value is not None
    }  # null is how clients leave a field out
    for name in [name for name in fields if name in NOT_SERVED and name not in kind.model_fields]:
        if fields.pop(name) not in NOT_SERVED[name]:
            raise ApiError(400, f"{name} is not served here: leave it out", name, "unsupported_parameter")
    for name in fields:
        if name not in kind.model_fields:
            near = difflib.get_close_matches(name[:100], kind.model_fields, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise ApiError(400, f"unknown parameter {name[:100]}{hint}", name[:100], "unknown_parameter")
    return kind.model_validate(fields)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
