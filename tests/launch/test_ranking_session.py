"""The session behind the ranking page: what is saved and shown, what is refused, and that nothing acknowledged is ever lost."""

import concurrent.futures
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error

import pytest
from programs import ROOT
from rank_server import FACTS, ask, make_session, played_sampler, prompts, serving
from serving import wait_for

from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.ranking_rows import read_rankings
from data_pipeline.set_aside import SetAside
from launch.ranking.prompts import KINDS, SUBJECTS, instructions_beside, read_prompts, write_session
from launch.ranking.record import Record
from launch.ranking.rollouts import AHEAD, Rollouts
from launch.ranking.session import order_of, ranks_of, shuffled
from launch.server.errors import ApiError

SINGLES = [[0], [1], [2], [3], [4]]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "rankings.jsonl"


@pytest.fixture
def session(out):
    session, rollouts = make_session(out, prompts(3))
    wait_for(lambda: len(rollouts._tasks) == 3)
    yield session
    rollouts.close()


def read(out):
    set_aside = SetAside(out.parent / "aside.jsonl")
    return list(read_rankings(str(out), set_aside)), dict(set_aside.counts)


def rows(out):
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_a_ranking_is_saved_with_all_that_wrote_it(session, out):
    task = session.state("Ada")["task"]
    assert task["prompt"] == [{"role": "user", "text": "Prompt 0"}]
    shown = [response["index"] for response in task["responses"]]
    assert sorted(shown) == [0, 1, 2, 3, 4]
    assert {response["text"] for response in task["responses"]} == {f"Prompt 0: response {i}" for i in range(5)}
    state = session.rank("Ada", task["id"], [[3], [0, 1], [2], [4]])
    assert (state["ranked"], state["skipped"], state["total"]) == (1, 0, 3)
    assert state["task"]["prompt"][0]["text"] == "Prompt 1"
    (row,) = rows(out)
    assert row["prompt"] == "Prompt 0"
    assert row["responses"] == [f"Prompt 0: response {i}" for i in range(5)]
    assert row["ranks"] == [1, 1, 2, 0, 3]
    assert row["tokens"] == [[i, i + 1] for i in range(5)]
    assert [sample for _, sample in row["draws"]] == list(range(5))
    assert row["shown"] == shown
    assert FACTS.items() <= row.items()
    assert (row["rater"], row["task"]) == ("Ada", task["id"])
    (ranking,), aside = read(out)
    assert (ranking.ranks, ranking.rater, aside) == ((1, 1, 2, 0, 3), "Ada", {})


def test_the_file_is_all_that_a_restart_needs(out):
    session, rollouts = make_session(out, prompts(3))
    wait_for(lambda: len(rollouts._tasks) == 3)
    first = session.state("Ada")["task"]
    session.rank("Ada", first["id"], SINGLES)
    second = session.state("Ada")
    session.skip("Ada", second["task"]["id"])
    before = session.state("Ada")
    rollouts.close()
    session._record.close()
    rollouts._record.close()

    def no_more(asked):
        raise AssertionError("what was sampled once is not sampled again")

    again, rollouts = make_session(out, prompts(3), no_more)
    assert again.state("Ada") == before
    undone = again.undo("Ada", before["last"])
    assert (undone["task"], undone["order"]) == (second["task"], None)
    undone = again.undo("Ada", undone["last"])
    assert (undone["task"], undone["order"]) == (first, SINGLES)
    assert undone["last"] is None
    assert [next(iter(row)) for row in rows(out)[1:]] == ["skip", "undo", "undo"]  # nothing was written over
    assert read(out) == ([], {"undone by its rater": 1, "skipped by its rater": 1})
    again.rank("Ada", first["id"], SINGLES[::-1])
    assert [ranking.ranks for ranking in read(out)[0]] == [(4, 3, 2, 1, 0)]
    assert rollouts.failure is None


def test_another_checkpoint_or_seed_makes_other_tasks(tmp_path):
    record = Record(tmp_path / "rollouts.jsonl")
    names = []
    for facts, seed in ((FACTS, 0), (FACTS, 1), (FACTS | {"step": 8}, 0)):
        rollouts = Rollouts(prompts(1), played_sampler, record, facts, seed)
        wait_for(lambda rollouts=rollouts: rollouts.first(())[0])
        names.append(rollouts.first(())[0].id)
    assert len(set(names)) == 3


