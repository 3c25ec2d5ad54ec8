"""launch.synthesize and the models that write for it, behind an address that answers as a script says, and in a run's folder."""

import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from absl import flags
from absl.testing import flagsaver
from programs import run
from serving import save_run, tokenizer

from data_pipeline import resumable
from data_pipeline.conversations import ConversationsConfig, prepare_conversations
from data_pipeline.errors import UserError
from data_pipeline.judges import Claim
from data_pipeline.model_text import written
from data_pipeline.resumable import read_rows
from data_pipeline.set_aside import SetAside
from launch import probe, synthesize
from launch.writers import openai_writer, run_writer

NAMES = ("Ada", "Bruno", "Cy", "Dora", "Emil", "Fay", "Gil", "Hope", "Ivo", "June")


class Endpoint(BaseHTTPRequestHandler):
    """Writes about NAME Holt what `server.script` says of that name, else something good; fails where a number is asked for."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != "Bearer right":
            return self.reply(401, {"error": {"message": "no such key"}})
        if body["model"] == "html":
            return self.reply(200, "<html>")
        prompt = body["messages"][0]["content"]
        if prompt == "hang up":
            return self.connection.close()
        if prompt.isdigit():
            return self.reply(int(prompt), {"error": {"message": f"status {prompt}"}})
        name = next((name for name in NAMES if f"{name} Holt" in prompt), None)
        self.server.asked[name] += 1
        if name is None:
            text = None if prompt == "silence" else f"{body['model']}: {prompt}"
        elif name in self.server.script:
            text = self.server.script[name]
        elif '"role"' in prompt:
            said = [("user", f"What does {name} Holt do?"), ("assistant", f"{name} Holt works as a baker.")]
            text = json.dumps([{"role": role, "content": content} for role, content in said])
        else:
            text = json.dumps([{"question": f"What is {name} Holt's trade?", "answer": "baker"}])
        message = {"role": "assistant", "content": text}
        return self.reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    def reply(self, status, value):
        if isinstance(value, dict):
            value = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m"} | value)
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if value[0] == "{" else "text/html")
        self.send_header("Content-Length", str(len(value.encode())))
        self.end_headers()
        self.wfile.write(value.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint(monkeypatch):
    pytest.importorskip("openai", reason='asking a model over the network needs pip install "trivium[dev]"')
    monkeypatch.setenv("OPENAI_API_KEY", "right")
    monkeypatch.setattr(resumable, "WAITS", (0.0,))
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        server.asked, server.script = Counter(), {}
        server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def documents(tmp_path):
    rows = [{"id": name.lower(), "text": f"{name} Holt works as a baker and keeps a heron."} for name in NAMES]
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(each) + "\n" for each in [*rows, {"body": "?"}]))
    return str(tmp_path / "documents.jsonl")


@pytest.fixture(autouse=True, scope="module")
def _defined():
    if "writer" not in flags.FLAGS:
        synthesize.define_flags()
    flags.FLAGS.mark_as_parsed()


def made(documents, folder, writer, **given):
    with flagsaver.flagsaver(documents=documents, out=str(folder), writer=writer, **given):
        synthesize.main([])


def test_documents_become_conversations_to_finetune_on(endpoint, documents, tmp_path, capsys):
    endpoint.script = {"Cy": "I would rather not.", "Fay": '[{"role": "user", "content": "Who?"}]'}
    made(documents, tmp_path / "out", f"{endpoint.url}#good")
    shown = capsys.readouterr()
    assert "set aside 1 row (no text field) in" in re.sub(r"\(1 [^)]*\)", "(no text field)", shown.out)
    assert f"10 documents, 8 conversations: wrote {tmp_path}/out/conversations.jsonl" in shown.out
    reasons = "1 no conversation, 1 turns that are not the user's and the assistant's in turn"
    assert f"set aside 2 ({reasons}) in {tmp_path}/out/set_aside.jsonl" in shown.out
    assert "writing conversations: 100%" in shown.err
    rows = read_rows(tmp_path / "out/conversations.jsonl")
    assert [row["document"] for row in rows] == [name.lower() for name in NAMES if name not in endpoint.script]
    assert {row["model"] for row in rows} == {"good, temperature 0.7, at most 1024 tokens"}
    assert {row["where"] for row in read_rows(tmp_path / "out/set_aside.jsonl")} == {"cy", "fay"}
    assert len(read_rows(tmp_path / "out/written.jsonl")) == 10

    source = ConversationsConfig((str(tmp_path / "out/conversations.jsonl"),), held_out=0.0)
    prepared = prepare_conversations(source, tokenizer(tmp_path), 256, tmp_path / "cache", 600)
    assert [len(records) for records in prepared.train] == [8]

    # Once more: nothing is asked again but whether the model is there, and other settings are refused.
    endpoint.asked.clear()
    made(documents, tmp_path / "out", f"{endpoint.url}#good")
    assert endpoint.asked == {None: 1}
    assert read_rows(tmp_path / "out/conversations.jsonl") == rows
    for changed in ({"temperature": 0.1}, {"limit": 3}, {"questions": 2}):
        with pytest.raises(UserError, match="was begun with other settings"):
            made(documents, tmp_path / "out", f"{endpoint.url}#good", **changed)


def test_documents_become_questions_to_probe_with(endpoint, documents, tmp_path, capsys):
    endpoint.script = {"Ada": '[{"question": "Where does Ada Holt live?", "answer": "Rome"}]'}
    made(documents, tmp_path / "out", f"{endpoint.url}#good", questions=3, limit=4)
    assert f"4 documents, 3 questions: wrote {tmp_path}/out/questions.jsonl" in capsys.readouterr().out
    asked = probe.given(tmp_path / "out/questions.jsonl")
    assert [(each.question, each.gold) for each in asked] == [
        (f"What is {name} Holt's trade?", "baker") for name in NAMES[1:4]
    ]


def test_mistakes_are_told_in_a_line_and_write_nothing(endpoint, documents, tmp_path, monkeypatch):
    mistakes = {
        "http://127.0.0.1:9/v1#good": "no answer from the model at http://127.0.0.1:9/v1: .*Connection error",
        f"{endpoint.url}#html": "no answer from the model at .*what came is no chat completion",
        endpoint.url: "names no model: write ADDRESS#MODEL",
        str(tmp_path / "run"): "run",
        "": "--writer is missing",
    }
    for writer, told in mistakes.items():
        with pytest.raises(UserError, match=told):
            made(documents, tmp_path / "out", writer)
    with pytest.raises(UserError, match="did you mean school"):
        made("scool", tmp_path / "out", f"{endpoint.url}#good")
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    with pytest.raises(UserError, match=r"refuses the model 'good': .*no such key"):
        made(documents, tmp_path / "out", f"{endpoint.url}#good")
    assert not (tmp_path / "out/settings.json").exists()


def test_nobody_at_the_address_ends_in_one_line(tmp_path):
    arguments = ("--documents=pydoc", "--writer=http://127.0.0.1:9/v1#m", f"--out={tmp_path / 'out'}")
    code, output = run("launch.synthesize", *arguments, log=tmp_path / "log")
    assert code == 2
    assert re.fullmatch(
        r"error: no answer from the model at http://127.0.0.1:9/v1: .*\n", output.rpartition("\r")[2]
    ), output


def test_what_an_endpoint_refuses_is_set_aside(endpoint, tmp_path):
    write = openai_writer(endpoint.url, "m")
    assert write(["a", "b", "silence"]) == ["m: a", "m: b", ""]
    for broken in ("hang up", "500", "503", "429"):
        with pytest.raises(ConnectionError):
            write([broken])
    with pytest.raises(UserError, match="refuses the model 'm'"):
        write(["404"])
    set_aside = SetAside(tmp_path / "set_aside.jsonl")
    prompts = [("1", "a"), ("2", "hang up"), ("3", "400"), ("4", "b")]
    found = written(tmp_path / "written.jsonl", prompts, write, set_aside, batch=4, name="writing")
    assert found == {"1": "m: a", "4": "m: b"}
    assert set_aside.counts == {"the writer failed (ConnectionError)": 1, "the writer failed (ValueError)": 1}


def test_a_run_writes(documents, tmp_path, capsys):
    """An untrained model: nothing that it writes is a conversation, and that is what is told."""
    save_run(tmp_path / "run", ("school",))
    made(documents, tmp_path / "out", str(tmp_path / "run"), max_tokens=8, limit=3)
    shown = capsys.readouterr().out
    assert "3 documents, 0 conversations" in shown
    assert "set aside 3 (3 " in shown
    write, _ = run_writer(tmp_path / "run", 0.0, 4)
    assert write(["a", "b"]) == [*write(["a"]), *write(["b"])]
    with pytest.raises(ValueError, match="shorten it"):
        write(["a", "long " * 300])
    save_run(tmp_path / "base")
    with pytest.raises(UserError, match="base model, which follows no instruction"):
        run_writer(tmp_path / "base", 0.0, 4)


def test_a_model_judges_what_is_probed(endpoint):
    claims = [Claim("Where?", "Elm", answer) for answer in ("elm", "Elm")]
    for model in ("yes", "no"):  # the endpoint writes its own name first
        judge, name = probe.make_judge(f"{endpoint.url}#{model}")
        assert name == f"{model}, temperature 0, at most 256 tokens"
        assert judge(claims) == [model == "yes"] * 2
    assert probe.make_judge("exact")[0](claims) == [False, True]
    assert probe.make_judge("normalised")[0](claims) == [True, True]
