"""Documents whose rule must be read off their own lines: each has a secret alphabet, drawn anew, and words put into it.

    say c a b as f d h
    say a a g as d d e
    ...

A rule is a permutation of `LETTERS`. A word's translation can be known only from the lines above it (a -> d, b -> h), so what
a model does with the next word shows learning in context. One rule in ten is held out: no training document follows it.
"""

import math
import random
import zlib
from collections.abc import Iterator, Sequence

from data_pipeline.document import Document

CIPHERS_VERSION = 1
"""Raised whenever the same seed would give other documents."""

LETTERS = "abcdefgh"
WORD = 3  # letters of a word
LINES = 28  # of a document: 253 tokens with the one that starts it, nearly a row of 256
DOCUMENTS = 9600  # 600 steps of 16 rows
HELD_OUT = 200
Rule = dict[str, str]


def documents(seed: int) -> Iterator[Document]:
    """`DOCUMENTS` documents for training, each with a rule of its own draw, and `HELD_OUT` with rules that those never have."""
    rng = random.Random(f"school/{seed}/ciphers")
    for held_out, count in ((False, DOCUMENTS), (True, HELD_OUT)):
        for i in range(count):
            rule = draw_rule(rng, held_out=held_out)
            text = "\n".join(line(word, rule) for word in draw_words(rng, LINES))
            yield Document(f"school:{'held_out/' if held_out else ''}ciphers/{i}", text, held_out=held_out)


def draw_rule(rng: random.Random, *, held_out: bool) -> Rule:
    """A rule, letter to letter, that training documents may have or one that they never have."""
    while True:
        letters = "".join(rng.sample(LETTERS, len(LETTERS)))
        if (zlib.crc32(letters.encode()) % 10 == 0) == held_out:
            return dict(zip(LETTERS, letters, strict=True))


def draw_words(rng: random.Random, count: int) -> list[str]:
    """So many words, no two the same."""
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(rng.choices(LETTERS, k=WORD))] = None
    return list(words)


def line(word: str, rule: Rule) -> str:
    """`say c a b as f d h`: the letters apart, so that each is a token."""
    return f"{question(word)} {answer(word, rule)}"


def question(word: str) -> str:
    """A line up to where the translation begins: `say c a b as`."""
    return f"say {' '.join(word)} as"


def answer(word: str, rule: Rule) -> str:
    """The translation: `f d h`."""
    return " ".join(rule[letter] for letter in word)


def best_possible(shown: Sequence[str], asked: str) -> float:
    """How likely the best guess at the translation of `asked` is right, after the translations of the words `shown`.

    Letters shown are known; m others have, in any order, m of the u images that are left: 1 / (u (u - 1) ... (u - m + 1)).
    """
    known = set("".join(shown))
    return 1 / math.perm(len(LETTERS) - len(known), len(set(asked) - known))
