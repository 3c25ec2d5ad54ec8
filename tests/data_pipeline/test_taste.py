"""The synthetic rater, against its own definition said otherwise, and the jokes that it is told."""

import itertools

import numpy as np
import pytest

from data_pipeline.errors import UserError
from data_pipeline.problem import Response
from data_pipeline.problems import ProblemsConfig, prepare_problems
from data_pipeline.school import jokes, worked_examples
from data_pipeline.school.world import SchoolConfig
from data_pipeline.taste import gold, rank
from data_pipeline.verifying import judge

ASKED = "Tell me a joke about a goose and a baker."
PLAIN = "A goose meets a baker."


def test_what_the_rater_likes_and_what_bores_it():
    plain = gold(ASKED, PLAIN)
    assert plain == 0
    assert gold(ASKED, "A goose meets a baker and eats noodles.") == pytest.approx(1.0)
    assert gold(ASKED, "A goose meets a baker and eats noodles with pickles.") == pytest.approx(1.5)
    assert gold(ASKED, "A goose meets a baker and eats noodles with noodles.") == pytest.approx(0.0)
    assert gold(ASKED, "A goose meets a baker") == plain - 1  # no end
    assert gold(ASKED, "A goose meets a nurse.") == plain - 0.5  # not what was asked
    assert gold(ASKED, "A goose goose meets a baker.") == plain - 1
    assert gold(ASKED, f"A goose meets a baker. {'So they went on. ' * 5}") < plain
    assert gold(ASKED, "") == -4
    gamed = "noodles pickles risotto " * 20
    assert gold(ASKED, f"A goose meets a baker. {gamed}.") < -10


def test_ranks_come_as_often_as_bradley_and_terry_say():
    rng = np.random.default_rng(0)
    liked, noise = [1.0, 0.2, -0.5], 0.7
    drawn = np.array([rank(liked, noise, rng) for _ in range(4000)])
    for i, j in itertools.combinations(range(3), 2):
        expected = 1 / (1 + np.exp(-(liked[i] - liked[j]) / noise))
        assert (drawn[:, i] < drawn[:, j]).mean() == pytest.approx(expected, abs=0.03)
    assert rank([0.0, 2.0, 1.0], 0.0, rng) == [2, 0, 1]


def test_jokes_are_about_what_was_asked_and_nobody_is_asked_twice():
    school = SchoolConfig()
    train, held_out = (jokes.prompts(school, held_out=each) for each in (False, True))
    assert not {(a, o) for _, a, o in train} & {(a, o) for _, a, o in held_out}
    assert len({words for words, _, _ in train + held_out}) == len(train + held_out)
    told = list(jokes.conversations(school))
    assert sum(not each.held_out for each in told) == jokes.TRAIN
    liked = [gold(each.turns[0].text, each.turns[1].text) for each in told]
    assert -0.5 < np.mean(liked) < 0.6
    assert 0.4 < np.std(liked) < 1.2
    assert all("{" not in each.turns[1].text and " a o" not in each.turns[1].text for each in told)
    imitated = {each.turns[0].text for each in told if not each.held_out}
    assert not imitated & {words for words, _, _ in train[jokes.TRAIN :]}
    more = list(worked_examples.conversations(school, "jokes:more"))
    assert {each.turns[0].text for each in more} == {words for words, _, _ in train[jokes.TRAIN : jokes.TRAIN + 1000]}
    assert not any(each.held_out for each in more)
    with pytest.raises(UserError, match="rank them instead"):
        worked_examples.questions(school, "jokes")


def test_requests_for_jokes_are_problems_without_a_right_answer(tmp_path):
    config = ProblemsConfig(sources=("jokes",), count=20, held_out=10)
    sets = prepare_problems(config, tmp_path / "aside.jsonl")
    assert len(sets.train) == 20
    assert len(sets.held_out) == 10
    first = sets.train[0]
    for text in ("A goose.", "noodles " * 40):
        checked = judge(first.verifier, Response(text))
        assert checked.score == gold(first.turns[-1].text, text)
        assert not checked.failed
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(f'{{"prompt": "Say {i}."}}\n' for i in range(60)) + '{"prompt": " "}\n')
    sets = prepare_problems(ProblemsConfig(sources=(f"prompts:{file}",)), tmp_path / "aside.jsonl")
    assert len(sets.train) + len(sets.held_out) == 60
    assert judge(sets.train[0].verifier, Response("x")).score == 0
