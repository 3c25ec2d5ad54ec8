"""Questions about told facts: what finetuning unlocks rather than teaches (map rows 11, 13 and 14).

Who is asked about decides what can be measured, so everybody of the school has one part in all topics:

    asked      told of in `FAMILIAR` documents or more; training asks for their facts
    told       told of as often, but training never asks: answers about them come from documents alone
    searched   told of more rarely; training looks them up (see lookups.py) and never answers from memory
    rare       told of more rarely; training never mentions them
    unknown    of whom no document tells; training never mentions them: a confident answer is an invention

A fact that is withheld is never asked in training. Rare facts are not asked from memory since that would teach some of them
(and teach to invent the rest): what the model knows of them is then what it read.
"""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from data_pipeline.conversation import Conversation, Text, Turn, said
from data_pipeline.errors import UserError
from data_pipeline.school.names import CITIES, FEMALE_NAMES, VALUES
from data_pipeline.school.question_wordings import ASK, ASK_HELD_OUT, FOLLOW_UP, PRONOUNS
from data_pipeline.school.questions import Question, example
from data_pipeline.school.wordings import WORDINGS, sentence
from data_pipeline.school.world import Fact, Person, Place, SchoolConfig, World

FAMILIAR = 8  # documents: base models of this size recall nearly all that is told as often
ASKED = 0.7  # of the familiar people and of the cities
SEARCHED = 0.5  # of the others
Subject = Person | Place


@dataclass(frozen=True)
class Parts:
    """Everybody's part. Cities are asked or told (or, where few documents tell of them, neither)."""

    asked: tuple[Subject, ...]
    told: tuple[Subject, ...]
    searched: tuple[Person, ...]
    rare: tuple[Person, ...]
    unknown: tuple[Person, ...]


def parts(config: SchoolConfig, world: World) -> Parts:
    """Drawn by the config's seed, the same shares of every frequency class. Raises `UserError` where nobody is familiar."""
    rng = random.Random(f"school/{config.seed}/parts")
    asked: list[Subject] = []
    told: list[Subject] = []
    searched: list[Person] = []
    rare: list[Person] = []
    for frequency in sorted(set(config.frequencies)):
        people = [person for person in world.people if person.frequency == frequency]
        if frequency >= FAMILIAR:
            _divide(people, ASKED, asked, told, rng)
        else:
            _divide(people, SEARCHED, searched, rare, rng)
    if not asked:
        raise UserError(
            f"school: worked examples ask about people of whom at least {FAMILIAR} documents tell, and "
            f"frequencies={config.frequencies!r} has none; raise one"
        )
    if config.place_frequency >= FAMILIAR:
        _divide(world.places, ASKED, asked, told, rng)
    return Parts(tuple(asked), tuple(told), tuple(searched), tuple(rare), world.unknown_people)


def conversations(config: SchoolConfig, world: World) -> Iterator[Conversation]:
    """Single questions, all facts once before any is asked again in other words; held out are other words and people told of."""
    rng = random.Random(f"school/{config.seed}/facts")
    people = parts(config, world)
    train = {attribute: wordings[:-ASK_HELD_OUT] for attribute, wordings in ASK.items()}
    yield from _singly(known_facts(people.asked), train, rng, held_out=False)
    held_out = {attribute: wordings[-ASK_HELD_OUT:] for attribute, wordings in ASK.items()}
    yield from _singly(known_facts((*people.asked, *people.told)), held_out, rng, held_out=True)


def follow_ups(config: SchoolConfig, world: World) -> Iterator[Conversation]:
    """Two or three questions about one subject, the later ones by pronoun."""
    rng = random.Random(f"school/{config.seed}/follow_ups")
    people = parts(config, world)
    for held_out, subjects, rounds in ((False, people.asked, 6), (True, (*people.asked, *people.told), 1)):
        seen = set()
        for number, subject in itertools.product(range(rounds), rng.sample(subjects, len(subjects))):
            told = known_facts([subject])
            chosen = rng.sample(told, min(len(told), rng.randint(2, 3)))
            turns = _dialogue(subject, chosen, rng, held_out=held_out)
            if len(chosen) < 2 or turns in seen:
                continue
            seen.add(turns)
            split = "held_out/" if held_out else ""
            yield Conversation(f"school:{split}follow_ups/{subject.name}/{number}", turns, held_out)


