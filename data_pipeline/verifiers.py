"""What scores a response: small objects that can be sent to the process where they do their work."""

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

from data_pipeline.errors import UserError
from data_pipeline.final_answer import first_sentence, last_code, last_line, stated
from data_pipeline.judges import NUMBER_COMMA
from data_pipeline.problem import Response, Verdict
from data_pipeline.school.questions import Question, is_right
from data_pipeline.taste import gold
from data_pipeline.tools.tool import Tool, ToolError

MATH_SECONDS = 2  # to read an answer, and again to compare it: math-verify counts whole ones, by SIGALRM
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTER = re.compile(r"\(?([A-Z])\)?(?![\w'])[\s.:)]*(.*)")
LONE_LETTER = re.compile(r"\(?[A-Z]\)?")
COMPARES = re.compile(r"__(?:eq|ne|lt|le|gt|ge|bool|contains|hash|class|getattribute|getattr)__")


@dataclass(frozen=True)
class SchoolAnswer:
    """The school's judge: the last number of an answer (or what the question says) is right."""

    question: Question
    inline: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        """1 or 0."""
        right = is_right(self.question, response.text)
        return Verdict(float(right), "right" if right else f"the answer is {self.question.answers[0]}")


@dataclass(frozen=True)
class JokeRater:
    """The synthetic rater's own taste. What is trained on a reward model is only ever measured by it."""

    asked: str
    inline: ClassVar[bool] = True
    unbounded: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        """How much the rater likes it."""
        liked = gold(self.asked, response.text)
        return Verdict(liked, f"the rater's own taste: {liked:+.2f}")


@dataclass(frozen=True)
class NotJudged:
    """Nobody knows better than a reward model."""

    inline: ClassVar[bool] = True
    unbounded: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:  # noqa: ARG002
        """0."""
        return Verdict(0.0, "not judged")


@dataclass(frozen=True)
class GymAnswer:
    """A task of reasoning-gym scores what the response states, in its own way.

    Of what is stated both the whole and its first sentence are tried, and the better score counts. Where nothing is, it is the
    last line; or all of the response, where the task's answer has several lines.
    """

    task: str
    item: dict[str, Any] = field(hash=False)
    settings: tuple[tuple[str, Any], ...] = ()

    def load(self) -> None:
        """Import the task."""
        _gym_task(self.task, self.settings)

    def __call__(self, response: Response) -> Verdict:
        """The task's own score."""
        task = _gym_task(self.task, self.settings)
        verdicts, errors = [], []
        for answer in self._readings(response.text):
            try:
                score = float(task.score_answer(answer, self.item))
                verdicts.append(Verdict(score, f"{answer!r} where {self.item['answer']!r} was expected"))
            except Exception as error:  # some tasks throw at a full stop that another reading does not have
                errors.append(error)
        if not verdicts:
            raise errors[0]
        return max(verdicts, key=lambda verdict: verdict.score)

    def _readings(self, text: str) -> list[str]:
        gold, said = self.item["answer"], stated(text)
        several_lines = gold is None or "\n" in str(gold).strip()
        whole = said if said is not None else text.strip() if several_lines else last_line(text)
        return list(dict.fromkeys((whole, whole.removesuffix("."), first_sentence(whole))))


@lru_cache(maxsize=32)
def _gym_task(task: str, settings: tuple[tuple[str, Any], ...]) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(task, seed=0, size=1, **dict(settings))


