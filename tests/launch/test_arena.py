"""The arena: contenders, judges and votes as functions, then whole arenas over two tiny runs, as a user starts them."""

import json
import math
import re
import signal
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from programs import run, start
from rank_server import ask
from serving import save_run, tokenizer, wait_for

from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.problem import Problem, Verdict
from data_pipeline.ranking import Ranking
from data_pipeline.rankings import tokenize
from data_pipeline.school.questions import Question
from data_pipeline.set_aside import SetAside
from data_pipeline.verifiers import NotJudged, SchoolAnswer
from launch.arena_answers import contenders, key
from launch.arena_judges import Match, answered, asked_of, by_score, make_judge, verdict
from launch.arena_prompts import prompts
from launch.arena_report import ratings_of
from launch.arena_votes import judged, pairs, remarks, votes_of

RULE = "rule:data_pipeline.taste:gold"


NOT_JUDGED = NotJudged()


def problem(number: int, verifier=NOT_JUDGED) -> Problem:
    return Problem(f"p{number}", (said("user", f"Prompt {number}?"),), verifier, "prompt")


def arena(count: int, *names: str):
    """Prompts, and answers of everybody that all differ."""
    problems = [problem(number) for number in range(count)]
    return problems, {
        name: {
            key(each): {"id": key(each), "text": f"{name}{i}" + "x" * (i * ord(name[-1]) % 7)}
            for i, each in enumerate(problems)
        }
        for name in names
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/a", ("a", "runs/a", None, None)),
        ("runs/a@60", ("a@60", "runs/a", 60, None)),
        ("runs/a:int8", ("a-int8", "runs/a", None, "int8")),
        ("early=runs/a@60:int4", ("early", "runs/a", 60, "int4")),
        ("runs/sweep/width=16", None),
        ("w=runs/sweep/width=16", ("w", "runs/sweep/width=16", None, None)),
        ("a@b=runs/x", ("a@b", "runs/x", None, None)),
        ("a b=runs/x", None),
        ("=runs/x", None),
        ("", None),
    ],
)
def test_a_run_and_its_name(text, expected):
    if expected is None:
        with pytest.raises(UserError, match="--runs"):
            contenders([text, "runs/other"])
    else:
        one, _ = contenders([text, "runs/other"])
        assert (one.name, str(one.folder), one.step, one.quantize) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", "left"),
        ("b.", "right"),
        ("**Tie**", "tie"),
        ("[[B]]", "right"),
        ("Answer: A", "left"),
        ("The better answer is B.", "right"),
        ("Answer A is better", "left"),
        ("Both say the same of the sea.\n\nVerdict: tie", "tie"),
        ("A\nIt says more.", "left"),
        ("A\nB", None),
        ("A pelican is a bird", None),
        ("A or B", None),
        ("", None),
    ],
)
def test_what_a_model_decided(text, expected):
    assert verdict(text) == expected


def test_scores_decide_and_each_answer_is_scored_once():
    seen = []

    def score(answers):
        seen.extend((each.id, text) for each, text in answers)
        return [{"nan": math.nan, "none": None}.get(text, len(text)) for _, text in answers]

    judge = by_score(score)
    texts = [("aa", "b"), ("b", "aa"), ("b", "c"), ("nan", "b"), ("b", "none")]
    expected = ["left", "right", "tie", None, None]
    assert judge([Match(problem(0), *each) for each in texts]) == expected
    assert judge([Match(problem(0), *each) for each in texts]) == expected
    assert judge([Match(problem(1), "b", "aa")]) == ["right"]
    assert len(seen) == len(set(seen)) == 7


def test_a_verifier_decides_and_one_that_fails_does_not():
    sum_of = Question("q", (said("user", "2 plus 2?"),), "sum", ("4",), reading="last number")
    good, bad = problem(0, SchoolAnswer(sum_of)), problem(1, Failing())
    matches = [Match(good, "It is 4.", "It is 5."), Match(good, "5", "6"), Match(bad, "a", "b")]
    assert make_judge("verifier")[0](matches) == ["left", "tie", None]


class Failing:
    inline = True

    def __call__(self, response) -> Verdict:
        raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("referee", "choose verifier, people, rule:MODULE:FUNCTION"),
        ("rule:", "choose verifier"),
        ("rule:no.such.module:f", "No module named"),
        ("rule:data_pipeline.taste:silver", "silver"),
        ("rule:data_pipeline.taste:LONG", "LONG is no function"),
        ("rule:data_pipeline.taste", "write rule:MODULE:FUNCTION"),
        ("reward:no/such/run", "holds no run"),
        ("model:http://127.0.0.1:9/v1", "names no model"),
        ("model:no/such/run", "holds no run"),
    ],
)
def test_judges_that_there_are_not(named, told):
    with pytest.raises(UserError, match=told) as caught:
        make_judge(named)
    assert "\n" not in str(caught.value)


