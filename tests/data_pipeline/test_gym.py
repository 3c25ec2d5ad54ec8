"""Reasoning-gym's tasks with steps: every step is checked by an evaluator that did not write it."""

import builtins
import re
from collections import Counter
from decimal import Decimal

import pytest

from data_pipeline import gym
from data_pipeline.errors import UserError
from data_pipeline.problems import ProblemsConfig, prepare_problems

COUNT = 60


def test_without_the_package_the_hint_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "reasoning_gym":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install \"trivium\[gym\]\""):
        list(gym.conversations("chain_sum", 3, 0))


@pytest.mark.parametrize(
    ("task", "count", "seed"),
    [
        ("sudoku", 3, 0),
        ("sudoku?difficulty=easy", 3, 0),
        ("chain_sum", -1, 0),
        ("chain_sum", 3, -1),
        ("chain_sum", 3, 2000),
    ],
)
def test_senseless_requests_are_refused_in_one_line(task, count, seed):
    with pytest.raises(UserError) as error:
        list(gym.conversations(task, count, seed))
    assert "\n" not in str(error.value)


class TestWithReasoningGym:
    @pytest.fixture(autouse=True)
    def _needs_reasoning_gym(self):
        pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed: its tasks are not tested")

    @pytest.mark.parametrize("task", gym.STEPS)
    def test_conversations_are_as_many_as_asked_and_no_question_is_shared(self, task):
        one, near = (list(gym.conversations(task, COUNT, seed)) for seed in (0, 1))
        assert one == list(gym.conversations(task, COUNT, 0))
        train = [each for each in one if not each.held_out]
        assert len(train) == COUNT
        asked = {each.turns[0].text for each in one}
        assert len(asked) == len(one)
        assert 0.9 * gym.HELD_OUT < len(one) - COUNT <= gym.HELD_OUT
        held_out = {each.turns[0].text for each in one if each.held_out}
        assert held_out == {each.turns[0].text for each in near if each.held_out}
        assert not held_out & {each.turns[0].text for each in near if not each.held_out}
        assert {each.turns[0].text for each in train} != {each.turns[0].text for each in near if not each.held_out}
        assert [turn.role for each in one for turn in each.turns] == ["user", "assistant"] * len(one)

    def test_settings_and_levels_are_those_of_the_task(self):
        easy = list(gym.conversations("chain_sum?max_terms=2&max_digits=2", COUNT, 0))
        for each in easy:
            expression = re.search(r"(\d+) [+-] (\d+)\D*$", each.turns[0].text)
            assert expression
            assert all(1 <= len(number) <= 2 for number in expression.groups())
            assert each.turns[1].text.count("\n") == 1  # one operation, and the answer
        levels = list(gym.conversations("chain_sum?levels=2", COUNT, 0))
        terms = Counter(1 + each.turns[1].text.count("\n") for each in levels if not each.held_out)
        assert len(terms) > 1
        assert sum(terms.values()) == COUNT
        # Of two-term sums of one digit there are 200: half is held out, and the rest is all that a level can give.
        few = list(gym.conversations("chain_sum?min_digits=1&max_digits=1&max_terms=2", 2_000, 0))
        assert len(few) == len({each.turns[0].text for each in few})
        assert 80 < sum(each.held_out for each in few) <= sum(not each.held_out for each in few) <= 101
        with pytest.raises(UserError, match="has no setting 'terms'"):
            list(gym.conversations("chain_sum?terms=2", COUNT, 0))

    @pytest.mark.parametrize("name", ["spell_backward", "chain_sum?max_terms=2&max_digits=2", "chain_sum?levels=2"])
    def test_no_example_is_what_practice_measures(self, name, tmp_path):
        problems = prepare_problems(ProblemsConfig((f"gym:{name}",), count=1, held_out=gym.HELD_OUT + 50), tmp_path)
        measured = {each.turns[0].text for each in problems.held_out}
        # Of the first level, sums of two digits, there are 200.
        assert len(measured) == gym.HELD_OUT - (150 if "levels" in name else 0)
        assert not measured & {each.turns[0].text for each in gym.conversations(name, 100, 0) if not each.held_out}

    def test_near_seeds_of_reasoning_gym_do_overlap(self):
        # Why seeds are spread: if this fails, the stride is no longer needed.
        import reasoning_gym

        one, two = (reasoning_gym.create_dataset("chain_sum", seed=seed, size=50) for seed in (7, 8))
        assert [one[i + 1]["question"] for i in range(49)] == [two[i]["question"] for i in range(49)]

    @pytest.mark.parametrize("task", ["chain_sum", "decimal_arithmetic"])
    def test_every_operation_is_true_and_the_last_is_the_answer(self, task):
        for each in gym.conversations(task, COUNT, 3):
            *lines, last = each.turns[1].text.split("\n")
            assert lines
            for line in lines:
                left, sign, right, result = re.fullmatch(r"(\S+) ([-+*/]) (\S+) = (\S+)\.", line).groups()
                left, right, result = Decimal(left), Decimal(right), Decimal(result)
                exact = {"+": left + right, "-": left - right, "*": left * right, "/": left / right if right else None}[
                    sign
                ]
                assert result == pytest.approx(exact, rel=Decimal("1e-10"), abs=Decimal("1e-10"))
            answer = last.removeprefix("The answer is ").removesuffix(".")
            expression = each.turns[0].text.split("\n")[-1].split(":")[-1].split("=")[0]
            assert float(answer) == pytest.approx(eval(expression, {"__builtins__": {}}), rel=1e-9, abs=1e-9)

    def test_letters_are_counted_and_words_turned(self):
        for each in gym.conversations("letter_counting", COUNT, 4):
            letter, text = re.search(r'letter "(\w)" appear in the text: "(.*)"', each.turns[0].text).groups()
            assert each.turns[1].text.endswith(f"The answer is {len(re.findall(letter, text.lower()))}.")
        for each in gym.conversations("spell_backward", COUNT, 4):
            word = each.turns[0].text.split()[-1]
            answer = re.search(r"The answer is (\w+)\.$", each.turns[1].text).group(1)
            assert list(answer) == list(reversed(word))
