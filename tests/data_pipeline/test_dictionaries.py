"""Documents of word pairs: what they say of their words, and what is held out."""

import collections
import itertools
import random

import pytest

from data_pipeline.school.dictionaries import (
    DOCUMENTS,
    ENTRIES,
    HELD_OUT,
    LINES,
    TRANSLATIONS,
    WORDS,
    best_possible,
    documents,
    draw_dictionary,
    line,
)


def test_every_document_keeps_to_a_dictionary_of_its_own():
    seen = collections.Counter()
    for document in itertools.islice(documents(0), 500):
        pairs = [pair.split() for pair in document.text.splitlines()]
        assert len(pairs) == LINES
        dictionary = dict(pairs)
        assert all(dictionary[word] == translation for word, translation in pairs)
        assert len(set(dictionary.values())) == len(dictionary) <= ENTRIES
        assert set(dictionary) <= set(WORDS)
        assert set(dictionary.values()) <= set(TRANSLATIONS)
        seen.update(dictionary.items())
    assert len(seen) > 900  # of 1,024 pairs: no word has a translation of its own
    assert max(seen.values()) < 20


def test_the_same_seed_gives_the_same_documents():
    first, again, other = (list(itertools.islice(documents(seed), 20)) for seed in (0, 0, 1))
    assert first == again != other


def test_dictionaries_are_held_out():
    whole = list(documents(0))
    assert [len(whole), sum(document.held_out for document in whole)] == [DOCUMENTS + HELD_OUT, HELD_OUT]
    rng = random.Random(0)
    told = {tuple(sorted(draw_dictionary(rng, held_out=False).items())) for _ in range(500)}
    kept = {tuple(sorted(draw_dictionary(rng, held_out=True).items())) for _ in range(500)}
    assert len(told) == len(kept) == 500
    assert not told & kept


@pytest.mark.parametrize("shots", [0, 1, 4, 16])
def test_the_best_possible_guesser_is_right_as_often_as_promised(shots):
    rng = random.Random(shots)
    right, promised = 0, 0.0
    for _ in range(4000):
        dictionary = draw_dictionary(rng, held_out=False)
        *shown, asked = rng.choices(list(dictionary), k=shots + 1)
        text = "".join(line(word, dictionary) for word in shown)
        known = dict(pair.split() for pair in text.splitlines())
        guess = known.get(asked) or next(word for word in TRANSLATIONS if word not in known.values())
        right += guess == dictionary[asked]
        promised += best_possible(shown, asked)
    assert right / 4000 == pytest.approx(promised / 4000, abs=0.02)
    if shots == 0:
        assert promised == pytest.approx(4000 / 32)
