"""The whole schooling on one page, out of made-up runs: every chapter, its numbers, hostile texts, mistakes, and a browser."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
import test_playground
from hypothesis import given
from hypothesis import strategies as st
from pages import opened
from programs import run

from launch.arena_report import ratings_of
from launch.report_page import figure, number, quoted, table, words
from lm.ratings import Vote

browser = test_playground.browser
EVIL = '</td></table><script>document.title="x"</script><img src=http://evil.example/x onerror=alert(1)> "\'&amp;'
NAMES = ("course", "assistant", "practice", "reward", "rlhf", "arena")
TITLES = ["It reads", "It imitates", "It practises", "It learns taste", "It learns to please", "Who is better?"]


class Reader(HTMLParser):
    """What a browser would see: tags, addresses, tables of texts, headings and links."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.addresses, self.rows, self.headings, self.handlers = [], [], [], [], []
        self.text, self.links, self.ids = "", [], []
        self._into = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.addresses += [attrs[name] for name in ("src", "srcset", "href", "data", "action") if name in attrs]
        self.handlers += [name for name in attrs if name.startswith("on")]
        self.links += [attrs["href"]] if tag == "a" else []
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th", "h1", "h2", "h3", "blockquote"):
            self._into = self.rows[-1] if tag in ("td", "th") else self.headings
            self._into.append("")
        if tag == "br":
            self.handle_data("\n")

    def handle_endtag(self, tag):
        if tag in ("table", "h1", "h2", "h3", "blockquote"):
            self._into = None

    def handle_data(self, data):
        self.text += data
        if self._into is not None:
            self._into[-1] += data

    def row(self, *start):
        """The one row that begins so."""
        (found,) = (row for row in self.rows if [cell.strip() for cell in row[: len(start)]] == list(start))
        return [cell.strip() for cell in found[len(start) :]]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def a_run(folder, data, steps, evaluations, samples=(), **more):
    """A folder as a run leaves it, with 4 sequences of 8 tokens a step; `steps` and `evaluations` give their own numbers."""
    folder.mkdir()
    config = {"steps": 9, "seed": 0, "batch_size": 4, "model": {"context_length": 8}, "data": data}
    (folder / "config.json").write_text(json.dumps(config))
    lines(folder / "metrics.jsonl", [{"step": i, "seconds": 30.0 * i, **row} for i, row in enumerate(steps, 1)])
    lines(folder / "evaluations.jsonl", evaluations)
    lines(folder / "samples.jsonl", samples)
    for name, rows in more.items():
        lines(folder / f"{name}.jsonl", rows)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schooling")
    chance = np.random.default_rng(0)

    def shares(*names):
        return {name: float(chance.random()) for name in names}

    losses = [{"loss": loss} for loss in (7.25, 5.0, 3.125)]
    held_out = [{"step": s, "loss": 4 - s / 2, "bits_per_byte": 2 - s / 4} for s in (1, 3)]
    texts = [{"step": s, "prompt": p, "text": f"{p} at {s} {EVIL}"} for s in (1, 3) for p in ("Who?", EVIL)]
    a_run(folder / "course", {"sources": ["school", EVIL], "packing": "whole"}, losses, held_out, texts)
    recall = [{"frequency": n, "facts": 10 + n, **shares("preferred", "first")} for n in (0, 1, 16)]
    (folder / "course" / "recall.json").write_text(json.dumps(recall))
    (folder / "course" / "command.txt").write_text(f"python -m launch.train --config={EVIL}\n")
    facts = shares("facts.told.right", "facts.told.refused", "facts.unknown.right", "facts.unknown.refused")
    a_run(folder / "assistant", {"sources": ["chats"]}, losses, [{**held_out[1], **facts}], texts)

    measured = ("reward", "right", "calls", "length", "length_max", "sampling_seconds", "verifying_seconds", "loss")
    measures = ("loss", "accuracy", "length", "called", "pass_at_1", "pass_at_2", "problems.sum.right")
    tries = [
        {"step": s, "prompt": EVIL, "text": f"try {i} {EVIL}", "score": float(i < s + 1), "reason": EVIL}
        for s in (0, 3)
        for i in range(5)
    ]
    kept = {"why": "best", "prompt": EVIL, "text": f"rollout {EVIL}", "reward": 0.5, "reason": EVIL, "step": 3}
    a_run(
        folder / "practice",
        {"problems": {"sources": ["countdown"]}, "prompts": 6, "samples": 5},
        [shares(*measured) for _ in range(3)],
        [{"step": s, **shares(*measures)} for s in (0, 3)],
        tries,
        rollouts=[kept],
    )

    pairs = ("loss", "pair_accuracy", "pairs.near.right", "pairs.better_longer.right", "pairs.better_shorter.right")
    jokes = [
        {
            "prompt": f"Joke {i} {EVIL}",
            "responses": [f"a{i}", f"b{i} {EVIL}", f"c{i}"],
            "ranks": [2, 0, 1],
            "held_out": i > 1,
            "gold": [-1.0, 0.25, 2.0],
        }
        for i in range(4)
    ]
    a_run(
        folder / "reward",
        {"sources": ["jokes"]},
        [shares("loss", "pair_accuracy") for _ in range(3)],
        [{"step": s, **shares(*pairs)} for s in (0, 1, 2, 3)],
        rankings=jokes,
    )
    told = [
        {
            "step": s,
            "prompt": EVIL,
            "text": f"joke {s} {i} {EVIL}",
            "reward": 1.0 + i,
            "score": i * (2.0 - s),
            "reason": EVIL,
        }
        for s in (0, 3)
        for i in range(3)
    ]
    a_run(
        folder / "rlhf",
        {"problems": {"sources": ["jokes"]}, "prompts": 7, "samples": 2, "taste": {"models": ["runs/reward"]}},
        [shares("loss", "reward") for _ in range(3)],
        [
            {"step": s, "loss": -g, "gold": g, "reward": r, "kl": s / 2}
            for s, g, r in ((0, 0.5, 0.1), (1, 0.9, 1.3), (3, -2.5, 1.9))
        ],
        told,
    )
    place = folder / "arena" / "some-rule"
    place.mkdir(parents=True)
    votes = [Vote(str(i), "base", EVIL, "right" if i % 3 else "left", 5, 5 + i) for i in range(12)]
    ratings = ratings_of(votes, None, 0)
    (place / "ratings.json").write_text(json.dumps({**ratings, "notes": [EVIL]}))
    (place / "judge.json").write_text(json.dumps({"judge": EVIL}))
    return folder


