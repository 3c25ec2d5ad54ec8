"""The school's world: who lives in it, what is true of them, and how often the model is told.

All four kinds of data are made from one `World`, so that they never contradict one another. A fact with frequency 0 is
true but no document tells it; an unknown person is one of whom nothing is ever told, with a name that looks like any
other ("Who is Orson Kovats?").
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from data_pipeline.errors import UserError
from data_pipeline.school.names import (
    CITIES,
    FEMALE_NAMES,
    MALE_NAMES,
    PERSON_VALUES,
    PLACE_VALUES,
    SURNAMES,
    VALUES,
)
from data_pipeline.school.wordings import WORDINGS, phrase, sentence

T = TypeVar("T")


@dataclass
class SchoolConfig:
    """What the world is like and how much of it is told. The same config gives the same world and documents."""

    seed: int = 0
    """Another seed: other people, other facts, other wordings."""
    people: int = 192
    """People of whom documents tell. With 24 of them for each frequency, every value has one of each kind."""
    unknown_people: int = 48
    """People who exist, have facts, and are never mentioned. The first of them is Orson Kovats."""
    frequencies: tuple[int, ...] = (1, 2, 4, 8, 12, 16, 24, 32)
    """In how many training documents a fact is told: people are divided evenly over these classes."""
    withheld: float = 0.4
    """The share of told people of whom one fact, and only that, is never told."""
    place_frequency: int = 12
    """In how many training documents each fact about a city is told."""
    arithmetic_documents: int = 700
    """Training documents with arithmetic: sums, tables, counting, and problems worked step by step."""
    largest_number: int = 50
    """The largest number that is added. (Sums reach twice that.)"""
    held_out: float = 0.05
    """Held-out documents, as a share of training documents: told facts in new words, and sums that are new."""


def check(config: SchoolConfig) -> None:
    """Raise `UserError` for the first value of `config` that makes no sense."""
    names = _names_in_use(config.people)
    rules = [
        (config.people >= 10, f"people={config.people}: the school needs at least 10 people to tell of"),
        (config.unknown_people >= 0, f"unknown_people={config.unknown_people}: choose 0 or more"),
        (
            config.people + config.unknown_people <= names * names,
            f"people={config.people} and unknown_people={config.unknown_people}: there are names for {names * names} "
            "people together; choose fewer",
        ),
        (
            len(config.frequencies) > 0 and all(isinstance(f, int) and f >= 1 for f in config.frequencies),
            f"frequencies={config.frequencies!r}: give whole numbers of at least 1, such as (1, 2, 4)",
        ),
        (
            len(config.frequencies) <= config.people,
            f"frequencies={config.frequencies!r}: more classes than people={config.people}",
        ),
        (0 <= config.withheld <= 1, f"withheld={config.withheld}: it is a share, from 0 to 1"),
        (config.place_frequency >= 0, f"place_frequency={config.place_frequency}: choose 0 or more"),
        (config.arithmetic_documents >= 0, f"arithmetic_documents={config.arithmetic_documents}: choose 0 or more"),
        (12 <= config.largest_number <= 1000, f"largest_number={config.largest_number}: choose from 12 to 1000"),
        (0 <= config.held_out <= 0.5, f"held_out={config.held_out}: it is a share, from 0 to 0.5"),
    ]
    for holds, message in rules:
        if not holds:
            raise UserError(f"school: {message}")


@dataclass(frozen=True, slots=True)
class Fact:
    """`attribute` of `subject` is `value`; `frequency` training documents of one epoch tell it (0: none ever does)."""

    subject: str
    attribute: str
    value: str
    frequency: int


@dataclass(frozen=True, slots=True)
class Person:
    """A person, with one fact for every attribute. `frequency` is the class: 0 for an unknown person."""

    name: str
    pronoun: str  # "She" or "He"
    frequency: int
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A city, with one fact for every attribute of places."""

    name: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is true. `people` are told of, `unknown_people` never."""

    people: tuple[Person, ...]
    unknown_people: tuple[Person, ...]
    places: tuple[Place, ...]


def build_world(config: SchoolConfig) -> World:
    """The world of `config`; raises `UserError` if the config makes no sense."""
    check(config)
    seed = f"school/{config.seed}"
    names = _full_names(config, random.Random(f"{seed}/names"))
    withheld = _withheld(config, random.Random(f"{seed}/withheld"))
    # Values are dealt like cards to people in order of class, so that each value is about as frequent as any other
    # within a class and in the whole text: the best guess without knowledge is chance.
    dealt = {
        attribute: _deal(values, len(names), random.Random(f"{seed}/{attribute}"))
        for attribute, values in PERSON_VALUES.items()
    }
    people = []
    for i, name in enumerate(names):
        told = i < config.people
        frequency = config.frequencies[i * len(config.frequencies) // config.people] if told else 0
        facts = tuple(
            Fact(name, attribute, values[i], 0 if withheld.get(i) == attribute else frequency)
            for attribute, values in dealt.items()
        )
        people.append(Person(name, "She" if name.split()[0] in FEMALE_NAMES else "He", frequency, facts))
    return World(tuple(people[: config.people]), tuple(people[config.people :]), _places(config, seed))


def facts(world: World) -> list[Fact]:
    """Every fact, told or not: of the people, then of the unknown people, then of the places."""
    subjects: tuple[Person | Place, ...] = (*world.people, *world.unknown_people, *world.places)
    return [fact for subject in subjects for fact in subject.facts]


def alternatives(fact: Fact) -> list[str]:
    """The other values that the attribute could have had: the wrong answers of a likelihood probe."""
    return [value for value in VALUES[fact.attribute] if value != fact.value]


def probe(fact: Fact) -> tuple[str, str]:
    """A prompt that stops just before the value, and its completion: ("Ada Holt loves to eat", " waffles").

    The prompt has the wording with which documents tell this attribute of others; prompt + completion is a sentence
    without its full stop. For a wrong answer use `dataclasses.replace(fact, value=...)`: the prompt stays the same.
    """
    wording = WORDINGS[fact.attribute][0]
    completion = f" {phrase(fact.attribute, fact.value)}"
    whole = sentence(wording, fact.subject, fact.subject, fact.attribute, fact.value)
    return whole.removesuffix(completion), completion


def _names_in_use(people: int) -> int:
    """How many first names, and as many surnames, a world of this size uses.

    Each is shared by about three told people, or more where the lists are too short: a surname alone tells little, and
    both names of an unknown person are familiar.
    """
    return min(len(SURNAMES), max(10, math.ceil(people / 3)))


def _full_names(config: SchoolConfig, rng: random.Random) -> list[str]:
    """Different full names, told people first. Told people also bear every first name and surname of unknown people."""
    n = _names_in_use(config.people)
    first_names = rng.sample([name for name in FEMALE_NAMES + MALE_NAMES if name != "Orson"], n - 1)
    surnames = rng.sample([name for name in SURNAMES if name != "Kovats"], n - 1)
    # Pair i takes first name i mod n and a surname that moves on by one each round: n * n different pairs, and all
    # names in every round. Orson and Kovats are put where the first unknown person's pair falls.
    turn, place = divmod(config.people, n)
    first_names.insert(place, "Orson")
    surnames.insert((place + turn) % n, "Kovats")
    count = config.people + config.unknown_people
    names = [f"{first_names[i % n]} {surnames[(i % n + i // n) % n]}" for i in range(count)]
    told = names[: config.people]
    rng.shuffle(told)
    return told + names[config.people :]


def _withheld(config: SchoolConfig, rng: random.Random) -> dict[int, str]:
    """Which attribute is never told, by index of the person."""
    chosen = rng.sample(range(config.people), round(config.withheld * config.people))
    return dict(zip(chosen, _deal(tuple(PERSON_VALUES), len(chosen), rng), strict=True))


def _places(config: SchoolConfig, seed: str) -> tuple[Place, ...]:
    dealt = {
        attribute: _deal(values, len(CITIES), random.Random(f"{seed}/{attribute}"))
        for attribute, values in PLACE_VALUES.items()
    }
    return tuple(
        Place(city, tuple(Fact(city, attribute, dealt[attribute][i], config.place_frequency) for attribute in dealt))
        for i, city in enumerate(CITIES)
    )


def _deal(values: Sequence[T], count: int, rng: random.Random) -> list[T]:
    """`count` values from shuffled decks: in every len(values) of them each value comes once."""
    dealt: list[T] = []
    while len(dealt) < count:
        dealt += rng.sample(values, len(values))
    return dealt[:count]
