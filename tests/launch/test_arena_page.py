"""People in the arena: votes that are on the disk when they are counted, and the pages in a real browser, by keys alone."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from http.client import HTTPException

import pytest
import test_playground
from arena_server import NASTY, RUNS, played_pairs, serving
from programs import ROOT
from rank_server import ask
from serving import wait_for
from test_playground import contrast, expect

from data_pipeline.conversation import said
from data_pipeline.ranking_rows import read_rankings
from data_pipeline.set_aside import SetAside
from launch.arena_answers import key, seed_of
from launch.arena_people import Ballots
from launch.ranking.record import Record
from launch.serve import listen
from lm.ratings import Vote

browser = test_playground.browser


@pytest.fixture
def out(tmp_path):
    return tmp_path / "votes.jsonl"


def ballots_of(path, pairs, seed=0):
    record = Record(path)
    return Ballots(record, pairs, seed, RUNS), record


def vote_for(ballots, rater, name):
    """A vote for what `name` wrote; returns the ballot's id."""
    state = ballots.state(rater)
    ballots.vote(rater, state["ballot"], "left" if state["left"].startswith(name) else "right")
    return state["ballot"]


def rows_in(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_vote_says_all_that_there_is_to_know(out):
    (pair,) = played_pairs(1)
    ballots, _ = ballots_of(out, [pair], seed=3)
    state = ballots.state("Ada")
    assert not {"base", "assistant"} & {word for name in ("ballot", "rater") for word in str(state[name]).split()}
    after = ballots.vote("Ada", state["ballot"], "left")
    assert (after["ballot"], after["done"], after["total"]) == (None, 1, 1)
    (row,) = rows_in(out)
    sides = (row["left"], row["right"])
    assert after["voted"] == {"outcome": "left", "left": sides[0], "right": sides[1]}
    texts = {pair.left: pair.left_text, pair.right: pair.right_text}
    assert row["responses"] == [texts[name] for name in sides] == [state["left"], state["right"]]
    assert row["runs"] == [RUNS[name] for name in sides]
    assert row["seed"] == seed_of(3, key(pair.problem))
    assert row["rater"] == "Ada"
    assert row["time"].startswith("20")
    lengths = [len(text) for text in row["responses"]]
    assert ballots.votes() == [Vote(key(pair.problem), *sides, "left", *lengths)]
    (ranking,) = read_rankings(str(out), SetAside(out.with_suffix(".aside")))  # a reward model can learn from it
    assert ranking.responses[0] == said("assistant", state["left"])
    assert ranking.ranks == (0, 1)


def test_sides_are_by_chance_and_orders_the_raters_own(out):
    pairs = played_pairs(60)
    ballots, _ = ballots_of(out, pairs)
    seen = {}
    for rater in ("Ada", "Ben"):
        states = []
        while (state := ballots.state(rater))["ballot"]:
            states.append((state["prompt"][0]["text"], state["left"]))
            ballots.vote(rater, state["ballot"], "skip")
        seen[rater] = states
        assert sorted(prompt for prompt, _ in states) == sorted(pair.problem.turns[0].text for pair in pairs)
        assert 15 < sum(left.startswith("base") for _, left in states) < 45
    assert seen["Ada"] != seen["Ben"]
    assert ballots.votes() == []


def test_undo_and_restart_go_on_where_it_was(out):
    ballots, record = ballots_of(out, played_pairs(4))
    first = vote_for(ballots, "Ada", "base")
    second = vote_for(ballots, "Ada", "base")
    vote_for(ballots, "Ben", "assistant")
    assert ballots.undo("Ada", second)["ballot"] == second
    with pytest.raises(Exception, match="not the last thing"):
        ballots.undo("Ada", second)
    with pytest.raises(Exception, match="you have been through this pair"):
        ballots.vote("Ada", first, "tie")
    before = ballots.state("Ada"), ballots.votes()
    assert (before[0]["done"], len(before[1]), ballots.raters()) == (1, 2, 2)
    record.close()
    out.write_bytes(out.read_bytes() + b'{"id": "torn')
    again, _ = ballots_of(out, played_pairs(4))
    assert (again.state("Ada"), again.votes()) == before
    vote_for(again, "Ada", "assistant")  # otherwise this time
    votes = {(vote.left, vote.right, vote.outcome) for vote in again.votes()}
    assert {left if outcome == "left" else right for left, right, outcome in votes} == {"base", "assistant"}


def test_equal_texts_are_not_shown_and_who_has_left_does_not_count(out):
    pairs = played_pairs(3, ("base", "assistant", "practice"))
    pairs[0] = replace(pairs[0], right_text=pairs[0].left_text)
    ballots, record = ballots_of(out, pairs)
    assert ballots.state("Ada")["total"] == 8
    while (state := ballots.state("Ada"))["ballot"]:
        ballots.vote("Ada", state["ballot"], "both_bad")
    record.close()
    runs = {name: RUNS[name] for name in ("base", "assistant")}
    fewer = Ballots(Record(out), [pair for pair in pairs if "practice" not in (pair.left, pair.right)], 0, runs)
    assert {vote.outcome for vote in fewer.votes()} == {"both_bad"}
    assert len(fewer.votes()) == 2


def test_many_at_once_lose_nothing_when_the_server_is_killed(out):
    """Six people vote 20 times each; the server is killed with SIGKILL and started again in the middle."""
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    program = [sys.executable, str(ROOT / "tests/launch/arena_server.py"), str(out), str(port), "20"]
    url = f"http://127.0.0.1:{port}"

    def begin():
        server = subprocess.Popen(program, cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/tests/launch"})
        wait_for(lambda: reached(url) or server.poll() is not None, 60)
        assert server.poll() is None
        return server

    server, told, alive = begin(), [], threading.Event()
    alive.set()

    def person(name):
        state = None
        while state is None or state["ballot"]:
            alive.wait(60)
            with contextlib.suppress(OSError, HTTPException):  # the server is gone for a moment: look again
                _, state = ask(f"{url}/api/state?rater={name}")
                if state["ballot"]:
                    status, _ = ask(f"{url}/api/votes", {"rater": name, "ballot": state["ballot"], "outcome": "tie"})
                    if status == 200:
                        told.append(state["ballot"])

    people = [threading.Thread(target=person, args=(f"Rater{i}",), daemon=True) for i in range(6)]
    for each in people:
        each.start()
    wait_for(lambda: len(told) > 40, 60)
    alive.clear()
    server.send_signal(signal.SIGKILL)
    server.wait()
    server = begin()
    alive.set()
    for each in people:
        each.join(60)
    server.kill()
    server.wait()
    names = [row["id"] for row in rows_in(out)]
    assert set(told) <= set(names)
    assert len(names) == len(set(names)) == 120


def reached(url):
    with contextlib.suppress(OSError):
        return ask(f"{url}/api/state?rater=x")[0] == 200
    return False


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/api/state?rater=", None, 400, "a name has 1 to 60 characters"),
        ("/api/votes", {"rater": "Ada", "ballot": "no", "outcome": "left"}, 409, "you have been through this pair"),
        ("/api/votes", {"rater": "Ada", "ballot": "no", "outcome": "up"}, 400, "outcome"),
        ("/api/votes", {"rater": "Ada"}, 400, "missing"),
        ("/api/undos", {"rater": "Ada", "id": "no"}, 409, "not the last thing you did"),
        ("/api/ratings", None, 400, "there are no votes"),
        ("/no", None, 404, "there is nothing at /no"),
    ],
)
def test_wrong_requests(out, path, body, status, told):
    with serving(out, played_pairs(1)) as (url, _):
        found, answer = ask(url + path, body)
    assert found == status
    assert told in answer["error"]["message"]


