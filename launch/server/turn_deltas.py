"""An assistant's turn while it is written: text as it comes, thinking, calls and results when they are whole."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_pipeline.conversation import Part, Text, Thinking
from data_pipeline.marks import find_marks
from data_pipeline.protocol import parse_parts
from data_pipeline.tokenizer import Tokenizer
from launch.server.deltas import TextDeltas

if TYPE_CHECKING:  # JAX is imported late
    from lm.inference.requests import Written


class TurnDeltas:
    """The parts of one sample. Put together, they are what `parse_parts` reads in all of its tokens."""

    def __init__(
        self, tokenizer: Tokenizer, stop_strings: Sequence[str] = (), *, marked: bool = False, strip_start: bool = False
    ) -> None:
        """`marked`: special tokens mark its parts; without, it is all text. `strip_start`: as in `TextDeltas`."""
        self._tokenizer = tokenizer
        self._text = TextDeltas(tokenizer.token_bytes, stop_strings, strip_start=strip_start)
        marks = find_marks(tokenizer) if marked else None
        pairs = [pair for pair in (marks.thinking, marks.call) if pair] if marks else []
        self._closing = {before[0]: after[0] for before, after in pairs}
        self._blank_lines = marks is not None and marks.chatml  # after thinking
        self._inside: list[int] = []  # what has come of a part that is no text, its mark first

    def feed(self, new: "Written", *, ended: bool = False, by_string: bool = False) -> list[Part]:
        """What the turn grows by; `ended` and `by_string` as in `TextDeltas.feed`."""
        parts: list[Part] = []
        words: list[int] = []

        def finish(*, ended: bool = True, by_string: bool = False) -> None:
            """Take in what stands open."""
            if self._inside:
                parts.extend(parse_parts(self._tokenizer, self._inside))
                self._inside.clear()
                self._text.strip_start |= self._blank_lines and isinstance(parts[-1], Thinking)
            if text := self._text.feed(words, ended=ended, by_string=by_string):
                parts.append(Text(text))
            words.clear()

        drawn = new.drawn or [True] * len(new.tokens)
        for is_drawn, group in itertools.groupby(zip(new.tokens, drawn, strict=True), lambda pair: pair[1]):
            tokens = [token for token, _ in group]
            if not is_drawn:  # a tool's, its marks too
                finish()
                parts.extend(parse_parts(self._tokenizer, tokens))
                continue
            for token in tokens:
                if token in self._closing:
                    finish()
                    self._inside.append(token)
                elif self._inside:
                    self._inside.append(token)
                    if token == self._closing[self._inside[0]]:
                        finish()
                else:
                    words.append(token)
        if not self._inside or ended:
            finish(ended=ended, by_string=by_string)
        return parts


def joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts of a turn with neighbouring texts as one."""
    whole: list[Part] = []
    for part in parts:
        if isinstance(part, Text) and whole and isinstance(whole[-1], Text):
            whole[-1] = Text(whole[-1].text + part.text)
        else:
            whole.append(part)
    return tuple(whole)
