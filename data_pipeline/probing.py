"""What a model knows, found by asking it, and conversations that say "I don't know" where it does not.

Llama 3's cure for hallucination (arXiv 2407.21783, section 4.3.6): ask the model each question several times, judge the answers,
and train it to refuse where it is wrong time and again. What it knows is left alone, so it learns to tell the two apart.

The model and the judge are plain functions. Everything is on disk in one folder, in the order in which it is made:

    questions.jsonl          {"id", "question", "gold", "document"}
    answers.jsonl            {"id", "answers": k texts}
    verdicts.jsonl           {"id", "right": k of true, false or null, "verdict": "known", "unsure" or "unknown"}
    refusals.jsonl           {"id", "messages"}: a conversation for each unknown question, to be finetuned on
    random_refusals.jsonl    as many, for questions drawn at random: the control that shows what probing is worth
    summary.json             how many of each
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from data_pipeline.errors import UserError
from data_pipeline.judges import Claim, Judge
from data_pipeline.locked import locked
from data_pipeline.model_text import writable
from data_pipeline.questions import Question, check_ids
from data_pipeline.refusals import refusals
from data_pipeline.resumable import Row, begin, do_rows, patiently, write_rows, write_whole

Ask = Callable[[list[str], int], list[list[str]]]
"""Questions and k -> k sampled answers to each."""

Verdict = Literal["known", "unsure", "unknown"]


@dataclass(frozen=True)
class ProbingConfig:
    """How often each question is asked, and what follows from how many right answers."""

    samples: int = 8
    """k, the answers sampled to each question."""
    known_at_least: int = 6
    """So many right answers or more: known."""
    unknown_at_most: int = 1
    """So many right answers or fewer: unknown. What lies between is unsure, and is not trained on."""
    seed: int = 0
    """Which words refuse, and which questions the control draws."""


def check(config: ProbingConfig) -> None:
    """Raise `UserError` for thresholds that make no sense."""
    if not 0 <= config.unknown_at_most < config.known_at_least <= config.samples:
        raise UserError(
            f"unknown_at_most={config.unknown_at_most}, known_at_least={config.known_at_least}, samples={config.samples}: "
            "they must rise in this order, from 0"
        )


def probe(
    folder: Path,
    questions: Sequence[Question],
    ask: Ask,
    judge: Judge,
    config: ProbingConfig = ProbingConfig(),
    *,
    model: str,
    judged_by: str,
    batch: int = 32,
) -> Row:
    """Find out which `questions` the model answers, write the files above, and return the summary.

    `model` and `judged_by` say who answered and who judged. Killed and called again, it goes on and asks nothing twice. Raises
    `UserError` for a folder that was begun with other questions, names or settings, saying which, and where the model or the
    judge stays out of reach.
    """
    check(config)
    check_ids(questions)
    if not questions:
        raise UserError(f"{folder}: no questions to ask")
    rows = [asdict(question) for question in questions]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
    with locked(folder):
        begin(folder / "settings.json", {**asdict(config), "model": model, "judged_by": judged_by, "questions": digest})
        write_rows(folder / "questions.jsonl", rows)
        try:
            answers = _answers(folder, questions, ask, config.samples, batch)
            verdicts = _verdicts(folder, questions, answers, judge, config, batch)
        except (ConnectionError, TimeoutError) as error:
            raise UserError(f"{error}: nothing that was answered is lost; start again to go on") from error
        unknown = [each for each in questions if verdicts[each.id]["verdict"] == "unknown"]
        drawn = random.Random(f"{config.seed}/control").sample(list(questions), len(unknown))
        write_rows(folder / "refusals.jsonl", refusals(unknown, config.seed))
        write_rows(folder / "random_refusals.jsonl", refusals(drawn, config.seed))
        summary = _summary(verdicts)
        write_whole(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
        return summary


def verdict(right: int, config: ProbingConfig) -> Verdict:
    """What `right` right answers of `config.samples` say."""
    if right >= config.known_at_least:
        return "known"
    return "unknown" if right <= config.unknown_at_most else "unsure"


def _answers(folder: Path, questions: Sequence[Question], ask: Ask, samples: int, batch: int) -> dict[str, Row]:
    def work(some: list[tuple[str, Question]]) -> list[Row]:
        asked = [question.question for _, question in some]
        answers = patiently(lambda: ask(asked, samples))
        if len(answers) != len(some) or any(len(each) != samples for each in answers):
            counts = [len(each) for each in answers]
            raise ValueError(f"{len(some)} questions were asked {samples} times, and the answers are so many: {counts}")
        return [
            {"id": key, "answers": [writable(text) for text in each]}
            for (key, _), each in zip(some, answers, strict=True)
        ]

    items = [(question.id, question) for question in questions]
    return do_rows(folder / "answers.jsonl", items, work, batch=batch, name="asking")


def _verdicts(
    folder: Path,
    questions: Sequence[Question],
    answers: dict[str, Row],
    judge: Judge,
    config: ProbingConfig,
    batch: int,
) -> dict[str, Row]:
    def work(some: list[tuple[str, Question]]) -> list[Row]:
        claims = [Claim(each.question, each.gold, answer) for key, each in some for answer in answers[key]["answers"]]
        judged = judge(claims)
        if len(judged) != len(claims):
            raise ValueError(f"the judge gave {len(judged)} verdicts on {len(claims)} answers")
        rows = []
        for number, (key, _) in enumerate(some):
            right = judged[number * config.samples : (number + 1) * config.samples]
            rows.append({"id": key, "right": right, "verdict": verdict(right.count(True), config)})
        return rows

    items = [(question.id, question) for question in questions]
    return do_rows(folder / "verdicts.jsonl", items, work, batch=batch, name="judging")


def _summary(verdicts: dict[str, Row]) -> Row:
    """Counts of questions, and of answers; answers without a verdict (`unjudged`) count as not right."""
    counts = Counter(row["verdict"] for row in verdicts.values())
    judged = [right for row in verdicts.values() for right in row["right"]]
    return {
        "questions": len(verdicts),
        "known": counts["known"],
        "unsure": counts["unsure"],
        "unknown": counts["unknown"],
        "answers": len(judged),
        "right": judged.count(True),
        "unjudged": judged.count(None),
    }