@contextlib.contextmanager
def opened(browser, url, query="", **context):
    """The page, open; whatever it asks of another origin, or fails at in silence, fails the test."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}} | context)
    context.set_default_timeout(8000)
    page = context.new_page()
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(f"{url}/{query}")
    yield page
    context.close()
    assert [each for each in asked if not each.startswith((url, "data:"))] == []
    assert failed == []


def count(page, text):
    expect(page.locator("#count")).to_have_text(text)


def test_votes_by_keys_alone_with_names_only_afterwards(browser, out):
    with serving(out, played_pairs(9)) as (url, _), opened(browser, url) as page:
        page.keyboard.type("Ada")  # the field has the focus
        page.keyboard.press("Enter")
        count(page, "0 of 9")
        left = page.locator("#left").inner_text()
        assert page.locator("#said").inner_text() == ""
        keys = ["1", "ArrowLeft", "2", "ArrowRight", "t", "b", "s", "T"]
        for number, pressed in enumerate(keys, 1):
            page.keyboard.press(pressed)
            count(page, f"{number} of 9")
        page.reload()
        count(page, "8 of 9")
        page.keyboard.press("u")
        count(page, "7 of 9")
        expect(page.locator("#said")).to_have_text("Taken back: vote again.")
        page.keyboard.press("2")
        count(page, "8 of 9")
        page.keyboard.press("1")
        expect(page.locator("#end")).to_be_visible()
        rows = [row for row in rows_in(out) if "undo" not in row]
        assert rows[0]["responses"][0] == left
        outcomes = [row.get("outcome", "skip") for row in rows]
        assert outcomes == ["left", "left", "right", "right", "tie", "both_bad", "skip", "tie", "right", "left"]
        last = rows[-1]
        expect(page.locator("#said")).to_have_text(f"You preferred {last['left']} over {last['right']}.")
        page.keyboard.press("u")
        expect(page.locator("#ballot")).to_be_visible()
        page.keyboard.press("s")
        page.get_by_role("link", name="how they stand").click()
        expect(page.locator("tbody tr")).to_have_count(2)
        expect(page.locator("#summary")).to_have_text("7 votes of 1 person on 7 prompts.")
        best = {row["model"]: row for row in ask(f"{url}/api/ratings")[1]["standings"]}
        for name, row in best.items():
            cells = page.locator("tr", has_text=name).locator("td").all_inner_texts()
            assert cells[0].split("\n")[0] == f"{row['rating']['value']:.0f}"
            assert cells[2:4] == [str(row["wins"]), str(row["losses"])]
        page.get_by_role("link", name="Vote").click()
        count(page, "9 of 9")  # still Ada


def test_two_people_at_once_by_buttons(browser, out):
    with serving(out, played_pairs(5)) as (url, ballots):
        with opened(browser, url, "?rater=Ada") as ada, opened(browser, url, "?rater=Ben") as ben:
            for number in range(1, 4):
                for page in (ada, ben):
                    side = "1" if page.locator("#left").inner_text().startswith("base") else "2"
                    page.get_by_role("button", name=f"{side} is better").click()
                    count(page, f"{number} of 5")
            ada.get_by_role("button", name="Undo").click()
            count(ada, "2 of 5")
            count(ben, "3 of 5")
        assert ballots.raters() == 2
        won = [vote.left if vote.outcome == "left" else vote.right for vote in ballots.votes()]
        assert won == ["base"] * 5


def test_what_was_voted_on_elsewhere_is_told_and_gone_on_from(browser, out):
    with serving(out, played_pairs(3)) as (url, _), opened(browser, url, "?rater=Ada") as page:
        count(page, "0 of 3")
        state = ask(f"{url}/api/state?rater=Ada")[1]
        ask(f"{url}/api/votes", {"rater": "Ada", "ballot": state["ballot"], "outcome": "tie"})
        page.keyboard.press("1")
        expect(page.get_by_role("alert")).to_contain_text("you have been through this pair")
        count(page, "1 of 3")
        page.context.set_offline(True)
        page.keyboard.press("1")
        expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        page.context.set_offline(False)
        page.keyboard.press("1")
        count(page, "2 of 3")
        expect(page.locator("#error")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read_and_nothing_is_html(browser, out, scheme):
    pairs = [replace(pair, left_text=NASTY, right_text=NASTY + "!") for pair in played_pairs(2)]
    with serving(out, pairs) as (url, _), opened(browser, url, "?rater=Ada", color_scheme=scheme) as page:
        count(page, "0 of 2")
        assert page.locator("#left").inner_text() in (NASTY, NASTY + "!")
        assert page.locator("img, #answers b").count() == 0
        assert page.evaluate("window.hacked") is None
        page.keyboard.press("1")
        count(page, "1 of 2")
        for width in (320, 390, 1200):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        for selector in ("#said", "#left", ".turn h2", "[data-outcome=left]", "footer kbd", "#count"):
            assert contrast(page, selector) >= 4.5, selector  # WCAG 2.1, 1.4.3
        for control in page.locator("button:visible").all():
            assert control.inner_text().strip()
        page.goto(f"{url}/ratings")
        expect(page.locator("#table")).to_be_visible()
        for width in (320, 390, 1200):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert contrast(page, "td .quiet") >= 4.5
