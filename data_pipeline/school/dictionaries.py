"""Word pairs whose rule must be read off the document itself: each has a dictionary of its own, drawn anew.

    house kelu
    river tomi
    house kelu
    ...

A document's `ENTRIES` words and their translations are drawn from `WORDS` and `TRANSLATIONS`, so what a word means here can be
known only from a line above: what a model does with the next word shows learning in context. One dictionary in ten is held
out: no training document has it.
"""

import random
import zlib
from collections.abc import Iterator, Sequence

from data_pipeline.document import Document

DICTIONARIES_VERSION = 1
"""Raised whenever the same seed would give other documents."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WORDS = _words(
    """
    apple boat bread child cloud door egg field fire fish garden hand hat horse house king lamp milk moon road
    rain river salt ship snow star stone table tree water wind wolf
    """
)
TRANSLATIONS = _words(
    """
    bado deka fimo gulu kelu lomi mira nuto pesa riko sabe tomi vadu zeno bilu dara fope gisa kuma lavi meto nira
    poku rede sivo tula vobe zami bune doli fega gavo
    """
)
ENTRIES = 8  # of a dictionary
LINES = 20  # of a document: 61 tokens with the one that starts it, nearly a row of 64
DOCUMENTS = 40_000
HELD_OUT = 400
Dictionary = dict[str, str]


def documents(seed: int) -> Iterator[Document]:
    """`DOCUMENTS` documents for training, each with a dictionary of its own, and `HELD_OUT` whose dictionaries are held out."""
    rng = random.Random(f"school/{seed}/dictionaries")
    for held_out, count in ((False, DOCUMENTS), (True, HELD_OUT)):
        for i in range(count):
            dictionary = draw_dictionary(rng, held_out=held_out)
            text = "".join(line(word, dictionary) for word in rng.choices(list(dictionary), k=LINES))
            yield Document(f"school:{'held_out/' if held_out else ''}dictionaries/{i}", text, held_out=held_out)


def draw_dictionary(rng: random.Random, *, held_out: bool) -> Dictionary:
    """One that training documents may have, or one that they never have."""
    while True:
        dictionary = dict(zip(rng.sample(WORDS, ENTRIES), rng.sample(TRANSLATIONS, ENTRIES), strict=True))
        identity = zlib.crc32(repr(sorted(dictionary.items())).encode())
        if (identity % 10 == 0) == held_out:
            return dictionary


def line(word: str, dictionary: Dictionary) -> str:
    """`house kelu`, and the newline."""
    return f"{word} {dictionary[word]}\n"


def best_possible(shown: Sequence[str], asked: str) -> float:
    """How likely the best guess at the translation of `asked` is right after lines about the words `shown`.

    It was shown, or its translation is any of those that were not.
    """
    return 1.0 if asked in shown else 1 / (len(TRANSLATIONS) - len(set(shown)))
