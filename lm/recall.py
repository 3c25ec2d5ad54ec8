"""What a model knows of the school: does it find the told fact likelier than the same sentence with another value?

Facts that no document tells are the control: nobody can know them, so a model that "knows" them is cheating.
"""

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass

from data_pipeline.school.world import Fact, SchoolConfig, alternatives, build_world, facts, probe
from data_pipeline.tokenizer import Tokenizer
from lm.inference.score import score_continuations
from lm.model.transformer import Transformer


@dataclass(frozen=True)
class Recall:
    """The facts of one frequency, and how they fared against `others` other values each."""

    frequency: int  # training documents that tell each of these facts, in one epoch; 0: never told
    facts: int
    preferred: float  # share of (fact, other value) pairs in which the fact is likelier; chance is 1/2
    first: float  # share of facts likelier than all their other values; chance is 1 / (others + 1)


def school_recall(
    model: Transformer,
    tokenizer: Tokenizer,
    config: SchoolConfig,
    *,
    others: int = 7,
    per_frequency: int = 120,
    on_progress: Callable[[int, int], object] | None = None,
) -> list[Recall]:
    """Recall by frequency, 0 first. At most `per_frequency` facts of each frequency are asked, chosen by `config.seed`.

    `on_progress(done, total)` counts sentences.
    """
    chance = random.Random(config.seed)
    asked = facts_of_each_frequency(config, per_frequency, chance)
    pairs = []
    counts = []
    for fact in asked:
        pool = sorted(alternatives(fact))
        values = [fact.value, *chance.sample(pool, min(others, len(pool)))]
        counts.append(len(values))
        for value in values:
            prompt, completion = probe(dataclasses.replace(fact, value=value))
            pairs.append(([tokenizer.document_start, *tokenizer.encode(prompt)], tokenizer.encode(completion)))
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        if on_progress:
            on_progress(done, len(pairs))

    scores = score_continuations(model, pairs, progress).log_probs
    wins: dict[int, list[list[bool]]] = {}
    at = 0
    for fact, count in zip(asked, counts, strict=True):
        mine, rest = scores[at], scores[at + 1 : at + count]
        wins.setdefault(fact.frequency, []).append([bool(mine > other) for other in rest])
        at += count
    return [
        Recall(
            frequency,
            len(group),
            sum(map(sum, group)) / sum(map(len, group)),
            sum(map(all, group)) / len(group),
        )
        for frequency, group in sorted(wins.items())
    ]


def facts_of_each_frequency(config: SchoolConfig, most: int, chance: random.Random) -> list[Fact]:
    """At most so many facts of each frequency, those that are never told first."""
    by_frequency: dict[int, list[Fact]] = {}
    for fact in facts(build_world(config)):
        by_frequency.setdefault(fact.frequency, []).append(fact)
    return [fact for _, group in sorted(by_frequency.items()) for fact in chance.sample(group, min(most, len(group)))]
