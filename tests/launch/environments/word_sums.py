"""Sums in words, as an environment of the `verifiers` package (0.4): nothing is downloaded, and the last number counts.

PYTHONPATH=tests/launch/environments vf-eval word_sums --env.agent.harness.id null ...
"""

import re

import verifiers.v1 as vf

__all__ = ["WordSums"]

SUMS = [("apples", 2, 3), ("stones", 4, 1), ("birds", 5, 4), ("boats", 1, 7)]


def last_number(text: str) -> str:
    """The last number in a text; empty where there is none."""
    return next(reversed(re.findall(r"\d+", text)), "")


class SumData(vf.TaskData):
    """A problem and its answer."""

    answer: str


class SumTask(vf.Task[SumData]):
    """How an answer is judged."""

    @vf.reward
    async def last_number_is_right(self, trace: vf.Trace) -> float:
        """One point for the right last number."""
        return float(last_number(trace.last_reply) == self.data.answer)


class SumsConfig(vf.TasksetConfig):
    """Nothing to choose."""


class WordSums(vf.Taskset[SumTask, SumsConfig]):
    """All the problems."""

    def load(self) -> list[SumTask]:
        """The problems, in order."""
        return [SumTask(SumData(prompt=told(*each), answer=str(sum(each[1:]))), self.config.task) for each in SUMS]


def told(things: str, first: int, more: int) -> str:
    """A problem in words."""
    return f"Ann has {first} {things} and finds {more}. How many {things} has she?"
