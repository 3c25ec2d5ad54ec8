"""Rollouts: tries of the current policy at problems, and what a verifier said of each."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.conversation import describe_parts
from data_pipeline.problem import Problem, Response
from data_pipeline.rewards import RewardConfig, reward
from data_pipeline.tokenizer import Tokenizer
from data_pipeline.verifying import Checked, Verifiers
from lm.assistant import Reply, Toolbox, read_reply, request
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import LENGTH
from lm.inference.sampling import Sampling
from lm.metrics import announced


@dataclass(frozen=True)
class Rollout:
    """One try. Lists are of the T_r tokens after the prompt; the last one may be the end of the turn."""

    problem: str  # its id
    prompt: list[int]
    tokens: list[int]
    drawn: list[bool]  # False: a tool's result, which the policy did not write
    sampler_log_probs: list[float]  # of each token, nats, as it was drawn
    score: float  # the verifier's, in [0, 1]
    reward: float
    reason: str  # of the score
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
) -> Collected:
    """`samples` tries at each problem, verified. `draw` names this occasion among all of a run.

    `zero_cut_off`: a rollout that did not end has reward 0, whatever it says.
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
    rollouts = [
        _rollout(problem, prompt, reply, response, checked, rewards, tokens, zero_cut_off)
        for (problem, prompt, reply), (_, response), checked in zip(tries, pairs, verdicts, strict=True)
    ]
    return Collected(rollouts, sampled - start, time.monotonic() - sampled)


def response_of(reply: Reply) -> Response:
    """What the verifier sees of a reply."""
    return Response(reply.text, reply.well_formed, sum(reply.completion.written.drawn), len(reply.calls))


def _rollout(
    problem: Problem,
    prompt: Sequence[int],
    reply: Reply,
    response: Response,
    checked: Checked,
    rewards: RewardConfig,
    tokens: int,
    zero_cut_off: bool,
) -> Rollout:
    written = reply.completion.written
    cut_off = reply.completion.reason == LENGTH
    given = 0.0 if cut_off and zero_cut_off else reward(response, checked, rewards, tokens)
    return Rollout(
        problem.id,
        list(prompt),
        list(written.tokens),
        list(written.drawn),
        list(written.sampling_log_probs),
        checked.score,
        given,
        checked.reason,
        checked.failed,
        cut_off,
        reply.well_formed,
        len(reply.calls),
        describe_parts(reply.parts),
    )


def numbers_of(rollouts: Sequence[Rollout], samples: int) -> dict[str, float]:
    """What a round was, in numbers: all are means over rollouts or groups (of `samples` each) unless their names say more."""
    rewards = np.array([each.reward for each in rollouts]).reshape(-1, samples)
    right = np.array([each.score >= 1 for each in rollouts]).reshape(-1, samples)
    lengths = np.array([each.length for each in rollouts])

    def share(values: list[bool]) -> float:
        return float(np.mean(values))

    return {
        "reward": float(rewards.mean()),
        "reward_spread": float(rewards.std()),
        "right": float(right.mean()),
        f"pass_at_{samples}": float(right.any(axis=1).mean()),
        "no_signal": float((np.ptp(rewards, axis=1) == 0).mean()),
        "length": float(lengths.mean()),
        "length_max": float(lengths.max()),
        "cut_off": share([each.cut_off for each in rollouts]),
        "well_formed": share([each.well_formed for each in rollouts]),
        "calls": float(np.mean([each.calls for each in rollouts])),
        "verifier_failed": share([each.failed for each in rollouts]),
    }
