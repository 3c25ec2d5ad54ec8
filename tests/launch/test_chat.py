"""launch.chat: what is typed, what is sent, what is shown; with an engine that writes what it is told, and in a real terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from dataclasses import dataclass, field

import pytest
from programs import ROOT, run

from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.protocol import prompt
from data_pipeline.tokenizer import load_tokenizer, train_tokenizer
from launch import chat
from lm.inference.requests import CANCELLED, LENGTH, STOP, Update, Written
from lm.inference.sampling import Sampling

# A barely trained model that, greedily, repeats itself for thousands of tokens: something to interrupt.
ENDLESS = (
    "--config=experiments/pretrain/tiny.py",
    "--config.steps=1",
    "--config.batch_size=1",
    "--config.model.vocab_size=512",
    "--config.model.context_length=4096",
    "--config.model.layers=1",
    "--config.model.width=32",
    "--config.model.heads=2",
    "--config.model.kv_heads=2",
    "--config.model.mlp_width=64",
    "--config.evaluate.batches=1",
    "--config.sample.prompts=()",
    "--config.data.school.people=20",
    "--config.data.school.arithmetic_documents=50",
    "--config.optimizer.warmup_steps=0",
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    arguments = (*ENDLESS, f"--workdir={folder / 'run'}", f"--cache={folder / 'cache'}")
    code, output = run("launch.train", *arguments, log=folder / "log")
    assert code == 0, output
    return folder / "run"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    train_tokenizer(["User: who are you?\nAssistant: a small model\n" * 20], 300, path)
    return load_tokenizer(path)


@dataclass
class Scripted:
    """An engine that writes a text, a few tokens a step; `before_step` is called with what was printed so far."""

    tokenizer: object
    text: str
    reason: str = STOP
    stopped_by: str | None = None
    before_step: object = lambda number: None
    requests: list = field(default_factory=list)
    cancelled: bool = False

    def submit(self, request):
        self.requests.append(request)
        self.left = self.tokenizer.encode(self.text)
        self.number = 0
        return 7

    def cancel(self, ticket):
        assert ticket == 7
        self.cancelled = True

    def step(self):
        self.before_step(self.number)
        self.number += 1
        new, self.left = self.left[:3], self.left[3:]
        if self.cancelled:
            return [Update(7, 0, Written(), CANCELLED)]
        if self.left:
            return [Update(7, 0, drawn(new))]
        return [Update(7, 0, drawn(new), self.reason, self.stopped_by)]


def drawn(tokens: list[int]) -> Written:
    return Written(tokens, drawn=[True] * len(tokens))


def start(engine: Scripted, context: int = 500, **more) -> chat.Chat:
    return chat.Chat(engine, engine.tokenizer, context, 100, 5, Sampling(temperature=0.5), **more)


def test_an_answer_is_printed_as_it_is_written_and_remembered(tokenizer, capsys):
    seen = []
    engine = Scripted(tokenizer, " Hello, ünï☃ you\nUser:", stopped_by="\nUser:")
    engine.before_step = lambda number: seen.append(capsys.readouterr().out)
    talk = start(engine, system="Be kind.")
    chat.answer(talk, "hi")
    seen.append(capsys.readouterr().out)
    assert "".join(seen) == "Hello, ünï☃ you\n"
    assert sum(bool(part.strip()) for part in seen) > 2  # it came in parts
    assert talk.turns == [said("user", "hi"), said("assistant", "Hello, ünï☃ you")]
    chat.answer(talk, "and?")
    first, second = engine.requests
    turns = [said("system", "Be kind."), *talk.turns[:2], said("user", "and?")]
    assert second.prompt == prompt(tokenizer, turns).tokens
    assert (first.seed, second.seed) == (5, 6)
    assert first.sampling == Sampling(temperature=0.5)
    assert first.stop_strings == ("\nUser:",)
    assert first.stop_tokens == (tokenizer.document_start,)


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(tokenizer, capsys):
    engine = Scripted(tokenizer, " one two three four five six seven")
    engine.before_step = lambda number: os.kill(os.getpid(), signal.SIGINT) if number == 2 else None
    talk = start(engine)
    before = signal.getsignal(signal.SIGINT)
    chat.answer(talk, "count")
    assert engine.cancelled
    printed = capsys.readouterr()
    assert "(stopped)" in printed.err
    assert "one two three four five six seven".startswith(talk.turns[1].text.strip())
    assert printed.out == talk.turns[1].text + "\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_turn_without_an_answer_is_forgotten(tokenizer, capsys):
    talk = start(Scripted(tokenizer, "\nUser:", stopped_by="\nUser:"))
    chat.answer(talk, "hi")
    assert talk.turns == []
    assert "(no answer)" in capsys.readouterr().err


def test_an_answer_that_was_cut_says_so(tokenizer, capsys):
    chat.answer(start(Scripted(tokenizer, " on and on", reason=LENGTH)), "hi")
    assert f"(cut after {len(tokenizer.encode(' on and on'))} tokens)" in capsys.readouterr().err


def test_when_the_context_is_full_the_oldest_turns_are_left_out_aloud(tokenizer, capsys):
    talk = start(Scripted(tokenizer, " a small model"), context=120)
    told = []
    for number in range(8):
        chat.answer(talk, f"who are you, number {number}?")
        told.append("oldest turns are left out" in capsys.readouterr().err)
        request = talk.engine.requests[-1]
        assert len(request.prompt) + 120 // 4 <= 120
    assert told[0] is False
    assert True in told
    assert talk.turns[-2].text == "who are you, number 7?"
    assert talk.turns[0].role == "user"
    # As many turns as fit are kept: with one exchange more there would be no room.
    longer = [said("user", "who are you, number 0?"), said("assistant", "a small model"), *talk.turns[:-1]]
    assert len(prompt(tokenizer, longer).tokens) + 120 // 4 > 120


def test_a_message_that_cannot_fit_is_refused_and_the_conversation_goes_on(tokenizer):
    talk = start(Scripted(tokenizer, " a small model"), context=120)
    chat.answer(talk, "hi")
    before = list(talk.turns)
    with pytest.raises(UserError, match=r"the message has \d+ tokens; with 30 for an answer they must fit"):
        chat.answer(talk, "word " * 200)
    assert talk.turns == before
    talk.system = "word " * 200
    with pytest.raises(UserError, match="the message and the system prompt have"):
        chat.answer(talk, "hi")


def test_tokens_are_shown_when_asked_for(tokenizer, capsys):
    talk = start(Scripted(tokenizer, " a small model"))
    assert chat.obey(talk, "/tokens")
    capsys.readouterr()
    chat.answer(talk, "hi")
    printed = capsys.readouterr()
    assert "<|document_start|>" in printed.out
    written = tokenizer.encode(" a small model")
    numbers = [int(number) for number in re.findall(r"\b\d+\b", printed.out)]
    assert numbers == [*talk.engine.requests[0].prompt, *written]
    assert f"({len(talk.engine.requests[0].prompt)} tokens read, {len(written)} written)" in printed.err


def test_commands(tokenizer, capsys):
    talk = start(Scripted(tokenizer, " a small model"))
    assert chat.obey(talk, "/system  You are kind.  ")
    assert talk.system == "You are kind."
    assert chat.obey(talk, "/system")
    assert talk.system == ""
    assert chat.obey(talk, "/temperature 1.5")
    assert chat.obey(talk, "/top_p 0.5")
    assert talk.sampling == Sampling(temperature=1.5, top_p=0.5)
    chat.answer(talk, "hi")
    assert chat.obey(talk, "/reset")
    assert talk.turns == []
    assert chat.obey(talk, "/help")
    printed = capsys.readouterr().out
    for command in ("/system", "/temperature", "/top_p", "/tokens", "/reset", "/help", "/quit"):
        assert command in printed
    assert not chat.obey(talk, "/quit")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/temprature 1", "no command /temprature: did you mean /temperature?"),
        ("/zzz", "no command /zzz (/help lists them)"),
        ("/temperature", "write a number, such as /temperature 0.9"),
        ("/temperature hot", "/temperature hot: write a number"),
        ("/temperature -1", "temperature=-1.0: must be"),
        ("/temperature nan", "must be"),
        ("/top_p 0", "top_p=0.0: must be above 0"),
    ],
)
def test_commands_that_cannot_be_done(tokenizer, line, told):
    talk = start(Scripted(tokenizer, ""))
    with pytest.raises(UserError, match=re.escape(told)):
        chat.obey(talk, line)
    assert talk.sampling == Sampling(temperature=0.5)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["hi"], [("hi", False)]),
        (["", "  ", "hi"], [("hi", False)]),
        (["one\\", "two\\", "three", "four"], [("one\ntwo\nthree", False), ("four", False)]),
        (['"""one', "", 'two"""', "three"], [("one\n\ntwo", False), ("three", False)]),
        (['"""', "one", '"""'], [("\none\n", False)]),
        (['"""one"""'], [("one", False)]),
        (['"""one', "never closed"], [("one\nnever closed", False)]),
        (["ends in\\"], [("ends in\\", False)]),
        (["/help"], [("/help", True)]),
        (['"""/help"""'], [("/help", False)]),
    ],
)
def test_what_is_typed(monkeypatch, typed, read):
    lines = iter(typed)

    def enter(shown: str) -> str:
        assert shown == ""  # nobody is there to see a prompt
        line = next(lines, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", enter)
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: PTH123, SIM115
    assert list(chat.messages()) == read


def test_a_terminal_is_not_commanded_by_what_a_model_writes(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert chat.printable("a\x1b[2Jb\rc\n\tü\u202e") == "a␛[2Jb␍c\n\tü\\u202e"
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert chat.printable("a\x1b[2J") == "a\x1b[2J"


def command(workdir, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "launch.chat", f"--workdir={workdir}", "--temperature=0", *arguments]


def pipe(typed: bytes, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, input=typed, capture_output=True, cwd=ROOT, timeout=100, check=False)


def test_piped_messages_are_answered_on_stdout_alone(workdir):
    done = pipe(b"hi\n/tokens\n/tokens\nhi\n", *command(workdir, "--tokens=8"))
    errors = done.stderr.decode()
    assert done.returncode == 0, errors
    assert "at step 1: a base model" in errors
    one, two, end = done.stdout.decode().split("\n")
    assert (bool(one), bool(two), end) == (True, True, "")


@pytest.mark.parametrize(
    ("typed", "told"),
    [(b"/temperature x\nhi\n", "/temperature x: write a number"), (b"caf\xe9\nhi\n", "the text is not valid Unicode")],
)
def test_a_mistake_in_a_pipe_ends_the_program(workdir, typed, told):
    done = pipe(typed, *command(workdir))
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.decode().splitlines()[-1].startswith(f"error: {told}")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--workdir is missing"),
        (("--workdir=/nowhere/at/all",), "/nowhere/at/all holds no run"),
        (("--workdir=RUN", "--step=77"), "77"),
        (("--workdir=RUN", "--temperature=-1"), "temperature=-1.0: must be"),
        (("--workdir=RUN", "--top_p=2"), "top_p=2.0: must be"),
        (("--workdir=RUN", "--tokens=0"), "--tokens"),
        (("--workdir=RUN", "--sytem=x"), "did you mean --system?"),
    ],
)
def test_mistakes(workdir, tmp_path, arguments, told):
    given = [argument.replace("RUN", str(workdir)) for argument in arguments]
    code, output = run("launch.chat", *given, log=tmp_path / "log")
    assert code == 2, output
    assert output.startswith("error: ")
    assert told in output
    assert output.count("\n") == 1


