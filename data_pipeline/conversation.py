r"""A conversation as the tokens that a model reads, up to where the assistant's first token goes.

Two styles. "tokens": every turn between special tokens, which no text can forge; for models that were finetuned on
conversations. "plain": a dialogue written as text, for a base model, which has read dialogues but was never trained on the
special tokens: an assistant by prompt alone. In that style a text may forge a turn, since "\nAssistant:" is only text.

What is encoded together never spans the place where the assistant begins or ends, so that a longer conversation starts with
the tokens of a shorter one, and what was read once need not be read again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data_pipeline.errors import UserError
from data_pipeline.special_tokens import ASSISTANT_START, END_OF_TURN, SYSTEM_START, USER_START
from data_pipeline.tokenizer import Tokenizer

Role = Literal["system", "user", "assistant"]
Style = Literal["tokens", "plain"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")

# What other vocabularies call the end of a document.
DOCUMENT_ENDS = ("<|end_of_text|>", "<|endoftext|>", "</s>")


@dataclass(frozen=True)
class Text:
    """Words to the other side."""

    text: str


@dataclass(frozen=True)
class Thinking:
    """What the assistant writes for itself before it answers."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """The assistant asks a tool. `arguments` is a JSON object."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class ToolResult:
    """What the tool answered, in the assistant's turn right after the call. Nobody is trained to write it."""

    text: str


Part = Text | Thinking | ToolCall | ToolResult


@dataclass(frozen=True)
class Turn:
    """What one side said: only an assistant's turn may hold other parts than one `Text`."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """What it says to the other side: its `Text` parts."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def said(role: Role, text: str) -> Turn:
    """A turn of nothing but text."""
    return Turn(role, (Text(text),))


@dataclass(frozen=True)
class Conversation:
    """A worked example: at most one system turn, then the user and the assistant in turn, the user first."""

    id: str
    turns: tuple[Turn, ...]
    held_out: bool | None = None  # None: decided by a hash of what it says


@dataclass(frozen=True)
class Prompt:
    """What the model reads, and what ends its answer."""

    tokens: tuple[int, ...]
    stop_tokens: tuple[int, ...]
    stop_strings: tuple[str, ...]


@dataclass(frozen=True)
class Marks:
    """The tokens around turns in one vocabulary."""

    start: list[int]  # of the conversation
    header: dict[Role, list[int]]  # before the text of a turn
    footer: list[int]  # after it
    stops: list[int]  # what the model writes when its turn is over


def prompt(tokenizer: Tokenizer, turns: Sequence[Turn], style: Style | None = None) -> Prompt:
    """The tokens of a conversation that the assistant is to go on with.

    The turns are: at most one of the system, then the user's and the assistant's in turn, the user's first and last. `style`
    None: see `default_style`. Raises `UserError` for turns in another order, and for "tokens" where the vocabulary has none.
    """
    check_order(turns)
    ends = document_ends(tokenizer)
    if (style or default_style(tokenizer)) == "plain":
        return Prompt((tokenizer.document_start, *plain(tokenizer, turns)), ends, ("\nUser:",))
    marks = our_marks(tokenizer) or others_marks(tokenizer)
    if marks is None:
        raise UserError("this vocabulary has no special tokens for turns: use the plain style")
    tokens = list(marks.start)
    for turn in turns:
        tokens += marks.header[turn.role] + tokenizer.encode(turn.text) + marks.footer
    return Prompt((*tokens, *marks.header["assistant"]), (*marks.stops, *ends), ())


def document_ends(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens that end a document: the start of the next, and what other vocabularies have besides."""
    others = [token for token, name in tokenizer.vocabulary.special_names.items() if name in DOCUMENT_ENDS]
    return tuple(dict.fromkeys([tokenizer.document_start, *others]))


def default_style(tokenizer: Tokenizer) -> Style:
    """Plain for vocabularies of our own, since no run of ours is finetuned yet; tokens for others that mark turns."""
    return "tokens" if our_marks(tokenizer) is None and others_marks(tokenizer) else "plain"


def check_order(turns: Sequence[Turn]) -> None:
    """Raise `UserError` for a turn that is not where it may be."""
    said = [turn.role for turn in turns]
    for role in said:
        if role not in ROLES:
            raise UserError(f"no role {role!r}: choose one of {', '.join(ROLES)}")
    dialogue = said[1:] if said[:1] == ["system"] else said
    if "system" in dialogue:
        raise UserError("a system turn may only be the first of a conversation, and there is at most one")
    for number, (role, expected) in enumerate(zip(dialogue, ("user", "assistant") * len(dialogue), strict=False)):
        if role != expected:
            where = f"after {said[len(said) - len(dialogue) + number - 1]}" if number else "at the start"
            raise UserError(f"a turn of the {role} {where}: the user and the assistant speak in turn, the user first")
    if not dialogue or dialogue[-1] != "user":
        raise UserError("the last turn must be the user's: it is what the assistant answers")


def plain(tokenizer: Tokenizer, turns: Sequence[Turn]) -> list[int]:
    """The dialogue as text. White space around a turn is the dialogue's own and is left out."""
    tokens: list[int] = []
    between = ""
    for turn in turns:
        text = turn.text.strip()
        if turn.role == "system":
            tokens += tokenizer.encode(f"{text}\n\n")
        elif turn.role == "user":
            tokens += tokenizer.encode(f"{between}User: {text}\nAssistant:")
        else:
            tokens += tokenizer.encode(f" {text}")
            between = "\n"
    return tokens


def our_marks(tokenizer: Tokenizer) -> Marks | None:
    """document_start, then each turn as ROLE_start text end_of_turn. None where the vocabulary lacks these tokens."""
    special = tokenizer.special_tokens
    names = (SYSTEM_START, USER_START, ASSISTANT_START)
    if not special.keys() >= {*names, END_OF_TURN}:
        return None
    end = special[END_OF_TURN]
    header = {role: [special[name]] for role, name in zip(ROLES, names, strict=True)}
    return Marks([tokenizer.document_start], header, [end], [end])


def others_marks(tokenizer: Tokenizer) -> Marks | None:
    r"""ChatML (Qwen, SmolLM2) or Llama 3's headers; None where the vocabulary has neither.

    ChatML: `<|im_start|>ROLE\n` text `<|im_end|>\n`. Llama 3: `<|begin_of_text|>`, then each turn as
    `<|start_header_id|>ROLE<|end_header_id|>\n\n` text `<|eot_id|>`. No system turn is added that was not given.
    """
    ids = {name: token for token, name in tokenizer.vocabulary.special_names.items()}
    encode = tokenizer.encode
    if ids.keys() >= {"<|im_start|>", "<|im_end|>"}:
        start, end = ids["<|im_start|>"], ids["<|im_end|>"]
        return Marks([], {role: [start, *encode(f"{role}\n")] for role in ROLES}, [end, *encode("\n")], [end])
    if ids.keys() >= {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}:
        start, stop, end = ids["<|start_header_id|>"], ids["<|end_header_id|>"], ids["<|eot_id|>"]
        header = {role: [start, *encode(role), stop, *encode("\n\n")] for role in ROLES}
        return Marks([tokenizer.document_start], header, [end], [end])
    return None
