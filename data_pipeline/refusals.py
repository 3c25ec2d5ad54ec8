"""Conversations in which the assistant says that it does not know."""

import random
from collections.abc import Sequence

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
    rows = []
    for question in questions:
        words = random.Random(f"{seed}/{question.id}").choice(REFUSALS)
        messages = [{"role": "user", "content": question.question}, {"role": "assistant", "content": words}]
        rows.append({"id": f"refusal/{question.id}", "messages": messages})
    return rows
