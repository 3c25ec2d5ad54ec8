r"""The marks around turns and parts, in a vocabulary of ours and in two that others use.

ChatML (Qwen, SmolLM2): `<|im_start|>ROLE\n` text `<|im_end|>\n`. Thinking is `<think>\n` text `\n</think>\n\n`, a call is
`<tool_call>\n` JSON `\n</tool_call>`, and a result comes in a turn of the user, `<tool_response>\n` text
`\n</tool_response>`; each where the vocabulary has these tokens (Qwen 3 has all six). Thinking of earlier turns stays, while
Qwen's own template drops it: so that a longer conversation starts as a shorter one.

Llama 3: `<|begin_of_text|>`, then each turn as `<|start_header_id|>ROLE<|end_header_id|>\n\n` text `<|eot_id|>`.

No system turn is added that was not given.
"""

import json
from dataclasses import dataclass

from data_pipeline.conversation import ROLES, BrokenCall, Role, ToolCall
from data_pipeline.errors import UserError
from data_pipeline.special_tokens import (
    ASSISTANT_START,
    END_OF_TURN,
    SPECIAL_TOKENS,
    SYSTEM_START,
    THINKING_END,
    THINKING_START,
    TOOL_CALL_END,
    TOOL_CALL_START,
    TOOL_RESULT_END,
    TOOL_RESULT_START,
    USER_START,
)
from data_pipeline.tokenizer import Tokenizer

# Special tokens by id, and the text that some vocabularies have between them.
Mark = list[int | str]


@dataclass(frozen=True)
class Marks:
    """What one vocabulary has before and after each thing. None: it has no tokens for it."""

    start: Mark  # of the conversation
    header: dict[Role, Mark]
    end: int  # the assistant writes it when its turn is over
    after_end: Mark
    thinking: tuple[Mark, Mark] | None
    call: tuple[Mark, Mark] | None
    result: tuple[Mark, Mark] | None
    chatml: bool = False  # whether newlines stand around what parts hold, and a call is one JSON object


def find_marks(tokenizer: Tokenizer) -> Marks | None:
    """Ours where the vocabulary has them, else another's; None where it has neither."""
    return our_marks(tokenizer) or _chatml(tokenizer) or _llama3(tokenizer)


def our_marks(tokenizer: Tokenizer) -> Marks | None:
    """Special tokens alone; see `protocol.py`. None where the vocabulary lacks one of them."""
    special = tokenizer.special_tokens
    if not special.keys() >= set(SPECIAL_TOKENS):
        return None
    names = (SYSTEM_START, USER_START, ASSISTANT_START)
    return Marks(
        start=[tokenizer.document_start],
        header={role: [special[name]] for role, name in zip(ROLES, names, strict=True)},
        end=special[END_OF_TURN],
        after_end=[],
        thinking=([special[THINKING_START]], [special[THINKING_END]]),
        call=([special[TOOL_CALL_START]], [special[TOOL_CALL_END]]),
        result=([special[TOOL_RESULT_START]], [special[TOOL_RESULT_END]]),
    )


def _chatml(tokenizer: Tokenizer) -> Marks | None:
    ids = {name: token for token, name in tokenizer.vocabulary.special_names.items()}
    if not ids.keys() >= {"<|im_start|>", "<|im_end|>"}:
        return None

    def pair(name: str) -> tuple[Mark, Mark] | None:
        return ([ids[f"<{name}>"]], [ids[f"</{name}>"]]) if ids.keys() >= {f"<{name}>", f"</{name}>"} else None

    end = ids["<|im_end|>"]
    header: dict[Role, Mark] = {role: [ids["<|im_start|>"], f"{role}\n"] for role in ROLES}
    result = pair("tool_response")
    return Marks(
        start=[],
        header=header,
        end=end,
        after_end=["\n"],
        thinking=pair("think"),
        call=pair("tool_call"),
        # The assistant's turn ends, and the next one goes on.
        result=result and ([end, "\n", *header["user"], *result[0]], [*result[1], end, "\n", *header["assistant"]]),
        chatml=True,
    )


def _llama3(tokenizer: Tokenizer) -> Marks | None:
    ids = {name: token for token, name in tokenizer.vocabulary.special_names.items()}
    if not ids.keys() >= {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}:
        return None
    return Marks(
        start=[tokenizer.document_start],
        header={role: [ids["<|start_header_id|>"], role, ids["<|end_header_id|>"], "\n\n"] for role in ROLES},
        end=ids["<|eot_id|>"],
        after_end=[],
        thinking=None,
        call=None,
        result=None,
    )


def read_call(text: str, marks: Marks) -> ToolCall | BrokenCall:
    """What stands between the marks of a call."""
    try:
        if marks.chatml:
            stated = json.loads(text)
            name, arguments = stated["name"], stated["arguments"]
        else:
            name, _, stated = text.partition("\n")
            arguments = json.loads(stated)
        call = ToolCall(name, arguments)
        write_call(call, marks)
    except UserError as error:
        return BrokenCall(text, str(error))
    except (KeyError, TypeError):
        return BrokenCall(text, "a call is a JSON object with the keys name and arguments")
    except (ValueError, RecursionError) as error:
        return BrokenCall(text, f"the arguments are not JSON: {error}")
    return call


def write_call(call: ToolCall, marks: Marks) -> str:
    """A call as text. Raises `UserError` for one that would not come back from it as it is."""
    if not isinstance(call.name, str) or not call.name or "\n" in call.name:
        raise UserError(f"the tool's name is {call.name!r}: a name is one line, and not empty")
    if not isinstance(call.arguments, dict):
        raise UserError(f"the arguments of {call.name} are no JSON object")
    stated = {"name": call.name, "arguments": call.arguments} if marks.chatml else call.arguments
    try:
        text = json.dumps(stated, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"the arguments of {call.name} are not JSON: {error}") from None
    return text if marks.chatml else f"{call.name}\n{text}"
