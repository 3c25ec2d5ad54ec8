"""Summaries of a text that is given, and of the same subject from recollection (map row 15).

What stands in the context window is working memory; what was read in pretraining is a vague recollection. Both are measured
by the share of facts that a summary tells right: see `questions.share_right`.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from data_pipeline.conversation import Conversation, Text, said
from data_pipeline.school import exposition
from data_pipeline.school.fact_questions import Subject, known_facts, parts
from data_pipeline.school.lookups import tells
from data_pipeline.school.questions import Question, example
from data_pipeline.school.wordings import WORDINGS, sentence
from data_pipeline.school.world import Fact, Person, SchoolConfig, World

Memory = Literal["given", "recalled"]
MEMORIES: tuple[Memory, ...] = get_args(Memory)
GIVEN = (
    "Summarize this: {text}",
    "Tell me in one sentence what this says: {text}",
    "Here is a text: {text} Put it into one sentence.",
    "{text} Summarize that in one sentence.",
    "Sum this up: {text}",
)
"""The last of these and of `RECALLED` is never used in training."""

RECALLED = (
    "Summarize what you know about {N}.",
    "Tell me in one sentence about {N}.",
    "Who is {N}? Answer in one sentence.",
    "What have you read about {N}? Put it into one sentence.",
    "Sum up what you know about {N}.",
)
TEXTS_EACH = 6  # that are summarized about one person
FACTS = range(2, 5)  # in a text: so many make one sentence


def conversations(config: SchoolConfig, world: World, memory: Memory) -> Iterator[Conversation]:
    """Training is about people who are asked about, held-out conversations about others who are told of as often.

    A summary of a given text has its facts, in its order; from recollection, all that documents tell.
    """
    rng = random.Random(f"school/{config.seed}/summaries/{memory}")
    people = parts(config, world)
    result: list[Conversation] = []
    for held_out, subjects in ((False, people.asked), (True, people.told)):
        split = "held_out/" if held_out else ""
        if memory == "given":
            texts = _texts(config, subjects)
            pairs = [(rng.choice(_usable(GIVEN, held_out)).format(text=text), told) for text, told in texts]
        else:
            known = [known_facts([person]) for person in subjects if isinstance(person, Person)]
            wordings = _usable(RECALLED, held_out)
            pairs = [(wording.format(N=told[0].subject), told) for told in known for wording in wordings]
        for words, told in pairs:
            id = f"school:{split}summaries/{memory}/{len(result)}"
            result.append(example(id, (said("user", words),), (Text(summary(told)),), held_out=held_out))
    rng.shuffle(result)
    return iter(result)


def questions(config: SchoolConfig, world: World, memory: Memory) -> list[Question]:
    """One text for each person who is told of and never asked about; of both memories the same facts are wanted."""
    result: dict[str, Question] = {}
    for text, told in _texts(config, parts(config, world).told):
        name = told[0].subject
        if name not in result:
            (wording,) = _usable(GIVEN if memory == "given" else RECALLED, held_out=True)
            turns = (said("user", wording.format(text=text, N=name)),)
            result[name] = Question(
                f"summaries/{memory}/{name}", turns, memory, tuple(fact.value for fact in told), reading="summary"
            )
    return list(result.values())


def summary(told: Sequence[Fact]) -> str:
    """One sentence with all of them."""
    name = told[0].subject
    clauses: list[str] = []
    for fact in told:
        wording = next(wording for wording in WORDINGS[fact.attribute] if wording.startswith("{S} "))
        clauses.append(sentence(wording, name, "" if clauses else name, fact.attribute, fact.value).strip())
    *early, last = clauses
    return f"{', '.join(early)} and {last}." if early else f"{last}."


def _texts(config: SchoolConfig, subjects: Sequence[Subject]) -> list[tuple[str, list[Fact]]]:
    """Biographies that pretraining reads, at most `TEXTS_EACH` of one person, and what they tell in their order."""
    people = {person.name: person for person in subjects if isinstance(person, Person)}
    count = dict.fromkeys(people, 0)
    result = []
    for document in exposition.documents(config):
        kind, name, *_ = document.id.removeprefix("school:").split("/")
        if document.held_out or kind != "biography" or name not in people or count[name] == TEXTS_EACH:
            continue
        told = [fact for fact in people[name].facts if tells(document.text, fact)]
        if len(told) in FACTS:
            count[name] += 1
            told.sort(key=lambda fact: document.text.index(fact.value))
            result.append((document.text.replace("\n", ": "), told))
    return result


def _usable(wordings: tuple[str, ...], held_out: bool) -> tuple[str, ...]:
    return wordings[-1:] if held_out else wordings[:-1]
