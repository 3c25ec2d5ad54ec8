"""What scores a response: small objects that can be sent to the process where they do their work."""

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from data_pipeline.problem import Response, Verdict
from data_pipeline.school.questions import Question, is_right

BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
SAID = re.compile(r"answer is\b|answer:|####", re.IGNORECASE)
LETTER = re.compile(r"(?<![A-Za-z0-9'])\(?([A-Z])\)?(?![A-Za-z0-9'])")


def final_answer(text: str) -> str:
    r"""What a text gives as its answer, without a full stop at its end.

    It is what stands in the last \boxed{}, else what follows the last "answer is", "Answer:" or "####" on its line, else the last
    line.
    """
    if boxed := BOXED.findall(text):
        return boxed[-1].strip()
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    *before, after = SAID.split(text)
    after = after.strip().partition("\n")[0]
    last = after if before else (lines[-1] if lines else "")
    return last.strip().strip("*$").removesuffix(".").strip()


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
class GymAnswer:
    """A task of reasoning-gym scores what `final_answer` finds, in its own way."""

    task: str
    item: dict[str, Any] = field(hash=False)

    def __call__(self, response: Response) -> Verdict:
        """The task's own score."""
        import reasoning_gym

        answer = final_answer(response.text)
        score = reasoning_gym.get_score_answer_fn(self.task)(answer, self.item)
        return Verdict(score, f"{answer!r} where {self.item['answer']!r} was expected")


@dataclass(frozen=True)
class MathAnswer:
    """math-verify compares the response with the right answer: numbers, fractions, LaTeX, sets, intervals."""

    answer: str

    def __call__(self, response: Response) -> Verdict:
        """1 or 0. Runs in a process's main thread, or math-verify's time limits do not work."""
        from math_verify import parse, verify

        found = parse(response.text)
        # The right answer comes first: the comparison is not symmetric.
        right = bool(found) and verify(parse(f"${self.answer}$"), found)
        return Verdict(float(right), "right" if right else f"the answer is {self.answer}, and {found[-1:]} was read")


@dataclass(frozen=True)
class Choice:
    """Multiple choice: the one letter that the answer names, or else the words of the right choice."""

    letter: str
    choices: tuple[str, ...]
    inline: ClassVar[bool] = True

    def __call__(self, response: Response) -> Verdict:
        """1 or 0; an answer that names two choices is wrong."""
        answer = final_answer(response.text)
        letters = {found for found in LETTER.findall(answer) if ord(found) - ord("A") < len(self.choices)}
        if not letters:
            named = [i for i, choice in enumerate(self.choices) if choice.lower() == answer.lower()]
            letters = {chr(ord("A") + i) for i in named}
        right = letters == {self.letter}
        return Verdict(float(right), f"{', '.join(sorted(letters)) or 'nothing'} chosen where {self.letter} is right")


@dataclass(frozen=True)
class CodeTests:
    """Runs the response's last block of Python, then hidden tests, in the sandbox; the score is the share that passes."""

    tests: tuple[str, ...]  # each an expression or assert statement

    def __call__(self, response: Response) -> Verdict:
        """The share of the tests that pass."""
        from data_pipeline.tools.python import PythonLimits, python_tool

        blocks = re.findall(r"```(?:python)?\n(.*?)```", response.text, re.DOTALL)
        code = blocks[-1] if blocks else response.text
        run = python_tool(PythonLimits(), workers=1).run
        passed = 0
        for number, test in enumerate(self.tests):
            said = f"passed {number}"  # printed after the test: what the code itself prints does not count
            result = run({"code": f"{code}\n{test}\nprint({said!r})"})
            passed += result.splitlines()[-1:] == [said]
        return Verdict(passed / len(self.tests), f"{passed} of {len(self.tests)} tests passed")
