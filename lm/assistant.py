"""Engine, tokenizer, protocol and tools together: a conversation in, the assistant's turn out.

The engine pauses a sample at the end of a call, the tool runs while the others go on, and its answer is put into the context
as tokens that nobody is trained to write.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from data_pipeline.conversation import BrokenCall, Part, Text, ToolCall, Turn
from data_pipeline.protocol import Prompt, Style, call_end, parse_parts, prompt, result_marks, tool_result
from data_pipeline.tokenizer import Tokenizer
from data_pipeline.tools.tool import Limits, Tool, call
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import STOP, Completion, Interjection, Request
from lm.inference.sampling import Sampling

NO_MORE = "error: no more calls in this turn; answer with what you have"


@dataclass(frozen=True)
class Toolbox:
    """The tools an assistant has, and how much of them."""

    tools: tuple[Tool, ...]
    calls: int = 4  # in one turn, at most
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Reply:
    """The assistant's turn, as far as it came."""

    parts: tuple[Part, ...]
    completion: Completion
    forged: bool = False  # it began to write a tool's result, and was ended there

    @property
    def text(self) -> str:
        """Its words to the user."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def calls(self) -> list[ToolCall]:
        """The calls that could be read."""
        return [part for part in self.parts if isinstance(part, ToolCall)]

    @property
    def well_formed(self) -> bool:
        """Whether it ended by itself, with nothing broken in it and something said."""
        broken = any(isinstance(part, BrokenCall) for part in self.parts)
        unanswered = any(isinstance(part, ToolCall) for part in self.parts[-1:])
        whole = not (broken or unanswered or self.forged)
        return self.completion.reason == STOP and whole and bool(self.text.strip())


def request(
    tokenizer: Tokenizer,
    turns: Sequence[Turn],
    max_tokens: int,
    sampling: Sampling,
    *,
    seed: int = 0,
    samples: int = 1,
    toolbox: Toolbox | None = None,
    style: Style | None = None,
) -> Request:
    """What the engine is asked for when the assistant is to answer. Raises `UserError` as `protocol.prompt` does."""
    asked = prompt(tokenizer, turns, style)
    return Request(
        asked.tokens,
        max_tokens,
        sampling,
        seed=seed,
        samples=samples,
        stop_tokens=asked.stop_tokens,
        stop_strings=asked.stop_strings,
        interjection=interjection(tokenizer, toolbox) if toolbox and not asked.stop_strings else None,
    )


def answering(
    tokenizer: Tokenizer, asked: Prompt, toolbox: Toolbox | None, elsewhere: Collection[str] = ()
) -> tuple[tuple[int, ...], Interjection | None]:
    """For who shows an answer as it is written: its stop tokens, and how calls are answered. Without tools a call ends it."""
    end = None if asked.stop_strings else call_end(tokenizer)
    if end is None or toolbox is None:
        return (*asked.stop_tokens, *([] if end is None else [end])), None
    return asked.stop_tokens, interjection(tokenizer, toolbox, elsewhere)


def interjection(tokenizer: Tokenizer, toolbox: Toolbox, elsewhere: Collection[str] = ()) -> Interjection | None:
    """How calls are answered; None where the vocabulary has no way to write one.

    After `toolbox.calls` of them the answer is an error, and the one after that ends the turn. So does a call of a tool that
    `elsewhere` names: somebody else runs it.
    """
    end = call_end(tokenizer)
    if end is None:
        return None

    def answer(tokens: list[int]) -> list[int] | None:
        calls = [part for part in parse_parts(tokenizer, tokens) if isinstance(part, ToolCall | BrokenCall)]
        if not calls:  # a mark where it means nothing
            return []
        if len(calls) > toolbox.calls + 1:
            return None
        asked = calls[-1]
        if isinstance(asked, ToolCall) and asked.name in elsewhere:
            return None
        if len(calls) > toolbox.calls:
            text = NO_MORE
        elif isinstance(asked, BrokenCall):
            text = f"error: {asked.problem}"
        else:
            text = call(toolbox.tools, asked, toolbox.limits)
        return tool_result(tokenizer, text)

    return Interjection((end,), answer)


def read_reply(tokenizer: Tokenizer, completion: Completion) -> Reply:
    """What the engine wrote, as parts."""
    # A call that ends the turn, as one too many does, is whole all the same.
    ended_by_call = completion.stopped_by is not None and completion.stopped_by == call_end(tokenizer)
    tokens = completion.written.tokens if ended_by_call else completion.content
    return Reply(parse_parts(tokenizer, tokens), completion, forged=completion.stopped_by in result_marks(tokenizer))


def replies(engine: Engine, tokenizer: Tokenizer, requests: Sequence[Request]) -> list[list[Reply]]:
    """The samples of each request."""
    return [[read_reply(tokenizer, each) for each in samples] for samples in generate(engine, requests)]
