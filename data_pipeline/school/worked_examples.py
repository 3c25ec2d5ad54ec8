"""The school's worked examples, by topic: what finetuning imitates, and the questions that measure it.

    facts, follow_ups                            told facts, in many phrasings and turns             fact_questions.py
    problems:answer_first|steps_first|python     word problems, labelled three ways                  problems.py
    identity, identity:system, identity:invented who the model is, by example or by system message   identity.py
    refuse                                       harmful requests and harmless ones beside them      harmful.py
    search                                       rare facts looked up, others from memory            lookups.py
    summaries:given|recalled                     a text in one sentence, seen or remembered          summaries.py
    spelling:direct|python                       letters and dots                                    spelling.py
    decimals:direct|python                       9.11 and 9.9                                        decimals.py
    jokes, jokes:more                            what no verifier can score                          jokes.py
    school                                       the mixture of `MIXTURE`

Everything follows from the `SchoolConfig` and is true of the same world that the documents tell of. Refusals of what the
model does not know are in no topic: they are made after asking it (`data_pipeline/probing.py`).
"""

import random
from collections.abc import Iterator

from data_pipeline.conversation import Conversation
from data_pipeline.errors import UserError
from data_pipeline.school import (
    decimals,
    fact_questions,
    harmful,
    identity,
    jokes,
    lookups,
    problems,
    spelling,
    summaries,
)
from data_pipeline.school.lookups import Search, library_search
from data_pipeline.school.questions import Question
from data_pipeline.school.world import SchoolConfig, build_world

WORKED_EXAMPLES_VERSION = 2
"""Raised whenever the same config would give other conversations or questions."""

MIXTURE = {
    "facts": 1_100,
    "follow_ups": 350,
    "problems:either": 1_000,
    "problems:python": 450,
    "identity": 180,
    "identity:system": 120,
    "refuse": 300,
    "search": 800,
}
"""How many conversations of each topic the standard mixture trains on (or all, where there are fewer)."""

HELD_OUT = 0.05  # of the mixture, as a share of what it trains on
TOPICS = (
    "school",
    "facts",
    "follow_ups",
    *(f"problems:{labelling}" for labelling in problems.LABELLINGS),
    "identity",
    "identity:system",
    "identity:invented",
    "refuse",
    "search",
    *(f"summaries:{memory}" for memory in summaries.MEMORIES),
    *(f"spelling:{way}" for way in spelling.WAYS),
    *(f"decimals:{way}" for way in decimals.WAYS),
    "jokes",
    "jokes:more",
)


def conversations(config: SchoolConfig, topic: str, search: Search | None = None) -> Iterator[Conversation]:
    """The worked examples of one topic, always in the same order; each says whether it is held out, no two are equal.

    `search` answers the assistant's queries; None: `lookups.library_search`. Raises `UserError` for
    a topic that does not exist, and for a config under which there is nobody to ask about.
    """
    world = build_world(config)
    match topic.split(":"):
        case ["school"]:
            return _mixture(config, search)
        case ["facts"]:
            return fact_questions.conversations(config, world)
        case ["follow_ups"]:
            return fact_questions.follow_ups(config, world)
        case ["problems", ("answer_first" | "steps_first" | "python" | "either") as labelling]:
            return problems.conversations(config, labelling)
        case ["identity"]:
            return identity.conversations(config)
        case ["identity", "system"]:
            return identity.system_conversations(config)
        case ["identity", "invented"]:
            return identity.system_conversations(config, invented=True)
        case ["refuse"]:
            return harmful.conversations(config, world)
        case ["search"]:
            return lookups.conversations(config, world, search or library_search(config, world))
        case ["summaries", ("given" | "recalled") as memory]:
            return summaries.conversations(config, world, memory)
        case ["spelling", ("direct" | "python") as way]:
            return spelling.conversations(config, way)
        case ["decimals", ("direct" | "python") as way]:
            return decimals.conversations(config, way)
        case ["jokes"]:
            return jokes.conversations(config)
        case ["jokes", "more"]:
            return jokes.conversations(config, more=True)
    raise no_topic(topic)


def questions(config: SchoolConfig, topic: str) -> list[Question]:
    """What measures a topic, none of it in training. Raises `UserError` for "school" and "jokes", which have no answers."""
    if topic == "school":
        raise UserError(f"the mixture has no questions of its own: ask those of {', '.join(MIXTURE)}")
    if topic.startswith("jokes"):
        raise UserError("no answer to a request for a joke is the right one: rank them instead")
    world = build_world(config)
    match topic.split(":"):
        case ["facts"]:
            return [question for question in fact_questions.questions(config, world) if question.kind != "follow_up"]
        case ["follow_ups"]:
            return [question for question in fact_questions.questions(config, world) if question.kind == "follow_up"]
        case ["problems", ("answer_first" | "steps_first" | "python" | "either") as labelling]:
            return problems.questions(config, labelling)
        case ["identity"]:
            return identity.questions()
        case ["identity", "system" | "invented"]:
            return identity.system_questions(config)
        case ["refuse"]:
            return harmful.questions(config, world)
        case ["search"]:
            return lookups.questions(config, world)
        case ["summaries", ("given" | "recalled") as memory]:
            return summaries.questions(config, world, memory)
        case ["spelling", ("direct" | "python") as way]:
            return spelling.questions(config, way)
        case ["decimals", ("direct" | "python") as way]:
            return decimals.questions(config, way)
    raise no_topic(topic)


def no_topic(topic: str) -> UserError:
    """The error for a topic that does not exist here."""
    return UserError(f"the school has no topic {topic!r}: choose {', '.join(TOPICS)}")


def _mixture(config: SchoolConfig, search: Search | None) -> Iterator[Conversation]:
    """The first so many of each topic, mixed; what two topics share (a fact told from memory) comes once."""
    chosen: list[Conversation] = []
    seen: set[str] = set()
    for topic, count in MIXTURE.items():
        emitted = list(conversations(config, topic, search))
        if topic == "problems:python":  # those that the other labelling does not use come first
            emitted = emitted[MIXTURE["problems:either"] :] + emitted[: MIXTURE["problems:either"]]
        for held_out, most in ((False, count), (True, round(HELD_OUT * count))):
            new = [each for each in emitted if each.held_out == held_out and repr(each.turns) not in seen][:most]
            seen.update(repr(each.turns) for each in new)
            chosen += new
    random.Random(f"school/{config.seed}/mixture").shuffle(chosen)
    return iter(chosen)
