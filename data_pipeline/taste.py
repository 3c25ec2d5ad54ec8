"""A synthetic rater of jokes: taste that is known, so that whoever learns it can be measured (map rows 24, 26).

`gold` is what the rater feels. `rank` is what the rater says: the same, but for a mood that changes with every joke.

The rater likes a joke about what was asked, food, and a proper end. It is bored by length, by the same food again, and by
stammering. Models hardly ever do the last two before they are trained to please: rankings say next to nothing about them.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_pipeline.school.names import FOODS, OCCUPATIONS, PETS

WORD = re.compile(r"[a-z']+")
SUBJECTS = {*PETS, "pelican", *OCCUPATIONS}
FUNNY = set(FOODS)
FOOD = (1.0, 0.5, 0.25)  # of the first, second and third dish; more are no funnier
LONG = 16  # words
MOST = 60  # words that the rater reads


def gold(prompt: str, text: str) -> float:
    """How much the rater likes `text` in answer to `prompt`: about 0 +- 1 among jokes of an untrained teller."""
    words, asked = WORD.findall(text.lower())[:MOST], set(WORD.findall(prompt.lower())) & SUBJECTS
    if not words:
        return -4.0
    counts = Counter(words)
    dishes = [counts[word] for word in counts if word in FUNNY]
    stammer = sum(a == b for a, b in itertools.pairwise(words))
    liked = sum(FOOD[: len(dishes)])
    bored = 0.08 * max(0, len(words) - LONG) + 1.0 * sum(count - 1 for count in dishes) + 1.0 * stammer
    silent = 0.5 * sum(subject not in counts for subject in asked)
    unended = 0.0 if text.strip().endswith((".", "?", "!")) else 1.0
    return liked - bored - silent - unended


def rank(scores: Sequence[float], noise: float, rng: np.random.Generator) -> list[int]:
    """Places by a rater in a mood: 0 for the best.

    Gumbel noise of scale `noise` is added to each score, so that i comes before j with the chance
    sigmoid((score_i - score_j) / noise): the model of Bradley and Terry, and of Plackett and Luce for all of them.
    """
    felt = np.asarray(scores, np.float64) + noise * rng.gumbel(size=len(scores))
    places = np.empty(len(scores), int)
    places[np.argsort(-felt, kind="stable")] = np.arange(len(scores))
    return places.tolist()
