"""From named sources to rankings in tokens: what a reward model, or a policy by DPO, learns from."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipeline.conversation import Turn
from data_pipeline.errors import UserError
from data_pipeline.protocol import render
from data_pipeline.ranking import Ranking, fault
from data_pipeline.ranking_rows import read_rankings
from data_pipeline.school.world import SchoolConfig
from data_pipeline.school.world import check as check_school
from data_pipeline.set_aside import SetAside
from data_pipeline.tokenizer import Tokenizer

JOKES = "jokes"
VERSION = 1  # raised whenever the same source would give others


@dataclass
class JokesConfig:
    """Rankings of jokes, made when a run begins: the model that it starts from tells them, the rater of taste.py ranks them."""

    prompts: int = 1_000  # rankings; where there are fewer prompts, they are asked again
    held_out: int = 200  # rankings more, of other prompts
    samples: int = 5  # jokes a prompt
    tellers: tuple[str, ...] = ()
    """Folders of other runs, each at its newest checkpoint: they take turns with the model that the run starts from."""
    tokens: int = 64  # of a joke, at most
    noise: float = 0.45
    """Of the rater, see `data_pipeline.taste.rank`. Two of its rankings of jokes by experiments/sft/tiny.py agree about 71% of
    all pairs; two people who ranked for InstructGPT (arXiv 2203.02155) did about 73%."""


@dataclass
class RankingsConfig:
    """What is read."""

    sources: tuple[str, ...] = (JOKES,)  # jokes, or files: a path, a glob or tfds:NAME, see ranking_rows.py
    count: int = 0  # rankings to learn from, of each source, at most; 0: all
    held_out: float = 0.1  # the share of prompts kept for validation, chosen by a hash, unless rows say so themselves
    row_length: int = 0  # tokens in a row, which holds whole rankings; 0: as many as the context
    tokenizer: str = ""  # a tokenizer file or folder; empty: that of the run that training starts from
    jokes: JokesConfig = field(default_factory=JokesConfig)
    school: SchoolConfig = field(default_factory=SchoolConfig)


@dataclass(frozen=True)
class TokenizedRanking:
    """A ranking in tokens: each response with its prompt before it, from the document's start to the end of the turn."""

    id: str
    tokens: list[np.ndarray]  # K times int32 (n_k,)
    trained: list[np.ndarray]  # K times bool (n_k,): what the assistant wrote in the response
    ranks: np.ndarray  # int32 (K,); -1: not ranked


@dataclass(frozen=True)
class PreparedRankings:
    """Rankings ready to be packed."""

    tokenizer: Tokenizer
    train: list[TokenizedRanking]
    validation: list[TokenizedRanking]
    fingerprints: dict[str, str]  # of each source, and of the tokenizer


def check_rankings(config: RankingsConfig) -> None:
    """Raise `UserError` for values that make no sense."""
    if not config.sources:
        raise UserError("data.sources is empty: name at least one source, such as jokes or a file of rankings")
    if len(set(config.sources)) < len(config.sources):
        raise UserError("data.sources names one source twice")
    for name in ("count", "row_length"):
        if getattr(config, name) < 0:
            raise UserError(f"data.{name}={getattr(config, name)}: must not be negative")
    if not 0 <= config.held_out < 1:
        raise UserError(f"data.held_out={config.held_out}: a share, at least 0 and below 1")
    for name, least in (("prompts", 1), ("held_out", 0), ("samples", 2), ("tokens", 1)):
        if getattr(config.jokes, name) < least:
            raise UserError(f"data.jokes.{name}={getattr(config.jokes, name)}: must be at least {least}")
    if len(config.jokes.tellers) >= config.jokes.samples:
        raise UserError(
            f"data.jokes.tellers: {len(config.jokes.tellers) + 1} models take turns at {config.jokes.samples} jokes a prompt: "
            "raise data.jokes.samples"
        )
    if not config.jokes.noise >= 0:
        raise UserError(f"data.jokes.noise={config.jokes.noise}: must not be negative")
    check_school(config.school)


