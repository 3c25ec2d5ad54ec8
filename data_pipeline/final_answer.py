r"""Where in a response its answer stands.

The last statement of an answer counts, of those that say so: \boxed{...}, <answer>...</answer>, "answer is ...",
"answer to this problem is ...", "answer: ..." and a line "#### 42". Without one it is the last line. An answer that comes first
and is taken back later is therefore not the answer.
"""

import re

MARK = re.compile(
    r"<answer>|\\boxed\s*\{|\banswer(?:\s+(?:to|of|for)\s[^.!?\n]{1,80}?)?(?:\s+is|\s*:)(?:\s*:)?|^#{4}(?= *[-+$\d.])",
    re.IGNORECASE | re.MULTILINE,
)
FENCE = re.compile(r"^```\w*[ \t]*\n(.*?)(?:^```|\Z)", re.DOTALL | re.MULTILINE)
STOP = re.compile(r"[.!](?=\s)")  # the end of a sentence; the point of 3.5 is none


def stated(text: str) -> str | None:
    """What follows the last mark of an answer, to the end of it (of the box, the tag or the text). None without a mark."""
    marks = list(MARK.finditer(text))
    if not marks:
        return None
    last, rest = marks[-1][0].lower(), text[marks[-1].end() :]
    if last == "<answer>":
        return rest.partition("</answer>")[0].strip()
    # A box or a tag right behind "answer is" is the last mark itself, so what is left to take off is emphasis.
    return _within_braces(rest) if last.endswith("{") else rest.strip().strip("*$ ")


def last_line(text: str) -> str:
    """The last line that is not empty."""
    return text.strip().rpartition("\n")[2].strip()


def first_sentence(text: str) -> str:
    """Its first line, up to the end of the first sentence, without the full stop."""
    line = text.strip().partition("\n")[0]
    return STOP.split(line, maxsplit=1)[0].strip().rstrip(".").strip().strip("*$ ")


def final_answer(text: str) -> str:
    """The answer in one sentence: what is stated, else the last line."""
    found = stated(text)
    return first_sentence(last_line(text) if found is None else found)


def last_code(text: str) -> str:
    """The last fenced block of code; all of the text where there is none."""
    blocks = FENCE.findall(text)
    return blocks[-1] if blocks else text


def _within_braces(text: str) -> str:
    """Up to the brace that closes one which stands before `text`."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if not depth:
            return text[:place].strip()
    return text.strip()
