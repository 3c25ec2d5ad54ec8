"""What a client gets back: choices in OpenAI's form. A whole answer is the pieces of its stream, put together."""

import codecs
import json
import math
import secrets
import time
from typing import Any

from data_pipeline.tokenizer import Tokenizer
from lm.inference.requests import Written

SMALLEST_LOG_PROB = -9999.0  # OpenAI's stand-in for minus infinity, which JSON lacks


def frame(kind: str, prefix: str, model: str) -> dict[str, Any]:
    """What every answer, and every piece of a stream, begins with."""
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": model}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """How many tokens were read and written."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def event(content: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False, allow_nan=False)}\n\n"


def merge(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add a piece of a choice to what came before: texts and lists grow, other values are set once."""
    for key, value in piece.items():
        before = whole.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merge(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            before += value
        elif key in ("text", "content") and isinstance(before, str):
            whole[key] = before + value
        elif value is not None or key not in whole:
            whole[key] = value


class TextOffsets:
    """Where in the text of a choice each token begins, in characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at = 0

    def next(self, token: int) -> int:
        """The offset of the next token."""
        at = self._at
        self._at += len(self._decoder.decode(self._tokenizer.token_bytes(token)))
        return at


def completion_logprobs(tokenizer: Tokenizer, new: Written, offsets: TextOffsets) -> dict[str, Any]:
    """The `logprobs` of a completion's choice: four lists with an item for each token, the one that ended the text too."""
    top: list[dict[str, float] | None] = []
    for number, (token, log_p) in enumerate(zip(new.tokens, new.log_probs, strict=True)):
        best = new.alternatives[number] if new.alternatives else []
        likeliest = {tokenizer.piece(other.token): log_prob(other.log_prob) for other in best}
        # The token itself is always among them; the first of a prompt has no probability at all.
        top.append(None if math.isnan(log_p) else likeliest | {tokenizer.piece(token): log_prob(log_p)})
    return {
        "tokens": [tokenizer.piece(token) for token in new.tokens],
        "token_logprobs": [None if math.isnan(log_p) else log_prob(log_p) for log_p in new.log_probs],
        "top_logprobs": top,
        "text_offset": [offsets.next(token) for token in new.tokens],
    }


def chat_logprobs(tokenizer: Tokenizer, new: Written) -> dict[str, Any]:
    """The `logprobs` of a chat's choice: an item for each token, the one that ended the text too."""

    def shown(token: int, log_p: float) -> dict[str, Any]:
        contents = tokenizer.token_bytes(token)
        return {
            "token": tokenizer.piece(token),
            "logprob": log_prob(log_p),
            "bytes": list(contents) if contents else None,
        }

    content = []
    for number, (token, log_p) in enumerate(zip(new.tokens, new.log_probs, strict=True)):
        best = new.alternatives[number] if new.alternatives else []
        likeliest = [shown(other.token, other.log_prob) for other in best]
        content.append(shown(token, log_p) | {"top_logprobs": likeliest})
    return {"content": content}


def log_prob(value: float) -> float:
    """A log-probability that JSON can hold."""
    return max(value, SMALLEST_LOG_PROB)
