"""What tokens hide: the letters of a word, the number of dots; answered directly or through Python (map row 18).

Words are the school's own, so that the model has read them all; which of them are spelled in training is drawn by word.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Literal, get_args

from data_pipeline.conversation import Conversation, Part, Text, ToolCall, ToolResult, Turn, said
from data_pipeline.school.arithmetic import FRUIT, THINGS
from data_pipeline.school.dictionaries import WORDS
from data_pipeline.school.names import FOODS, GOODS, OCCUPATIONS, PETS
from data_pipeline.school.problems import USE_CODE
from data_pipeline.school.questions import Question, Reading, example
from data_pipeline.school.world import SchoolConfig

Way = Literal["direct", "python"]
WAYS: tuple[Way, ...] = get_args(Way)
LEXICON = tuple(sorted({*FOODS, *GOODS, *OCCUPATIONS, *PETS, *FRUIT, *THINGS, *WORDS}))
WORDS_HELD_OUT = 0.2
MOST_DOTS = 40
WORDINGS = 2  # of each task


@dataclass(frozen=True)
class Task:
    """A question about the letters of a word, or about dots."""

    kind: str  # spell, third, count, dots
    text: str
    answer: str
    code: str
    reading: Reading
    size: int  # letters or dots


def conversations(config: SchoolConfig, way: Way) -> Iterator[Conversation]:
    """Every task about every word, in a fixed mixed order."""
    result = []
    for held_out in (False, True):
        for number, task in enumerate(tasks(config, held_out=held_out)):
            split = "held_out/" if held_out else ""
            id = f"school:{split}spelling/{way}/{number}"
            result.append(example(id, _asked(task, way), _reply(task, way), held_out=held_out))
    random.Random(f"school/{config.seed}/spelling/{way}").shuffle(result)
    return iter(result)


def questions(config: SchoolConfig, way: Way) -> list[Question]:
    """The tasks about held-out words and numbers of dots."""
    return [
        Question(
            f"spelling/{way}/{number}",
            _asked(task, way),
            task.kind,
            (_gold(task),),
            reading=task.reading,
            size=task.size,
        )
        for number, task in enumerate(tasks(config, held_out=True))
    ]


def tasks(config: SchoolConfig, *, held_out: bool) -> list[Task]:
    """Different tasks about the words of one split."""
    rng = random.Random(f"school/{config.seed}/spelling")
    words = rng.sample(LEXICON, len(LEXICON))
    dots = rng.sample(range(1, MOST_DOTS + 1), MOST_DOTS)
    cut_words, cut_dots = round(WORDS_HELD_OUT * len(words)), round(WORDS_HELD_OUT * len(dots))
    result: list[Task] = []
    for word in words[:cut_words] if held_out else words[cut_words:]:
        for number in range(WORDINGS):
            letter = rng.choice(word if rng.random() < 0.9 else ascii_lowercase)
            result += _letters(word, letter, number)
    for count in dots[:cut_dots] if held_out else dots[cut_dots:]:
        result += [_dots(count, number) for number in range(WORDINGS)]
    return result


def _letters(word: str, letter: str, number: int) -> Iterator[Task]:
    """All that is asked about one word, in one of the two wordings."""
    text = ("Spell the word {word}.", "What are the letters of {word}?")[number]
    yield Task("spell", text.format(word=word), " ".join(word), f"print(*'{word}')", "letters", len(word))
    text = (
        "Write every third letter of {word}, starting with the first.",
        "Start with the first letter of {word} and take every third one.",
    )[number]
    yield Task("third", text.format(word=word), " ".join(word[::3]), f"print(*'{word}'[::3])", "letters", len(word))
    text = ("How many times is the letter {letter} in {word}?", "Count the letter {letter} in the word {word}.")[number]
    count = word.count(letter)
    answer = f"It is there {count} time{'' if count == 1 else 's'}."
    code = f"print('{word}'.count('{letter}'))"
    yield Task("count", text.format(letter=letter, word=word), answer, code, "last number", len(word))


def _dots(count: int, number: int) -> Task:
    dots = "." * count
    text = ("How many dots are here: {dots}", "Count these dots: {dots}")[number].format(dots=dots)
    answer = f"There {'is 1 dot' if count == 1 else f'are {count} dots'}."
    return Task("dots", text, answer, f"print(len('{dots}'))", "last number", count)


def _gold(task: Task) -> str:
    """What the tool prints, and what must stand in the answer."""
    if task.reading == "letters":
        return task.answer
    return next(word for word in task.answer.split() if word.isdigit())


def _asked(task: Task, way: Way) -> tuple[Turn, ...]:
    return (said("user", task.text + (USE_CODE if way == "python" else "")),)


def _reply(task: Task, way: Way) -> tuple[Part, ...]:
    if way == "direct":
        return (Text(task.answer),)
    return (ToolCall("python", {"code": task.code}), ToolResult(_gold(task)), Text(task.answer))
