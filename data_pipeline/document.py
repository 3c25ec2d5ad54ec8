"""`Document`: exposition, the first of the four kinds of data that a textbook holds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A text and where it came from.

    `id` names the document within its source (a path and line, a topic, a person) so that a loss spike can be traced to it.
    `held_out` says which split it belongs to; None lets the pipeline choose by a hash of the text.
    """

    id: str
    text: str
    held_out: bool | None = None
