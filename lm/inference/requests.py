"""What the engine is asked for, and what it answers: plain data, shared by evaluation, RL, the terminal and the server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from data_pipeline.errors import UserError
from lm.inference.sampling import Sampling, check_sampling

# Why a text ended. The stop token, and the tokens of a stop string, are part of the result: RL trains on them.
STOP, LENGTH, CANCELLED = "stop", "length", "cancelled"


@dataclass(frozen=True)
class Interjection:
    """Text that others put into a sample while it is written: a tool's answer to a call."""

    tokens: tuple[int, ...]  # a sample that writes one of them pauses, and the others go on
    # From all tokens of the sample after its prompt to those that are put in; None lets it end there. Runs in a thread of its
    # own, takes as long as it takes, and must not raise. With several processes all must get the same from it.
    answer: Callable[[list[int]], Sequence[int] | None]


@dataclass(frozen=True)
class Request:
    """A prompt to be continued, once or several times."""

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0  # sample i of a seed is always the same text, whatever else the engine is doing
    samples: int = 1  # continuations of this prompt; it is read once for all of them
    stop_tokens: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()  # needs an engine that was given `token_bytes`
    top: int = 0  # how many of the likeliest tokens to report at every place
    interjection: Interjection | None = None  # what it puts in counts as context, not as one of max_tokens


@dataclass(frozen=True)
class Alternative:
    """A token that could have stood at a place, and its log-probability under the unmodified distribution."""

    token: int
    log_prob: float


@dataclass
class Written:
    """Tokens of one sample, in order; equally long lists."""

    tokens: list[int] = field(default_factory=list)
    # log p of each token, nats: as the model has it, and as it was sampled (temperature, top-k, ... applied).
    log_probs: list[float] = field(default_factory=list)
    sampling_log_probs: list[float] = field(default_factory=list)
    alternatives: list[list[Alternative]] = field(default_factory=list)  # empty unless Request.top
    drawn: list[bool] = field(default_factory=list)  # False: not the model's but an interjection, with log_probs of 0


@dataclass(frozen=True)
class Update:
    """What is new of one sample of a request since the last update."""

    ticket: int  # what `Engine.submit` returned
    sample: int  # 0 to Request.samples - 1
    new: Written
    reason: str = ""  # "" while it goes on; STOP, LENGTH or CANCELLED with its last update
    stopped_by: int | str | None = None  # with STOP: the stop token, or the stop string


@dataclass
class Completion:
    """One sample, whole."""

    written: Written
    reason: str
    stopped_by: int | str | None = None

    @property
    def content(self) -> list[int]:
        """Its tokens without the stop token."""
        return self.written.tokens[:-1] if isinstance(self.stopped_by, int) else self.written.tokens


def check_request(request: Request, context: int) -> None:
    """Raise `UserError` for a request that an engine with so many tokens of context cannot serve."""
    if not request.prompt:
        raise UserError("an empty prompt: give at least the document start token")
    if len(request.prompt) > context:
        raise UserError(f"the prompt has {len(request.prompt)} tokens and the model's context {context}: shorten it")
    for name in ("max_tokens", "samples"):
        if getattr(request, name) < 1:
            raise UserError(f"{name}={getattr(request, name)}: must be at least 1")
    if not 0 <= request.seed < 2**32:
        raise UserError(f"seed={request.seed}: must be at least 0 and below 2^32")
    if request.top < 0:
        raise UserError(f"top={request.top}: must not be negative")
    if "" in request.stop_strings:
        raise UserError("an empty stop string would stop everything: leave it out")
    check_sampling(request.sampling)
