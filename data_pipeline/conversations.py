"""From named sources to conversations in tokens with their loss mask: what finetuning reads, prepared once.

    CACHE/conversations/KEY/{train,validation}/     one source, tokenized (see `shards.py`), with its manifest
    CACHE/conversations/KEY/set_aside.jsonl         what could not be used

Nothing here is longer than a row of training, so that packing (whole conversations, best fit) never cuts one.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline import countdown, gym, parity
from data_pipeline.chat_formats import read_conversations
from data_pipeline.conversation import Conversation, Part, ToolCall, Turn
from data_pipeline.errors import UserError
from data_pipeline.marks import find_marks
from data_pipeline.packing import Records
from data_pipeline.prepare import cache_key, in_turn, set_aside_note, tokenized, trained_tokenizer
from data_pipeline.protocol import render
from data_pipeline.ranking import best
from data_pipeline.ranking_rows import read_rankings
from data_pipeline.repeats import repeated
from data_pipeline.school import worked_examples
from data_pipeline.school.world import SchoolConfig
from data_pipeline.school.world import check as check_school
from data_pipeline.set_aside import SetAside
from data_pipeline.shards import TokenizedRecords, is_held_out, write_shards
from data_pipeline.sources import PARAGRAPHS, SOURCES, read_documents, source_fingerprint
from data_pipeline.tokenizer import Tokenizer, load_tokenizer

DOCUMENTS = "documents:"
GYM = "gym:"
COUNTDOWN, PARITY, BEST = "countdown", "parity:", "best:"
GYM_ITEMS = 2_000  # of a task, to learn from
VERSION = 1  # of the readers and the protocol: another one prepares everything again


@dataclass
class ConversationsConfig:
    """What is read in finetuning."""

    sources: tuple[str, ...] = ("school",)
    """school (its mixture of topics), school:TOPIC, gym:TASK[?SETTINGS] (of reasoning-gym), countdown, parity:PERCENT, tfds:NAME,
    or files: a path or a glob of JSONL or JSON, also .gz and .zst. Rows may be OpenAI's messages, ShareGPT, Alpaca,
    OpenAssistant's trees, or a prompt and a response; best:FILE reads rankings, and learns the best response of each.
    documents:SOURCE reads what pretraining reads, all of it trained, so that what it told is not forgotten meanwhile.
    """
    weights: tuple[float, ...] = ()
    """How often each source is drawn from, row by row; empty: every conversation as often as `repeats` says in an epoch."""
    repeats: tuple[int, ...] = ()
    """How often an epoch reads the conversations of each source; empty: once."""
    held_out: float = 0.1
    """The share of conversations kept for validation, chosen by a hash of what they say, unless they say so themselves."""
    tokenizer: str = ""
    """A tokenizer file or folder; empty: that of the run that finetuning starts from. Where there is none, one of
    `model.vocab_size` symbols is trained on the conversations: they are then all that is read, from random parameters."""
    too_long: str = "set_aside"
    """What does not fit the context: set_aside | cut: only its last turns are, and what is left ends with the assistant's."""
    school: SchoolConfig = field(default_factory=SchoolConfig)


@dataclass(frozen=True)
class PreparedConversations:
    """Sources ready to be packed: one entry a source in `train` (with its repeats), as in `names`; `validation` has fewer."""

    tokenizer: Tokenizer
    names: list[str]
    train: list[Records]
    validation: list[TokenizedRecords]
    fingerprints: dict[str, str]  # of each source, and of the tokenizer: they change when what a run would read does


@dataclass(frozen=True)
class _Example:
    """A conversation in tokens; `text` decides which split it belongs to."""

    id: str
    text: str
    held_out: bool | None
    tokens: list[int]
    trained: list[bool]


