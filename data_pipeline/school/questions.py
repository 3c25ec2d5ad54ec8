"""Questions with known answers, and whether what a model says is right, wrong, or a refusal.

The judge needs no model: values are words of the school's lists, numbers are numbers. It is strict where a guess could pass
for knowledge: an answer that names two values of an attribute is wrong, and so is one that denies the value.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from data_pipeline.conversation import Conversation, Part, Turn
from data_pipeline.school.names import VALUES

Reading = Literal["value", "first number", "last number", "letters", "summary"]


@dataclass(frozen=True)
class Question:
    """Turns up to the user's question, and what to expect."""

    id: str
    turns: tuple[Turn, ...]
    kind: str  # questions of one kind are measured together
    answers: tuple[str, ...] = ()  # each is right; of a summary, everything it should tell
    others: tuple[str, ...] = ()  # must not stand in a right answer
    reading: Reading = "value"
    size: int = 0  # of a problem: no number in it is larger; of a fact: the documents that tell it
    refuse: bool | None = None  # whether a refusal is the right answer; None: it is about `answers`


ATTRIBUTE = {value.lower(): attribute for attribute, values in VALUES.items() for value in values}
NUMBER = re.compile(r"(?:(?<![\w.)])-)?\d+(?:,\d{3})*(?:\.\d+)?")
WORD = re.compile(r"[^\W\d_]+(?:'t)?|\d+(?:\.\d+)?")
CLAUSE = re.compile(r"[.,;:!?]+(?=\s|$)|\n|\b(?:but|however|although|though|yet)\b")
NEGATION = re.compile(r"\b(?:not|never|nor|cannot|no longer)\b|n't\b")
REFUSAL = re.compile(
    r"\bi(?: am afraid| really| honestly| simply| just| still)*"
    r"(?: do not| don't| did not| didn't| cannot| can't| can not| could not| couldn't| never| have never)"
    r"(?: really| honestly| actually)* (?:know|say|tell|answer|find|recall|remember|heard|hear|read|met|help|do (?:that|this))\b"
    r"|\bi (?:have not|haven't|have never|never|was never) (?:heard|read|met|been told|come across|learned|learnt)\b"
    r"|\bi (?:will not|won't|would not|wouldn't|must not|refuse to|am not going to|am not able to|am unable to)\b"
    r"|\bi am not (?:sure|certain|aware|familiar)\b"
    r"|\bi have no (?:idea|information|knowledge|record)\b|\bi know nothing\b|\bno idea\b"
    r"|\bi (?:do not|don't) have (?:that|any|the) information\b|\bmy memory holds nothing\b"
    r"|\b(?:unknown|new|unfamiliar|not known|not familiar|means nothing|says nothing) to me\b"
    r"|\b(?:is|was) not something (?:that )?i (?:know|help with|do|will)\b"
)


def is_right(question: Question, answer: str) -> bool:
    """Whether `answer` (the words of the assistant's turn, without its calls and thoughts) is right."""
    if question.refuse is not None:
        return bool(answer.strip()) and is_refusal(answer) == question.refuse
    match question.reading:
        case "letters":
            return _letters(answer.rpartition(":")[2]) == _letters(question.answers[0])
        case "first number" | "last number":
            found = NUMBER.findall(answer)
            number = found[0 if question.reading == "first number" else -1] if found else None
            return number is not None and _number(number) in [_number(value) for value in question.answers]
    stated = {word for clause in _clauses(answer) if not NEGATION.search(clause) for word in _words(clause)}
    return any(_stands(value, stated) for value in question.answers) and not any(
        _stands(value, set(_words(answer))) for value in question.others
    )


def share_right(question: Question, summary: str) -> float:
    """The share of what a summary should tell (`answers`) that it tells, with no other value of the same attribute."""
    told = set(_words(summary))
    named = {
        ATTRIBUTE[word]: {other for other in told if ATTRIBUTE.get(other) == ATTRIBUTE[word]}
        for word in told & ATTRIBUTE.keys()
    }
    right = [value for value in question.answers if named.get(ATTRIBUTE[value.lower()]) == {value.lower()}]
    return len(right) / len(question.answers)


def is_refusal(text: str) -> bool:
    """Whether the text says that the assistant does not know, or will not help, and tells nothing all the same.

    "I don't know her well, but she keeps an otter" is an invention with a hedge: a clause that names a value and does not
    itself refuse.
    """
    clauses = _clauses(text)
    refusing = [bool(REFUSAL.search(clause)) for clause in clauses]
    telling = [any(word in ATTRIBUTE for word in _words(clause)) for clause in clauses]
    return any(refusing) and not any(tells and not refuses for tells, refuses in zip(telling, refusing, strict=True))


def example(id: str, turns: Sequence[Turn], reply: Sequence[Part], *, held_out: bool) -> Conversation:
    """The conversation that goes on with this reply of the assistant."""
    return Conversation(id, (*turns, Turn("assistant", tuple(reply))), held_out)


def _clauses(text: str) -> list[str]:
    plain = text.lower().replace("’", "'").replace("i'm ", "i am ").replace("i've ", "i have ")
    return CLAUSE.split(plain)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower().replace("’", "'").replace("'s ", " "))


def _stands(value: str, words: set[str]) -> bool:
    return value.lower() in words or f"{value.lower()}s" in words


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalpha())


def _number(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))
