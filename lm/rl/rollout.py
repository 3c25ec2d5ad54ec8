"""Rollouts: tries of the current policy at problems, and what a verifier said of each."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from data_pipeline.conversation import describe_parts, said
from data_pipeline.problem import Problem, Response
from data_pipeline.protocol import end_of_turn, prompt, render
from data_pipeline.rewards import RewardConfig, reward
from data_pipeline.tokenizer import Tokenizer
from data_pipeline.verifying import Checked, Verifiers
from lm.assistant import Reply, Toolbox, read_reply, request
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import LENGTH, Request, Written
from lm.inference.sampling import Sampling
from lm.metrics import announced

WRONG = "That is not right. Try again."
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
    chance: int = 1  # at which it was right, or its last

    @property
    def length(self) -> int:
        """Tokens that the policy wrote."""
        return sum(self.drawn)


@dataclass(frozen=True)
class Try:
    """A try on its way: the answer to a problem, perhaps after wrong ones."""

    problem: Problem
    request: Request
    reply: Reply
    before: Written = field(default_factory=Written)  # what stands in the request's prompt after the problem's own
    said: str = ""  # the same for people
    calls: int = 0  # in it
    chance: int = 1


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
    chances: int = 1,
) -> Collected:
    """`samples` tries at each problem, verified. `draw` names this occasion among all of a run.

    `zero_cut_off`: a rollout that did not end has reward 0, whatever it says. `taste` rewards in place of the verifiers, which
    only measure then. `chances`: who is wrong is told so by the user, and may answer again; the last answer counts.
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
    sampling, start = time.monotonic() - start, time.monotonic()
    tries = [
        Try(problem, each, read_reply(tokenizer, completion))
        for problem, each, group in zip(problems, asked, completions, strict=True)
        for completion in group
    ]
    with announced("verifying", at_once=False):
        verdicts = verifiers.check([(each.problem, response_of(each.reply)) for each in tries])
        values, doubts = [each.score for each in verdicts], [0.0] * len(verdicts)
        if taste:
            ends = end_of_turn(tokenizer)
            values, doubts = taste([ended(t.request.prompt, t.reply.completion.written.tokens, ends) for t in tries])
    verifying = time.monotonic() - start
    for chance in range(2, chances + 1):
        wrong = [
            place for place, (t, v) in enumerate(zip(tries, verdicts, strict=True)) if v.score < 1 and not v.failed
        ]
        again = {place: t for place in wrong if (t := one_more(engine, tokenizer, tries[place]))}
        if not again:
            break
        start = time.monotonic()
        with announced(f"sampling, chance {chance}", at_once=False):
            completions = generate(
                engine,
                [
                    replace(t.request, seed=seed_of(seed, f"{draw}/{chance}/{place % samples}", t.problem.id))
                    for place, t in again.items()
                ],
            )
        sampling, start = sampling + time.monotonic() - start, time.monotonic()
        for (place, t), (completion,) in zip(again.items(), completions, strict=True):
            tries[place] = replace(t, reply=read_reply(tokenizer, completion))
        checked = verifiers.check([(tries[place].problem, response_of(tries[place].reply)) for place in again])
        for place, verdict in zip(again, checked, strict=True):
            verdicts[place], values[place] = verdict, verdict.score
        verifying += time.monotonic() - start
    rollouts = [
        _rollout(each, checked, value, doubt, rewards, tokens, zero_cut_off)
        for each, checked, value, doubt in zip(tries, verdicts, values, doubts, strict=True)
    ]
    return Collected(rollouts, sampling, verifying)


def one_more(engine: Engine, tokenizer: Tokenizer, wrong: Try) -> Try | None:
    """The user's word that an answer was wrong, and the request for another; None where it did not end, or there is no room."""
    reply, asked = wrong.reply, wrong.request
    end = end_of_turn(tokenizer)
    if not reply.well_formed or reply.completion.stopped_by != end:
        return None
    turns = (*wrong.problem.turns, said("assistant", "."), said("user", WRONG))
    whole = prompt(tokenizer, turns, "tokens").tokens
    told = whole[len(render(tokenizer, turns[:-1]).tokens) :]
    before = Written(
        [*wrong.before.tokens, *reply.completion.written.tokens, *told],
        sampling_log_probs=[
            *wrong.before.sampling_log_probs,
            *reply.completion.written.sampling_log_probs,
            *[0.0] * len(told),
        ],
        drawn=[*wrong.before.drawn, *reply.completion.written.drawn, *[False] * len(told)],
    )
    longer = replace(asked, prompt=(*asked.prompt, *reply.completion.written.tokens, *told), samples=1)
    if len(longer.prompt) + longer.max_tokens > engine.config.context_length:
        return None
    words = f"{wrong.said}{describe_parts(reply.parts)}\n[{WRONG}]\n"
    return Try(wrong.problem, longer, reply, before, words, wrong.calls + len(reply.calls), wrong.chance + 1)


def ended(prompt: Sequence[int], tokens: Sequence[int], end: int) -> list[int]:
    """A prompt and a response as a reward model has learnt to see them: to the end of the turn, even where none came."""
    return [*prompt, *tokens, *([] if tokens and tokens[-1] == end else [end])]


def response_of(reply: Reply) -> Response:
    """What the verifier sees of a reply."""
    return Response(reply.text, reply.well_formed, sum(reply.completion.written.drawn), len(reply.calls))


def _rollout(
    each: Try,
    checked: Checked,
    value: float,
    doubt: float,
    rewards: RewardConfig,
    tokens: int,
    zero_cut_off: bool,
) -> Rollout:
    reply, written = each.reply, each.reply.completion.written
    cut_off = reply.completion.reason == LENGTH
    given = 0.0 if cut_off and zero_cut_off else reward(response_of(reply), value, rewards, tokens)
    return Rollout(
        each.problem.id,
        list(each.request.prompt[: len(each.request.prompt) - len(each.before.tokens)]),
        [*each.before.tokens, *written.tokens],
        [*each.before.drawn, *written.drawn],
        [*each.before.sampling_log_probs, *written.sampling_log_probs],
        checked.score,
        given,
        checked.reason,
        doubt,
        checked.failed,
        cut_off,
        reply.well_formed,
        each.calls + len(reply.calls),
        each.said + describe_parts(reply.parts),
        each.chance,
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
        **({"chance": float(np.mean(used))} if max(used := [each.chance for each in rollouts]) > 1 else {}),
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
