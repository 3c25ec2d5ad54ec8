"""Text as it comes out of tokens: whole characters only, and nothing that may turn out to belong to a stop string."""

import codecs
from collections.abc import Callable, Iterable, Sequence


class TextDeltas:
    """The text of one sample. What `feed` returned, joined, is the same however the tokens were cut into chunks."""

    def __init__(
        self, token_bytes: Callable[[int], bytes], stop_strings: Sequence[str] = (), *, strip_start: bool = False
    ) -> None:
        self._token_bytes = token_bytes
        self._stop_strings = stop_strings
        self.strip_start = strip_start  # leave out white space before the first word
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, tokens: Iterable[int], *, ended: bool = False, by_string: bool = False) -> str:
        """What the text grows by. `ended`: these were the last tokens; `by_string`: since they completed a stop string."""
        self._held += self._decoder.decode(b"".join(map(self._token_bytes, tokens)), final=ended)
        if by_string:
            found = [at for stop in self._stop_strings if (at := self._held.find(stop)) >= 0]
            end = min(found, default=len(self._held))
        elif ended:
            end = len(self._held)
        else:
            end = len(self._held) - max((_overlap(self._held, stop) for stop in self._stop_strings), default=0)
        text, self._held = self._held[:end], self._held[end:]
        if self.strip_start and text:
            text = text.lstrip()
            self.strip_start = not text
        return text


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of the text that a stop string starts with."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
