"""Documents that say everything twice: both halves say the same, and nothing of it is known from another document."""

import itertools
import random
import re
from collections import Counter

from data_pipeline.school.echoes import DOCUMENTS, HELD_OUT, documents, listed_twice, told_twice, word
from data_pipeline.school.names import VALUES
from data_pipeline.school.wordings import WORDINGS

PATTERNS = [
    (
        attribute,
        re.compile(
            re.sub(r"\\{[SN]\\}|\\{P\\}", r"(?P<name>[A-Z][a-z]+(?: [A-Z][a-z]+)?)(?:'s)?", re.escape(wording)).replace(
                r"\{value\}", r"(?:an? )?(?P<value>[A-Za-z ]+)"
            )
            + r"\."
        ),
    )
    for attribute, wordings in WORDINGS.items()
    for wording in wordings
]


def test_the_second_half_tells_the_facts_of_the_first_in_other_words():
    rng = random.Random(0)
    for _ in range(200):
        text = told_twice(rng)
        told = Counter()
        wordings = set()
        for sentence in re.findall(r"[A-Z][^.:]*\.", text):
            found = {
                (attribute, match["name"], match["value"].removeprefix("city of "), pattern.pattern)
                for attribute, pattern in PATTERNS
                if (match := pattern.fullmatch(sentence))
            }
            assert found, sentence
            attribute, name, value, pattern = min(found, key=lambda each: len(each[2]))
            told[attribute, name, value] += 1
            wordings.add(pattern)
        assert set(told.values()) == {2}
        assert 2 <= len(told) <= 3
        assert len(wordings) == 2 * len(told)


def test_a_list_comes_again_in_its_order():
    rng = random.Random(0)
    for _ in range(200):
        words = [
            each
            for each in re.findall(r"[A-Za-z]+", re.sub(r"(The same again|Once more|I repeat):", "", listed_twice(rng)))
            if each != "and"
        ]
        half = len(words) // 2
        assert 3 <= half <= 7
        assert words[:half] == words[half:]


def test_names_are_new_in_every_document():
    texts = [document.text for document in itertools.islice(documents(0), 2000)]
    assert texts == [document.text for document in itertools.islice(documents(0), 2000)]
    values = {part for values in VALUES.values() for value in values for part in value.split()}
    common = Counter(each for text in texts for each in set(re.findall(r"[A-Z][a-z]+", text)) - values)
    named = {
        name: count for name, count in common.items() if re.fullmatch(r"(?:[bdfgklmnprstvz][aeiou]){2,4}", name.lower())
    }
    assert len(named) > 2000
    assert sum(count == 1 for count in named.values()) > 0.8 * len(named)


def test_documents_are_held_out_and_none_is_there_twice():
    whole = list(documents(1))
    assert [len(whole), sum(document.held_out for document in whole)] == [DOCUMENTS + HELD_OUT, HELD_OUT]
    assert len({document.text for document in whole}) == len({document.id for document in whole}) == len(whole)


def test_a_word_is_two_to_four_syllables():
    rng = random.Random(0)
    assert all(re.fullmatch(r"(?:[bdfgklmnprstvz][aeiou]){2,4}", word(rng)) for _ in range(500))
