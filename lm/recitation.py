"""Regurgitation: does a model recite the documents it was trained on, given how they begin?

The metric, after arXiv 2202.07646, whose "extractable with k tokens of context" it is: the model is given the first k tokens
of a document (document_start among them), as they stood in training, and goes on greedily, always with the likeliest token.

    exact                     the share of documents whose next n tokens come out without any difference
    before_first_difference   the mean share of those n tokens that come out before the first one that differs

The paper takes the n = 50 tokens that follow the first k of a training example; here k and n are chosen to suit a small model.
Documents of fewer than k + n tokens (the document_start that closes a document not counted) are left out, and counted.
What a model can guess that never saw the document is no memory: the group that `data.repeats` reads 0 times shows how much
that is. The intervals take documents for independent draws, and one model for all the models that might have been trained.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import NormalDist, fmean

from data_pipeline.errors import UserError
from data_pipeline.packing import Records
from data_pipeline.repeats import deal
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import Request, Update
from lm.inference.sampling import Sampling
from lm.model.transformer import Transformer

BATCH = 64  # prompts at once: always so many, so that one program is compiled
GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Passage:
    """The beginning of a document that is long enough. `prompt` has k tokens, `original` the n that follow."""

    document_id: str
    repeats: int  # copies of the document in an epoch
    prompt: list[int]
    original: list[int]


@dataclass(frozen=True)
class Recitation:
    """What the model wrote after the prompt of a passage; shorter than the original where it ended the document."""

    passage: Passage
    written: list[int]

    @property
    def before_first_difference(self) -> int:
        """How many tokens of the original came out, up to the first that did not."""
        same = 0
        for wanted, got in zip(self.passage.original, self.written, strict=False):
            if wanted != got:
                break
            same += 1
        return same

    @property
    def exact(self) -> bool:
        """Whether all of it came out."""
        return self.before_first_difference == len(self.passage.original)


@dataclass(frozen=True)
class Recall:
    """How the documents of one group fared. `low` and `high` are the 95% interval of `exact`, see `wilson`."""

    repeats: int
    documents: int
    left_out: int  # too short
    exact: float
    low: float
    high: float
    before_first_difference: float


def passages(
    documents: Records, repeats: tuple[int, ...], *, prompt_tokens: int, tokens: int, most: int
) -> tuple[list[Passage], Counter[int]]:
    """What can be asked of documents that were trained on with `repeats` (empty: each once), by repeats.

    At most `most` documents of each group, a fair sample. The counter says how many of each number of repeats are too short.
    """
    times = repeats or (1,)
    found: list[Passage] = []
    too_short: Counter[int] = Counter()
    for often, group in zip(times, deal(documents, len(times)), strict=True):
        long_enough = documents.lengths[group] - 1 >= prompt_tokens + tokens  # the closing document_start is not text
        too_short[often] += int((~long_enough).sum())
        for index in group[long_enough][:most].tolist():
            document_id, ids, _ = documents[index]
            text = ids[: prompt_tokens + tokens].tolist()
            found.append(Passage(document_id, often, text[:prompt_tokens], text[prompt_tokens:]))
    return sorted(found, key=lambda passage: passage.repeats), too_short


def recite(
    model: Transformer,
    asked: list[Passage],
    *,
    stop: int,
    symbols: int,
    on_progress: Callable[[int], object] | None = None,
) -> list[Recitation]:
    """Let the model go on from each prompt, greedily, in the order of `asked`.

    `stop` is the tokenizer's document_start, `symbols` its number of tokens. `on_progress(count)` is called as passages
    are done. All passages have the same k and n. Raises `UserError` when those do not fit the model's context.
    """
    if not asked:
        return []
    k, n = len(asked[0].prompt), len(asked[0].original)
    check_fits(k, n, model.config.context_length)
    engine = Engine(model, slots=BATCH, symbols=symbols)
    requests = [Request(tuple(passage.prompt), n, GREEDY, stop_tokens=(stop,)) for passage in asked]

    def tell(_: int, update: Update) -> None:
        if on_progress and update.reason:
            on_progress(1)

    written = generate(engine, requests, tell)
    return [Recitation(passage, completion.content) for passage, (completion,) in zip(asked, written, strict=True)]


def check_fits(prompt_tokens: int, tokens: int, context_length: int) -> None:
    """Raise `UserError` when a model of this context cannot read so much at once: the last token need not be read."""
    if prompt_tokens + tokens > context_length + 1:
        raise UserError(
            f"a prompt of {prompt_tokens} tokens and {tokens} more do not fit the model's context of {context_length}: "
            "ask for fewer"
        )


def recall(recited: Iterable[Recitation], too_short: Counter[int]) -> list[Recall]:
    """The two shares for each number of repeats that a document was found for, ascending."""
    groups: dict[int, list[Recitation]] = {}
    for one in recited:
        groups.setdefault(one.passage.repeats, []).append(one)
    found = []
    for often, group in sorted(groups.items()):
        exact = sum(one.exact for one in group)
        mean = fmean(one.before_first_difference / len(one.passage.original) for one in group)
        found.append(Recall(often, len(group), too_short[often], exact / len(group), *wilson(exact, len(group)), mean))
    return found


def wilson(successes: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval for a share, (low, high): useful at 0% and 100% too, where the usual one has no width.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927. `trials` above 0.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    middle = share + z**2 / (2 * trials)
    half = z * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    scale = 1 + z**2 / trials
    # Exactly 0 and 1 at the ends, but for rounding.
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == trials else (middle + half) / scale
    return low, high
