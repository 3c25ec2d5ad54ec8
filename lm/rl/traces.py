"""What a policy writes on its way to right answers, as conversations that another model, or the next round, is finetuned on."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from data_pipeline.chat_messages import messages_of
from data_pipeline.conversation import Turn, said
from data_pipeline.problem import Problem
from data_pipeline.protocol import parse_parts
from data_pipeline.tokenizer import Tokenizer
from lm.rl.rollout import Rollout

Row = dict[str, Any]
Try = Callable[
    [Sequence[Problem], str], list[Rollout]
]  # (problems, the name of the occasion) -> so many of each in turn


def traces_of(problems: Sequence[Problem], attempt: Try, tokenizer: Tokenizer, *, hint: bool) -> list[Row]:
    """For each problem what came of its tries: {"id", "hinted", "tries": {outcome: count}, "conversations"}.

    Kept are different right answers, as lists of messages; each try that is not kept counts under its reason. With `hint` a
    problem without one is tried again with its answer in the prompt, which is taken out of what is kept: the rationalisation
    of STaR (arXiv 2203.14465).
    """
    rows = [_row(problem, group, tokenizer) for problem, group in _grouped(problems, attempt(problems, "traces"))]
    if hint:
        failed = {
            place: problems[place]
            for place, row in enumerate(rows)
            if not row["conversations"] and problems[place].gold is not None
        }
        asked = [hinted(problem) for problem in failed.values()]
        for (place, problem), (_, group) in zip(
            failed.items(), _grouped(asked, attempt(asked, "hinted") if asked else []), strict=True
        ):
            rows[place] = {**_row(problem, group, tokenizer), "hinted": True}
    return rows


def hinted(problem: Problem) -> Problem:
    """The problem with its own answer in the prompt."""
    question = said("user", f"{problem.turns[-1].text}\nHint: {problem.gold}")
    return dataclasses.replace(problem, turns=(*problem.turns[:-1], question))


def _grouped(problems: Sequence[Problem], rollouts: Sequence[Rollout]) -> list[tuple[Problem, Sequence[Rollout]]]:
    samples = len(rollouts) // max(len(problems), 1)
    return [(problem, rollouts[i * samples : (i + 1) * samples]) for i, problem in enumerate(problems)]


def _row(problem: Problem, group: Sequence[Rollout], tokenizer: Tokenizer) -> Row:
    tries: Counter[str] = Counter()
    kept: list[list[Row]] = []
    for each in group:
        if each.score < 1:
            tries["the verifier failed" if each.failed else "wrong"] += 1
            continue
        if not each.well_formed:
            tries["right, but cut off" if each.cut_off else "right, but broken"] += 1
            continue
        try:
            messages = messages_of((*problem.turns, Turn("assistant", parse_parts(tokenizer, each.tokens))))
        except ValueError as error:
            tries[f"right, but {error}"] += 1
            continue
        tries["right again in the same words" if messages in kept else "right"] += 1
        if messages not in kept:
            kept.append(messages)
    return {"id": problem.id, "hinted": False, "tries": dict(tries), "conversations": kept}
