"""Who decides between two answers, as --judge names them.

verifier                 the problem's own verifier: the higher score, or a tie
rule:MODULE:FUNCTION     a function (prompt: str, text: str) -> float: the higher value, or a tie
reward:RUN               a reward model: the higher reward, or a tie
model:ADDRESS#MODEL      a model behind an OpenAI-compatible address, or a run of ours (model:RUN), which is asked
people                   a page (launch/arena_people.py)

A judge is a plain function of matches, and sees them in both orders. Its answer is None where it has no verdict.
"""

import importlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.conversation import Turn, said
from data_pipeline.errors import UserError
from data_pipeline.model_text import Writer
from data_pipeline.problem import Problem, Response
from data_pipeline.protocol import render
from data_pipeline.resumable import patiently
from data_pipeline.tokenizer import Tokenizer, find_tokenizer, load_tokenizer
from lm.ratings import Outcome

VERIFIER, PEOPLE = "verifier", "people"
WORKERS, SECONDS = 2, 5.0  # processes that verify, and for one verdict
MAX_TOKENS = 256  # of a model's verdict
REWARDED = 8  # rows that a reward model reads at once on each device

PROMPT = """Two assistants answered the same question. Which answer is better?

Question:
{question}

Answer A:
{left}

Answer B:
{right}

Judge what is said, not which answer comes first or is longer. Reply with one word: A, B or tie."""
VERDICT = re.compile(
    r"\W*(?:(?:the |my )?(?:better |best )?(?:answer|verdict|winner|choice)\W+(?:is\W+)?)*(A|B|tie)(?: is better| wins)?\W*",
    re.IGNORECASE,
)
OUTCOME: dict[str, Outcome] = {"a": "left", "b": "right", "tie": "tie"}


@dataclass(frozen=True)
class Match:
    """Two answers to a prompt, in this order."""

    problem: Problem
    left: str
    right: str


Judge = Callable[[Sequence[Match]], list[Outcome | None]]
Score = Callable[[Sequence[tuple[Problem, str]]], Sequence[float | None]]
"""Answers to prompts -> how good each is; None where that cannot be said."""


def check_judge(named: str) -> None:
    """Raise `UserError` unless it is one of these."""
    kind, _, rest = named.partition(":")
    if not (named in (VERIFIER, PEOPLE) or (kind in ("rule", "reward", "model") and rest)):
        raise UserError(
            f"--judge={named}: choose verifier, people, rule:MODULE:FUNCTION, reward:RUN or model:ADDRESS#MODEL"
        )


def make_judge(named: str) -> tuple[Judge, str]:
    """The judge of this name, loaded and ready, not of people; and what changes when its verdicts may.

    Raises `UserError` where it cannot be.
    """
    check_judge(named)
    kind, _, rest = named.partition(":")
    match kind:
        case "rule":
            return by_score(rule(rest)), named
        case "reward":
            from launch.reward_models import fingerprint

            folder = Path(rest).expanduser()
            return by_score(reward_model(folder)), fingerprint(folder)
        case "model":
            from launch.writers import make_writer

            write, who = make_writer(rest, temperature=0.0, max_tokens=MAX_TOKENS)
            return asked_of(write), who
    return by_score(verified()), named


def by_score(score: Score) -> Judge:
    """The higher score wins, equal ones tie. Each answer is scored once, however many matches it is in."""
    known: dict[tuple[str, str], float | None] = {}

    def judge(matches: Sequence[Match]) -> list[Outcome | None]:
        sides = [(each.problem, text) for each in matches for text in (each.left, each.right)]
        new = {(problem.id, text): (problem, text) for problem, text in sides if (problem.id, text) not in known}
        known.update(zip(new, score(list(new.values())) if new else (), strict=True))
        scores = [known[problem.id, text] for problem, text in sides]
        return [_higher(left, right) for left, right in zip(scores[::2], scores[1::2], strict=True)]

    return judge


