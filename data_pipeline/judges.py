"""Whether an answer to a factual question is right.

A `Judge` sees a list of claims and says of each True, False, or None where it cannot tell. By rule: `each(exact)`,
`each(normalised)`. By a model: `judged_by(write)`.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass

from data_pipeline.errors import UserError
from data_pipeline.model_text import Writer
from data_pipeline.resumable import patiently

ARTICLES = frozenset({"a", "an", "the"})

NUMBER_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
WORD = re.compile(r"(?<!\w)-?\d+(?:\.\d+)?|\w+")

VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)

PROMPT = """Question: {question}
Right answer: {gold}
Student's answer: {answer}

Does the student's answer say the same as the right answer? A student who does not commit to an answer is wrong.
Reply with one word: yes or no."""


@dataclass(frozen=True)
class Claim:
    """An answer that is to be judged, with the right one."""

    question: str
    gold: str
    answer: str


Judge = Callable[[list[Claim]], list[bool | None]]


def exact(claim: Claim) -> bool:
    """The same letters, but for white space around them."""
    return claim.answer.strip() == claim.gold.strip()


def normalised(claim: Claim) -> bool:
    """The right answer's words stand together in the answer, whatever their case, punctuation and articles.

    "He was born in Port Elm." says "port elm"; 1,000 is 1000, and 3.5 is not 35. An answer that names several values is right if
    one of them is.
    """
    gold, answer = normal_words(claim.gold), normal_words(claim.answer)
    if not gold:  # only articles or signs
        return claim.answer.strip().casefold() == claim.gold.strip().casefold()
    return any(answer[start : start + len(gold)] == gold for start in range(len(answer) - len(gold) + 1))


def normal_words(text: str) -> list[str]:
    """The words and numbers of `text` in lower case, without articles."""
    text = NUMBER_COMMA.sub("", unicodedata.normalize("NFKC", text).casefold())
    return [word for word in WORD.findall(text) if word not in ARTICLES]


def each(rule: Callable[[Claim], bool]) -> Judge:
    """A judge by rule."""
    return lambda claims: [rule(claim) for claim in claims]


def judged_by(write: Writer) -> Judge:
    """A model as the judge: the first yes or no that it writes counts. Raises `UserError` where it refuses to write."""

    def judge(claims: list[Claim]) -> list[bool | None]:
        prompts = [PROMPT.format(**asdict(claim)) for claim in claims]
        try:
            found = [VERDICT.search(text) for text in patiently(lambda: write(prompts))]
        except ValueError as error:
            raise UserError(f"the judge does not answer: {error}") from error
        return [match[1].lower() == "yes" if match else None for match in found]

    return judge
