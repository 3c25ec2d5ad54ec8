r"""Rankings as rows of files. Each row is told by its keys, so that one file may mix them.

    prompt, responses or completions, ranks or rankings    ours: the smaller the better, equal is a tie, null was not judged
    prompt, responses or completions, scores               the higher the better
    prompt, responses or completions, votes                [[winner, loser], ...], by index
    chosen, rejected, and perhaps prompt                   texts or messages, the prompt apart or at the start of both;
                                                           or transcripts ("\n\nHuman: ... \n\nAssistant: ...")

A prompt is a text or a list of messages. A response is a text, an object with a text, a message, or a list of messages.
`{"undo": id}` takes back what came before it under this id, and `{"skip": ..., "id": ...}` says that somebody did not want to
judge: `launch.rank` writes both. Other keys are not read.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipeline.chat_formats import ROLES as NAMED
from data_pipeline.chat_formats import BadRow, conversation_of, records
from data_pipeline.conversation import (
    BrokenCall,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
    check_order,
    said,
)
from data_pipeline.errors import UserError
from data_pipeline.files import is_unicode
from data_pipeline.ranking import Ranking, fault, pairs
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_rows
from data_pipeline.votes import Ranks, ranks_of_votes

PAIR = {"chosen", "rejected"}
RESPONSES = ("responses", "completions")
JUDGEMENTS = ("ranks", "rankings", "scores", "votes")
SPEAKER = re.compile(r"\n\n(Human|Assistant): ?")
PARTS: dict[str, type] = {
    "text": Text,
    "thinking": Thinking,
    "tool_call": ToolCall,
    "broken_call": BrokenCall,
    "tool_result": ToolResult,
}

Messages = list[dict[str, Any]]


def read_rankings(source: str, set_aside: SetAside) -> Iterator[Ranking]:
    """The rankings of a file, a glob or tfds:NAME, each with at least one pair; see `sources.read_rows`.

    Several raters may rank under one id, if it is the same texts. Rows that are no ranking, and what was skipped or undone, go
    to `set_aside`. All is read before the first comes, since the last row may undo it. Raises `UserError` where the source
    cannot be found or read.
    """
    kept: dict[str, list[Ranking]] = {}  # by id
    for where, row in read_rows(source, set_aside):
        try:
            if "undo" in row:
                undone = kept.pop(str(row["undo"]), None)
                if undone is None:
                    raise BadRow("an undo of what is not there")
                for ranking in undone:
                    set_aside.add(where, "undone by its rater", json.dumps(write_row(ranking)).encode())
            elif "skip" in row:
                kept[str(row.get("id"))] = []
                raise BadRow("skipped by its rater")
            else:
                for ranking in rankings_of(where, row):
                    before = kept.get(ranking.id, [])
                    _check_against(before, ranking)
                    kept[ranking.id] = [*before, ranking]
        except BadRow as error:
            set_aside.add(where, str(error), json.dumps(row, default=str).encode())
    for rankings in kept.values():
        yield from rankings


def rankings_of(where: str, row: dict[str, Any]) -> list[Ranking]:
    """One row, found at `where`: one ranking, or several where its votes leave the order open. Raises `BadRow`."""
    prompt, responses = texts_of(row)
    judged = next((key for key in JUDGEMENTS if key in row), None)
    if row.keys() >= PAIR:
        judgements: list[Ranks] = [(0, 1)]
    elif judged:
        judgements = _judgements(judged, row[judged], len(responses))
    else:
        raise BadRow("unknown schema")
    if len(responses) < 2:
        raise BadRow("fewer than two responses")
    name = where if row.get("id") in (None, "") else str(row["id"])
    rater, time, held_out = _text(row, "rater"), _text(row, "time"), _held_out(row)
    rankings = []
    for number, ranks in enumerate(judgements):
        numbered = f"{name}/{number}" if len(judgements) > 1 else name
        ranking = Ranking(numbered, prompt, responses, ranks, rater, time, held_out)
        reason = fault(ranking) or ("" if pairs(ranking) else "no two responses are told apart")
        if reason:
            raise BadRow(reason)
        rankings.append(ranking)
    return rankings


def texts_of(row: dict[str, Any]) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """The prompt and the responses of a row, whoever likes which. Raises `BadRow`."""
    if not is_unicode(json.dumps(row, ensure_ascii=False, default=str)):
        raise BadRow("text with half a surrogate pair")
    given = next((row[key] for key in RESPONSES if key in row), None)
    if row.keys() >= PAIR:
        exchanges = [_exchange(_side(row, row[side])) for side in ("chosen", "rejected")]
    elif isinstance(given, list):
        exchanges = [_exchange([*_asked(row), *_response(each)]) for each in given]
    else:
        raise BadRow("unknown schema" if given is None else "responses that are no list")
    if any(prompt != exchanges[0][0] for prompt, _ in exchanges):
        raise BadRow("the responses answer different prompts")
    return exchanges[0][0] if exchanges else (), tuple(response for _, response in exchanges)


def write_row(ranking: Ranking, **more: Any) -> dict[str, Any]:
    """What `rankings_of` reads as this ranking, and `more` besides."""
    prompt = [_written(turn) for turn in ranking.prompt]
    alone = len(prompt) == 1 and "content" in prompt[0]
    return {
        "id": ranking.id,
        "prompt": prompt[0]["content"] if alone else prompt,
        "responses": [written.get("content", written) for written in map(_written, ranking.responses)],
        "ranks": list(ranking.ranks),
        "rater": ranking.rater,
        "time": ranking.time,
        "held_out": ranking.held_out,
        **more,
    }


def prompt_of(row: dict[str, Any]) -> tuple[Turn, ...]:
    """The prompt of a row alone. Raises `BadRow`."""
    if not is_unicode(json.dumps(row, ensure_ascii=False, default=str)):
        raise BadRow("text with half a surrogate pair")
    return _exchange([*_asked(row), *_response("...")])[0]


def _check_against(before: Sequence[Ranking], ranking: Ranking) -> None:
    for other in before:
        if (other.prompt, other.responses) != (ranking.prompt, ranking.responses):
            raise BadRow("an id that stands for other texts above")
        if other.rater == ranking.rater:
            raise BadRow("ranked above by the same rater")


def _asked(row: dict[str, Any]) -> Messages:
    prompt = row.get("prompt")
    if prompt is None:
        raise BadRow("no prompt")
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else records(prompt)


def _response(value: Any) -> Messages:
    if isinstance(value, dict) and ("role" in value or "from" in value):
        return [value]
    if isinstance(value, dict):
        value = value.get("text", value.get("content"))
    return [{"role": "assistant", "content": value}] if isinstance(value, str) else records(value)


def _side(row: dict[str, Any], value: Any) -> Messages:
    """The conversation that ends with the chosen or the rejected response."""
    prompt = row.get("prompt")
    if isinstance(value, str):
        begun = prompt if isinstance(prompt, str) and SPEAKER.match(prompt) else ""
        whole = value if SPEAKER.match(value) and value.startswith(begun) else begun + value
        return _transcript(whole) if SPEAKER.match(whole) else [*_asked(row), *_response(value)]
    messages = _response(value)
    return [*_asked(row), *messages] if messages and _role(messages[0]) == "assistant" else messages


def _transcript(text: str) -> Messages:
    """White space around what is said is the transcript's own."""
    _, *pieces = SPEAKER.split(text)
    return [
        {"role": speaker.lower(), "content": words.strip()}
        for speaker, words in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def _exchange(messages: Messages) -> tuple[tuple[Turn, ...], Turn]:
    """The prompt, which ends with the user's turn, and the assistant's answer to it."""
    if not messages or _role(messages[-1]) == "user":
        raise BadRow("no response after the prompt")
    if any("parts" in message for message in messages):
        turns = tuple(map(_turn, messages))
        try:
            check_order(turns)
        except UserError as error:
            raise BadRow(str(error)) from None
    else:
        turns = conversation_of("", {"messages": messages}).turns
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise BadRow("no response after the prompt")
    return turns[:-1], turns[-1]


def _role(message: dict[str, Any]) -> str | None:
    named = message.get("role", message.get("from"))
    return NAMED.get(named) if isinstance(named, str) else None


def _written(turn: Turn) -> dict[str, Any]:
    """A turn as a message; one that is not just a text with its parts, which `_turn` reads back exactly."""
    if [type(part) for part in turn.parts] == [Text]:
        return {"role": turn.role, "content": turn.text}
    names = {kind: name for name, kind in PARTS.items()}
    return {"role": turn.role, "parts": [{"type": names[type(part)], **vars(part)} for part in turn.parts]}


def _turn(message: dict[str, Any]) -> Turn:
    role, parts = message.get("role"), message.get("parts")
    if role not in ("system", "user", "assistant"):
        raise BadRow("unknown role")
    if parts is None and isinstance(message.get("content"), str):
        return said(role, message["content"])
    return Turn(role, tuple(map(_part, records(parts))))


def _part(fields: dict[str, Any]) -> Part:
    fields = dict(fields)
    named = fields.pop("type", None)
    kind = PARTS.get(named) if isinstance(named, str) else None
    if kind is None or fields.keys() != {field.name for field in dataclasses.fields(kind)}:
        raise BadRow("unknown part of a turn")
    if not all(isinstance(value, dict if name == "arguments" else str) for name, value in fields.items()):
        raise BadRow("a part of a turn that is not text")
    return kind(**fields)


def _judgements(key: str, values: Any, count: int) -> list[Ranks]:
    """The ranks of each ranking that a row holds."""
    if not isinstance(values, list):
        raise BadRow(f"{key} that are no list")
    if key == "votes":
        if not all(isinstance(vote, list) and len(vote) == 2 and all(map(_whole, vote)) for vote in values):
            raise BadRow("a vote that is not [winner, loser]")
        try:
            return ranks_of_votes([(winner, loser) for winner, loser in values], count)
        except ValueError as error:
            raise BadRow(str(error)) from None
    if key == "scores":
        if not all(each is None or _number(each) for each in values):
            raise BadRow("a score that is no number")
        order = sorted({each for each in values if each is not None}, reverse=True)
        place = {score: rank for rank, score in enumerate(order)}
        return [tuple(place.get(each) for each in values)]
    if not all(each is None or _whole(each) for each in values):
        raise BadRow("a rank that is no whole number")
    return [tuple(values)]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return _whole(value) or (isinstance(value, float) and math.isfinite(value))


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise BadRow(f"a {key} that is no text")
    return value or ""


def _held_out(row: dict[str, Any]) -> bool | None:
    value = row.get("held_out")
    if value is not None and not isinstance(value, bool):
        raise BadRow("held_out that is neither true nor false")
    return value