def test_two_raters_see_the_same_in_orders_of_their_own(session):
    ada, ben = session.state("Ada")["task"], session.state("Ben")["task"]
    assert ada["id"] == ben["id"]
    session.rank("Ada", ada["id"], SINGLES)
    assert session.state("Ben")["task"] == ben  # what others do changes nothing
    task = session._task(ada["id"])
    firsts = [shuffled(task, f"rater {n}")[0] for n in range(2000)]
    for each in range(5):
        assert 330 < firsts.count(each) < 470  # 400 +- 4 standard deviations


def test_saying_it_twice_is_saying_it_once(session, out):
    task = session.state("Ada")["task"]["id"]
    once = session.rank("Ada", task, SINGLES)
    assert session.rank("Ada", task, SINGLES) == once
    with pytest.raises(ApiError, match="undo that first"):
        session.rank("Ada", task, SINGLES[::-1])
    with pytest.raises(ApiError, match="you have ranked this prompt"):
        session.skip("Ada", task)
    other = session.state("Ada")["task"]["id"]
    session.skip("Ada", other)
    session.skip("Ada", other)
    last = session.state("Ada")["last"]
    session.undo("Ada", last)
    with pytest.raises(ApiError, match="not the last thing"):
        session.undo("Ada", last)
    assert len(rows(out)) == 3


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ([[0], [1], [2], [3]], "response 4 has no place"),
        ([], "response 0 has no place"),
        ([*SINGLES, [5]], "there is no response 5"),
        ([*SINGLES, [-1]], "there is no response -1"),
        ([*SINGLES, [2]], "response 2 stands at two places"),
        ([[0, 1, 2, 3, 4]], "all responses have the same place"),
    ],
)
def test_orders_that_are_none(session, out, order, told):
    with pytest.raises(ApiError, match=told):
        session.rank("Ada", session.state("Ada")["task"]["id"], order)
    assert out.read_text() == ""


def test_orders_and_ranks_are_each_others_inverse():
    chance = random.Random(0)
    for _ in range(200):
        ranks = [chance.randrange(4) for _ in range(5)]
        dense = tuple(sorted(set(ranks)).index(rank) for rank in ranks)
        assert ranks_of(order_of(ranks), 5) == dense


def test_names(session):
    assert session.state("  Zoe\u0308 ")["rater"] == "Zoë"  # one letter, however it was typed
    task = session.state("x")["task"]["id"]
    for name in ("Łukasz 漢字 👩‍🔬", "'; drop table", "../../x", "<b>", '"', "a" * 60, "x/undo"):
        if not name.isprintable():  # the joiner in the picture
            with pytest.raises(ApiError):
                session.state(name)
            continue
        session.rank(name, task, SINGLES)
        assert session.state(name)["ranked"] == 1
    for name in ("", "  ", "a" * 61, "a\nb", "\x00", "\u202eevil"):
        with pytest.raises(ApiError, match="a name has 1 to 60 characters"):
            session.state(name)


def test_wrong_requests_are_answered_in_a_line(out):
    with serving(out, prompts(2)) as url:
        wait_for(lambda: ask(f"{url}/api/state?rater=Ada")[1]["task"])
        task = ask(f"{url}/api/state?rater=Ada")[1]["task"]["id"]
        good = {"rater": "Ada", "task": task, "order": SINGLES}
        for body, status, told in (
            (good | {"task": "nonsense"}, 404, "there is no prompt 'nonsense'"),
            (good | {"order": [[0], [1]]}, 400, "response 2 has no place"),
            (good | {"order": "01234"}, 400, "order='01234'"),
            (good | {"order": [["0"]]}, 400, "order[0][0]='0'"),
            (good | {"order": [[0.5]]}, 400, "order[0][0]=0.5"),
            ({"rater": "Ada", "order": SINGLES}, 400, "task is missing"),
            (good | {"ordre": 3}, 400, "unknown parameter ordre"),
            (good | {"rater": "a\nb"}, 400, "a name has"),
            (good | {"rater": "\ud800"}, 400, "half a character"),
            ([good], 400, "must be a JSON object"),
        ):
            code, answer = ask(f"{url}/api/rankings", body)
            assert code == status, body
            assert told in answer["error"]["message"]
            assert "\n" not in answer["error"]["message"]
        assert ask(f"{url}/api/state")[0] == 400
        assert ask(f"{url}/api/state?rater=%00")[0] == 400
        assert ask(f"{url}/session.py")[0] == 404  # the page's files and no others
        assert ask(f"{url}/api/undos", {"rater": "Ada", "id": f"{task}/Ben"})[0] == 409
        assert out.read_text() == ""
        assert ask(f"{url}/api/rankings", good)[0] == 200


