"""The n-gram baseline against values worked out by hand and a version that counts by reading all the text again."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ngram import ByteNgram, bits_per_byte, xz_bits_per_byte

TEXT = st.lists(st.sampled_from(b"abc"), max_size=12).map(bytes)
TEXTS = st.lists(TEXT, max_size=4)


def slow_probability(documents: list[bytes], context: bytes, byte: int) -> float:
    """Witten-Bell as it is defined, from the longest context down, without tables."""
    after = [d[len(context) + n] for d in documents for n in range(len(d) - len(context)) if d[n:].startswith(context)]
    shorter = slow_probability(documents, context[1:], byte) if context else 1 / 256
    if not after:
        return shorter
    return (after.count(byte) + len(set(after)) * shorter) / (len(after) + len(set(after)))


def test_by_hand():
    a = (1 + 2 / 256) / 4  # c(a) = 1, c = 2, t = 2
    b_after_a = (1 + a) / 2  # c(ab) = 1, c(a) = 1, t(a) = 1; and P(b) = P(a)
    assert bits_per_byte(b"ab", [b"a"], 1) == pytest.approx(-math.log2(a))
    assert bits_per_byte(b"ab", [b"ab"], 1) == pytest.approx(-math.log2(a))
    assert bits_per_byte(b"ab", [b"ab"], 2) == pytest.approx(-(math.log2(a) + math.log2(b_after_a)) / 2)
    unseen = (0 + 2 / 256) / 4
    assert bits_per_byte(b"ab", [b"z"], 3) == pytest.approx(-math.log2(unseen))
    assert bits_per_byte(b"ab", [b"zz"], 3) == pytest.approx(-math.log2(unseen))  # nothing was seen after z: back off


def test_contexts_do_not_cross_between_documents():
    apart, together = ByteNgram([b"ab", b"cd"], 2), ByteNgram([b"abcd"], 2)
    assert apart.probability(b"b", ord("c")) == apart.probability(b"", ord("c"))
    assert together.probability(b"b", ord("c")) > together.probability(b"", ord("c"))
    assert bits_per_byte([b"ab", b"cd"], [b"cd", b"ab"], 2) == bits_per_byte([b"ab", b"cd"], [b"ab", b"cd"], 2)


def test_without_training_all_bytes_are_equal():
    assert bits_per_byte([], [b"any text"], 4) == pytest.approx(8)


@settings(deadline=None)
@given(TEXTS, TEXT, st.integers(1, 4), st.sampled_from(b"abcz"))
def test_equals_the_slow_version(documents, context, order, byte):
    model = ByteNgram(documents, order)
    used = context[max(0, len(context) - (order - 1)) :]
    assert model.probability(context, byte) == pytest.approx(slow_probability(documents, used, byte))


@settings(deadline=None)
@given(TEXTS, TEXT, st.integers(1, 4))
def test_probabilities_sum_to_one(documents, context, order):
    model = ByteNgram(documents, order)
    assert sum(model.probability(context, byte) for byte in range(256)) == pytest.approx(1)


@settings(deadline=None)
@given(TEXTS, st.lists(TEXT, min_size=1, max_size=3).filter(any), st.integers(1, 4))
def test_bits_are_those_of_each_byte_given_those_before_it(train, test, order):
    bits = [
        -math.log2(slow_probability(train, text[max(0, n - order + 1) : n], byte))
        for text in test
        for n, byte in enumerate(text)
    ]
    assert bits_per_byte(train, test, order) == pytest.approx(sum(bits) / len(bits))


def test_xz_needs_eight_bits_for_noise_and_next_to_none_for_what_it_has_seen():
    noise = random.Random(0).randbytes(100_000)
    assert xz_bits_per_byte([], [noise]) == pytest.approx(8, abs=0.02)
    assert xz_bits_per_byte([noise], [noise]) < 0.1
    assert xz_bits_per_byte([noise[:50_000], noise[50_000:]], [noise[:60_000], noise[60_000:]]) < 0.1