@dataclass(frozen=True)
class MathAnswer:
    """math-verify compares what the response states with the right answer: numbers, fractions, LaTeX, sets, intervals.

    What is stated must be an expression as a whole; words and units may stand around it where there is one number. So "12 apples"
    is 12, and "5 or 6" is no answer, or it would pay to name all that may be right. Units are not compared.
    """

    answer: str

    def load(self) -> None:
        """Import math-verify, and sympy with it."""
        _math_verify()

    def __call__(self, response: Response) -> Verdict:
        """1 or 0. Runs in a process's main thread, or math-verify's time limits do not work.

        Raises `ValueError` where the right answer cannot be read.
        """
        gold = NUMBER_COMMA.sub("", self.answer)
        expected = _parse(f"\\boxed{{{gold}}}")
        if not expected:
            raise ValueError(f"the right answer {self.answer!r} cannot be read")
        said = stated(response.text)
        found = first_sentence(last_line(response.text) if said is None else said)[:1000]
        texts = [f"\\boxed{{{found}}}"] + [found] * (len(NUMBER.findall(found)) == 1)
        # The right answer comes first: the comparison is not symmetric.
        right = any(_equal(expected, _parse(text)) for text in texts)
        return Verdict(float(right), f"the answer is {self.answer}, and {found[:80]!r} was read")


def _parse(text: str) -> list[Any]:
    return _math_verify().parse(text, parsing_timeout=MATH_SECONDS, raise_on_error=True)


def _equal(gold: list[Any], answer: list[Any]) -> bool:
    return _math_verify().verify(gold, answer, timeout_seconds=MATH_SECONDS, raise_on_error=True)


def _math_verify() -> Any:
    try:
        import math_verify
    except ImportError:
        raise UserError('problems with answers in mathematics need math-verify: pip install "trivium[math]"') from None
    return math_verify


@dataclass(frozen=True)
class Choice:
    """Multiple choice: the letter that the answer names, alone or with its choice's words, or those words."""

    letter: str
    choices: tuple[str, ...]
    inline: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        """1 or 0; an answer that names two choices is wrong.

        A response that states no answer is read where its last line is a letter and nothing else, or it is one line.
        """
        text = response.text.strip()
        said = stated(text)
        if said is None and ("\n" not in text or LONE_LETTER.fullmatch(_bare(last_line(text)))):
            said = last_line(text)
        chosen = self._chosen(_bare((said or "").partition("\n")[0]))
        return Verdict(float(chosen == self.letter), f"{chosen or 'nothing'} chosen where {self.letter} is right")

    def _chosen(self, line: str) -> str | None:
        words = dict(zip(LETTERS, (_bare(choice).casefold() for choice in self.choices), strict=False))
        found = LETTER.fullmatch(line)
        if found and found[1] in words and _bare(found[2]).casefold() in ("", words[found[1]]):
            return found[1]
        named = [letter for letter, word in words.items() if word == line.casefold()]
        return named[0] if len(named) == 1 else None


def _bare(text: str) -> str:
    """Without emphasis and full stop."""
    return text.strip().strip("*$ ").rstrip(".!").strip()


@dataclass(frozen=True)
class CodeTests:
    """Runs the response's last block of code, then hidden tests, in the sandbox; the score is the share that passes.

    Tests believe what the code tells them. Code that says of itself what it equals is refused; code that puts something else in
    place of a function that tests use (`sorted`) is not found out.
    """

    tests: tuple[str, ...]  # each an expression or assert statement

    def load(self) -> None:
        """Start the sandbox."""
        _sandbox().run({"code": "0"})

    def __call__(self, response: Response) -> Verdict:
        """The share of the tests that pass."""
        code = last_code(response.text)
        if found := COMPARES.search(code):
            return Verdict(0.0, f"it defines {found[0]}, which tests rely on")
        passed = 0
        for test in self.tests:
            # Printed after the test. The code cannot print it: it does not know the test.
            said = hashlib.sha256(test.encode()).hexdigest()
            try:
                result = _sandbox().run({"code": f"{code}\n{test}\nprint({said!r})"})
            except ToolError as error:  # it is too long
                return Verdict(0.0, str(error))
            if "error: TimeoutError: stopped" in result:
                break  # once is enough to wait
            passed += result.splitlines()[-1:] == [said]
        return Verdict(passed / len(self.tests), f"{passed} of {len(self.tests)} tests passed")


@lru_cache(maxsize=1)
def _sandbox() -> Tool:
    """One for the process: each has a process of its own, which ends with this one."""
    from data_pipeline.tools.python import PythonLimits, python_tool

    return python_tool(PythonLimits(), workers=1)