def check_conversations(config: ConversationsConfig) -> None:
    """Raise `UserError` for values that make no sense."""
    if not config.sources:
        raise UserError("data.sources is empty: name at least one source, such as school or a file")
    if len(set(config.sources)) < len(config.sources):
        raise UserError("data.sources names one source twice: use data.weights or data.repeats to read more of it")
    if documents := [name for name in config.sources if name in SOURCES[1:] or name.startswith(PARAGRAPHS)]:
        raise UserError(
            f"data.sources: {documents[0]} holds documents and no conversations: name conversations, and "
            f"{DOCUMENTS}{documents[0]} beside them to read it again"
        )
    if all(name.startswith(DOCUMENTS) for name in config.sources):
        raise UserError("data.sources holds documents alone: finetuning reads conversations, such as school")
    for name, numbers in (("weights", config.weights), ("repeats", config.repeats)):
        if numbers and len(numbers) != len(config.sources):
            raise UserError(
                f"data.{name} has {len(numbers)} numbers for {len(config.sources)} data.sources: one for each, or none"
            )
    if any(times < 1 for times in config.repeats):
        raise UserError(
            f"data.repeats={config.repeats}: each source is read once an epoch or more; leave out the others"
        )
    if not 0 <= config.held_out < 1:
        raise UserError(f"data.held_out={config.held_out}: a share, at least 0 and below 1")
    if config.too_long not in ("set_aside", "cut"):
        raise UserError(f"data.too_long={config.too_long!r}: choose set_aside or cut")
    check_school(config.school)


def prepare_conversations(
    config: ConversationsConfig, base: Tokenizer | None, context_length: int, cache: Path, vocab_size: int
) -> PreparedConversations:
    """Tokenize every source that is not in the cache yet, for rows of `context_length` tokens. A killed preparation goes on.

    `base` is the tokenizer of the model that finetuning starts from; without one, a tokenizer of `vocab_size` symbols is
    trained. Raises `UserError` when the tokenizer has no tokens for turns, and when a source cannot be found or has no
    conversation that can be learnt from.
    """
    check_conversations(config)
    tokenizer = load_tokenizer(Path(config.tokenizer).expanduser()) if config.tokenizer else base
    if tokenizer is None:
        tokenizer = _trained_tokenizer(config, vocab_size, cache)
    if find_marks(tokenizer) is None:
        raise UserError("the tokenizer has no special tokens for turns: add ours to it (with_special_tokens)")
    fingerprints, folders = {}, []
    for source in config.sources:
        if source.startswith(DOCUMENTS):
            name = source.removeprefix(DOCUMENTS)
            fingerprints[source] = _fingerprint(source, config.school)
            folders.append(tokenized(name, config.school, tokenizer, config.held_out, cache))
            continue
        fingerprint = _fingerprint(source, config.school)
        fingerprints[source] = cache_key(fingerprint, context_length, config.too_long, VERSION)
        folder = cache / "conversations" / cache_key(fingerprints[source], tokenizer.fingerprint, config.held_out)
        set_aside = SetAside(folder / "set_aside.jsonl")
        conversations = _read(source, config.school, set_aside)
        examples = _examples(conversations, tokenizer, context_length, config.too_long == "cut", set_aside)
        manifest = write_shards(
            _at_least_one(source, examples, context_length, set_aside),
            lambda batch: ((example.tokens, example.trained) for example in batch),
            tokenizer,
            folder,
            held_out=config.held_out,
            source=fingerprints[source],
            set_aside=set_aside,
            noun="conversations",
        )
        train, validation = manifest.train, manifest.validation
        print(
            f"{source}: {train.documents:,} conversations ({train.tokens:,} tokens) to learn from, "
            f"{validation.documents:,} ({validation.tokens:,} tokens) held out{set_aside_note(manifest, set_aside)}",
            flush=True,
        )
        folders.append(folder)
    read = [TokenizedRecords(folder, "train") for folder in folders]
    if not any(len(records) for records in read):
        raise UserError("every conversation is held out for validation: lower data.held_out, or give more")
    times = config.repeats or (1,) * len(read)
    return PreparedConversations(
        tokenizer,
        list(config.sources),
        [
            repeated(records, (often,), name) if often > 1 and len(records) else records
            for records, often, name in zip(read, times, config.sources, strict=True)
        ],
        [
            TokenizedRecords(folder, "validation")
            for folder, name in zip(folders, config.sources, strict=True)
            if not name.startswith(DOCUMENTS)  # what is measured is the assistant
        ],
        {**fingerprints, "the tokenizer": tokenizer.fingerprint},
    )