def prepare_rankings(config: RankingsConfig, tokenizer: Tokenizer, row_length: int, workdir: Path) -> PreparedRankings:
    """All rankings that fit, in tokens. Those of `jokes` are in WORKDIR/rankings.jsonl.

    What cannot be used is counted, and kept in WORKDIR/rankings_set_aside.jsonl. Raises `UserError` for a source that cannot be
    found, and when nothing is left to learn from.
    """
    set_aside = SetAside(workdir / "rankings_set_aside.jsonl")
    train: list[TokenizedRanking] = []
    validation: list[TokenizedRanking] = []
    fingerprints = {}
    for source in config.sources:
        path = str(workdir / "rankings.jsonl") if source == JOKES else source
        both: tuple[list[Ranking], list[Ranking]] = ([], [])
        for ranking in read_rankings(path, set_aside):
            both[_is_held_out(ranking, config.held_out)].append(ranking)
        learnt = both[0][: config.count or None]
        identity = [VERSION, *(dataclasses.asdict(each) for each in (*learnt, *both[1]))]
        fingerprints[source] = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        for rankings, into in ((learnt, train), (both[1], validation)):
            into += _tokenized(
                tqdm(rankings, f"tokenizing {source}", delay=2, leave=False), tokenizer, row_length, set_aside
            )
    note = f" ({set_aside.summary()})" if set_aside.counts else ""
    print(f"{len(train):,} rankings to learn from, {len(validation):,} held out{note}", flush=True)
    if not train:
        raise UserError(f"no ranking is left to learn from: {set_aside.summary()}; lower data.held_out, or give more")
    return PreparedRankings(tokenizer, train, validation, {**fingerprints, "the tokenizer": tokenizer.fingerprint})


def _is_held_out(ranking: Ranking, share: float) -> bool:
    """All rankings of one prompt are in the same split."""
    if ranking.held_out is not None:
        return ranking.held_out
    said = "\n".join(f"{turn.role}: {turn.text}" for turn in ranking.prompt)
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:4], "big") < share * 2**32


def _tokenized(
    rankings: Iterable[Ranking], tokenizer: Tokenizer, row_length: int, set_aside: SetAside
) -> Iterator[TokenizedRanking]:
    """Those that can be learnt from and fit a row."""
    for ranking in rankings:
        why = fault(ranking)
        if not why:
            try:
                found = tokenize(ranking, tokenizer)
                size = sum(map(len, found.tokens))
                why = f"longer than a row of {row_length} tokens" if size > row_length else ""
            except UserError as error:
                why = str(error)
        if why:
            set_aside.add(ranking.id, why, json.dumps(dataclasses.asdict(ranking), default=str).encode())
        else:
            yield found


def tokenize(ranking: Ranking, tokenizer: Tokenizer) -> TokenizedRanking:
    """A ranking in tokens. Raises `UserError` for turns that cannot be rendered."""
    both = [answered(tokenizer, ranking.prompt, response) for response in ranking.responses]
    ranks = np.array([-1 if rank is None else rank for rank in ranking.ranks], np.int32)
    return TokenizedRanking(ranking.id, [tokens for tokens, _ in both], [trained for _, trained in both], ranks)


def answered(tokenizer: Tokenizer, prompt: Sequence[Turn], response: Turn) -> tuple[np.ndarray, np.ndarray]:
    """A prompt and a response to its end of turn, tokens int32 (n,), and what the assistant wrote in the response, bool (n,)."""
    rendered = render(tokenizer, (*prompt, response))
    begun = rendered.turn_ends[-2]
    mask = np.array(rendered.trained) & (np.arange(len(rendered.tokens)) >= begun)
    stop = np.flatnonzero(mask)[-1] + 1
    return np.array(rendered.tokens[:stop], np.int32), mask[:stop]
