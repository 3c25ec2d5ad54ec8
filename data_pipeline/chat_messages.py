"""Turns as OpenAI's messages: what `chat_formats` reads, written."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipeline.chat_formats import conversation_of
from data_pipeline.conversation import Text, Thinking, ToolCall, ToolResult, Turn

Message = dict[str, Any]


def messages_of(turns: Sequence[Turn]) -> list[Message]:
    """The messages of a conversation. Raises `ValueError` for turns that would not be read back as they are."""
    messages: list[Message] = []
    for turn in turns:
        if turn.role == "assistant":
            messages += _assistant(turn)
        else:
            messages.append({"role": turn.role, "content": turn.text})
    if conversation_of("", {"messages": messages}).turns != tuple(turns):
        raise ValueError("parts in an order that messages do not have")
    return messages


def _assistant(turn: Turn) -> Iterator[Message]:
    """A message up to each result, and one for what comes after the last."""
    message: Message = {"role": "assistant"}
    for part in turn.parts:
        match part:
            case Thinking():
                message["reasoning_content"] = part.text
            case Text():
                message["content"] = part.text
            case ToolCall():
                function = {"name": part.name, "arguments": json.dumps(part.arguments, ensure_ascii=False)}
                message["tool_calls"] = [{"type": "function", "function": function}]
            case ToolResult():
                yield message
                yield {"role": "tool", "content": part.text}
                message = {"role": "assistant"}
            case _:
                raise ValueError("a call that cannot be read")
    yield message
