"""Right and wrong answers, by rule and by a model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from data_pipeline.judges import Claim, each, exact, judged_by, normalised


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("Port Elm", "Port Elm", True),
        ("Port Elm", "He was born in port elm.", True),
        ("an architect", "She works as the architect", True),
        ("Port Elm", "Port and Elm", False),
        ("Port Elm", "Elm Port", False),
        ("elm", "helmet", False),
        ("1,000", "It is 1000.", True),
        ("1000", "1,000", True),
        ("3.5", "35", False),
        ("35", "3.5", False),
        ("5", "15", False),
        ("5", "-5", False),
        ("-5", "It is -5.", True),
        ("7", "7.", True),
        ("1,2", "12", False),
        ("O'Neil", "o'neil's", True),
        ("Curaçao", "CURAÇAO", True),
        ("A", "a", True),
        ("A", "b", False),
        ("?", "", False),
        ("waffles", "", False),
        ("waffles", "I don't know.", False),
    ],
)
def test_normalised(gold: str, answer: str, right: bool) -> None:
    assert normalised(Claim("", gold, answer)) is right


@given(gold=st.text(), before=st.sampled_from(["", "It is ", "the "]))
def test_the_right_answer_is_right(gold: str, before: str) -> None:
    assert exact(Claim("", gold, f" {gold}\n"))
    assert normalised(Claim("", gold, gold))


def test_exact_forgives_nothing_else() -> None:
    assert each(exact)([Claim("", "Elm", "elm"), Claim("", "Elm", " Elm")]) == [False, True]


def test_a_model_judges() -> None:
    prompts: list[str] = []

    def write(asked: list[str]) -> list[str]:
        prompts.extend(asked)
        return ["Yes.", "The answer is: NO", "Maybe; I know nothing", ""]

    claims = [Claim("Where?", "Elm", f"answer {number}") for number in range(4)]
    assert judged_by(write)(claims) == [True, False, None, None]
    assert all(part in prompts[1] for part in ("Where?", "Elm", "answer 1"))


def test_a_model_that_refuses_to_judge_is_told_in_a_line() -> None:
    def write(asked: list[str]) -> list[str]:
        raise ValueError("too long")

    with pytest.raises(UserError, match="the judge does not answer: too long"):
        judged_by(write)([Claim("Where?", "Elm", "Elm")])
