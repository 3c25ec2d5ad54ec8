r"""A conversation as the tokens that a model reads, which of them it is trained to write, and the way back.

Two styles. "tokens": every turn and part between special tokens, which no text can forge; for models that were finetuned on
conversations. In a vocabulary of ours:

    document_start [system_start text end_of_turn] { user_start text end_of_turn assistant_start PARTS end_of_turn } ...
    PARTS: text | thinking_start text thinking_end | tool_call_start NAME \n JSON tool_call_end
           | tool_result_start text tool_result_end

Trained is what the assistant writes: its text, its thinking and its calls with their marks, and the end of its turn. The
tool's result is written by the tool, in the middle of the turn, its marks too: it is read like a prompt.

"plain": a dialogue written as text, for a base model, which has read dialogues but was never trained on the special tokens:
an assistant by prompt alone. In that style a text may forge a turn, since "\nAssistant:" is only text.

What is encoded together never spans a place where the assistant begins or ends, so that a longer conversation starts with
the tokens of a shorter one, and what was read once need not be read again.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from data_pipeline.conversation import (
    BrokenCall,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
    check_order,
    check_prompt,
    said,
    waits,
)
from data_pipeline.errors import UserError
from data_pipeline.marks import Mark, Marks, find_marks, our_marks, read_call, write_call
from data_pipeline.tokenizer import Tokenizer

Style = Literal["tokens", "plain"]
Piece = tuple[int | str, bool]  # a special token or text, and whether it is trained

# What other vocabularies call the end of a document.
DOCUMENT_ENDS = ("<|end_of_text|>", "<|endoftext|>", "</s>")


@dataclass(frozen=True)
class Rendered:
    """A conversation in tokens: `trained[i]` says whether the model is trained to write `tokens[i]`."""

    tokens: list[int]
    trained: list[bool]
    turn_ends: list[int]  # turn i ends before tokens[turn_ends[i]], with all that belongs to it


@dataclass(frozen=True)
class Prompt:
    """What the model reads, and what ends its answer."""

    tokens: tuple[int, ...]
    stop_tokens: tuple[int, ...]
    stop_strings: tuple[str, ...]


def render(tokenizer: Tokenizer, turns: Sequence[Turn]) -> Rendered:
    """The tokens of a conversation, or of any beginning of one.

    Raises `UserError` for turns in another order, a part that the vocabulary has no marks for, a text that is not Unicode,
    and a call that cannot be written: a name with a newline, or arguments that JSON does not know.
    """
    check_order(turns)
    marks = _marks(tokenizer)
    rendered = Rendered(*_encode(tokenizer, _read(marks.start)), turn_ends=[])
    for turn in turns:
        end = [(marks.end, turn.role == "assistant"), *_read(marks.after_end)]
        tokens, trained = _encode(tokenizer, [*_begun(turn, marks), *end])
        rendered.tokens.extend(tokens)
        rendered.trained.extend(trained)
        rendered.turn_ends.append(len(rendered.tokens))
    return rendered


def prompt(tokenizer: Tokenizer, turns: Sequence[Turn], style: Style | None = None) -> Prompt:
    """The tokens of a conversation that the assistant is to go on with; they end right where its first token goes.

    The turns are: at most one of the system, then the user's and the assistant's in turn, the user's first. The last is the
    user's, or one of the assistant that ends with a tool result. `style` None: see `default_style`. Raises `UserError` for
    turns in another order, for parts in the plain style, and for "tokens" where the vocabulary has none.
    """
    check_prompt(turns)
    ends = document_ends(tokenizer)
    if (style or default_style(tokenizer)) == "plain":
        return Prompt((tokenizer.document_start, *plain(tokenizer, turns)), ends, ("\nUser:",))
    marks = _marks(tokenizer)
    done, begun = (turns[:-1], turns[-1]) if waits(turns[-1]) else (turns, Turn("assistant", ()))
    tokens, _ = _encode(tokenizer, _begun(begun, marks))
    stops = tuple(dict.fromkeys((marks.end, *ends, *result_marks(tokenizer))))
    return Prompt((*render(tokenizer, done).tokens, *tokens), stops, ())


def result_marks(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens around a tool's result, but for the end of a turn: a model that writes one forges it, and ends its turn."""
    marks = _marks(tokenizer)
    around = itertools.chain(*(marks.result or ()))
    return tuple(dict.fromkeys(mark for mark in around if isinstance(mark, int) and mark != marks.end))