def _trained_tokenizer(config: ConversationsConfig, vocab_size: int, cache: Path) -> Tokenizer:
    """A tokenizer of what the conversations say that are not held out."""
    prints = [_fingerprint(source, config.school) for source in config.sources]
    folder = cache / "tokenizers" / cache_key(config.sources, prints, config.held_out, vocab_size)

    def texts(number: int, source: str) -> Iterator[str]:
        set_aside = SetAside(folder / f"set_aside-{number}.jsonl")
        if source.startswith(DOCUMENTS):
            name = source.removeprefix(DOCUMENTS)
            for document in read_documents(name, school=config.school, set_aside=set_aside):
                if not is_held_out(document, config.held_out):
                    yield document.text
            return
        for each in _read(source, config.school, set_aside):
            text = "".join(_written(part) for turn in each.turns for part in turn.parts)
            if not is_held_out(_Example(each.id, text, each.held_out, [], []), config.held_out):
                yield text

    turns = in_turn(texts(number, source) for number, source in enumerate(config.sources))
    return trained_tokenizer(turns, config.sources, vocab_size, folder)


def _written(part: Part) -> str:
    """What the protocol writes between the marks of a part, in a vocabulary of ours."""
    if isinstance(part, ToolCall):
        return f"{part.name}\n{json.dumps(part.arguments, ensure_ascii=False)}"
    return part.text


def _read(source: str, school: SchoolConfig, set_aside: SetAside) -> Iterator[Conversation]:
    if topic := _topic(source):
        return worked_examples.conversations(school, topic)
    if source == COUNTDOWN:
        return countdown.conversations()
    if source.startswith(PARITY):
        return parity.conversations(parity.percent(source))
    if source.startswith(GYM):
        return gym.conversations(source.removeprefix(GYM), GYM_ITEMS, school.seed)
    if source.startswith(BEST):
        return map(best, read_rankings(source.removeprefix(BEST), set_aside))
    return read_conversations(source, set_aside)


def _topic(source: str) -> str:
    """The topic of "school:TOPIC"; "school" is the mixture of all. Empty for another source."""
    return source.removeprefix("school:") if source == "school" or source.startswith("school:") else ""


def _fingerprint(source: str, school: SchoolConfig) -> str:
    if source.startswith(DOCUMENTS):
        return source_fingerprint(source.removeprefix(DOCUMENTS), school=school)
    if topic := _topic(source):
        if topic not in worked_examples.TOPICS:
            raise worked_examples.no_topic(topic)
        identity = [worked_examples.WORKED_EXAMPLES_VERSION, topic, dataclasses.asdict(school)]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    if source == COUNTDOWN:
        return cache_key(source, countdown.VERSION)
    if source.startswith(PARITY):
        return cache_key(source, parity.VERSION)
    if source.startswith(GYM):
        return cache_key(source, GYM_ITEMS, school.seed, gym.GYM_VERSION)
    if source.startswith(BEST):  # not what the same file is as conversations
        return cache_key(BEST, source_fingerprint(source.removeprefix(BEST), school=school))
    return source_fingerprint(source, school=school)


def _examples(
    conversations: Iterable[Conversation], tokenizer: Tokenizer, context_length: int, cut: bool, set_aside: SetAside
) -> Iterator[_Example]:
    """Conversations that fit: n tokens are n - 1 pairs of an input and its label."""
    too_long = f"longer than the context of {context_length} tokens"
    for conversation in conversations:
        turns = conversation.turns
        try:
            rendered = render(tokenizer, turns)
        except UserError as error:
            set_aside.add(conversation.id, str(error), _json(turns))
            continue
        tokens, trained = rendered.tokens, rendered.trained
        if len(tokens) - 1 > context_length:
            kept = 0
            if cut:
                places = range(len(turns), 0, -1)
                fitting = (n for n in places if turns[n - 1].role == "assistant")
                kept = next((n for n in fitting if rendered.turn_ends[n - 1] - 1 <= context_length), 0)
            set_aside.add(conversation.id, f"the end of one {too_long}" if kept else too_long, _json(turns[kept:]))
            if not kept:
                continue
            end = rendered.turn_ends[kept - 1]
            tokens, trained = tokens[:end], trained[:end]
        if not any(trained):
            set_aside.add(conversation.id, "no assistant turn", _json(turns))
            continue
        yield _Example(conversation.id, tokenizer.decode(rendered.tokens), conversation.held_out, tokens, trained)


def _json(turns: Iterable[Turn]) -> bytes:
    return json.dumps([dataclasses.asdict(turn) for turn in turns], default=str).encode()


def _at_least_one(
    source: str, examples: Iterator[_Example], context_length: int, set_aside: SetAside
) -> Iterator[_Example]:
    example = None
    for example in examples:
        yield example
    if example is None:
        raise UserError(
            f"{source} holds no conversation to learn from in a context of {context_length} tokens: {set_aside.summary()}"
        )
