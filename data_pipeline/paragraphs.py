"""Long documents cut at blank lines into many short ones, as studies of single passages need them."""

import hashlib
import re
from collections.abc import Iterable, Iterator

from data_pipeline.document import Document
from data_pipeline.set_aside import SetAside

VERSION = 1  # part of the fingerprint: to be raised when the same text would be cut in another way
SHORTEST = 200  # characters; shorter paragraphs are joined with those after them
TELLING = 100  # characters; a paragraph as long as this that came before makes a passage a repetition
REASON = "a paragraph that came before"

BLANK_LINES = re.compile(r"\n\s*\n")


def paragraphs(documents: Iterable[Document], set_aside: SetAside) -> Iterator[Document]:
    """Each document as documents of at least `SHORTEST` characters (or one, if it is shorter), with ids `ID#n`, n from 0.

    Paragraphs stay in order and whole; a short one at the end is joined to the passage before it. A passage that is the
    same as an earlier one of any document, or shares a paragraph of `TELLING` characters with it, is counted and set
    aside: who asks how often a text was seen must not find it elsewhere. White space does not matter to sameness.
    A document that says its split gives it to its passages; otherwise each falls to one by a hash of its own text.
    """
    seen: set[bytes] = set()
    for document in documents:
        for number, passage in enumerate(_passages(document.text)):
            name, text = f"{document.id}#{number}", "\n\n".join(passage)
            words = [" ".join(paragraph.split()) for paragraph in passage]
            digests = {_digest(each) for each in words if len(each) >= TELLING} | {_digest(" ".join(words))}
            if digests & seen:
                set_aside.add(name, REASON, text.encode("utf-8", "surrogatepass"))
            else:
                yield Document(name, text, document.held_out)
            seen |= digests


def _passages(text: str) -> Iterator[list[str]]:
    """The paragraphs of a text, in lists that are long enough together."""
    found = (paragraph.strip("\r\n").rstrip() for paragraph in BLANK_LINES.split(text))
    whole: list[str] | None = None  # kept back: a short end may have to join it
    begun: list[str] = []
    for paragraph in filter(None, found):
        begun.append(paragraph)
        if len("\n\n".join(begun)) >= SHORTEST:
            if whole:
                yield whole
            whole, begun = begun, []
    if whole or begun:
        yield (whole or []) + begun


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
