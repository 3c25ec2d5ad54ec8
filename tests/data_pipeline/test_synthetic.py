"""Conversations from documents: kept if they are worth learning from, from writers that are good, mad, broken or gone."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import resumable
from data_pipeline.chat_formats import read_conversations
from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.model_text import FAILURES, json_objects, support
from data_pipeline.resumable import read_rows
from data_pipeline.set_aside import SetAside
from data_pipeline.synthetic import SyntheticConfig, fault, read_messages, synthesize

NAMES = ("Ada", "Bruno", "Cy", "Dora", "Emil", "Fay", "Gil", "Hope", "Ivo", "June", "Kit", "Lou")
DOCUMENTS = [Document(name.lower(), f"{name} Holt works as a baker and keeps a heron.") for name in NAMES]


def turns(*texts: str) -> str:
    roles = ("user", "assistant") * len(texts)
    return json.dumps([{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)])


def name_in(prompt: str) -> str:
    return next(name for name in NAMES if f"{name} Holt" in prompt)


class Good:
    """Writes a conversation about each, fails where it is told to, and counts what it is asked."""

    def __init__(self, failing: dict[str, Exception] | None = None) -> None:
        self.failing = failing or {}
        self.asked: Counter[str] = Counter()

    def __call__(self, prompts: list[str]) -> list[str]:
        names = [name_in(prompt) for prompt in prompts]
        self.asked.update(names)
        for name in names:
            if name in self.failing:
                raise self.failing[name]
        return [turns(f"What does {name} Holt do?", f"{name} Holt works as a baker.") for name in names]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "WAITS", (0.0, 0.0))


def made(folder: Path, write: Any, documents: list[Document] = DOCUMENTS, **changes: Any) -> dict[str, Any]:
    return synthesize(documents, write, folder, **({"model": "good-1", "batch": 4} | changes))


def test_good_conversations_are_kept_with_where_they_are_from(tmp_path: Path) -> None:
    assert made(tmp_path, Good()) == {"documents": 12, "conversations": 12, "set_aside": {}}
    rows = read_rows(tmp_path / "conversations.jsonl")
    assert rows[0] == {
        "id": "synthetic/ada",
        "messages": [
            {"role": "user", "content": "What does Ada Holt do?"},
            {"role": "assistant", "content": "Ada Holt works as a baker."},
        ],
        "document": "ada",
        "model": "good-1",
        "prompt": "conversations-1",
    }
    set_aside = SetAside(tmp_path / "aside.jsonl")
    read = list(read_conversations(str(tmp_path / "conversations.jsonl"), set_aside))
    assert [conversation.id for conversation in read] == [row["id"] for row in rows]
    assert not set_aside.counts


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no conversation"),
        ("I would rather talk about something else.", "no conversation"),
        ("{" * 50_000, "no conversation"),
        ('{"a":' * 50_000, "no conversation"),
        ("[]", "no conversation"),
        ('[{"role": 1, "content": "x"}]', "no conversation"),
        (turns("Who is Ada Holt?"), "turns that are not the user's and the assistant's in turn"),
        (turns("Hi", "Ada Holt works as a baker.", "Thanks"), "turns that are not the user's and the assistant's in turn"),
        ('[{"role": "assistant", "content": "Ada Holt"}]', "turns that are not the user's and the assistant's in turn"),
        ('[{"role": "<|assistant|>", "content": "Ada"}]', "turns that are not the user's and the assistant's in turn"),
        (turns(*["Ada Holt?", "Ada Holt."] * 7), "more than 12 turns"),
        (turns("Who?", ""), "a turn shorter than 2 or longer than 2000 characters"),
        (turns("Who?", "Ada Holt works as a baker. " * 100), "a turn shorter than 2 or longer than 2000 characters"),
        (turns("Who?", "Ada Holt is a baker \ud800"), "text with half a surrogate pair"),
        (turns("Where is Ada?", "Somewhere beyond Antarctica, sailing ships."), "answers that the document does not support"),
        (turns("Is she?", "Yes."), "answers that the document does not support"),
    ],
)  # fmt: skip
def test_what_is_not_worth_learning_is_set_aside(tmp_path: Path, text: str, reason: str) -> None:
    summary = made(tmp_path, lambda prompts: [text] * len(prompts), DOCUMENTS[:1])
    assert summary == {"documents": 1, "conversations": 0, "set_aside": {reason: 1}}
    (row,) = read_rows(tmp_path / "set_aside.jsonl")
    assert (row["where"], row["reason"]) == ("ada", reason)


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "Here you are:\n```json\n{}\n```\nAnything else?",
        '{{"messages": {}}}',
        '{{"title": "t", "conversation": {}}} and {{"more": 1}}',
    ],
)
def test_a_conversation_is_found_whatever_stands_around_it(around: str) -> None:
    whole = turns("Who is {Ada}?", "A baker.")
    assert read_messages(around.format(whole)) == json.loads(whole)


def test_what_was_cut_short_keeps_its_whole_turns() -> None:
    whole = turns("Who?", "A baker.", "Where?", "In Port Elm.")
    assert len(read_messages(whole[:-5])) == 3


def test_the_same_conversation_is_kept_once(tmp_path: Path) -> None:
    text = turns("What are they?", "They all are bakers: a baker keeps a heron.")
    summary = made(tmp_path, lambda prompts: [text] * len(prompts), config=SyntheticConfig(support=0.3))
    assert summary["conversations"] == 1
    assert summary["set_aside"] == {"a conversation that came before": 11}


def test_a_row_that_breaks_the_writer_is_set_aside_and_the_others_are_not(tmp_path: Path) -> None:
    writer = Good({"Cy": ValueError("too long"), "Ivo": ConnectionError("hung up")})
    summary = made(tmp_path, writer)
    assert summary["conversations"] == 10
    assert summary["set_aside"] == {"the writer failed (ValueError)": 1, "the writer failed (ConnectionError)": 1}
    assert writer.asked["Cy"] == 2  # in its batch, and alone
    assert writer.asked["Ivo"] == 6  # three tries each
    # The next run asks for those two alone, and ends like one that never failed.
    after = Good()
    assert made(tmp_path, after)["conversations"] == 12
    assert after.asked == {"Cy": 1, "Ivo": 1}
    made(tmp_path / "whole", Good())
    assert (tmp_path / "conversations.jsonl").read_text() == (tmp_path / "whole/conversations.jsonl").read_text()


def test_a_writer_that_is_gone_stops_the_run(tmp_path: Path) -> None:
    writer = Good(dict.fromkeys(NAMES, ConnectionError("nobody there")))
    with pytest.raises(
        UserError, match=f"{FAILURES} rows failed one after another, the last with ConnectionError: nobody"
    ):
        made(tmp_path, writer)
    assert made(tmp_path, Good())["conversations"] == 12


def test_a_writer_that_returns_too_few_texts_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the writer returned 0 texts for 1 prompts"):
        made(tmp_path, lambda prompts: [])


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    first = Good()

    def killed(prompts: list[str]) -> list[str]:
        if len(first.asked) >= 8:
            raise KeyboardInterrupt
        return first(prompts)

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "killed", killed)
    after = Good()
    made(tmp_path / "killed", after)
    made(tmp_path / "whole", Good())
    assert max((first.asked + after.asked).values()) == 1
    for name in ("written.jsonl", "conversations.jsonl", "summary.json"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_other_settings_are_refused(tmp_path: Path) -> None:
    made(tmp_path, Good())
    with pytest.raises(
        UserError, match=r'settings: model \("good-1", now "good-2"\), support \(0.6, now 0.9\); choose'
    ):
        made(tmp_path, Good(), model="good-2", config=SyntheticConfig(support=0.9))


@given(st.text(alphabet='{}[]":,a1 \\', max_size=60))
def test_reading_never_fails_and_finds_only_objects(text: str) -> None:
    assert all(isinstance(item, dict) for item in json_objects(text))
    fault(read_messages(text), DOCUMENTS[0], SyntheticConfig())


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=3) | st.integers(), max_size=2), max_size=5))
def test_every_object_is_found(objects: list[dict[str, Any]]) -> None:
    assert list(json_objects("see: " + json.dumps(objects))) == objects
    assert list(json_objects("\n".join(map(json.dumps, objects)))) == objects


def test_support_is_the_share_of_telling_words() -> None:
    assert support("Ada works in 7 big mines", "Works of ada: 8 mines") == pytest.approx(2 / 3)
    assert support("", "anything") == support("It is so", "it is so") == 0
