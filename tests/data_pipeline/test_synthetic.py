"""Conversations from documents: kept if they are worth learning from, from writers that are good, mad, broken or gone."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import resumable
from data_pipeline.chat_formats import read_conversations
from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.model_text import FAILURES, json_objects, openai_writer, support, written
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
    return synthesize(folder, documents, write, **({"model": "good-1", "batch": 4} | changes))


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


# A server that is asked through the openai package.


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != "Bearer right":
            return self.reply(401, {"error": {"message": "no such key"}})
        prompt = body["messages"][0]["content"]
        if prompt == "hang up":
            self.connection.close()
            return None
        if prompt.isdigit():
            return self.reply(int(prompt), {"error": {"message": f"status {prompt}"}})
        message = {"role": "assistant", "content": None if prompt == "silence" else f"{body['model']}: {prompt}"}
        return self.reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    def reply(self, status: int, value: Any) -> None:
        whole = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m"} | value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Any:
    pytest.importorskip("openai", reason='asking a model over the network needs pip install "trivium[dev]"')
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def test_a_model_behind_an_address_writes(url: str, tmp_path: Path) -> None:
    write = openai_writer(url, "m", "right")
    assert write(["a", "b", "silence"]) == ["m: a", "m: b", ""]
    for broken in ("hang up", "500", "503", "429"):
        with pytest.raises(ConnectionError):
            write([broken])
    with pytest.raises(UserError, match="no such key"):
        openai_writer(url, "m", "wrong")(["a"])
    with pytest.raises(UserError, match="refuses the model 'm'"):
        write(["404"])
    set_aside = SetAside(tmp_path / "set_aside.jsonl")
    prompts = [("1", "a"), ("2", "hang up"), ("3", "400"), ("4", "b")]
    found = written(tmp_path / "written.jsonl", prompts, write, set_aside, batch=4, name="writing")
    assert found == {"1": "m: a", "4": "m: b"}
    assert set_aside.counts == {"the writer failed (ConnectionError)": 1, "the writer failed (BadRequestError)": 1}


def test_nobody_at_the_address_is_a_failed_connection() -> None:
    pytest.importorskip("openai", reason='asking a model over the network needs pip install "trivium[dev]"')
    with pytest.raises(ConnectionError):
        openai_writer("http://127.0.0.1:9/v1", "m")(["a"])