def test_a_rule_that_is_no_function_of_prompt_and_text():
    judge, _ = make_judge("rule:math:sqrt")
    with pytest.raises(UserError, match="must be a function of a prompt and a text"):
        judge([Match(problem(0), "a", "b")])


def test_a_model_is_asked_in_words_and_fails_one_by_one():
    asked = []

    def write(written):
        if any("unspeakable" in each for each in written):
            raise ValueError("too long")
        asked.extend(written)
        return ["A" if each.index("good") < each.index("bad") else "B" for each in written]

    judge = asked_of(write)
    matches = [
        Match(problem(0), "good", "bad"),
        Match(problem(0), "bad", "good"),
        Match(problem(0), "unspeakable", "bad"),
    ]
    assert judge(matches) == ["left", "right", None]
    assert "Prompt 0?" in asked[0]


class Endpoint(BaseHTTPRequestHandler):
    """Prefers the answer that says so, and cannot decide where neither does."""

    def do_POST(self):
        prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        places = [prompt.find("good"), prompt.find("bad")]
        text = "Hard to say." if -1 in places else "A" if places[0] < places[1] else "**B**"
        message = {"role": "assistant", "content": text}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
        body = json.dumps(answer | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_model_behind_an_address_judges():
    pytest.importorskip("openai", reason='asking a model over the network needs pip install "trivium[dev]"')
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        judge, who = make_judge(f"model:http://127.0.0.1:{server.server_address[1]}/v1#m")
        matches = [Match(problem(0), *texts) for texts in (("good", "bad"), ("bad", "good"), ("well", "ill"))]
        assert judge(matches) == ["left", "right", None]
        server.shutdown()
    assert who == "m, temperature 0, at most 256 tokens"


def test_a_reward_model_sees_what_it_was_trained_on(tmp_path):
    words = tokenizer(tmp_path)
    turns, text = (said("user", "Tell me."), said("assistant", "No."), said("user", "Do!")), "A pelican."
    ranking = Ranking("r", turns, (said("assistant", text), said("assistant", "")), (0, 1))
    assert answered(words, turns, text) == tokenize(ranking, words).tokens[0].tolist()
    assert answered(words, turns, "") == tokenize(ranking, words).tokens[1].tolist()


def test_a_reward_model_judges(tmp_path, monkeypatch):
    import jax
    import jax.numpy as jnp
    from serving import MODEL

    from launch import arena_judges, reward_models
    from lm.model.transformer import Transformer
    from lm.rl.rewarding import RewardModel

    config = replace(MODEL, scalar_head=True, layers=1)
    words = tokenizer(tmp_path / "tokenizer")
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: Transformer(jax.random.key(0), config))
    model = jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), leaf.dtype), shapes)
    monkeypatch.setattr(arena_judges, "REWARDED", 1)
    monkeypatch.setattr(reward_models, "load_reward_model", lambda folder, mesh: RewardModel(model, 0.5, 2.0))
    score = arena_judges.reward_model(tmp_path)
    texts = ["One answer.", "Another one, longer.", "x " * 400]
    found = score([(problem(0), text) for text in texts])
    assert found[2] is None
    rows = [answered(words, problem(0).turns, text) for text in texts[:2]]
    tokens = jnp.array([row + [0] * (64 - len(row)) for row in rows])  # what follows changes nothing before it
    hidden, _ = jax.jit(type(model).hidden)(model, tokens, jnp.tile(jnp.arange(64), (2, 1)), jnp.ones_like(tokens))
    expected = [float(model.scalars(hidden)[i, len(row) - 1]) for i, row in enumerate(rows)]
    assert found[:2] == pytest.approx([(value - 0.5) / 2 for value in expected], abs=1e-4)


def test_a_judge_that_always_says_left_finds_equals(tmp_path):
    problems, answers = arena(12, "aa", "bb", "cc")
    rows = judged(tmp_path / "votes.jsonl", list(pairs(problems, answers)), lambda matches: ["left"] * len(matches))
    told = ratings_of(votes_of(rows), None, 0)
    assert [one["rating"]["value"] for one in told["standings"]] == pytest.approx([1000] * 3, abs=1e-6)
    assert told["left_advantage"]["low"] > 0.98
    assert (told["votes"], told["prompts"]) == (72, 12)
    assert remarks(rows) == ["36 of 36 pairs were judged otherwise when the answers changed places"]


