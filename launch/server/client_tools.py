"""Tools that the client brings and runs itself: OpenAI's `tools` and `tool_calls`.

The model is told of them in a system text. One that was not trained to read such a text will take no notice of it: it calls the
tools that it learnt, if any. A call of a tool that the client brought ends the turn and goes to the client; one call at a time.
"""

import json
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from data_pipeline.conversation import ToolCall, Turn, said
from launch.server.messages import Body

MOST = 128  # as many as OpenAI takes


class Function(Body):
    """What a tool is called, what it does, and the JSON schema of its arguments, which is not enforced."""

    name: str = Field(pattern=r"\A[a-zA-Z0-9_-]{1,64}\z")
    description: str = ""
    parameters: dict[str, Any] = Field({})
    strict: Literal[False] | None = None


class ClientTool(Body):
    """One of `tools`."""

    type: Literal["function"]
    function: Function


Tools = Annotated[list[ClientTool], Field(max_length=MOST)]


def with_tools(turns: Sequence[Turn], tools: Sequence[ClientTool]) -> list[Turn]:
    """The turns, the first of which tells of the tools."""
    if not tools:
        return list(turns)
    lines = [json.dumps(tool.function.model_dump(exclude={"strict"}), ensure_ascii=False) for tool in tools]
    text = "\n".join(["You can call these tools:", *lines])
    if turns and turns[0].role == "system":
        return [said("system", f"{turns[0].text}\n\n{text}"), *turns[1:]]
    return [said("system", text), *turns]


def function_call(call: ToolCall, index: int | None) -> dict[str, Any]:
    """A call for the client; in a stream with its number in the answer."""
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    numbered = {} if index is None else {"index": index}
    return {**numbered, "id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