def test_a_full_disk_acknowledges_nothing(tmp_path):
    out = tmp_path / "rankings.jsonl"
    out.symlink_to("/dev/full")
    with serving(out, prompts(2)) as url:
        wait_for(lambda: ask(f"{url}/api/state?rater=Ada")[1]["task"])
        before = ask(f"{url}/api/state?rater=Ada")[1]
        for path, body in (("rankings", {"order": SINGLES}), ("skips", {})):
            code, answer = ask(f"{url}/api/{path}", {"rater": "Ada", "task": before["task"]["id"], **body})
            assert code == 507
            assert answer["error"]["message"].startswith("nothing was saved: No space left on device")
        assert ask(f"{url}/api/state?rater=Ada")[1] == before


def test_a_file_that_cannot_grow_keeps_whole_lines(tmp_path, monkeypatch):
    """A disk that fills in the middle of a line: the piece is taken back, and later lines are whole."""
    record = Record(tmp_path / "x.jsonl")
    record.append({"a": 1})
    write = os.write

    def full(descriptor, contents):
        if len(contents) > 5:
            return write(descriptor, contents[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(OSError, match="No space"):
        record.append({"b": 2})
    monkeypatch.undo()
    record.append({"c": 3})
    assert record.rows() == [{"a": 1}, {"c": 3}]


def test_a_torn_line_is_dropped_with_a_note(tmp_path, capfd):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\nnonsense\n{"b": "ha')
    record = Record(path)
    assert record.rows() == [{"a": 1}]
    record.append({"c": 3})
    assert path.read_text() == '{"a": 1}\nnonsense\n{"c": 3}\n'
    told = capfd.readouterr().err
    assert "dropped a last line that was not written whole" in told
    assert "x.jsonl:2 holds no row" in told
    with pytest.raises(UserError, match="another program writes to"):
        Record(path)
    record.close()
    path.write_text('{"a": 1}\n{"b": 2}')  # whole, but for its end
    assert Record(path).rows() == [{"a": 1}, {"b": 2}]


def test_sampling_stays_ahead_and_no_further(tmp_path):
    asked = []

    def sampler(some):
        asked.extend(some)
        return played_sampler(some)

    session, rollouts = make_session(tmp_path / "r.jsonl", prompts(200), sampler)
    wait_for(lambda: len(asked) > AHEAD)
    time.sleep(0.1)
    assert AHEAD < len(asked) <= AHEAD + 4
    for _ in range(10):  # they are there: sampling is ahead
        session.skip("Ada", session.state("Ada")["task"]["id"])
    wait_for(lambda: len(asked) > AHEAD + 8)
    rollouts.close()
    assert len(asked) < AHEAD + 16


def test_while_responses_are_written_one_is_told_to_wait(tmp_path):
    go = threading.Event()

    def slow(asked):
        go.wait(10)
        return played_sampler(asked)

    session, rollouts = make_session(tmp_path / "r.jsonl", prompts(1), slow)
    assert (session.state("Ada")["waiting"], session.state("Ada")["task"]) == (True, None)
    go.set()
    wait_for(lambda: session.state("Ada")["task"])
    rollouts.close()


def test_prompts_with_one_thing_to_say_are_passed_over(tmp_path):
    def sampler(asked):
        return [played_sampler([one], 1 if one[0][-1].text == "Prompt 0" else 3)[0] for one in asked]

    session, rollouts = make_session(tmp_path / "r.jsonl", prompts(2), sampler)
    wait_for(lambda: session.state("Ada")["task"])
    state = session.state("Ada")
    assert (state["task"]["prompt"][0]["text"], len(state["task"]["responses"]), state["total"]) == ("Prompt 1", 3, 1)
    state = session.rank("Ada", state["task"]["id"], [[2], [1], [0]])
    assert (state["task"], state["waiting"]) == (None, False)
    rollouts.close()


def test_a_sampler_that_fails_is_told(tmp_path):
    def broken(asked):
        raise RuntimeError("the model is lost")

    failed = threading.Event()
    _, rollouts = make_session(tmp_path / "r.jsonl", prompts(1), broken)
    rollouts.on_failure = failed.set
    wait_for(lambda: rollouts.failure)
    assert "the model is lost" in str(rollouts.failure)


def test_a_thousand_rankings_and_a_server_that_is_killed(tmp_path):
    """Ten raters, a hundred prompts each, by script; kill -9 in the middle. What was acknowledged is in the file."""
    out, acknowledged, killed = tmp_path / "rankings.jsonl", {}, threading.Event()
    chance = random.Random(1)
    command = [sys.executable, "tests/launch/rank_server.py", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def begin(port):
        process = subprocess.Popen(
            [*command, str(port), "100"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        line = process.stdout.readline()
        assert "ready at" in line
        return process, line.split()[2].rstrip(";")

    process, url = begin(0)
    port = url.rpartition(":")[2]
    wanted = {rater: chance.sample(range(5), 5) for rater in (f"rater {n}" for n in range(10))}

    def persist(path, body=None):
        """As a person does: the same again until it is answered."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                return ask(f"{url}{path}", body)
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise AssertionError("the server never came back")

    def rate(rater):
        order = [[each] for each in wanted[rater]]
        _, state = persist(f"/api/state?rater={rater.replace(' ', '%20')}")
        while state["task"] or state["waiting"]:
            if not state["task"]:
                _, state = persist(f"/api/state?rater={rater.replace(' ', '%20')}")
                continue
            task = state["task"]["id"]
            code, state = persist("/api/rankings", {"rater": rater, "task": task, "order": order})
            assert code == 200, state
            acknowledged[rater, task] = killed.is_set()

    with concurrent.futures.ThreadPoolExecutor(10) as raters:
        work = [raters.submit(rate, rater) for rater in wanted]
        wait_for(lambda: len(acknowledged) > 400 or any(each.done() for each in work), 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed.set()
        before = {key for key, late in acknowledged.items() if not late}
        with out.open("a") as file:
            file.write('{"id": "torn by the kill')
        process, _ = begin(port)
        for each in work:
            each.result(60)
    process.terminate()
    assert process.wait(20) == -signal.SIGTERM or process.returncode == 143
    assert len(acknowledged) == 1000
    assert 400 < len(before) < 1000
    found, aside = read(out)
    assert aside == {}
    assert len(found) == 1000
    saved = {(ranking.rater, ranking.id.partition("/")[0]): ranking.ranks for ranking in found}
    assert saved.keys() == acknowledged.keys()
    for (rater, _), ranks in saved.items():
        assert [ranks.index(place) for place in range(5)] == wanted[rater]


def test_prompts_are_read_once_each(tmp_path):
    text, table = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    text.write_bytes(b"One?\n\n  Two? \nOne?\n\xff\n")
    aside = SetAside(tmp_path / "aside.jsonl")
    assert read_prompts(str(text), aside) == [(said("user", "One?"),), (said("user", "Two?"),)]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"}]
    lines = [{"prompt": "One?"}, {"prompt": messages}, {"prompt": ""}, {"text": "One?"}]
    table.write_text("\n".join(map(json.dumps, lines)))
    assert [len(prompt) for prompt in read_prompts(str(table), aside)] == [1, 2]
    assert dict(aside.counts) == {"invalid UTF-8": 1, "empty turn": 1, "no prompt": 1}
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(UserError, match="holds no prompt"):
        read_prompts(str(tmp_path / "none.txt"), aside)


def test_a_session_is_written_to_begin_with(tmp_path):
    path = tmp_path / "new" / "prompts.jsonl"
    beside = write_session(path, 0)
    read = read_prompts(str(path), SetAside(tmp_path / "aside.jsonl"))
    assert len(read) == len(KINDS) * len(SUBJECTS)
    assert (said("user", "Write a joke about pelicans."),) in read
    beside.write_text("# Mine")
    assert instructions_beside(str(path)) == "# Mine"
    assert instructions_beside(str(tmp_path / "other.txt")).startswith("# Which answer is better?")
    for wrong, told in ((path, "is there already"), (tmp_path / "x.txt", "ends in .jsonl")):
        with pytest.raises(UserError, match=told):
            write_session(wrong, 0)
