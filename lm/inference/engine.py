"""The engine: many requests at once, each answered as if it were alone.

It has `slots` rows in which texts grow together. A row that has ended is given to the next request at once; prompts are read
(`prefill`) while the others wait, then all rows go on (`decode`), many tokens a dispatch. The caller drives it: `submit`, then
`step` until it is idle. It is not thread-safe; whoever shares it (a server) gives it a thread of its own.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial

import jax
import numpy as np

from data_pipeline.errors import UserError
from lm.inference.programs import CHUNK, Chunk, Features, Rows, decode, forget_many, prefill, rearrange
from lm.inference.requests import (
    CANCELLED,
    LENGTH,
    STOP,
    Alternative,
    Request,
    Update,
    Written,
    check_request,
)
from lm.inference.sampling import RowSampling
from lm.inference.stopping import StopStrings
from lm.inference.weights import for_decoding
from lm.model.cache import KVCache, empty_cache
from lm.model.transformer import Transformer
from lm.sharding import batch_shards

PLACES = 256  # of the smallest cache; it doubles as texts grow, so that a program is compiled for few sizes
CPU_PLACES = 64  # there programs compile in a second, and every place costs time: it grows by a quarter or a half
PREFILL_TOKENS = 16_384  # padded tokens read at a time, about: what bounds the memory of a prefill
SECONDS = 0.05  # of a dispatch, about: what streams looks smooth
ANSWERS = 8  # interjections that are worked on at the same time
PATIENCE = 4 * SECONDS  # how long one that is there may wait for others


@dataclass
class _Waiting:
    """A request with samples that have no row yet."""

    ticket: int
    request: Request
    next_sample: int = 0


@dataclass
class _Row:
    """A sample being written."""

    ticket: int
    sample: int
    request: Request
    context: int  # the model's
    tokens: list[int] = field(default_factory=list)  # after the prompt
    interjected: int = 0  # of them
    strings: StopStrings | None = None

    @property
    def text(self) -> list[int]:
        """Prompt and answer."""
        return [*self.request.prompt, *self.tokens]

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.request.prompt) + len(self.tokens)

    @property
    def left(self) -> int:
        """Tokens it may still write."""
        # The last token need not be read, so it may lie one past the context.
        written = len(self.tokens) - self.interjected
        return min(self.request.max_tokens - written, self.context - self.length + 1)

    @property
    def stops(self) -> tuple[int, ...]:
        """Tokens that end it or make it pause."""
        more = self.request.interjection
        return (*self.request.stop_tokens, *(more.tokens if more else ()))


class Engine:
    """A model with a KV cache, and the requests it is at work on."""

    def __init__(
        self,
        model: Transformer,
        *,
        slots: int = 32,
        symbols: int | None = None,
        token_bytes: Callable[[int], bytes] | None = None,
        quantize_cache: bool = False,
        steady: bool = False,
    ) -> None:
        """`slots` rows at most; `symbols`: the tokenizer's size, where the model's vocabulary is padded beyond it.

        `token_bytes` (of the tokenizer) is what stop strings are found with. `quantize_cache`: keys and values are kept in int8.
        The model may be `quantization.quantized`.

        `steady`: the same requests are always worked on in the same groups, however long anything takes. A row depends on its
        neighbours in rounding alone, and a training run that goes on bit for bit must have even that the same.
        """
        self.config = model.config
        self.slots = slots
        self._model = for_decoding(model)
        self._symbols = min(symbols or model.config.vocab_size, model.config.vocab_size)
        self._token_bytes = token_bytes
        self._quantize_cache = quantize_cache
        self._steady = steady or jax.process_count() > 1  # several processes must do the same, and clocks differ
        self._tickets = 0
        self._waiting: deque[_Waiting] = deque()
        self._paused: list[tuple[_Row, Future]] = []  # until an interjection is there
        self._resuming: deque[_Row] = deque()  # then it is read again from its beginning, in any row that is free
        self._resumed = 0.0  # when interjections were last put in
        self._pool: ThreadPoolExecutor | None = None
        self._rows: list[_Row | None] = []
        self._cache: KVCache | None = None
        self._at = 0  # where the rings stand, modulo their places
        self._updates: list[Update] = []  # that do not come from decoding
        self._seconds_per_step = 0.0
        self._warm: set[tuple] = set()

    @property
    def waiting(self) -> int:
        """Samples that wait for a row."""
        return len(self._resuming) + sum(entry.request.samples - entry.next_sample for entry in self._waiting)

    @property
    def running(self) -> int:
        """Samples being written."""
        return sum(row is not None for row in self._rows)

    @property
    def idle(self) -> bool:
        """Whether there is nothing left to do or to tell."""
        return not (self._waiting or self._resuming or self._paused or self._updates or self.running)

    def submit(self, request: Request) -> int:
        """Take a request in; its updates carry the returned ticket. Raises `UserError` for what cannot be served."""
        self.check(request)
        self._tickets += 1
        self._waiting.append(_Waiting(self._tickets, request))
        return self._tickets

    def check(self, request: Request) -> None:
        """Raise `UserError` for a request that cannot be served."""
        check_request(request, self.config.context_length)
        bad = [token for token in request.prompt if not 0 <= token < self.config.vocab_size]
        if bad:
            raise UserError(f"token {bad[0]} is outside the model's vocabulary of {self.config.vocab_size:,}")
        if request.stop_strings and self._token_bytes is None:
            raise UserError("stop strings need a tokenizer, and this engine was given none")

    def cancel(self, ticket: int) -> None:
        """End a request; its rows are free at once. Its unfinished samples get a last update with reason CANCELLED."""
        for entry in [entry for entry in self._waiting if entry.ticket == ticket]:
            self._waiting.remove(entry)
            samples = range(entry.next_sample, entry.request.samples)
            self._updates += [Update(ticket, sample, Written(), CANCELLED) for sample in samples]
        resting = [row for row, _ in self._paused] + list(self._resuming)
        for row in [row for row in (*self._rows, *resting) if row is not None and row.ticket == ticket]:
            self._updates.append(Update(ticket, row.sample, Written(), CANCELLED))
        self._rows = [None if row is not None and row.ticket == ticket else row for row in self._rows]
        self._paused = [(row, answer) for row, answer in self._paused if row.ticket != ticket]
        self._resuming = deque(row for row in self._resuming if row.ticket != ticket)

    def step(self) -> list[Update]:
        """Give free rows to waiting requests, write some tokens, and tell what is new; [] when idle."""
        if self._paused:
            self._resume()
        if self.waiting:
            self._admit()
        if self.running:
            self._decode()
        updates, self._updates = self._updates, []
        return updates

    # Interjections

    def _pause(self, row: _Row) -> None:
        """Ask for the interjection of a row, which has been freed."""
        assert row.request.interjection is not None  # it wrote one of its tokens
        self._pool = self._pool or ThreadPoolExecutor(ANSWERS, "interjection")
        self._paused.append((row, self._pool.submit(row.request.interjection.answer, list(row.tokens))))

    def _resume(self) -> None:
        """Put in the answers that are there; wait for one when there is nothing else to do."""
        answers = [answer for _, answer in self._paused]
        if self._steady:
            wait(answers)
        elif not self.running and not self.waiting:
            wait(answers, SECONDS)
        # Rows that go on together are read together, and by few programs: unless little else is being written, wait for more.
        ready = sum(answer.done() for answer in answers)
        if ready < min(len(answers), self.running // 4) and time.monotonic() - self._resumed < PATIENCE:
            return
        self._resumed = time.monotonic()
        paused, self._paused = self._paused, []
        for row, answer in paused:
            if not answer.done():
                self._paused.append((row, answer))
                continue
            told = answer.result()
            if told is None:
                self._updates.append(Update(row.ticket, row.sample, Written(), STOP, row.tokens[-1]))
                continue
            count = max(0, min(len(told), row.context - row.length))
            zeros = [0.0] * count
            alternatives: list[list[Alternative]] = [[] for _ in range(count if row.request.top else 0)]
            new = Written(list(told[:count]), zeros, list(zeros), alternatives, [False] * count)
            row.tokens += new.tokens
            row.interjected += count
            goes_on = count == len(told) and row.left > 0
            self._updates.append(Update(row.ticket, row.sample, new, "" if goes_on else LENGTH))
            if goes_on:
                self._resuming.append(row)

    # Which rows and how many places

    def _admit(self) -> None:
        """Free rows to waiting samples, and their prompts into the cache."""
        arriving = [len(entry.request.prompt) for entry in itertools.islice(self._waiting, self.slots)]
        arriving += [row.length for row in itertools.islice(self._resuming, self.slots)]
        self._resize(self.running + self.waiting, max(arriving))
        free = deque(i for i, row in enumerate(self._rows) if row is None)
        admitted: list[tuple[Sequence[int], list[int]]] = []  # a text, and the rows it goes to
        while free and self._resuming:
            row = self._resuming.popleft()
            self._rows[free[0]] = row
            admitted.append((row.text, [free.popleft()]))
        while free and self._waiting:
            entry = self._waiting[0]
            rows = []
            while free and entry.next_sample < entry.request.samples:
                rows.append(free.popleft())
                self._rows[rows[-1]] = self._new_row(entry)
                entry.next_sample += 1
            if entry.next_sample == entry.request.samples:
                self._waiting.popleft()
            admitted.append((entry.request.prompt, rows))
        # A prompt's last token is left to decoding, where all sampling is done.
        by_width: dict[int, list[tuple[Sequence[int], list[int]]]] = {}
        for text, rows in admitted:
            if len(text) > 1:
                width = min(_power_of_two(len(text) - 1, 16), self.config.context_length)
                by_width.setdefault(width, []).append((text, rows))
        for width, group in by_width.items():
            most = max(1, PREFILL_TOKENS // width)
            while group:
                size = _part(len(group), most)
                self._prefill(width, group[:size])
                group = group[size:]

    def _new_row(self, entry: _Waiting) -> _Row:
        request = entry.request
        strings = None
        if request.stop_strings:
            assert self._token_bytes is not None  # `submit` has seen to it
            strings = StopStrings(request.stop_strings, self._token_bytes)
        return _Row(entry.ticket, entry.next_sample, request, self.config.context_length, strings=strings)

    def _prefill(self, width: int, group: list[tuple[Sequence[int], list[int]]]) -> None:
        assert self._cache is not None  # `_resize` made it
        shards = batch_shards()
        prompts = -(-_level(len(group)) // shards) * shards
        copies = sum(len(rows) for _, rows in group)
        tokens = np.zeros((prompts, width), np.int32)
        lengths = np.ones(prompts, np.int32)
        source = np.zeros(_level(copies), np.int32)
        rows = np.full(source.shape, self._cache.rows, np.int32)  # past the last row: dropped
        n = 0
        for i, (text, to) in enumerate(group):
            read = text[:-1]
            tokens[i, : len(read)], lengths[i] = read, len(read)
            source[n : n + len(to)], rows[n : n + len(to)] = i, to
            n += len(to)
        at = np.int32(self._at % self._cache.places)
        self._cache = prefill(self._model, self._cache, tokens, lengths, source, rows, at)

    def _longest(self) -> int:
        """Tokens of the longest text in a row."""
        return max((row.length for row in self._rows if row), default=0)

    def _resize(self, samples: int, tokens: int) -> None:
        """Make the cache fit so many samples (at most `slots`), the longest of so many tokens, in steps that keep programs few.

        It grows when it must, and shrinks when a quarter would do.
        """
        tokens = max(tokens, self._longest())
        shards = batch_shards()
        rows = -(-min(_level(samples), self.slots) // shards) * shards
        places = min(_places(tokens), self.config.context_length)
        if self._cache is not None and self.running:
            rows = _kept_or(rows, self._cache.rows)
            places = _kept_or(places, self._cache.places)
            if (rows, places) == (self._cache.rows, self._cache.places):
                return
        kept = [i for i, row in enumerate(self._rows) if row is not None]
        if self._cache is None or not kept:  # nothing to carry over
            if self._cache is None or (rows, places) != (self._cache.rows, self._cache.places):
                self._cache = None  # free it before there is another
                self._cache = empty_cache(self.config, rows, places, quantized=self._quantize_cache)
        else:
            index = None
            if rows != self._cache.rows:
                index = np.zeros(rows, np.int32)
                index[: len(kept)] = kept
            before, at = self._cache.places, np.int32(self._at % self._cache.places)
            self._cache = rearrange(self._cache, index, places, at)
            self._at = min(before, places)
            if index is None:
                return
        self._rows = [self._rows[i] for i in kept] + [None] * (rows - len(kept))

    # Writing

    def _decode(self) -> None:
        assert self._cache is not None  # `_admit` made it
        longest, places = self._longest(), self._cache.places
        if places - longest < CHUNK // 4:  # fill a cache before a larger one, and then the next larger one
            places = _places(longest + CHUNK // 4)
        limit = min(self._limit(), places - longest)
        self._resize(self.running + self.waiting, longest + limit)
        rows = [row for row in self._rows if row]
        bends = any(_bends(row.request) for row in rows)
        features = Features(
            samples=bends or any(row.request.sampling.temperature > 0 for row in rows),
            bends=bends,
            top=max(min(_top_level(row.request.top), self._symbols) for row in rows),
            symbols=self._symbols,
        )
        told = self._told()
        if forget_many():
            self._warm.clear()
        # With others waiting, stop for them as soon as a fair share of the rows is free.
        patience = max(1, len(rows) // 8) if self._waiting else len(self._rows)
        start = time.perf_counter()
        self._cache, on_device = decode(
            self._model,
            self._cache,
            told,
            self._seen() if bends else None,
            np.int32(self._at % self._cache.places),
            np.int32(limit),
            np.int32(patience),
            features,
        )
        chunk: Chunk = jax.device_get(on_device)
        program = (self._cache.rows, self._cache.places, features, told.stop.shape)
        if program in self._warm:
            self._seconds_per_step = (time.perf_counter() - start) / int(chunk.steps)
        self._warm.add(program)
        self._at += int(chunk.steps)
        self._take(chunk)

    def _limit(self) -> int:
        """Steps of the next dispatch: many, but not so many that a stream stutters."""
        if self._steady:
            return CHUNK // 4
        return int(np.clip(SECONDS / self._seconds_per_step, 1, CHUNK)) if self._seconds_per_step else CHUNK // 4

    def _told(self) -> Rows:
        """What the program must know of each row."""
        rows = self._rows
        count = len(rows)
        stops = max((len(row.stops) for row in rows if row), default=0)
        whole, real = partial(np.zeros, count, np.int32), partial(np.ones, count, np.float32)
        told = Rows(
            token=whole(),
            position=whole(),
            left=whole(),
            stop=np.full((count, _power_of_two(stops, 4)), -1, np.int32),
            seed=np.zeros(count, np.uint32),
            sample=whole(),
            sampling=RowSampling(real(), real(), whole(), real(), real()),
        )
        for i, row in enumerate(rows):
            if row is None:
                continue
            request, sampling = row.request, row.request.sampling
            told.token[i] = row.tokens[-1] if row.tokens else request.prompt[-1]
            told.position[i], told.left[i] = row.length - 1, row.left
            told.stop[i, : len(row.stops)] = row.stops
            told.seed[i], told.sample[i] = request.seed, row.sample
            for name in RowSampling._fields:
                getattr(told.sampling, name)[i] = getattr(sampling, name)
        return told

    def _seen(self) -> np.ndarray:
        """Which symbols each row holds already: bool (B, symbols)."""
        seen = np.zeros((len(self._rows), self._symbols), bool)
        for i, row in enumerate(self._rows):
            if row is not None:
                there = np.array(row.text)
                seen[i, there[there < self._symbols]] = True
        return seen

    def _take(self, chunk: Chunk) -> None:
        """Hand what was written to its requests, and free the rows that have ended."""
        for i, row in enumerate(self._rows):
            if row is None:
                continue
            count = int(chunk.count[i])
            tokens = chunk.tokens[i, :count].tolist()
            reason, stopped_by = "", None
            pauses = False
            if tokens[-1] in row.request.stop_tokens:
                reason, stopped_by = STOP, tokens[-1]
            elif count == row.left:
                reason = LENGTH
            elif tokens[-1] in row.stops:
                pauses = True
            if row.strings is not None and (found := row.strings.find(tokens)):
                count, stopped_by, reason, pauses = found[0], found[1], STOP, False
            new = Written(
                tokens[:count],
                chunk.log_probs[i, :count].tolist(),
                chunk.sampling_log_probs[i, :count].tolist(),
                drawn=[True] * count,
            )
            if not np.isfinite(chunk.log_probs[i, :count]).all():
                raise UserError("the model's scores are not finite: its parameters are damaged; use another checkpoint")
            if row.request.top:
                new.alternatives = _alternatives(chunk, i, count, row.request.top)
            row.tokens += new.tokens
            self._updates.append(Update(row.ticket, row.sample, new, reason, stopped_by))
            if reason or pauses:
                self._rows[i] = None
            if pauses:
                self._pause(row)


def _alternatives(chunk: Chunk, row: int, count: int, top: int) -> list[list[Alternative]]:
    tokens, log_probs = (x[row, :count, :top].tolist() for x in (chunk.top_tokens, chunk.top_log_probs))
    return [[Alternative(*pair) for pair in zip(*place, strict=True)] for place in zip(tokens, log_probs, strict=True)]


def _bends(request: Request) -> bool:
    sampling = request.sampling
    filters = sampling.temperature > 0 and (sampling.top_k or sampling.top_p < 1 or sampling.min_p)
    return bool(filters or sampling.repetition_penalty != 1)


def _top_level(top: int) -> int:
    """Alternatives are counted in few sizes, so that programs stay few."""
    return 0 if top == 0 else 20 if top <= 20 else _power_of_two(top, 20)


def _places(tokens: int) -> int:
    """Of a cache for texts of so many tokens."""
    if jax.default_backend() != "cpu":
        return _power_of_two(tokens, PLACES)
    size = _power_of_two(tokens, CPU_PLACES)
    step = max(CPU_PLACES // 2, size // (8 if size <= 4 * CPU_PLACES else 4))
    return -(-tokens // step) * step if size > CPU_PLACES else size


def _kept_or(wanted: int, here: int) -> int:
    """A size: what is here, unless it is too small, or four times too large."""
    return here if here // 4 < wanted <= here else wanted


def _level(count: int) -> int:
    """The next of 1, 2, 8, 32, 128, ...: numbers of rows that programs are compiled for."""
    level = 1
    while level < count:
        level = 2 if level == 1 else 4 * level
    return level


def _part(count: int, most: int) -> int:
    """How many of `count` prompts to read next, at most about `most`: few sizes, and little padding."""
    whole = [size for size in (128, 32, 8) if size <= min(count, most)]
    return whole[0] if whole else min(count, most)


def _power_of_two(size: int, least: int) -> int:
    """The next power of two, at least `least`."""
    return max(least, 1 << (size - 1).bit_length()) if size > 0 else least
