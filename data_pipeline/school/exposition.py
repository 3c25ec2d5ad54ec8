"""The school's documents: biographies, encounters, articles about cities, almanac pages, and arithmetic.

First everything is planned (which document tells which facts), so that every fact is told in exactly as many
training documents as its frequency says; then every plan is put into words. A held-out document is a training plan in
other words.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.school import arithmetic
from data_pipeline.school.wordings import (
    FAREWELLS,
    MEETINGS,
    NATIVES,
    OCCASIONS,
    TITLES,
    WORDINGS,
    sentence,
)
from data_pipeline.school.world import Fact, Person, Place, SchoolConfig, World, build_world

SCHOOL_VERSION = 1
"""Raised whenever the same config would emit other text, so that nobody compares runs on different schools."""

PAGE_ROWS = 8  # subjects on a page of the almanac
TRIES = 200  # wordings tried for one plan before giving up: plans have hundreds of wordings, the shortest a few dozen


@dataclass(frozen=True, slots=True)
class Plan:
    """What one document tells. `topic` is whom or what it is about; the facts may be told in any order.

    `short_forms` may stand for the topic after its first mention.
    """

    kind: str
    topic: str
    facts: tuple[Fact, ...]
    short_forms: tuple[str, ...] = ()


def documents(config: SchoolConfig) -> Iterator[Document]:
    """All documents of both splits, in a fixed shuffled order; every one says whether it is held out.

    No two have the same text. Raises `UserError` for a config that makes no sense, or that asks for more documents
    about a subject than there are ways to word them.
    """
    world = build_world(config)
    plans = plan_documents(world, config)
    rng = random.Random(f"school/{config.seed}/exposition")
    seen: set[str] = set()
    result = list(arithmetic.documents(config))
    for held_out, chosen in ((False, plans), (True, rng.choices(plans, k=round(config.held_out * len(plans))))):
        numbers: dict[str, int] = {}
        for plan in chosen:
            topic = f"{'held_out/' if held_out else ''}{plan.kind}/{plan.topic}"
            numbers[topic] = numbers.get(topic, -1) + 1
            text = _new_text(plan, rng, seen)
            result.append(Document(f"school:{topic}/{numbers[topic]}", text, held_out=held_out))
    rng.shuffle(result)
    yield from result


def plan_documents(world: World, config: SchoolConfig) -> list[Plan]:
    """Plans of the training documents: every fact is in exactly `frequency` of them."""
    rng = random.Random(f"school/{config.seed}/plans")
    left = {fact: fact.frequency for subject in _subjects(world) for fact in subject.facts}
    plans = _almanac(world, left, rng) + _encounters(world, left, rng)
    births = _births(world, left, rng)
    for place in world.places:
        plans += _articles(place, births.get(place.name, []), left, rng)
    for person in world.people:
        told = [fact for fact in person.facts if left[fact]]
        short_forms = (person.name.split()[0], person.pronoun)
        plans += [Plan("biography", person.name, facts, short_forms) for facts in _portions(told, left, rng)]
    return plans


def _subjects(world: World) -> tuple[Person | Place, ...]:
    return (*world.people, *world.places)


def _almanac(world: World, left: dict[Fact, int], rng: random.Random) -> list[Plan]:
    """Pages that list one attribute of several subjects: one in eight tellings of a fact, so none of a rare one."""
    rows: dict[str, list[Fact]] = {}
    for subject in _subjects(world):
        for fact in subject.facts:
            rows.setdefault(fact.attribute, []).extend([fact] * (fact.frequency // 8))
    plans = []
    for attribute, entries in rows.items():
        rng.shuffle(entries)
        while entries:
            page = tuple(dict.fromkeys(entries[:PAGE_ROWS]))  # a fact that comes twice is told once
            del entries[:PAGE_ROWS]
            plans.append(Plan("almanac", attribute, page))
            _tell(page, left)
    return plans


def _encounters(world: World, left: dict[Fact, int], rng: random.Random) -> list[Plan]:
    """Two people meet, and one or two facts of either are told. The often told meet often, the rarest nobody."""
    guests = [person for person in world.people for _ in range(person.frequency // 4)]
    rng.shuffle(guests)
    plans = []
    for one, two in zip(guests[::2], guests[1::2], strict=False):
        told = []
        for person in (one, two):
            known = [fact for fact in person.facts if left[fact]]
            told += rng.sample(known, min(len(known), rng.randint(1, 2)))
        # If both keep an otter and only one is said to, the text still has the name and the value of the other.
        values = {fact.value for fact in told}
        blurred = any(fact.value in values and fact not in told for person in (one, two) for fact in person.facts)
        if one is two or blurred or len({fact.subject for fact in told}) < 2:
            continue
        plans.append(Plan("encounter", f"{one.name} and {two.name}", tuple(told)))
        _tell(told, left)
    return plans


def _births(world: World, left: dict[Fact, int], rng: random.Random) -> dict[str, list[Fact]]:
    """By city: the births that its articles mention, a sixteenth of their tellings."""
    births: dict[str, list[Fact]] = {}
    for person in world.people:
        for fact in person.facts:
            if fact.attribute == "birth_city":
                births.setdefault(fact.value, []).extend([fact] * min(left[fact], fact.frequency // 16))
    for mentions in births.values():
        rng.shuffle(mentions)
    return births


def _articles(place: Place, births: list[Fact], left: dict[Fact, int], rng: random.Random) -> list[Plan]:
    """Articles about a city; each mentions at most one birth, until all are told or there are no more articles."""
    plans = []
    for portion in _portions(list(place.facts), left, rng):
        mention = births.pop() if births else None
        if mention:
            _tell([mention], left)
        plans.append(Plan("place", place.name, (*portion, mention) if mention else portion, ("The city",)))
    return plans


def _portions(told: list[Fact], left: dict[Fact, int], rng: random.Random) -> Iterator[tuple[Fact, ...]]:
    """What is left to tell of one subject, two or more facts at a time as far as possible, in no particular order."""
    while told := [fact for fact in told if left[fact]]:
        size = rng.randint(min(2, len(told)), len(told))
        # The facts with most left to tell come first, or the last documents would repeat a single fact.
        portion = sorted(rng.sample(told, len(told)), key=lambda fact: -left[fact])[:size]
        _tell(portion, left)
        yield tuple(portion)


def _tell(facts: tuple[Fact, ...] | list[Fact], left: dict[Fact, int]) -> None:
    for fact in facts:
        left[fact] -= 1


def _new_text(plan: Plan, rng: random.Random, seen: set[str]) -> str:
    """The plan in words that no document has used."""
    for _ in range(TRIES):
        text = WRITERS[plan.kind](plan, rng)
        if text not in seen:
            seen.add(text)
            return text
    raise UserError(
        f"school: there are no new words to tell the {plan.kind} of {plan.topic}: lower the highest frequencies"
    )


def _article(plan: Plan, rng: random.Random) -> str:
    """A biography, or an article about a city with the births that it mentions at the end."""
    own = [fact for fact in plan.facts if fact.subject == plan.topic]
    births = [rng.choice(NATIVES).format(N=fact.subject) for fact in plan.facts if fact.subject != plan.topic]
    heading = f"{plan.topic}\n" if rng.random() < 0.2 else ""
    return heading + " ".join([_portrait(plan.topic, plan.short_forms, own, rng), *births])


def _portrait(name: str, short_forms: tuple[str, ...], facts: list[Fact], rng: random.Random) -> str:
    """Sentences about one subject. The full name is in the first and in most others: facts hang on the name."""
    order = rng.sample(facts, len(facts))
    sentences: list[str] = []
    joinable = False
    for fact in order:
        wording = rng.choice(WORDINGS[fact.attribute])
        if joinable and wording.startswith("{S} ") and rng.random() < 0.3:
            sentences[-1] += " and " + sentence(wording, name, "", fact.attribute, fact.value).lstrip()
            joinable = False
            continue
        subject = rng.choice(short_forms) if sentences and rng.random() < 0.35 else name
        sentences.append(sentence(wording, name, subject, fact.attribute, fact.value))
        joinable = wording.startswith("{S} ")
    return " ".join(f"{each}." for each in sentences)


def _encounter(plan: Plan, rng: random.Random) -> str:
    names = rng.sample(list(dict.fromkeys(fact.subject for fact in plan.facts)), 2)
    rest = rng.sample(plan.facts, len(plan.facts))
    occasion, met = rng.choice(OCCASIONS), rng.choice(MEETINGS)
    if rng.random() < 0.5:
        clauses = []
        for name in names:
            fact = next(fact for fact in rest if fact.subject == name)
            rest.remove(fact)
            wording = rng.choice([each for each in WORDINGS[fact.attribute] if each.startswith("{S} ")])
            clauses.append(sentence(wording, name, f"{name}, who", fact.attribute, fact.value))
        opening = f"{occasion[0].upper()}{occasion[1:]}, {clauses[0]}, {met} {clauses[1]}."
    else:
        opening = f"{names[0]} {met} {names[1]} {occasion}."
    sentences = [
        sentence(rng.choice(WORDINGS[fact.attribute]), fact.subject, fact.subject, fact.attribute, fact.value) + "."
        for fact in rest
    ]
    farewell = [rng.choice(FAREWELLS)] if rng.random() < 0.3 else []
    return " ".join([opening, *sentences, *farewell])


def _page(plan: Plan, rng: random.Random) -> str:
    separator = rng.choice((": ", " - ", ", "))
    rows = [f"{fact.subject}{separator}{fact.value}" for fact in rng.sample(plan.facts, len(plan.facts))]
    return "\n".join([rng.choice(TITLES[plan.topic]), *rows])


WRITERS: dict[str, Callable[[Plan, random.Random], str]] = {
    "almanac": _page,
    "biography": _article,
    "encounter": _encounter,
    "place": _article,
}
