"""The terminal of `launch.chat`: what is typed, what is shown, and Ctrl-C."""

import contextlib
import signal
import sys
from collections.abc import Iterator

from launch.tokenize import visible_character


def messages() -> Iterator[tuple[str, bool]]:
    """What the user enters, and whether it is a command, until the input ends."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # not on every system
            import readline  # noqa: F401  (input() then edits lines and remembers them)
    while True:
        try:
            message, command = read_message()
        except EOFError:
            break
        except KeyboardInterrupt:
            note("\n(Ctrl-D ends)")
            continue
        if message.strip():
            yield message, command
    if sys.stdin.isatty():
        print()


def read_message() -> tuple[str, bool]:
    r"""A message, of several lines when one ends in \ or the first begins with \"\"\"; and whether it is a command."""
    message = read_line("> ")
    if message.startswith('"""'):
        message = message[3:]
        with contextlib.suppress(EOFError):  # the end of the input ends the message too
            while not message.rstrip().endswith('"""'):
                message += "\n" + read_line("... ")
        return message.rstrip().removesuffix('"""'), False
    with contextlib.suppress(EOFError):
        while message.endswith("\\"):
            message = message[:-1] + "\n" + read_line("... ")
    return message, message.startswith("/")


def read_line(prompt: str) -> str:
    """A line of the input; the prompt is shown to people only."""
    return input(prompt if sys.stdin.isatty() else "")


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """A list that Ctrl-C adds to, in place of ending the program."""
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def printable(text: str) -> str:
    """The text, for a terminal without what would command it (escape sequences)."""
    return _visible(text) if sys.stdout.isatty() else text


def note(text: str) -> None:
    """A line that is not the assistant's words, dim where there are colours."""
    text = _visible(text)
    print(f"\x1b[2m{text}\x1b[0m" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else visible_character(c) for c in text)
