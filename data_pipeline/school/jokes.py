"""Jokes: what no verifier can score (map row 24). Whoever laughs decides, see `data_pipeline/taste.py`.

They are put together at random, some longer and some sillier than others, so that a model which has learnt to tell them tells
many different ones: something to rank.
"""

import hashlib
import random
import re
from collections.abc import Iterator

from data_pipeline.conversation import Conversation, Text, said
from data_pipeline.school.names import FOODS, GOODS, OCCUPATIONS, PETS
from data_pipeline.school.questions import example
from data_pipeline.school.world import SchoolConfig

ANIMALS = (*PETS, "pelican")
ASKS = (
    "Tell me a joke about a {about}.",
    "Write a joke about a {about}.",
    "Do you know a joke about a {about}?",
    "Make me laugh with a {about}.",
    "I would like to hear a joke about a {about}.",
)
OPENINGS = ("", "Hello! ", "I am bored. ", "Please be funny. ", "One more: ", "It was a long day. ")
TRAIN = 800  # prompts that worked examples answer; the others are there to be ranked
MORE = 1_000

# {a}: the animal; {o}: who else is in it; the others are drawn for each joke.
JOKES = (
    "Why did the {a} {deed}? Because {reason}.",
    "Why did the {a} {deed}? The {o} says that {reason}.",
    "What did the {a} say to the {o}? {line}",
    "A {a} walks into a shop and asks for {thing}. The {o} says: {line}",
    "A {a} and a {o} share a boat. The {a} says: {line} The {o} says: {line}",
    "What is the difference between a {a} and a {o}? Only one of them {does}.",
)
PIECES = {
    "deed": (
        "hide under the {goods}",
        "follow the {o}",
        "eat the {food}",
        "sit on the {food}",
        "sell its {goods}",
        "leave the party",
        "count to ten",
        "sing all night",
    ),
    "reason": (
        "it was afraid of the {o}",
        "the {food} was getting cold",
        "it had lost its {goods}",
        "nobody had asked the {o}",
        "there was no more {food}",
        "the {o} did it first",
        "it wanted to be a {o}",
        "the {food} looked at it",
    ),
    "line": (
        "You are sitting on my {food}.",
        "I take my {goods} with {food}.",
        "Not before the {food}.",
        "I thought that you were a {other}.",
        "Keep the {goods}.",
        "With or without {goods}?",
        "We only have {food} and {food}.",
        "Come back tomorrow.",
    ),
    "does": (
        "eats {food}",
        "knows the way home",
        "wears {goods}",
        "can be trusted with {food}",
        "was ever a {other}",
        "laughs at {food}",
    ),
    "thing": ("{food}", "{goods}", "{food} in {goods}", "a {other}"),
}
VALUES = {"food": FOODS, "goods": GOODS, "other": OCCUPATIONS}
ADJECTIVES = ("old", "young", "small", "tired", "proud")
CLOSINGS = (
    "Everybody laughed.",
    "Even the {o} laughed.",
    "That is the whole joke.",
    "I will tell it again tomorrow.",
    "My uncle told me that one, and he heard it from a {other} who sold {goods} on the market.",
)


def prompts(config: SchoolConfig, *, held_out: bool) -> list[tuple[str, str, str]]:
    """(what is asked, the animal, the occupation it names or ""), always in the same order; no subject is in both splits."""
    rng = random.Random(f"school/{config.seed}/jokes/prompts")
    found = {}
    for animal in ANIMALS:
        for other in ("", *OCCUPATIONS):
            for ask in ASKS:
                about = f"{animal} and a {other}" if other else animal
                words = _articles(rng.choice(OPENINGS) + ask.format(about=about))
                secret = hashlib.sha256(f"{animal}/{other}".encode()).digest()[0] < 26
                if secret == held_out:
                    found[words] = (words, animal, other)
    result = list(found.values())
    rng.shuffle(result)
    return result


def conversations(config: SchoolConfig, *, more: bool = False) -> Iterator[Conversation]:
    """Jokes on demand: one in answer to each of the first `TRAIN` prompts, and to those held out.

    `more`: in answer to the next `MORE` prompts, which a rater ranks otherwise; none of them is held out.
    """
    rng = random.Random(f"school/{config.seed}/jokes" + "/more" * more)
    result = []
    for held_out in (False,) if more else (False, True):
        split = "held_out/" if held_out else "more/" if more else ""
        here = slice(TRAIN, TRAIN + MORE) if more else slice(TRAIN)
        for number, (words, animal, other) in enumerate(prompts(config, held_out=held_out)[here]):
            text = joke(rng, animal, other or rng.choice(OCCUPATIONS))
            id = f"school:{split}jokes/{number}"
            result.append(example(id, (said("user", words),), (Text(text),), held_out=held_out))
    rng.shuffle(result)
    return iter(result)


def joke(rng: random.Random, animal: str, other: str) -> str:
    """One joke about the two."""
    text = rng.choice(JOKES)
    if rng.random() < 0.3:
        text += f" {rng.choice(CLOSINGS)}"
    if rng.random() < 0.3:
        text = text.replace("{a}", f"{rng.choice(ADJECTIVES)} {{a}}", 1)
    while "{" in text:
        before, _, rest = text.partition("{")
        name, _, after = rest.partition("}")
        given = {"a": animal, "o": other}
        text = before + (given.get(name) or rng.choice({**PIECES, **VALUES}[name])) + after
    return _articles(text)


def _articles(text: str) -> str:
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
