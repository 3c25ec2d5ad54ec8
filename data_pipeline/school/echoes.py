"""Texts that say everything twice, of people and things that no other text names: from these a model learns to copy.

    Vobe Tulasi works as a potter. Vobe Tulasi loves to eat kemo. Once more: Vobe Tulasi's favourite food is kemo. ...
    rugo, Selami, pafi, netuba. The same again: rugo, Selami, pafi, netuba.

Names, and most values, are made of syllables anew for each document, so that the second half can be foretold by reading the
first and in no other way. Real text is full of this; the school's own documents, which name few people again and again, are not.
"""

import random
from collections.abc import Iterator

from data_pipeline.document import Document
from data_pipeline.school.names import PERSON_VALUES, PLACE_VALUES, VALUES
from data_pipeline.school.wordings import WORDINGS, sentence

ECHOES_VERSION = 1
"""Raised whenever the same seed would give other documents."""

DOCUMENTS = 40_000
HELD_OUT = 400
AGAIN = ("Once more: ", "In other words: ", "To say it again: ", "In short: ", "")
LISTS_AGAIN = ("The same again: ", "Once more: ", "I repeat: ", "")
SYLLABLES = tuple(a + b for a in "bdfgklmnprstvz" for b in "aeiou")
INVENTED = 0.7  # the share of values that are


def documents(seed: int) -> Iterator[Document]:
    """`DOCUMENTS` for training and `HELD_OUT` others, all different."""
    rng = random.Random(f"school/{seed}/echoes")
    seen: set[str] = set()
    for held_out, count in ((False, DOCUMENTS), (True, HELD_OUT)):
        for number in range(count):
            while (text := rng.choice((told_twice, listed_twice))(rng)) in seen:
                pass
            seen.add(text)
            yield Document(f"school:{'held_out/' if held_out else ''}echoes/{number}", text, held_out=held_out)


def told_twice(rng: random.Random) -> str:
    """Two or three facts of somebody or some place, and the same facts in another order and other words."""
    person = rng.random() < 0.7
    attributes = rng.sample(list(PERSON_VALUES if person else PLACE_VALUES), rng.randint(2, 3))
    name = " ".join(word(rng).capitalize() for _ in range(1 + person))
    facts = [(attribute, _value(attribute, rng)) for attribute in attributes]
    wordings = {attribute: rng.sample(WORDINGS[attribute], 2) for attribute in attributes}

    def telling(number: int) -> str:
        told = rng.sample(facts, len(facts))
        return " ".join(f"{sentence(wordings[a][number], name, name, a, value)}." for a, value in told)

    return f"{telling(0)} {rng.choice(AGAIN)}{telling(1)}"


def listed_twice(rng: random.Random) -> str:
    """Three to seven words, and the same words in the same order."""
    words = [w.capitalize() if rng.random() < 0.3 else w for w in (word(rng) for _ in range(rng.randint(3, 7)))]
    first, second = (rng.choice((", ", " and ", " ", "; ")).join(words) for _ in range(2))
    return f"{first}. {rng.choice(LISTS_AGAIN)}{second}."


def word(rng: random.Random) -> str:
    """One that nobody has said before: two to four syllables."""
    return "".join(rng.choices(SYLLABLES, k=rng.randint(2, 4)))


def _value(attribute: str, rng: random.Random) -> str:
    if rng.random() >= INVENTED:
        return rng.choice(VALUES[attribute])
    capital = VALUES[attribute][0][0].isupper()
    return word(rng).capitalize() if capital else word(rng)