def lecture(folder, runs, log):
    names = ",".join(str(one) for one in runs)
    return run("launch.lecture", f"--runs={names}", f"--out={folder / 'new' / 'lecture.html'}", log=log)


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    code, output = lecture(folder, [runs / name for name in NAMES], folder / "log")
    assert code == 0, output
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before  # runs are only read
    return folder / "new" / "lecture.html"


@pytest.fixture(scope="module")
def read(page):
    return Reader(page.read_text(encoding="utf-8"))


def records(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_chapter_in_order_each_with_a_link(read):
    assert [heading for heading in read.headings if heading in TITLES] == TITLES
    assert read.links == [f"#chapter-{n}" for n in range(1, 7)] * 2  # the bar, and the table
    assert read.ids == [f"chapter-{n}" for n in range(1, 7)]
    assert read.tags.count("img") == 9  # 2, 1, 1, 2, 1 and 2
    assert read.tags.count("figcaption") == 9


def test_the_first_table_tells_what_went_in_and_came_out(read, runs):
    def chapter(number, name):
        return read.row(f"{TITLES[number]}\n{runs / name}")

    recall = json.loads((runs / "course" / "recall.json").read_text())
    never, often = (f"{100 * recall[at]['preferred']:.0f}%" for at in (0, -1))
    assert chapter(0, "course") == [
        f"school, {EVIL}: 96 tokens",  # 3 steps of 4 sequences of 8
        "training loss 7.25 to 3.12; held-out text 2.500 nats per token, 1.250 bits per byte; "
        f"comparisons that facts win: {often} told 16 times, {never} told 0 times (chance 50%)",
        "3 of 9",
        "1m30s",
    ]
    (answers,) = records(runs / "assistant" / "evaluations.jsonl")
    assert f"facts of unknown people {100 * answers['facts.unknown.right']:.0f}% right" in chapter(1, "assistant")[1]
    before, after = (record["accuracy"] for record in records(runs / "practice" / "evaluations.jsonl"))
    assert chapter(2, "practice")[:2] == [
        "countdown: 6 problems a step, 5 tries at each",
        f"held-out problems right: {100 * before:.1f}% at step 0, {100 * after:.1f}% at step 3",
    ]
    best = sorted(records(runs / "reward" / "evaluations.jsonl"), key=lambda record: record["loss"])[0]
    assert chapter(3, "reward")[:2] == [
        "jokes: 4 rankings",
        f"{100 * best['pair_accuracy']:.1f}% of held-out pairs ordered as the rater did (step {best['step']})",
    ]
    assert chapter(4, "rlhf")[:2] == [
        "jokes: 7 prompts a step, 2 answers to each, scored by runs/reward",
        "reward model +0.10 at first, +1.30 at step 1 (best), +1.90 at the end; "
        "rater's own taste +0.50 at first, +0.90 at step 1 (best), -2.50 at the end",
    ]
    assert chapter(5, "arena")[2:] == ["", ""]
    assert read.row("", f"python -m launch.train --config={EVIL}") == []


def test_chapters_tell_what_the_files_say(read, runs):
    for entry in json.loads((runs / "course" / "recall.json").read_text()):
        told = str(entry["frequency"] or "never")
        assert read.row(told, str(entry["facts"])) == [f"{100 * entry[n]:.1f}%" for n in ("preferred", "first")]
    assert read.row("3", f"Who?Who? at 3 {EVIL}") == []
    assert read.row("Who?") == [f"Who? at {step} {EVIL}" for step in (1, 3)]
    (answers,) = records(runs / "assistant" / "evaluations.jsonl")
    for kind in ("told", "unknown"):
        assert read.row(f"facts: {kind}") == [
            f"{100 * answers[f'facts.{kind}.{m}']:.0f}%" for m in ("right", "refused")
        ]
    assert read.row("step 0: 1 of 5 reached the answer") == ["step 3: 4 of 5 reached the answer"]
    for i in range(5):
        assert read.row(f"try {i} {EVIL}") == [f"try {i} {EVIL}"]


def test_a_ranking_stands_in_the_rater_s_order(read):
    shown = [[cell.strip() for cell in row] for row in read.rows]
    at = shown.index(["place", "answer"])
    assert shown[at + 1 : at + 4] == [
        ["1", f"b2 {EVIL}\nthe rater's own taste: +0.25"],
        ["2", "c2\nthe rater's own taste: +2.00"],
        ["3", "a2\nthe rater's own taste: -1.00"],
    ]
    assert f"Joke 2 {EVIL}" in read.headings


def test_a_reward_model_s_pairs_and_the_most_that_can_be_reached(read, runs):
    best = min(records(runs / "reward" / "evaluations.jsonl"), key=lambda record: record["loss"])
    assert read.row("all pairs") == [f"{100 * best['pair_accuracy']:.1f}%"]
    assert read.row("the better one is the longer") == [f"{100 * best['pairs.better_longer.right']:.1f}%"]
    shares = []
    for row in records(runs / "reward" / "rankings.jsonl"):
        pairs = [(i, j) for i in range(len(row["ranks"])) for j in range(i)] if row["held_out"] else []
        right = [(row["ranks"][i] < row["ranks"][j]) == (row["gold"][i] > row["gold"][j]) for i, j in pairs]
        shares += [sum(right) / len(right)] if pairs else []
    right = sum(shares) / len(shares)
    assert read.row("the rater's own taste, of all pairs") == [f"{100 * right:.1f}%"]


def test_the_text_that_games_the_reward_model(read):
    # At step 3 reward is 1 + i and the taste is -i.
    assert f"joke 3 2 {EVIL}\nreward model +3.00, the rater's own taste -2.00" in read.headings


def test_an_arena_s_ratings_and_intervals(read, runs):
    ratings = json.loads((runs / "arena" / "some-rule" / "ratings.json").read_text())
    for one in ratings["standings"]:
        rating = one["rating"]
        points = [f"{rating['value']:.0f}", f"{rating['low']:.0f} to {rating['high']:.0f}"]
        assert read.row(one["model"], *points)[-5:-1] == [
            str(one[name]) for name in ("wins", "losses", "ties", "both_bad")
        ]
    assert {one["model"]: one["wins"] for one in ratings["standings"]} == {"base": 4, EVIL: 8}
    assert f"Judged by {EVIL}" in read.headings


def test_texts_are_texts_and_nothing_is_fetched(read, page):
    assert set(read.tags) & {"script", "link", "iframe", "object", "embed", "base", "form", "svg"} == set()
    assert read.handlers == []
    assert {address[:22] for address in read.addresses} <= {
        "data:image/png;base64,",
        *(f"#chapter-{n}" for n in range(9)),
    }
    style = page.read_text().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


@given(st.text(), st.text())
def test_any_text_can_be_a_cell_a_quotation_or_a_header(text, other):
    read = Reader(
        table([text, other], [[words(text, other, title=other), number(other)]], stacked=True) + quoted(other)
    )
    below = f"\n{other}" if other else ""
    first, second = read.rows[1]
    assert read.rows[0] == [text, other + "\n"]
    assert (first, second) == (text + below, other + "\n")
    assert read.headings == [other]
    assert set(read.tags) <= {"div", "table", "tr", "th", "td", "span", "br", "blockquote"}


def test_a_picture_says_how_large_it_is(tmp_path):
    from launch.figures import pyplot, save

    plot, _ = pyplot().subplots(figsize=(6.4, 2))
    assert "--width:640px" in figure(save(plot, tmp_path / "a.png"), 'what "it" shows')


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["course", "nowhere"], "nowhere: make it first"),
        (["assistant", "empty"], "holds no run and no arena"),
        (["damaged"], "is damaged"),
        (["new"], "has no steps yet"),
        (["unread"], "is damaged"),
        (["judged"], "is damaged"),
        ([], "--runs is missing"),
    ],
)
def test_mistakes_are_a_line_and_leave_no_page(runs, tmp_path, names, said):
    for name in ("empty", "damaged", "new", "unread", "judged/rule"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "damaged" / "config.json").write_text("{")
    config = (runs / "course" / "config.json").read_text()
    for name in ("new", "unread"):
        (tmp_path / name / "config.json").write_text(config)
    lines(tmp_path / "unread" / "metrics.jsonl", [{"step": 1, "seconds": 1.0, "loss": 1.0}])
    (tmp_path / "unread" / "samples.jsonl").write_text("{oh\n")
    (tmp_path / "judged" / "rule" / "ratings.json").write_text("[")
    folders = [runs / name if (runs / name).exists() else tmp_path / name for name in names]
    code, output = lecture(tmp_path / "out", folders, tmp_path / "log")
    assert code == 2
    (line,) = output.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "out").exists()


def test_some_chapters_make_a_lecture(runs, tmp_path):
    code, output = lecture(tmp_path, [runs / "rlhf", runs / "course"], tmp_path / "log")
    assert code == 0, output
    read = Reader((tmp_path / "new" / "lecture.html").read_text())
    assert [heading for heading in read.headings if heading in TITLES] == ["It learns to please", "It reads"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_and_can_be_read(browser, page, scheme, width):
    size = {"width": width, "height": 800}
    with opened(browser, page.parent.as_uri(), page.name, viewport=size, color_scheme=scheme) as seen:
        assert seen.evaluate("document.documentElement.scrollWidth") == width
        assert seen.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        paper, ink = (seen.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
        lightness = [sum(map(int, colour[4:-1].split(","))) / 765 for colour in (paper, ink)]
        assert (lightness[0] > lightness[1]) == (scheme == "light")
        assert abs(lightness[0] - lightness[1]) > 0.7
        assert seen.title() == "A model's schooling"
        seen.click("nav a:nth-child(3)")
        assert seen.evaluate("document.querySelector('#chapter-3 h2').getBoundingClientRect().top") < 200
