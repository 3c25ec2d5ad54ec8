"""Rollouts: tries of the current policy at problems, and what a verifier said of each."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data_pipeline.conversation import describe_parts
from data_pipeline.problem import Problem, Response
from data_pipeline.protocol import end_of_turn
from data_pipeline.rewards import RewardConfig, reward
from data_pipeline.tokenizer import Tokenizer
from data_pipeline.verifying import Checked, Verifiers
from lm.assistant import Reply, Toolbox, read_reply, request
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import LENGTH
from lm.inference.sampling import Sampling
from lm.metrics import announced

# Whole sequences -> the reward of each, and how far reward models disagree about it.
Taste = Callable[[Sequence[Sequence[int]]], tuple[list[float], list[float]]]


@dataclass(frozen=True)
class Rollout:
    """One try. Lists are of the T_r tokens after the prompt; the last one may be the end of the turn."""

    problem: str  # its id
    prompt: list[int]
    tokens: list[int]
    drawn: list[bool]  # False: a tool's result, which the policy did not write
    sampler_log_probs: list[float]  # of each token, nats, as it was drawn
    score: float  # the verifier's, in [0, 1]; of what only taste can judge, the rater's own
    reward: float
    reason: str  # of the score
    doubt: float  # the standard deviation among reward models
    failed: bool  # the verifier threw, hung, or gave no number in [0, 1]
    cut_off: bool  # it ran out of tokens
    well_formed: bool
    calls: int
    text: str  # for people

    @property
    def length(self) -> int:
        """Tokens that the policy wrote."""
        return sum(self.drawn)


@dataclass(frozen=True)
class Collected:
    """The rollouts of some problems, a problem's next to each other, and how long it took."""

    rollouts: list[Rollout]
    sampling_seconds: float
    verifying_seconds: float


def seed_of(run: int, draw: str, problem: str) -> int:
    """The seed of a problem's rollouts: with the number of the sample and the token's place, every random number's key."""
    return int.from_bytes(hashlib.sha256(f"{run}/{draw}/{problem}".encode()).digest()[:4], "little")


def collect(
    engine: Engine,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    verifiers: Verifiers,
    rewards: RewardConfig,
    *,
    samples: int,
    tokens: int,
    temperature: float,
    toolbox: Toolbox | None,
    seed: int,
    draw: str,
    zero_cut_off: bool = False,
    taste: Taste | None = None,
) -> Collected:
    """`samples` tries at each problem, verified. `draw` names this occasion among all of a run.

    `zero_cut_off`: a rollout that did not end has reward 0, whatever it says. `taste` rewards in place of the verifiers, which
    only measure then.
    """
    asked = [
        request(
            tokenizer,
            problem.turns,
            tokens,
            Sampling(temperature=temperature),
            seed=seed_of(seed, draw, problem.id),
            samples=samples,
            toolbox=toolbox,
            style="tokens",
        )
        for problem in problems
    ]
    start = time.monotonic()
    with announced("sampling", at_once=False):
        completions = generate(engine, asked)
    sampled = time.monotonic()
    tries = [
        (problem, each.prompt, read_reply(tokenizer, completion))
        for problem, each, group in zip(problems, asked, completions, strict=True)
        for completion in group
    ]
    pairs = [(problem, response_of(reply)) for problem, _, reply in tries]
    with announced("verifying", at_once=False):
        verdicts = verifiers.check(pairs)
        values, doubts = [each.score for each in verdicts], [0.0] * len(verdicts)
        if taste:
            ends = end_of_turn(tokenizer)
            values, doubts = taste([ended(prompt, reply.completion.written.tokens, ends) for _, prompt, reply in tries])
    rollouts = [
        _rollout(problem, prompt, reply, response, checked, value, doubt, rewards, tokens, zero_cut_off)
        for (problem, prompt, reply), (_, response), checked, value, doubt in zip(
            tries, pairs, verdicts, values, doubts, strict=True
        )
    ]
    return Collected(rollouts, sampled - start, time.monotonic() - sampled)


def ended(prompt: Sequence[int], tokens: Sequence[int], end: int) -> list[int]:
    """A prompt and a response as a reward model has learnt to see them: to the end of the turn, even where none came."""
    return [*prompt, *tokens, *([] if tokens and tokens[-1] == end else [end])]


def response_of(reply: Reply) -> Response:
    """What the verifier sees of a reply."""
    return Response(reply.text, reply.well_formed, sum(reply.completion.written.drawn), len(reply.calls))


def _rollout(
    problem: Problem,
    prompt: Sequence[int],
    reply: Reply,
    response: Response,
    checked: Checked,
    value: float,
    doubt: float,
    rewards: RewardConfig,
    tokens: int,
    zero_cut_off: bool,
) -> Rollout:
    written = reply.completion.written
    cut_off = reply.completion.reason == LENGTH
    given = 0.0 if cut_off and zero_cut_off else reward(response, value, rewards, tokens)
    return Rollout(
        problem.id,
        list(prompt),
        list(written.tokens),
        list(written.drawn),
        list(written.sampling_log_probs),
        checked.score,
        given,
        checked.reason,
        doubt,
        checked.failed,
        cut_off,
        reply.well_formed,
        len(reply.calls),
        describe_parts(reply.parts),
    )


def numbers_of(rollouts: Sequence[Rollout], samples: int, *, by_taste: bool = False) -> dict[str, float]:
    """What a round was, in numbers: all are means over rollouts or groups (of `samples` each) unless their names say more.

    `by_taste`: there is no right and wrong, but a rater's own taste, `gold`, and tongues that stammer (see `variety`).
    """
    rewards = np.array([each.reward for each in rollouts]).reshape(-1, samples)
    right = np.array([each.score >= 1 for each in rollouts]).reshape(-1, samples)
    lengths = np.array([each.length for each in rollouts])

    def share(values: list[bool]) -> float:
        return float(np.mean(values))

    measured = {"right": float(right.mean()), f"pass_at_{samples}": float(right.any(axis=1).mean())}
    if by_taste:
        measured = {"gold": float(np.mean([each.score for each in rollouts]))}
    return {
        "reward": float(rewards.mean()),
        "reward_spread": float(rewards.std()),
        **measured,
        "no_signal": float((np.ptp(rewards, axis=1) == 0).mean()),
        "length": float(lengths.mean()),
        "length_max": float(lengths.max()),
        "cut_off": share([each.cut_off for each in rollouts]),
        "well_formed": share([each.well_formed for each in rollouts]),
        "calls": float(np.mean([each.calls for each in rollouts])),
        "verifier_failed": share([each.failed for each in rollouts]),
        **(variety(rollouts) if by_taste else {}),
    }


def variety(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What shows that a policy degenerates: means over the rollouts' own words, and over all of them.

    repeated: the share of a rollout's words that it has said before; distinct_2: different pairs of neighbouring words, as a
    share of all pairs (arXiv 1510.03055); surprise: nats a token, -log p as it was drawn; doubt: how far reward models disagree.
    """
    words = [each.text.lower().split() for each in rollouts]
    pairs = [pair for each in words for pair in pairwise(each)]
    drawn = [-np.array(each.sampler_log_probs)[np.array(each.drawn, bool)] for each in rollouts]
    return {
        "repeated": float(np.mean([1 - len(set(each)) / max(len(each), 1) for each in words])),
        "distinct_2": len(set(pairs)) / max(len(pairs), 1),
        "surprise": float(np.concatenate([np.zeros(0), *drawn]).mean()) if any(map(len, drawn)) else 0.0,
        "doubt": float(np.mean([each.doubt for each in rollouts])),
    }