def _take_the_terminal() -> None:
    """So that Ctrl-C is a signal to it, even where the tests were started in the background, which ignores it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, arguments: list[str]):
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            arguments,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=_take_the_terminal,  # noqa: PLW1509
        )
        os.close(theirs)
        self.shown = ""
        self.at = 0

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def read(self, timeout: float) -> bool:
        """Take in what it shows; False when that is nothing for so many seconds, or when it has ended."""
        if not select.select([self.ours], [], [], timeout)[0]:
            return False
        try:
            self.shown += os.read(self.ours, 4096).decode(errors="replace")
        except OSError:  # EIO: it ended
            return False
        return True

    def wait_for(self, text: str) -> str:
        """Everything that is shown up to this text, since the last that was waited for."""
        while (found := self.shown.find(text, self.at)) < 0:
            assert self.read(60), f"never showed {text!r}:\n{self.shown}"
        before, self.at = self.shown[self.at : found], found + len(text)
        return before

    def wait_for_more(self) -> None:
        """Anything since the last that was waited for."""
        while not self.shown[self.at :].strip():
            assert self.read(60), f"showed nothing more:\n{self.shown}"


def test_in_a_terminal(workdir):
    terminal = Terminal(command(workdir, "--tokens=4000"))
    try:
        terminal.wait_for("> ")
        for _ in range(60):  # Ctrl-C while nothing is written
            if "(Ctrl-D ends)" in terminal.shown:
                break
            terminal.type("\x03")
            terminal.read(1)
        terminal.type("talk \\\r")
        terminal.wait_for("... ")
        terminal.type("to me\r")
        terminal.wait_for("to me\r\n")
        terminal.wait_for_more()  # the first of the answer
        terminal.type("\x03")
        assert len(terminal.wait_for("(stopped)")) < 3000
        terminal.wait_for("> ")
        terminal.type("/tokens\r")
        terminal.wait_for("(tokens are shown)")
        terminal.type("/reset\r")
        terminal.wait_for("forgotten")
        terminal.wait_for("> ")
        terminal.type('"""again\rand again"""\r')
        terminal.wait_for('and again"""\r\n')
        terminal.wait_for_more()
        terminal.type("\x03")
        assert "\x1b[30;48;5;" in terminal.wait_for("tokens read")  # in colours
        terminal.wait_for("> ")
        terminal.type("\x04")  # Ctrl-D
        assert terminal.process.wait(20) == 0
    finally:
        terminal.process.kill()
        os.close(terminal.ours)
