"""Rankings of what models say: each prompt is answered several times, and the synthetic rater puts the answers in order."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from data_pipeline.conversation import said
from data_pipeline.rankings import JokesConfig
from data_pipeline.school import jokes
from data_pipeline.school.world import SchoolConfig
from data_pipeline.taste import gold, rank
from data_pipeline.tokenizer import Tokenizer
from lm.assistant import replies, request
from lm.inference.engine import Engine
from lm.inference.sampling import Sampling
from lm.model.transformer import Transformer
from lm.preference_metrics import measured
from lm.rl.rollout import seed_of

AT_ONCE = 64  # prompts


def tell_jokes(
    tellers: Sequence[Transformer], tokenizer: Tokenizer, config: JokesConfig, school: SchoolConfig, seed: int
) -> list[dict[str, Any]]:
    """Rows of rankings (see `data_pipeline/ranking_rows.py`), with `gold`, the rater's own taste, of each response.

    The prompts are those that no worked example answers, and `held_out` ones besides. Of the responses to a prompt the first is
    by the first teller, the second by the second, and so on around; equal ones come once.
    """
    pools = [[words for words, _, _ in jokes.prompts(school, held_out=secret)] for secret in (False, True)]
    pools[0] = pools[0][jokes.TRAIN :]
    asked = [(pools[0][i % len(pools[0])], i // len(pools[0]), False) for i in range(config.prompts)]
    asked += [(pools[1][i % len(pools[1])], i // len(pools[1]), True) for i in range(config.held_out)]
    engines = [Engine(model, slots=AT_ONCE, symbols=tokenizer.vocab_size, steady=True) for model in tellers]
    rows: list[dict[str, Any]] = []
    for first in tqdm(range(0, len(asked), AT_ONCE), "telling jokes", delay=2, leave=False):
        part = asked[first : first + AT_ONCE]
        told = [
            replies(
                engine,
                tokenizer,
                [
                    request(
                        tokenizer,
                        [said("user", words)],
                        config.tokens,
                        Sampling(temperature=1.0),
                        seed=seed_of(seed, f"telling{again or ''}{number or ''}", words),
                        samples=len(range(number, config.samples, len(engines))),
                        style="tokens",
                    )
                    for words, again, _ in part
                ],
            )
            for number, engine in enumerate(engines)
        ]
        for place, (words, _, held_out) in enumerate(part):
            group = [told[i % len(engines)][place][i // len(engines)] for i in range(config.samples)]
            texts = [text for text in dict.fromkeys(each.text for each in group) if text.strip()]
            liked = [gold(words, text) for text in texts]
            mood = np.random.default_rng([seed, len(rows)])
            rows.append(
                {
                    "id": f"jokes:{len(rows)}",
                    "prompt": words,
                    "responses": texts,
                    "ranks": rank(liked, config.noise, mood),
                    "rater": "data_pipeline.taste",
                    "held_out": held_out,
                    "gold": liked,
                }
            )
    return rows


def rater_ceiling(rows: Sequence[dict[str, Any]]) -> float:
    """How often the rater's own taste is right about the held-out pairs: what a model can hope for. NaN without pairs."""
    held_out = [row for row in rows if row["held_out"]]
    liked, ranks = ([np.array(row[name], float) for row in held_out] for name in ("gold", "ranks"))
    return measured(liked, ranks, [np.zeros(len(each)) for each in ranks]).get("pair_accuracy", math.nan)
