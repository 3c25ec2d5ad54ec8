"""The token view: every token and id visible and aligned, colours only where wanted, mistakes in one line."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline import protocol
from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.special_tokens import USER_START
from data_pipeline.tokenizer import load_tokenizer, train_tokenizer
from launch.tokenize import columns, counts, read_text, render, visible, wants_color

ROOT = Path(__file__).resolve().parents[2]
TEXT = "Hello hello\n\tif x:  漢字 <|user_start|>\x1b[31m e\u0301\r\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train_tokenizer(["Hello hello world, if x and y: 漢字\n"] * 50, 310, folder / "tokenizer" / "tokenizer.model")
    return folder


@pytest.fixture(scope="module")
def tokenizer(run):
    return load_tokenizer(run / "tokenizer")


def test_every_token_stands_above_its_id(tokenizer):
    ids = tokenizer.encode(TEXT)
    pairs = []
    for row in render(tokenizer, ids, color=False, width=40).split("\n\n"):
        pieces, numbers = row.rstrip("\n").split("\n")
        assert columns(pieces) == columns(numbers) <= 40
        pairs += zip(pieces.split("│"), numbers.split("│"), strict=True)
    shown = [(piece.rstrip(), int(number)) for piece, number in pairs if number]
    assert shown == [(visible(tokenizer.piece(token)), token) for token in ids]


def test_a_newline_ends_the_row(tokenizer):
    rows = render(tokenizer, tokenizer.encode("Hello\nx\n\ny"), color=False, width=80).split("\n\n")
    assert [row.split("\n")[0].rstrip("│ ").endswith("↵") for row in rows] == [True, True, True, False]


def test_colours_alternate_and_special_tokens_stand_out(tokenizer):
    user = tokenizer.special_tokens[USER_START]
    ids = [user, *tokenizer.encode("Hello hello <|user_start|>")]
    colored = render(tokenizer, ids, color=True, width=200)
    pieces = re.findall("\x1b\\[([0-9;]+)m(.*?)\x1b\\[0m", colored.split("\n")[0])
    assert [text.rstrip() for _, text in pieces] == [visible(tokenizer.piece(token)) for token in ids]
    styles = [style for style, _ in pieces]
    assert styles[0] == "1;7"
    assert "1;7" not in styles[1:], "text that looks like a special token must not look like one here"
    assert all(a != b for a, b in itertools.pairwise(styles))


def test_nothing_invisible_reaches_the_terminal():
    assert visible(" \n\t\r\0\x1b") == "·↵→␍␀␛"
    assert visible("a\x7f\x85\u200b\u2028\xa0é漢") == r"a\x7f\x85\u200b\u2028\xa0é漢"
    assert (columns("abc"), columns("漢字"), columns("e\u0301")) == (3, 4, 1)


def test_counts():
    assert counts("é" * 600, range(300)) == "300 tokens, 600 characters, 1,200 bytes, 4.00 bytes per token"
    assert counts("", []) == "0 tokens, 0 characters, 0 bytes"


def test_color_only_in_a_terminal_that_wants_it(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for terminal in (True, False):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        assert (wants_color("auto"), wants_color("always"), wants_color("never")) == (terminal, True, False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert (wants_color("auto"), wants_color("always")) == (False, True)


def test_a_file_is_read_as_it_is(tmp_path):
    (tmp_path / "text").write_bytes(b"a\r\n\xc3\xa9")
    assert read_text(str(tmp_path / "text")) == "a\r\né"
    (tmp_path / "binary").write_bytes(b"ab\xff")
    with pytest.raises(UserError, match="not UTF-8 text: byte 0xff at 2"):
        read_text(str(tmp_path / "binary"))


def launch(*arguments):
    command = [sys.executable, "-m", "launch.tokenize", *arguments]
    environment = os.environ | {"PYTHONUTF8": "1"}
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60, env=environment, check=False
    )


def test_program(run, tokenizer):
    done = launch(f"--workdir={run}", "--text=Hello hello <|user_start|>", "--max_tokens=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout, "no colours into a pipe"
    ids = tokenizer.encode("Hello hello <|user_start|>")
    assert re.findall(r"\d+", done.stdout.splitlines()[1]) == [str(token) for token in ids[:2]]
    assert f"... and {len(ids) - 2} more" in done.stdout
    assert f"{len(ids)} tokens, 26 characters, 26 bytes" in done.stdout


TALK = {"messages": [{"role": "user", "content": "Hello x"}, {"role": "assistant", "content": "world"}]}


def test_a_conversation_with_its_trained_tokens_marked(run, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "one.json").write_text(json.dumps(TALK))
    (tmp_path / "many.jsonl").write_text(
        "\n".join([json.dumps(TALK), '{"text": "x"}', "{", json.dumps(TALK | {"id": "b"})])
    )
    rendered = protocol.render(tokenizer, [said("user", "Hello x"), said("assistant", "world")])
    done = launch(f"--workdir={run}", f"--conversation={tmp_path / 'one.json'}")
    assert (done.returncode, done.stderr) == (0, "")
    legend, counted, pieces, numbers, marks = done.stdout.splitlines()[:5]
    assert "^^^ a token that the model is trained to write" in legend
    assert f"{len(rendered.tokens)} tokens, {sum(rendered.trained)} of them trained" in counted
    assert re.findall(r"\d+", numbers) == [str(token) for token in rendered.tokens]
    starts = [0, *(place.end() for place in re.finditer("│", pieces))][: len(rendered.tokens)]
    assert [marks[start] == "^" for start in starts] == rendered.trained

    done = launch(f"--workdir={run}", f"--conversation={tmp_path / 'many.jsonl'}", "--color=always")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b[1;7m<|end_of_turn|>" in done.stdout
    assert done.stdout.count(f"{len(rendered.tokens)} tokens") == 2
    assert f"{tmp_path / 'many.jsonl'}:2 is no conversation: unknown schema" in done.stdout
    assert "1 rows of" in done.stdout
    done = launch(f"--workdir={run}", f"--conversation={tmp_path / 'many.jsonl'}", "--max_tokens=3")
    assert done.stdout.count("of them trained") == 1
    assert "--max_tokens shows more" in done.stdout

    (tmp_path / "bad.json").write_text("{")
    done = launch(f"--workdir={run}", f"--conversation={tmp_path / 'bad.json'}")
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*bad.json is not JSON: .*\n", done.stderr)


def test_program_without_a_tokenizer_says_how():
    done = launch("--text=hello")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: say which tokenizer: .*--tokenizer=FILE.*--workdir=RUN.*\n", done.stderr)
