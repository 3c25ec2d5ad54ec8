"""What the model should look up: rare facts through the search tool, often told ones from memory (map row 15).

The user says which: a model of this size cannot tell what it knows. (Whether it can be taught to is what probing is for.)
A conversation with a call holds what `search` really answered, and is made only where the answer stands in it.
"""

import random
import re
from collections.abc import Callable, Iterator

from data_pipeline.conversation import Conversation, Part, Text, ToolCall, ToolResult, said
from data_pipeline.document import Document
from data_pipeline.school import exposition
from data_pipeline.school.fact_questions import answer, fact_question, known_facts, parts
from data_pipeline.school.question_wordings import ASK, ASK_HELD_OUT, KEYWORDS
from data_pipeline.school.questions import Question, example
from data_pipeline.school.wordings import WORDINGS, sentence
from data_pipeline.school.world import Fact, SchoolConfig, World
from data_pipeline.tools.search import search_tool

Search = Callable[[str], str]
"""A query's answer: the text of what was found."""

WORDINGS_EACH = 3  # in which a fact is asked
LOOK_UP = " Look it up."


def library(config: SchoolConfig, world: World) -> list[Document]:
    """What can be searched: the school's training documents, and one article about each unknown person.

    The articles are in no other data set: what they tell can be known only by a search.
    """
    documents = [document for document in exposition.documents(config) if not document.held_out]
    for person in world.unknown_people:
        sentences = [
            sentence(WORDINGS[fact.attribute][0], person.name, person.name, fact.attribute, fact.value)
            for fact in person.facts
        ]
        documents.append(Document(f"school:library/{person.name}", " ".join(f"{each}." for each in sentences)))
    return documents


def library_search(config: SchoolConfig, world: World) -> Search:
    """The search that the assistant has when it is finetuned or asked: BM25 over the library."""
    tool = search_tool(library(config, world))
    return lambda query: tool.run({"query": query})


def conversations(config: SchoolConfig, world: World, search: Search) -> Iterator[Conversation]:
    """As many questions looked up as answered from memory, in turn.

    Held out: questions about people of whom training knows nothing (looked up), and about told people who are never asked.
    """
    rng = random.Random(f"school/{config.seed}/search")
    people = parts(config, world)
    for held_out, rare, familiar in (
        (False, people.searched, people.asked),
        (True, (*people.rare, *people.unknown), people.told),
    ):
        found = {
            fact: search(query(fact))
            for person in rare
            for fact in person.facts
            if fact.frequency or person.frequency == 0
        }
        sought = [fact for fact, text in found.items() if tells(text, fact)]
        known = known_facts(familiar)
        remembered = rng.sample(known, min(len(sought), len(known)))
        split = "held_out/" if held_out else ""
        for number in range(1 if held_out else WORDINGS_EACH):
            for fact in rng.sample([*sought, *remembered], len(sought) + len(remembered)):
                wording = _wording(ASK[fact.attribute], number, fact, held_out=held_out)
                reply: tuple[Part, ...] = (Text(answer(fact)),)
                if fact in found:
                    wording += LOOK_UP
                    reply = (ToolCall("search", {"query": query(fact)}), ToolResult(found[fact]), *reply)
                id = f"school:{split}search/{fact.subject}/{fact.attribute}/{number}"
                yield example(id, (said("user", wording.format(N=fact.subject)),), reply, held_out=held_out)


def questions(config: SchoolConfig, world: World) -> list[Question]:
    """Held-out wordings; kinds: asked and told (to answer from memory), rare and unknown (to look up)."""
    rng = random.Random(f"school/{config.seed}/search_questions")
    people = parts(config, world)
    groups = {
        "asked": known_facts(people.asked),
        "told": known_facts(people.told),
        "rare": known_facts(people.rare),
        "unknown": [fact for person in people.unknown for fact in person.facts],
    }
    return [
        fact_question(
            kind,
            fact,
            rng.choice(ASK[fact.attribute][-ASK_HELD_OUT:]) + (LOOK_UP if kind in ("rare", "unknown") else ""),
        )
        for kind, facts in groups.items()
        for fact in facts
    ]


def query(fact: Fact) -> str:
    """What the assistant searches for."""
    return f"{fact.subject} {KEYWORDS[fact.attribute]}"


def tells(text: str, fact: Fact) -> bool:
    """Whether the text tells the fact: in the school, whatever has a full name and a value of that person does."""
    return fact.subject in text and fact.value.lower() in _words(text)


def _wording(wordings: tuple[str, ...], number: int, fact: Fact, *, held_out: bool) -> str:
    """Another for each round and fact, so that no conversation comes twice."""
    usable = wordings[-ASK_HELD_OUT:] if held_out else wordings[:-ASK_HELD_OUT]
    return usable[(sum(map(ord, fact.subject)) + number) % len(usable)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
