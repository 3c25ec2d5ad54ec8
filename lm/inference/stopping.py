"""Stop strings: a text ends with the token that completes one, wherever in tokens its characters lie."""

from collections.abc import Callable, Sequence


class StopStrings:
    """What has been written of one text, as far as a stop string could still begin in it."""

    def __init__(self, strings: Sequence[str], token_bytes: Callable[[int], bytes]) -> None:
        self._strings = [(string, string.encode()) for string in strings]
        self._longest = max(len(encoded) for _, encoded in self._strings)
        self._token_bytes = token_bytes
        self._tail = b""

    def find(self, tokens: Sequence[int]) -> tuple[int, str] | None:
        """How many of these further tokens there are up to the end of the first stop string, and which it is.

        None when there is none; the tokens are then remembered.
        """
        for count, token in enumerate(tokens, 1):
            new = self._token_bytes(token)
            text = self._tail + new
            ends = [
                (place + len(encoded), string)
                for string, encoded in self._strings
                if (place := text.find(encoded, max(0, len(self._tail) - len(encoded) + 1))) >= 0
            ]
            if ends:
                return count, min(ends)[1]
            self._tail = text[-(self._longest - 1) :] if self._longest > 1 else b""
        return None
