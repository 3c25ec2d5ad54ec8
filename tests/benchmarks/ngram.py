"""What a language model must beat: bits per byte of a byte n-gram model and of xz, by code that shares nothing with lm.

`python tests/benchmarks/ngram.py` prints both for Python's language reference (pydoc_data.topics).
"""

import lzma
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pydoc_data.topics import topics


class ByteNgram:
    """Interpolated Witten-Bell smoothing (Chen and Goodman 1996, arXiv:cmp-lg/9606011).

        P(w | h) = (c(h, w) + t(h) P(w | h')) / (c(h) + t(h))

    where c(h, w) counts byte w after context h, c(h) is its sum over w, t(h) is the number of distinct bytes seen after
    h, and h' is h without its first byte. Below the empty context lies the uniform distribution, 1/256.
    """

    def __init__(self, documents: Sequence[bytes], order: int):
        """Count n-grams of up to `order` bytes, so contexts of up to order - 1; none crosses between documents."""
        self.order = order
        self._counts: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
        for document in documents:
            for position, byte in enumerate(document):
                for length in range(min(order - 1, position) + 1):
                    self._counts[document[position - length : position]][byte] += 1
        self._totals = {context: counts.total() for context, counts in self._counts.items()}

    def probability(self, context: bytes, byte: int) -> float:
        """P(byte | the last order - 1 bytes of context)."""
        probability = 1 / 256
        longest = min(self.order - 1, len(context))
        for length in range(longest + 1):
            suffix = context[len(context) - length :]
            if suffix not in self._totals:  # a context never seen, in any longer form either
                break
            counts, total = self._counts[suffix], self._totals[suffix]
            probability = (counts[byte] + len(counts) * probability) / (total + len(counts))
        return probability


def bits_per_byte(train: bytes | Sequence[bytes], test: Sequence[bytes], order: int) -> float:
    """Return the mean of -log2 P over the bytes of `test`, under an n-gram model of `train`; documents are separate."""
    model = ByteNgram([train] if isinstance(train, bytes) else train, order)
    bits = 0.0
    for document in test:
        for position, byte in enumerate(document):
            bits -= math.log2(model.probability(document[max(0, position - order + 1) : position], byte))
    return bits / sum(map(len, test))


def xz_bits_per_byte(train: Sequence[bytes], test: Sequence[bytes]) -> float:
    """Return the bits that `xz -9e` needs for a byte of `test` once it has seen `train`, which may be empty."""
    before, both = b"".join(train), b"".join([*train, *test])
    return (_xz_size(both) - _xz_size(before)) * 8 / (len(both) - len(before))


def _xz_size(data: bytes) -> int:
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def main() -> None:
    """Print the table for the topics: every tenth in alphabetical order is for testing, the others are for training."""
    texts = [topics[name].encode() for name in sorted(topics)]
    texts = list(dict.fromkeys(texts))  # one text can stand under several names
    test = texts[::10]
    train = [text for n, text in enumerate(texts) if n % 10]
    print(
        f"train: {len(train)} topics, {sum(map(len, train)):,} bytes; test: {len(test)}, {sum(map(len, test)):,} bytes"
    )
    for order in (1, 2, 3, 4, 5, 6):
        print(f"{order}-gram           {bits_per_byte(train, test, order):.3f} bits per byte", flush=True)
    print(f"xz, after train  {xz_bits_per_byte(train, test):.3f} bits per byte")
    print(f"xz, test alone   {xz_bits_per_byte([], test):.3f} bits per byte")


if __name__ == "__main__":
    main()
