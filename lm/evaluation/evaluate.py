"""A model's answers to a task: a record for each example, and the numbers that they add up to."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from data_pipeline.document import Document
from data_pipeline.protocol import document_ends
from data_pipeline.school.world import SchoolConfig
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_documents
from data_pipeline.tokenizer import Tokenizer
from lm.evaluation.estimate import Estimate, ratio, share
from lm.evaluation.task import Example, Task, extract, read_examples, same_answer
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import LENGTH, Completion, Request, Update
from lm.inference.sampling import Sampling
from lm.inference.score import rolling_log_probs, score_continuations
from lm.model.transformer import Transformer

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Evaluation:
    """`records` has one entry for each example, also for those that did not fit: {"example", "too_long": true}."""

    records: list[dict[str, Any]]
    estimates: list[Estimate]
    too_long: int  # examples not asked, since their prompt does not fit the context
    cut_off: int = 0  # answers that ended because they were too long


def evaluate(
    task: Task,
    model: Transformer,
    tokenizer: Tokenizer,
    set_aside: SetAside,
    on_progress: Progress | None = None,
    *,
    quantize_cache: bool = False,
) -> Evaluation:
    """Ask everything. `on_progress` is told how many texts (or pieces of them) each dispatch finished.

    `quantize_cache`: the engine, which answers tasks that generate, keeps keys and values in int8.
    Raises `UserError` when the source has no usable examples.
    """
    if task.kind == "text":
        return _texts(task, model, tokenizer, set_aside, on_progress)
    examples = read_examples(task, set_aside)
    if task.kind == "choice":
        return _choices(examples, model, tokenizer, on_progress)
    engine = Engine(
        model,
        symbols=tokenizer.vocab_size,
        token_bytes=tokenizer.token_bytes,
        quantize_cache=quantize_cache,
    )
    return _answers(task, examples, engine, tokenizer, on_progress)


def _texts(
    task: Task, model: Transformer, tokenizer: Tokenizer, set_aside: SetAside, on_progress: Progress | None
) -> Evaluation:
    """Bits per byte, each document read in windows that overlap by half."""
    documents: list[Document] = []
    for document in read_documents(task.source, school=SchoolConfig(), set_aside=set_aside):
        if task.limit and len(documents) == task.limit:
            break
        documents.append(document)
    tokens = tokenizer.encode_many(document.text for document in documents)
    overlap = max(model.config.context_length // 2, 1)
    nats = rolling_log_probs(model, tokens, tokenizer.document_start, overlap=overlap, on_progress=on_progress)
    records = [
        {"example": document.id, "bits": -value / math.log(2), "bytes": len(document.text.encode()), "tokens": len(ids)}
        for document, ids, value in zip(documents, tokens, nats.tolist(), strict=True)
    ]
    bits, size, count = ([record[name] for record in records] for name in ("bits", "bytes", "tokens"))
    estimates = [
        ratio("bits per byte", bits, size),
        ratio("nats per token", [value * math.log(2) for value in bits], count),
    ]
    return Evaluation(records, estimates, too_long=0)


def _choices(
    examples: list[Example], model: Transformer, tokenizer: Tokenizer, on_progress: Progress | None
) -> Evaluation:
    """Which choice is the likeliest: as it is, and by its log-probability per byte, which does not prefer short ones."""
    prompts = [_prompt(example, tokenizer) for example in examples]
    choices = [[tokenizer.encode(choice) for choice in example.choices] for example in examples]
    context = model.config.context_length
    fits = [len(prompt) + max(map(len, texts)) <= context + 1 for prompt, texts in zip(prompts, choices, strict=True)]
    pairs = [(prompt, text) for prompt, texts, fit in zip(prompts, choices, fits, strict=True) for text in texts if fit]
    scores = iter(score_continuations(model, pairs, on_progress).log_probs.tolist())
    records: list[dict[str, Any]] = []
    for example, fit in zip(examples, fits, strict=True):
        if not fit:
            records.append({"example": example.where, "too_long": True})
            continue
        log_probs = [next(scores) for _ in example.choices]
        per_byte = [value / len(text.encode()) for value, text in zip(log_probs, example.choices, strict=True)]
        records.append(
            {
                "example": example.where,
                "prompt": example.prompt,
                "choices": example.choices,
                "log_probs": log_probs,
                "right": example.right,
                "correct": log_probs.index(max(log_probs)) == example.right,
                "correct_by_bytes": per_byte.index(max(per_byte)) == example.right,
            }
        )
    asked = [record for record in records if "correct" in record]
    measured = {
        "accuracy": [record["correct"] for record in asked],
        "accuracy by bytes": [record["correct_by_bytes"] for record in asked],
        "chance": [1 / len(record["choices"]) for record in asked],
    }
    estimates = [share(metric, hits) for metric, hits in measured.items() if hits]
    return Evaluation(records, estimates, fits.count(False))


def _answers(
    task: Task, examples: list[Example], engine: Engine, tokenizer: Tokenizer, on_progress: Progress | None
) -> Evaluation:
    """Whether what is written has the right answer."""
    prompts = [_prompt(example, tokenizer) for example in examples]
    fits = [len(prompt) < engine.config.context_length for prompt in prompts]
    requests = [
        Request(
            tuple(prompt),
            task.max_tokens,
            Sampling(temperature=task.temperature),
            seed=(task.seed + number) % 2**32,
            samples=task.samples,
            stop_tokens=document_ends(tokenizer),
            stop_strings=task.stop,
        )
        for number, (prompt, fit) in enumerate(zip(prompts, fits, strict=True))
        if fit
    ]

    def progress(_: int, update: Update) -> None:
        if on_progress and update.reason:
            on_progress(1)

    completions = iter(generate(engine, requests, progress))
    records: list[dict[str, Any]] = []
    for example, fit in zip(examples, fits, strict=True):
        if not fit:
            records.append({"example": example.where, "too_long": True})
            continue
        wanted = extract(task, example.answer)
        samples = []
        for completion in next(completions):
            text = completion_text(completion, tokenizer, task.stop)
            answer = extract(task, text)
            samples.append(
                {"text": text, "answer": answer, "correct": same_answer(answer, wanted), "ended": completion.reason}
            )
        records.append({"example": example.where, "prompt": example.prompt, "right": wanted, "samples": samples})
    asked = [record["samples"] for record in records if "samples" in record]
    measured = {"exact match": [sum(one["correct"] for one in samples) / len(samples) for samples in asked]}
    if task.samples > 1:
        measured[f"any of {task.samples}"] = [any(one["correct"] for one in samples) for samples in asked]
        measured[f"majority of {task.samples}"] = [_majority(samples) for samples in asked]
    estimates = [share(metric, hits) for metric, hits in measured.items() if hits]
    cut_off = sum(one["ended"] == LENGTH for samples in asked for one in samples)
    return Evaluation(records, estimates, fits.count(False), cut_off)


def _majority(samples: list[dict[str, Any]]) -> bool:
    """Whether the commonest answer is right; texts without an answer have no vote (arXiv 2203.11171)."""
    votes = Counter(one["answer"] for one in samples if one["answer"])
    chosen = votes.most_common(1)[0][0] if votes else None
    return any(one["correct"] for one in samples if one["answer"] == chosen)


def _prompt(example: Example, tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.document_start, *tokenizer.encode(example.prompt)]


def completion_text(completion: Completion, tokenizer: Tokenizer, stops: Iterable[str]) -> str:
    """What was written, up to the first of the stop strings. (They are among its tokens.)"""
    text = tokenizer.decode(completion.written.tokens)
    for stop in stops:
        text = text.partition(stop)[0]
    return text