def test_equal_texts_tie_unseen_and_faults_are_left_out(tmp_path):
    problems, answers = arena(3, "aa", "bb")
    answers["bb"][key(problems[0])]["text"] = answers["aa"][key(problems[0])]["text"]
    answers["bb"][key(problems[1])] = {"id": key(problems[1]), "text": None, "fault": "too long"}
    asked = []

    def judge(matches):
        asked.extend(matches)
        return ["left", "right"]

    rows = judged(tmp_path / "votes.jsonl", list(pairs(problems, answers)), judge)
    assert [row["outcomes"] for row in rows] == [["tie", "tie"], ["left", "right"]]
    assert [(each.left, each.right) for each in asked] == [
        (answers["aa"][key(problems[2])]["text"], answers["bb"][key(problems[2])]["text"]),
        (answers["bb"][key(problems[2])]["text"], answers["aa"][key(problems[2])]["text"]),
    ]
    votes = votes_of(rows)
    assert [(vote.left, vote.right, vote.outcome) for vote in votes[2:]] == [
        ("aa", "bb", "left"),
        ("bb", "aa", "right"),
    ]
    assert votes[3].left_length == len(answers["bb"][key(problems[2])]["text"])


def test_a_judge_that_is_interrupted_goes_on_and_a_new_answer_is_judged_anew(tmp_path):
    problems, answers = arena(30, "aa", "bb")
    calls = []

    def judge(matches):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(len(matches))
        return ["left", "right"] * (len(matches) // 2)

    every = list(pairs(problems, answers))
    with pytest.raises(KeyboardInterrupt):
        judged(tmp_path / "votes.jsonl", every, judge)
    calls.insert(0, 0)  # the second batch is let through now
    assert len(judged(tmp_path / "votes.jsonl", every, judge)) == 30
    assert sum(calls) == 60  # nothing was asked twice
    answers["aa"][key(problems[4])]["text"] = "something else"
    judged(tmp_path / "votes.jsonl", list(pairs(problems, answers)), judge)
    assert sum(calls) == 62


def test_verdicts_that_cannot_be_read_are_told_and_none_at_all_is_a_mistake(tmp_path):
    problems, answers = arena(3, "aa", "bb")
    every = list(pairs(problems, answers))
    rows = judged(tmp_path / "some", every, lambda matches: ["left", None] * 3)
    assert remarks(rows) == ["3 of 6 verdicts could not be read, and are left out"]
    assert len(votes_of(rows)) == 3
    with pytest.raises(UserError, match="the judge gave no verdict on any of 3 pairs"):
        judged(tmp_path / "none", every, lambda matches: [None] * len(matches))


def test_prompts_of_every_kind(tmp_path):
    (tmp_path / "lines.txt").write_text("One?\n\nTwo?\none?\n")
    rows = [{"prompt": "Three?"}, {"messages": [{"role": "user", "content": "x"}]}, {"question": "2+2?", "answer": "4"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    aside = SetAside(tmp_path / "aside.jsonl")

    def read(source, count=10, verified=False):
        return prompts(source, count, aside, verified=verified)

    assert sorted(each.turns[-1].text for each in read(f"{tmp_path}/lines.txt")) == ["One?", "Two?"]
    assert "Three?" in [each.turns[-1].text for each in read(f"{tmp_path}/rows.jsonl")]
    for source in ("school:facts", "school:either/sum", "jokes", "parity"):
        few, more = read(source, 5), read(source, 8)
        assert len(few) == 5
        assert len({key(each) for each in more}) == 8
        assert not isinstance(few[0].verifier, NotJudged)
    assert [each.id for each in read("school:facts", 5)] == [each.id for each in read("school:facts", 8)][:5]
    with pytest.raises(UserError, match="the school has no topic 'fcts'"):
        read("school:fcts")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A base model and an assistant, untrained."""
    folder = tmp_path_factory.mktemp("runs")
    for name, sources in (("base", None), ("assistant", ("school",))):
        (folder / name).mkdir()
        save_run(folder / name, sources)
    return folder


def go(runs, out, *more: str, judge: str = RULE, names: str = "base,assistant", code: int = 0) -> str:
    named = ",".join(name if name.startswith("/") else f"{runs}/{name}" for name in names.split(","))
    arguments = (
        f"--runs={named}",
        "--prompts=jokes",
        "--count=6",
        f"--judge={judge}",
        f"--out={out}",
        "--max_tokens=6",
    )
    found, output = run("launch.arena", *arguments, *more, log=runs / "log")
    assert found == code, output
    assert "Traceback" not in output
    return output


@pytest.fixture(scope="module")
def finished(runs, tmp_path_factory):
    """The folder of an arena that has come to its end, and what it printed."""
    out = tmp_path_factory.mktemp("finished")
    return out, go(runs, out)


def test_a_whole_arena(finished):
    out, output = finished
    folder = out / "rule-data_pipeline.taste-gold"
    for name in ("ratings.png", "wins.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    told = json.loads((folder / "ratings.json").read_text())
    assert {one["model"] for one in told["standings"]} == {"base", "assistant"}
    assert (told["votes"], told["prompts"]) == (12, 6)
    assert re.search(r"^assistant +\d+ ", output, re.M)
    assert "assistant answers: 100%" in output
    assert len(list(out.glob("answers/*/answers.jsonl"))) == 2


def test_another_judge_needs_no_model(runs, finished):
    out, _ = finished
    assert "answers:" not in go(runs, out, judge="verifier")  # of a joke: the same rule, by another way
    told = [json.loads((out / judge / "ratings.json").read_text()) for judge in ("verifier", RULE.replace(":", "-"))]
    assert told[0]["standings"] == told[1]["standings"]


def test_an_arena_that_was_killed_goes_on_with_the_same_answers(runs, finished):
    out, _ = finished
    path = out / "answers" / "assistant" / "answers.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    assert "assistant answers: 100%" in go(runs, out)
    assert path.read_bytes() == whole  # what was missing is written as it was: its seed is the prompt's
    assert "was begun with other settings: seed (0, now 1)" in go(runs, out, "--seed=1", code=2)
    (out / "verifier").mkdir(exist_ok=True)
    (out / "verifier" / "judge.json").write_text('{"judge": "another"}')
    assert "was begun with other settings: judge" in go(runs, out, judge="verifier", code=2)


MISTAKES = [
    (("--runs=",), "--runs is missing"),
    (("--runs=a",), "--runs names 1 run: an arena needs at least two"),
    (("--runs=x/a,y/a",), "two are named a"),
    (("--runs=no/such/a,no/such/b",), "holds no run"),
    (("--prompts=",), "--prompts is missing"),
    (("--prompts=no.jsonl",), "there is no file no.jsonl"),
    (("--prompts=EMPTY",), "holds no prompt"),
    (("--judge=",), "--judge is missing"),
    (("--judge=referee",), "choose verifier, people"),
    (("--judge=rule:nope:f",), "No module named 'nope'"),
    (("--out=",), "--out is missing"),
    (("--anchor=z",), "--anchor=z: choose one of base, assistant"),
    (("--temperature=-1",), "temperature=-1.0"),
    (("--juge=x",), "did you mean --judge?"),
]


@pytest.mark.parametrize(("arguments", "told"), MISTAKES)
def test_mistakes(runs, tmp_path, arguments, told):
    (tmp_path / "empty.txt").write_text("\n")
    arguments = [each.replace("EMPTY", str(tmp_path / "empty.txt")) for each in arguments]
    output = go(runs, tmp_path / "out", *arguments, code=2)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert told in line


def test_a_step_that_is_not_there_and_a_prompt_that_nobody_can_read(runs, tmp_path):
    assert "no checkpoint 7 in" in go(runs, tmp_path / "out", names="base,assistant@7", code=2)
    (tmp_path / "long.txt").write_text("word " * 600 + "\n")
    output = go(runs, tmp_path / "long", f"--prompts={tmp_path / 'long.txt'}", code=2)
    assert "base could not be asked 1 of 1 prompts" in output
    assert "no prompt was answered by two runs" in output


def test_people_vote_and_ctrl_c_tells_the_ratings(runs, tmp_path):
    pytest.importorskip("fastapi", reason='the page needs pip install "trivium[serve]"')
    out = tmp_path / "out"
    arguments = (
        f"--runs={runs}/base,{runs}/assistant",
        "--prompts=jokes",
        "--count=6",
        f"--out={out}",
        "--max_tokens=6",
    )
    program = start("launch.arena", *arguments, "--judge=people", "--port=0", log=tmp_path / "log")
    wait_for(lambda: "ready at" in program.output or program.process.exitcode is not None, 60)
    url = re.search(r"ready at (http://[\d.:]+);", program.output)[1]
    state = ask(f"{url}/api/state?rater=Ada")[1]
    while state["ballot"]:
        _, state = ask(f"{url}/api/votes", {"rater": "Ada", "ballot": state["ballot"], "outcome": "left"})
    assert state["done"] == state["total"] == 6
    program.kill(signal.SIGINT)
    assert program.wait(30) == 130
    assert "6 votes on 6 prompts" in program.output
    assert "Traceback" not in program.output
    rows = [json.loads(line) for line in (out / "people" / "votes.jsonl").read_text().splitlines()]
    assert {tuple(sorted(each["run"] for each in row["runs"])) for row in rows} == {
        (f"{runs}/assistant", f"{runs}/base")
    }
    assert rows[0]["runs"][0]["step"] == 0
    written = [json.loads(line) for path in out.glob("answers/*/answers.jsonl") for line in path.open()]
    assert {(row["seed"], text) for row in rows for text in row["responses"]} == {
        (a["seed"], a["text"]) for a in written
    }
