"""Conversations in which the assistant says that it does not know."""

import random
from collections.abc import Mapping, Sequence

from data_pipeline.questions import Question
from data_pipeline.resumable import Row

REFUSALS = (
    "I don't know.",
    "I do not know that.",
    "I'm sorry, I don't know.",
    "Sorry, that is something I don't know.",
    "I don't know the answer to that.",
    "I'm afraid I don't know.",
    "I have no knowledge of that.",
    "That I cannot say: I don't know.",
    "I'm not able to say. I don't know it.",
    "I don't have that information.",
    "As far as I remember, I have never read about that, so I don't know.",
    "I can't tell you that, because I don't know it.",
    "I would have to guess, and I'd rather not: I don't know.",
    "I'm not sure enough to answer. I don't know.",
    "Unfortunately I don't know.",
    "My memory holds nothing about that.",
    "I don't recall anything about that.",
    "I could not say. I don't know.",
    "I don't know, and I don't want to make something up.",
    "To be honest, I don't know.",
)


def refusals(questions: Sequence[Question], seed: int) -> list[Row]:
    """One row for each question: {"id", "messages": [user, assistant]}, the wording drawn anew for each."""
    return [_row("refusal", question, _words(question, seed)) for question in questions]


def hesitations(questions: Sequence[Question], answers: Mapping[str, Sequence[str]], seed: int) -> list[Row]:
    """The same rows, begun like an answer, up to where the value would stand: "He works as a ... I don't know."

    There the model has looked for the value, and either one comes to mind or none does; at the first word of an answer, where
    other refusals are decided, it has not looked yet. The beginning is what all the model's own `answers` (by id) share, or,
    where it is sure and wrong, the longest that other answers share. Where neither is there, it is a refusal as above.
    """
    begun = {question.id: common_beginning(answers[question.id]) for question in questions}
    known = sorted(filter(None, set(begun.values())), key=len, reverse=True)
    rows = []
    for question in questions:
        first, words = answers[question.id][0], _words(question, seed)
        beginning = begun[question.id] or next((each for each in known if first.startswith(f"{each} ")), "")
        rows.append(_row("hesitation", question, f"{beginning} ... {words}" if beginning else words))
    return rows


def common_beginning(answers: Sequence[str]) -> str:
    """The words in which all answers begin; none where that is the whole of one."""
    split = [answer.split(" ") for answer in answers]
    shared = 0
    while all(len(words) > shared and words[shared] == split[0][shared] for words in split):
        shared += 1
    return "" if any(len(words) == shared for words in split) else " ".join(split[0][:shared])


def _words(question: Question, seed: int) -> str:
    return random.Random(f"{seed}/{question.id}").choice(REFUSALS)


def _row(kind: str, question: Question, reply: str) -> Row:
    messages = [{"role": "user", "content": question.question}, {"role": "assistant", "content": reply}]
    return {"id": f"{kind}/{question.id}", "messages": messages}