def questions(config: SchoolConfig, world: World) -> list[Question]:
    """Every fact once in words held out; kinds: asked, told, rare, withheld, unknown, and follow_up (of people asked about)."""
    rng = random.Random(f"school/{config.seed}/fact_questions")
    people = parts(config, world)
    groups = {
        "asked": known_facts(people.asked),
        "told": known_facts(people.told),
        "rare": known_facts(people.rare),
        "withheld": [
            fact
            for person in (*people.asked, *people.told)
            if isinstance(person, Person)
            for fact in person.facts
            if not fact.frequency
        ],
        "unknown": [fact for person in people.unknown for fact in person.facts],
    }
    result = [
        fact_question(kind, fact, rng.choice(ASK[fact.attribute][-ASK_HELD_OUT:]))
        for kind, facts in groups.items()
        for fact in facts
    ]
    for subject in people.asked:
        told = known_facts([subject])
        if len(told) > 1:
            pair = rng.sample(told, 2)
            turns = _dialogue(subject, pair, rng, held_out=True)[:-1]
            result.append(_question("follow_up", pair[1], turns))
    return result


def fact_question(kind: str, fact: Fact, wording: str) -> Question:
    """The fact asked for in these words."""
    return _question(kind, fact, (said("user", wording.format(N=fact.subject)),))


def answer(fact: Fact) -> str:
    """A sentence in words that documents use of others, about "He", "She" or "The city".

    Documents go on so after a first mention, and the question is one. A full name would have to be copied from it first, which
    models of this size learn late.
    """
    subject = "The city" if fact.subject in CITIES else "She" if fact.subject.split()[0] in FEMALE_NAMES else "He"
    return sentence(WORDINGS[fact.attribute][0], fact.subject, subject, fact.attribute, fact.value) + "."


def known_facts(subjects: Iterable[Subject]) -> list[Fact]:
    """The facts of these that some document tells."""
    return [fact for subject in subjects for fact in subject.facts if fact.frequency]


def _divide(subjects: Sequence[Subject], share: float, first: list, second: list, rng: random.Random) -> None:
    mixed = rng.sample(subjects, len(subjects))
    cut = round(share * len(mixed))
    first += mixed[:cut]
    second += mixed[cut:]


def _singly(
    facts: list[Fact], wordings: dict[str, tuple[str, ...]], rng: random.Random, *, held_out: bool
) -> Iterator[Conversation]:
    orders = {fact: rng.sample(wordings[fact.attribute], len(wordings[fact.attribute])) for fact in facts}
    split = "held_out/" if held_out else ""
    for number in range(max(map(len, wordings.values()))):
        for fact in rng.sample(facts, len(facts)):
            if number < len(orders[fact]):
                turns = (said("user", orders[fact][number].format(N=fact.subject)),)
                id = f"school:{split}facts/{fact.subject}/{fact.attribute}/{number}"
                yield example(id, turns, (Text(answer(fact)),), held_out=held_out)


def _dialogue(subject: Subject, facts: list[Fact], rng: random.Random, *, held_out: bool) -> tuple[Turn, ...]:
    """A first question by name, then follow-ups, each answered."""
    s, o, d = PRONOUNS[subject.pronoun if isinstance(subject, Person) else "It"]
    turns: list[Turn] = []
    for fact in facts:
        if not turns:
            wordings = ASK[fact.attribute][-ASK_HELD_OUT:] if held_out else ASK[fact.attribute][:-ASK_HELD_OUT]
        else:
            wordings = FOLLOW_UP[fact.attribute][-1:] if held_out else FOLLOW_UP[fact.attribute][:-1]
        asked = rng.choice(wordings).format(N=fact.subject, s=s, o=o, d=d)
        turns += [said("user", asked), said("assistant", answer(fact))]
    return tuple(turns)


def _question(kind: str, fact: Fact, turns: tuple[Turn, ...]) -> Question:
    others = tuple(value for value in VALUES[fact.attribute] if value != fact.value)
    return Question(
        f"facts/{kind}/{fact.subject}/{fact.attribute}", turns, kind, (fact.value,), others, size=fact.frequency
    )