def end_of_turn(tokenizer: Tokenizer) -> int:
    """The token with which an assistant ends its turn."""
    return _marks(tokenizer).end


def call_end(tokenizer: Tokenizer) -> int | None:
    """The token with which a call is whole; None where the vocabulary has none."""
    call = _marks(tokenizer).call
    if call is None:
        return None
    (end,) = call[1]
    assert isinstance(end, int)  # a mark's text is only ever between tokens
    return end


def tool_result(tokenizer: Tokenizer, text: str) -> list[int]:
    """What is put into the context after a call: the tool's answer, between its marks."""
    return _encode(tokenizer, _part(ToolResult(text), _marks(tokenizer)))[0]


def document_ends(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens that end a document: the start of the next, and what other vocabularies have besides."""
    others = [token for token, name in tokenizer.vocabulary.special_names.items() if name in DOCUMENT_ENDS]
    return tuple(dict.fromkeys([tokenizer.document_start, *others]))


def default_style(tokenizer: Tokenizer) -> Style:
    """What to guess from the vocabulary alone: tokens where it is another's that marks turns, else plain.

    In a vocabulary of ours base models have the special tokens too: whoever knows that a run was finetuned says "tokens".
    """
    return "tokens" if our_marks(tokenizer) is None and find_marks(tokenizer) else "plain"


def plain(tokenizer: Tokenizer, turns: Sequence[Turn]) -> list[int]:
    """The dialogue as text. White space around a turn is the dialogue's own and is left out."""
    tokens: list[int] = []
    between = ""
    for turn in turns:
        if not all(isinstance(part, Text) for part in turn.parts):
            raise UserError("the plain style has no way to write thinking and tool calls: use the style tokens")
        text = turn.text.strip()
        if turn.role == "system":
            tokens += tokenizer.encode(f"{text}\n\n")
        elif turn.role == "user":
            tokens += tokenizer.encode(f"{between}User: {text}\nAssistant:")
        else:
            tokens += tokenizer.encode(f" {text}")
            between = "\n"
    return tokens


def parse(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[Turn]:
    """The turns of a conversation that `render` or `prompt` wrote in a vocabulary of ours; the last may be unfinished.

    Neighbouring texts of a turn come back as one, and empty ones of the assistant not at all. Raises `UserError` for tokens
    that do not begin as a conversation does, and for the vocabularies of others.
    """
    marks = our_marks(tokenizer)
    if marks is None:
        raise UserError("only conversations in a vocabulary of ours can be read back from their tokens")
    role_of = {header[0]: role for role, header in marks.header.items()}
    starts = [at for at, token in enumerate(tokens) if token in role_of]
    if list(tokens[:1]) != marks.start or starts[:1] != [1]:
        raise UserError("these tokens are no conversation: one begins with document_start and the start of a turn")
    turns = []
    for start, stop in itertools.pairwise([*starts, len(tokens)]):
        role, inside = role_of[tokens[start]], tokens[start + 1 : stop]
        if role == "assistant":
            turns.append(Turn(role, parse_parts(tokenizer, inside)))
        else:
            turns.append(said(role, tokenizer.decode(itertools.takewhile(lambda token: token != marks.end, inside))))
    return turns


def parse_parts(tokenizer: Tokenizer, tokens: Sequence[int]) -> tuple[Part, ...]:
    """What an assistant's turn says, given the tokens after its header: whole, or as far as it has been written.

    A model may write anything. A call without a name or an end, or whose arguments are no JSON object, is a `BrokenCall`;
    thinking that was not closed ends where the next part or the turn does; a mark where it means nothing is left out; what
    comes after the end of the turn is not read.
    """
    marks = _marks(tokenizer)
    parts: list[Part] = []
    for kind, inside, closed in _stretches(tokens, _kinds(tokenizer, marks), marks.end):
        text = tokenizer.decode(inside)
        if marks.chatml and kind is Text:
            text = text.removeprefix("\n\n") if parts and isinstance(parts[-1], Thinking) else text
        elif marks.chatml:
            text = text.removeprefix("\n").removesuffix("\n")
        if kind is ToolCall:
            parts.append(read_call(text, marks) if closed else BrokenCall(text, "the call was not finished"))
        elif kind is not Text or text:
            parts.append(kind(text))
    return tuple(parts)


def _stretches(
    tokens: Sequence[int], kinds: dict[type, tuple[list[int], list[int]]], end: int
) -> Iterator[tuple[type, Sequence[int], bool]]:
    """(kind, the tokens inside, whether its closing mark came) of each stretch of a turn; text is what is in no marks."""

    def is_at(place: int, mark: list[int]) -> bool:
        return tokens[place] == mark[0] and list(tokens[place : place + len(mark)]) == mark

    kind: type = Text
    start = at = 0
    while at < len(tokens):
        opened = next((each for each, (mark, _) in kinds.items() if is_at(at, mark)), None)
        if opened:
            yield kind, tokens[start:at], False
            start = at = at + len(kinds[opened][0])
            kind = opened
        elif kind is not Text and is_at(at, kinds[kind][1]):
            yield kind, tokens[start:at], True
            start = at = at + len(kinds[kind][1])
            kind = Text
        elif tokens[at] == end:
            break
        else:
            at += 1
    yield kind, tokens[start:at], False


def _kinds(tokenizer: Tokenizer, marks: Marks) -> dict[type, tuple[list[int], list[int]]]:
    """The tokens before and after each kind of part that the vocabulary has marks for."""
    pairs = {Thinking: marks.thinking, ToolCall: marks.call, ToolResult: marks.result}
    return {
        kind: (_encode(tokenizer, _read(pair[0]))[0], _encode(tokenizer, _read(pair[1]))[0])
        for kind, pair in pairs.items()
        if pair
    }


def _marks(tokenizer: Tokenizer) -> Marks:
    marks = find_marks(tokenizer)
    if marks is None:
        raise UserError("this vocabulary has no special tokens for turns: use the plain style")
    return marks


def _begun(turn: Turn, marks: Marks) -> Iterator[Piece]:
    """A turn without its end."""
    yield from _read(marks.header[turn.role])
    for part in turn.parts:
        if isinstance(part, Text):
            yield part.text, turn.role == "assistant"
        else:
            yield from _part(part, marks)


def _part(part: Thinking | ToolCall | BrokenCall | ToolResult, marks: Marks) -> Iterator[Piece]:
    """A part between its marks."""
    match part:
        case Thinking():
            pair, what, text = marks.thinking, "thinking", part.text
        case ToolCall():
            pair, what, text = marks.call, "tool calls", write_call(part, marks)
        case BrokenCall():
            pair, what, text = marks.call, "tool calls", part.text
        case ToolResult():
            pair, what, text = marks.result, "tool results", part.text
    if pair is None:
        raise UserError(f"this vocabulary has no special tokens for {what}: leave them out, or add ours to it")
    margin = "\n" if marks.chatml else ""
    ours = not isinstance(part, ToolResult)
    # Where a result comes in a turn of its own, the assistant ends its turn before it.
    yield from ((mark, ours or mark == marks.end) for mark in pair[0])
    yield f"{margin}{text}{margin}", ours
    yield from ((mark, ours) for mark in pair[1])
    if isinstance(part, Thinking):
        yield 2 * margin, True


def _read(mark: Mark) -> Iterator[Piece]:
    """A mark that the model reads and does not write."""
    return ((each, False) for each in mark)


def _encode(tokenizer: Tokenizer, pieces: Iterable[Piece]) -> tuple[list[int], list[bool]]:
    """Tokens and whether each is trained. Neighbouring texts are encoded as one, unless only one of them is trained."""
    tokens: list[int] = []
    trained: list[bool] = []
    for (is_text, flag), group in itertools.groupby(pieces, lambda piece: (isinstance(piece[0], str), piece[1])):
        marks = [mark for mark, _ in group]
        ids = tokenizer.encode("".join(map(str, marks))) if is_text else list(map(int, marks))
        tokens += ids
        trained += [flag] * len(ids)
    return tokens, trained