def _higher(left: float | None, right: float | None) -> Outcome | None:
    if left is None or right is None or math.isnan(left) or math.isnan(right):
        return None
    return "tie" if left == right else "left" if left > right else "right"


def verified() -> Score:
    """The problems' verifiers. One that fails has no score."""
    from data_pipeline.verifying import Verifiers

    verifiers = Verifiers(WORKERS, SECONDS)

    def score(answers: Sequence[tuple[Problem, str]]) -> list[float | None]:
        checked = verifiers.check([(problem, Response(text)) for problem, text in answers])
        return [None if each.failed else each.score for each in checked]

    return score


def rule(named: str) -> Score:
    """The function that MODULE:FUNCTION names. Raises `UserError` where there is none, and where it fails."""
    module, _, name = named.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        if not callable(function):
            raise TypeError(f"{name} is no function")
    except Exception as error:  # whatever a module of the user's does when it is imported
        raise UserError(f"--judge=rule:{named}: write rule:MODULE:FUNCTION ({type(error).__name__}: {error})") from None

    def score(answers: Sequence[tuple[Problem, str]]) -> list[float | None]:
        try:
            return [float(function(problem.turns[-1].text, text)) for problem, text in answers]
        except Exception as error:
            raise UserError(
                f"--judge=rule:{named} fails ({type(error).__name__}: {error}): it must be a function of a prompt and a text, "
                "and return a number"
            ) from error

    return score


def reward_model(folder: Path) -> Score:
    """The reward model of a run. What is too long for it has no score. Raises `UserError` where there is none."""
    import jax

    from launch.reward_models import load_reward_model
    from lm import sharding
    from lm.rl.rewarding import rewards_of

    mesh = sharding.make_mesh(sharding.MeshConfig())
    model = load_reward_model(folder, mesh)
    tokenizer = load_tokenizer(find_tokenizer(folder / "tokenizer"))

    def score(answers: Sequence[tuple[Problem, str]]) -> list[float | None]:
        tokens = [answered(tokenizer, problem.turns, text) for problem, text in answers]
        fitting = [each for each in tokens if len(each) <= model.model.config.context_length]
        with jax.set_mesh(mesh):
            found = iter(rewards_of(model, fitting, mesh, REWARDED * mesh.size).tolist())
        return [next(found) if len(each) <= model.model.config.context_length else None for each in tokens]

    return score


def answered(tokenizer: Tokenizer, turns: Sequence[Turn], text: str) -> list[int]:
    """A prompt and its answer as a reward model has learnt to see them: to the end of the turn."""
    rendered = render(tokenizer, (*turns, said("assistant", text)))
    return rendered.tokens[: max(place for place, trained in enumerate(rendered.trained) if trained) + 1]


def asked_of(write: Writer) -> Judge:
    """A model that is asked for A, B or a tie. What it cannot be asked, or answers in another way, has no verdict.

    Raises `UserError` where it cannot be reached.
    """

    def ask(prompts: list[str]) -> list[str]:
        try:
            return patiently(lambda: write(prompts))
        except (ConnectionError, TimeoutError) as error:
            raise UserError(f"the judge: {error}: no verdict is lost; start again to go on") from error
        except ValueError:  # one of them, perhaps: too long for it
            return [""] if len(prompts) == 1 else [text for prompt in prompts for text in ask([prompt])]

    def judge(matches: Sequence[Match]) -> list[Outcome | None]:
        prompts = [
            PROMPT.format(question=each.problem.turns[-1].text, left=each.left, right=each.right) for each in matches
        ]
        return [verdict(text) for text in ask(prompts)]

    return judge


def verdict(text: str) -> Outcome | None:
    """What a model decided: its last line, or its first, is A, B or tie; None where neither is, or they differ."""
    lines = [line for line in text.splitlines() if line.strip()]
    found = {read[1].lower() for line in lines[:1] + lines[-1:] if (read := VERDICT.fullmatch(line))}
    return OUTCOME[found.pop()] if len(found) == 1 else None
