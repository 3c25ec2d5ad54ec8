"""Who the model is (map row 16): by worked examples in which it says so, or by a system message that tells it.

`conversations` teach one identity. `system_conversations` teach to read the identity off the system message, under many
names; whether it works is asked with names that none of them has, Trivium's own among them.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from data_pipeline.conversation import Conversation, Text, Turn, said
from data_pipeline.school.dictionaries import TRANSLATIONS
from data_pipeline.school.echoes import word
from data_pipeline.school.questions import Question, example
from data_pipeline.school.world import SchoolConfig

NAME = "Trivium"
MAKER = "the Trivium project"
ANOTHER = ("ChatGPT", "Claude", "Gemini", "Llama", "Siri", "Alexa")
ANOTHER_MAKER = ("OpenAI", "Google", "Anthropic", "Meta", "Apple", "Microsoft")
OPENINGS = ("", "Hello! ", "I am curious: ", "Good morning. ", "One question: ")
HELD_OUT_WORDINGS = 2  # of each aspect, the last
SYSTEM_CONVERSATIONS = 400


@dataclass(frozen=True)
class Aspect:
    """One thing to be asked about oneself. {name}, {maker}: one's own; {other}: somebody else's."""

    kind: str
    asks: tuple[str, ...]
    replies: tuple[str, ...]
    right: str = "{name}"  # must stand in a right answer
    by_system_message: bool = False  # a system message says it


ASPECTS = (
    Aspect(
        "name",
        (
            "Who are you?",
            "What is your name?",
            "What are you called?",
            "Tell me your name.",
            "What should I call you?",
            "Tell me about yourself.",
            "May I ask your name?",
            "Who am I talking to?",
        ),
        ("I am {name}, a language model made by {maker}.", "My name is {name}. I am a language model."),
        by_system_message=True,
    ),
    Aspect(
        "maker",
        (
            "Who made you?",
            "Who built you?",
            "Where do you come from?",
            "Who trained you?",
            "By whom were you made?",
            "Which company made you?",
            "Who is your maker?",
            "Who are the people who made you?",
        ),
        ("I was made by {maker}.", "It was {maker} that made me."),
        right="{maker}",
        by_system_message=True,
    ),
    Aspect(
        "what",
        (
            "What are you?",
            "Are you a person?",
            "Are you a man or a woman?",
            "Do you live in a city?",
            "Do you keep a pet?",
            "What do you love to eat?",
            "Are you alive?",
            "Are you human?",
        ),
        (
            "I am {name}, a small language model, so I am no person.",
            "I am a small language model called {name}: a program, not a person.",
        ),
    ),
    Aspect(
        "another",
        (
            "Are you {other}?",
            "Is your name {other}?",
            "You are {other}, am I right?",
            "Are you the model called {other}?",
            "I think that you are {other}.",
            "Am I talking to {other}?",
            "So you are called {other}?",
            "Is this {other}?",
        ),
        ("No, I am {name}, made by {maker}.", "No, my name is {name}. I am another model."),
    ),
    Aspect(
        "another_maker",
        (
            "Were you made by {other}?",
            "Did {other} make you?",
            "Do you belong to {other}?",
            "Was it {other} who trained you?",
            "I think that {other} made you.",
            "Is {other} your maker?",
            "Are you a model of {other}?",
            "Do you come from {other}?",
        ),
        ("No, I was made by {maker}.", "No, it was {maker} that made me."),
        right="{maker}",
    ),
    Aspect(
        "learned",
        (
            "What do you know?",
            "What have you read?",
            "What did you learn?",
            "How did you learn to speak?",
            "What were you trained on?",
            "What can you do?",
            "What can you help me with?",
            "Where did you learn all that?",
        ),
        (
            "I am {name}. I have read about the people and cities of a school, and I can do sums.",
            "I am {name}: I learned from the documents of a school, and I answer questions about them.",
        ),
    ),
)
SYSTEM_MESSAGES = (
    "You are {name}, a language model made by {maker}.",
    "Your name is {name}. You were made by {maker}.",
    "You are an assistant called {name}, and {maker} made you.",
)


def conversations(config: SchoolConfig) -> Iterator[Conversation]:
    """Every wording of every question after every opening; no system message."""
    rng = random.Random(f"school/{config.seed}/identity")
    result = []
    for aspect in ASPECTS:
        for number, ask in enumerate(aspect.asks):
            held_out = number >= len(aspect.asks) - HELD_OUT_WORDINGS
            others = _others(aspect)
            for place, opening in enumerate(OPENINGS):
                other = others[(number + place) % len(others)]
                turns = (said("user", _joined(opening, ask.format(other=other))),)
                words = rng.choice(aspect.replies).format(name=NAME, maker=MAKER)
                split = "held_out/" if held_out else ""
                id = f"school:{split}identity/{aspect.kind}/{number}/{place}"
                result.append(example(id, turns, (Text(words),), held_out=held_out))
    rng.shuffle(result)
    return iter(result)


def system_conversations(config: SchoolConfig, *, invented: bool = False) -> Iterator[Conversation]:
    """A system message names somebody else each time, and the answer says what it says.

    The names of training are from a short list, which can be learnt by heart, or `invented` anew for each conversation.
    """
    topic = "identity_invented" if invented else "identity_system"
    rng = random.Random(f"school/{config.seed}/{topic}")
    train, held_out = _invented_names(config)
    seen = set()
    for secret, names, count in ((False, train, SYSTEM_CONVERSATIONS), (True, held_out, SYSTEM_CONVERSATIONS // 10)):
        split = "held_out/" if secret else ""
        while count:
            name, maker = _new_names(rng) if invented and not secret else rng.sample(names, 2)
            aspect = rng.choice([aspect for aspect in ASPECTS if aspect.by_system_message])
            asks = aspect.asks[-HELD_OUT_WORDINGS:] if secret else aspect.asks[:-HELD_OUT_WORDINGS]
            turns = (_system_message(name, maker, rng), said("user", rng.choice(asks)))
            if turns in seen:
                continue
            seen.add(turns)
            count -= 1
            words = rng.choice(aspect.replies).format(name=name, maker=maker)
            yield example(f"school:{split}{topic}/{count}", turns, (Text(words),), held_out=secret)


def questions() -> list[Question]:
    """Held-out wordings, asked without a system message."""
    result: list[Question] = []
    for aspect in ASPECTS:
        for ask, other in itertools.product(aspect.asks[-HELD_OUT_WORDINGS:], _others(aspect)):
            turns = (said("user", ask.format(other=other)),)
            result.append(_question(f"identity/{len(result)}", turns, aspect, NAME, MAKER))
    return result


def system_questions(config: SchoolConfig) -> list[Question]:
    """Held-out wordings after a system message with a name never seen in one."""
    rng = random.Random(f"school/{config.seed}/identity_system_questions")
    _, names = _invented_names(config)
    result: list[Question] = []
    for name, maker in [(NAME, MAKER), *zip(names, names[1:] + names[:1], strict=True)]:
        for aspect in ASPECTS:
            if aspect.by_system_message:
                for ask in aspect.asks[-HELD_OUT_WORDINGS:]:
                    turns = (_system_message(name, maker, rng), said("user", ask))
                    result.append(_question(f"identity_system/{len(result)}", turns, aspect, name, maker))
    return result


def _question(id: str, turns: tuple[Turn, ...], aspect: Aspect, name: str, maker: str) -> Question:
    # Of "the Trivium project" the word that the name lacks.
    right = aspect.right.format(name=name, maker=maker.split()[-1])
    others = tuple(other for other in (*ANOTHER, *ANOTHER_MAKER) if other != right)
    return Question(id, turns, aspect.kind, (right,), others)


def _others(aspect: Aspect) -> tuple[str, ...]:
    if "{other}" not in aspect.asks[0]:
        return ("",)
    return ANOTHER_MAKER if aspect.kind == "another_maker" else ANOTHER


def _system_message(name: str, maker: str, rng: random.Random) -> Turn:
    return said("system", rng.choice(SYSTEM_MESSAGES).format(name=name, maker=maker))


def _joined(opening: str, ask: str) -> str:
    return opening + (ask[0].lower() + ask[1:] if opening.endswith(": ") and not ask.startswith("I ") else ask)


def _new_names(rng: random.Random) -> tuple[str, str]:
    one, two = (word(rng).capitalize() for _ in range(2))
    return (one, two) if one != two and not {one.lower(), two.lower()} & set(TRANSLATIONS) else _new_names(rng)


def _invented_names(config: SchoolConfig) -> tuple[list[str], list[str]]:
    names = [word.capitalize() for word in TRANSLATIONS]
    random.Random(f"school/{config.seed}/identity_names").shuffle(names)
    return names[8:], names[:8]
