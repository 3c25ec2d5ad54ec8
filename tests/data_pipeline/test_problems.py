"""Practice problems: gold answers score 1, other answers what they should, no question in both splits."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import countdown, parity
from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.final_answer import final_answer
from data_pipeline.problem import Response
from data_pipeline.problem_rows import problem_of
from data_pipeline.problems import ProblemsConfig, asked, prepare_problems, told_first
from data_pipeline.rewards import RewardConfig, reward
from data_pipeline.school.world import SchoolConfig
from data_pipeline.verifiers import Choice, CodeTests, GymAnswer, MathAnswer
from data_pipeline.verifying import judge

SCHOOL = SchoolConfig(people=20, arithmetic_documents=50)
GARBAGE = ("", "I don't know.", "=" * 50, "987654321", "98765 " * 30)


def prepare(folder: Path, *sources: str, count: int = 60, held_out: int = 20):
    return prepare_problems(ProblemsConfig(sources, count, held_out, school=SCHOOL), folder / "aside.jsonl")


@pytest.mark.parametrize(
    "source",
    [
        "school:either",
        "school:python",
        "school:answer_first/sum",
        "countdown",
        "parity",
        "gym:chain_sum",
        "gym:letter_counting",
    ],
)
def test_gold_scores_one_garbage_nothing_and_no_question_is_in_both_splits(tmp_path, source):
    sets = prepare(tmp_path, source)
    assert len(sets.train) > 20
    assert len(sets.held_out) >= 10
    train, held_out = ({asked(each) for each in split} for split in (sets.train, sets.held_out))
    assert not train & held_out
    assert len({each.id for each in (*sets.train, *sets.held_out)}) == len(sets.train) + len(sets.held_out)
    for each in (*sets.train[:30], *sets.held_out[:30]):
        assert each.gold is not None
        assert judge(each.verifier, Response(each.gold)).score == 1, each
        for text in GARBAGE:
            # Most of reasoning-gym's tasks pay a little where the right answer stands somewhere in a longer one.
            assert judge(each.verifier, Response(text)).score <= (0.25 if source.startswith("gym:") else 0), (
                each,
                text,
            )
    assert prepare(tmp_path, source) == sets


def test_reasoning_gym_s_near_seeds_would_overlap_and_ours_do_not(tmp_path):
    first = prepare_problems(ProblemsConfig(("gym:countdown",), 50, 20, seed=0), tmp_path / "a")
    second = prepare_problems(ProblemsConfig(("gym:countdown",), 50, 20, seed=1), tmp_path / "a")
    assert len({asked(each) for each in first.train} & {asked(each) for each in second.train}) < 5
    assert first.held_out == second.held_out


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So the answer is 12.", "12"),
        ("12 apples\n#### 1,200", "1,200"),
        (r"Hence \boxed{\frac{1}{2}}, or half.", r"\frac{1}{2}"),
        ("The answer is 3. No: the answer is 4", "4"),
        ("The final answer to the given problem is 10.", "10"),
        ("The answer to the equation 0 + 4 = 4 is 4", "4"),
        ("The answer to this problem: 7", "7"),
        ("I have no answer to that.\nIt is 5", "It is 5"),
        ("first\n\n  last line.  \n", "last line"),
        ("", ""),
    ],
)
def test_what_is_taken_for_the_answer(text, answer):
    assert final_answer(text) == answer


# (right answer, response, whether it is right to a person)
MATH = [
    ("42", "The answer is $42$.", True),
    ("1234", "That makes 1,234 dollars.", True),
    (r"\frac{1}{2}", r"\boxed{0.5}", True),
    ("0.5", r"\boxed{\frac{1}{2}}", True),
    (r"\sqrt{8}", r"\boxed{2\sqrt{2}}", True),
    ("10", r"\boxed{10\text{ cm}}", True),
    ("-3", "x = -3", True),
    ("42", "The answer is $43$.", False),
    ("42", "I do not know.", False),
    ("42", "", False),
    (r"\frac{1}{2}", r"\boxed{\frac{1}{3}}", False),
    ("7", r"\boxed{70}", False),
    ("42", r"First 42, but then \boxed{41}.", False),
]


def test_math_on_answers_labelled_by_hand():
    """False accepts and rejects on tricky answers: none of either on these."""
    pytest.importorskip("math_verify", reason='problems in mathematics need math-verify: pip install "trivium[math]"')
    wrong = [(a, text) for a, text, right in MATH if (judge(MathAnswer(a), Response(text)).score == 1) != right]
    assert wrong == []


CHOICES = ("Paris", "Rome", "A pie")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("B", True),
        ("(B)", True),
        ("The answer is B.", True),
        ("rome", True),
        ("A", False),
        ("A or B", False),
        ("", False),
        ("I would go with B, as it is warm\nThe answer is A", False),
        ("D", False),
    ],
)
def test_multiple_choice(text, right):
    assert judge(Choice("B", CHOICES), Response(text)).score == right


def test_code_runs_in_the_sandbox_against_tests_it_does_not_see():
    verifier = CodeTests(("assert double(2) == 4", "assert double(-1) == -2"))
    good = "Here it is:\n```python\ndef double(x):\n    return 2 * x\n```"
    assert judge(verifier, Response(good)).score == 1
    assert judge(verifier, Response(good.replace("2 * x", "x + 2"))).score == 0.5
    for bad in ("def double(x", "import os\nos._exit(0)", "while True: pass", "print('passed 0')", "raise SystemExit"):
        assert judge(verifier, Response(bad)).score == 0


@given(st.text(alphabet="0123456789+-*/() .abc_", max_size=40))
def test_countdown_agrees_with_python_where_python_has_a_value(text):
    """Reference: Python's own eval of what is certainly nothing but whole numbers and operators."""
    try:
        value, used = countdown.evaluate(text)
    except ValueError:
        return
    assert float(value) == pytest.approx(eval(text, {"__builtins__": {}}))
    assert "".join(map(str, used)) == "".join(filter(str.isdigit, text)) or "0" in text


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("(3 + 4) * 5", 1),
        ("5 * (4 + 3) = 35", 1),
        ("The answer is (3 + 4) * 5 = 35.", 1),
        ("3 + 4 * 5", 0),
        ("35", 0),
        ("7 * 5", 0),
        ("5 * 5 + 5 + 5", 0),
        ("9**9**9**9", 0),
        ("(3 + 4) * 5 / 0", 0),
        ("__import__('os').system('true')", 0),
        ("(" * 90, 0),
        ("", 0),
    ],
)
def test_countdown(text, score):
    assert judge(countdown.Countdown(35, (3, 4, 5)), Response(text)).score == score


def test_parity_by_counting():
    for row in parity.rows(held_out=True, count=50):
        assert int(parity.running(row)[-1]) == row.count("1") % 2
        assert [int(bit) for bit in parity.running(row)] == [row[: i + 1].count("1") % 2 for i in range(len(row))]
    assert not set(parity.rows(held_out=True, count=300)) & set(parity.rows(held_out=False, count=5000))


ROWS = [
    {"question": "1 + 1?", "answer": "two\n#### 2"},
    {"problem": "Half of 1?", "solution": r"It is \boxed{\frac12}."},
    {"question": "Capital of Italy?", "choices": list(CHOICES), "answer": 1},
    {"question": "Capital of Italy, again?", "choices": list(CHOICES), "answer": "Rome"},
    {"question": "Double x.", "tests": ["assert double(1) == 2"], "held_out": True},
    {"question": "And three?", "answer": "3", "held_out": False},
]
BAD = [
    {"answer": "2"},
    {"question": "x", "answer": ""},
    {"question": "x", "choices": ["one"], "answer": 0},
    {"question": "x", "choices": list(CHOICES), "answer": "Berlin"},
    {"question": "x", "tests": []},
    {"question": 5, "answer": "2"},
]


def test_rows_of_files(tmp_path):
    pytest.importorskip("math_verify", reason='problems in mathematics need math-verify: pip install "trivium[math]"')
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS + BAD) + "{broken\n")
    sets = prepare(tmp_path, str(file))
    assert len(sets.train) + len(sets.held_out) == len(ROWS)
    assert asked(sets.held_out[-1]) == "double x."
    kinds = sorted(each.kind for each in (*sets.train, *sets.held_out))
    assert kinds == ["choice", "choice", "code", "math", "math", "math"]
    for each in (*sets.train, *sets.held_out):
        if each.gold:
            assert judge(each.verifier, Response(each.gold)).score == 1
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "aside.jsonl").read_text().splitlines()]
    assert len(reasons) == len(BAD) + 1


def test_a_file_of_its_own_for_what_is_held_out(tmp_path):
    """As GSM8K has a train and a test file: all of each is used, and a question in both is a mistake."""

    def file(name: str, numbers: range) -> str:
        rows = [{"question": f"Name a letter ({i}).", "choices": ["A", "B"], "answer": "B"} for i in numbers]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    sources, secret = (file("train.jsonl", range(80)), "parity"), (file("test.jsonl", range(80, 120)),)
    config = ProblemsConfig(sources, 200, 30, held_out_sources=secret)
    sets = prepare_problems(config, tmp_path / "aside.jsonl")
    assert [each.turns[0].text.split("\n")[0] for each in sets.train[:80]] == [
        f"Name a letter ({i})." for i in range(80)
    ]
    assert [each.kind for each in sets.held_out] == ["choice"] * 30 + ["parity"] * 30
    assert sets.held_out[0].turns[0].text.startswith("Name a letter (80).")
    config.held_out_sources = (file("test.jsonl", range(79, 120)),)
    with pytest.raises(UserError, match="1 questions are both practised and held out, such as 'name a letter"):
        prepare_problems(config, tmp_path / "aside.jsonl")
    (tmp_path / "test.jsonl").write_text('{"question": "?"}\n')
    with pytest.raises(UserError, match=r"test.jsonl has no problem to measure with"):
        prepare_problems(config, tmp_path / "aside.jsonl")


def test_the_two_files_of_gsm8k(tmp_path):
    folder = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"
    if not folder.is_dir():
        pytest.skip(f"GSM8K is not in {folder}")
    pytest.importorskip("math_verify", reason='problems in mathematics need math-verify: pip install "trivium[math]"')
    train, test = ((str(folder / f"{split}.jsonl.gz"),) for split in ("train", "test"))
    config = ProblemsConfig(train, 10_000, 10_000, held_out_sources=test)
    sets = prepare_problems(config, tmp_path / "aside.jsonl")
    assert (len(sets.train), len(sets.held_out)) == (7473, 1319)
    first = sets.held_out[0]
    assert first.turns[0].text.startswith("Janet\u2019s ducks lay 16 eggs per day.")
    assert judge(first.verifier, Response("She makes $18 every day.\nThe answer is 18.")).score == 1
    assert judge(first.verifier, Response("#### 17")).score == 0


@pytest.mark.parametrize("row", BAD, ids=str)
def test_a_row_that_is_no_problem_says_why(row):
    with pytest.raises(ValueError, match=r"no question|no answer|choices|tests"):
        problem_of("here", row)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sources": ()}, "is empty"),
        ({"sources": ("school:nonsense",)}, "choose school:"),
        ({"sources": ("school:either/taxes",)}, "the kinds are"),
        ({"sources": ("gym:no_such_task",)}, "no task"),
        ({"sources": ("missing.jsonl",)}, "no file"),
        ({"count": 0}, "at least 1"),
        ({"seed": 5000}, "from 0 to 1999"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, changes, says):
    config = ProblemsConfig(**{"school": SCHOOL, **changes})
    with pytest.raises(UserError, match=says) as caught:
        prepare_problems(config, tmp_path / "aside")  # which checks the config first
    assert "\n" not in str(caught.value)


def test_a_system_message_stands_before_every_problem_that_has_none(tmp_path):
    told = prepare_problems(ProblemsConfig(("parity",), 20, 10, system="Be brief."), tmp_path / "aside.jsonl")
    bare = prepare(tmp_path, "parity", count=20, held_out=10)
    for with_system, without in ((told.train, bare.train), (told.held_out, bare.held_out)):
        assert [each.turns for each in with_system] == [(said("system", "Be brief."), *each.turns) for each in without]
    assert told_first("Be long.", told.train[0]) == told.train[0]
    assert told.fingerprint != bare.fingerprint


def test_the_same_question_twice_is_in_one_split_only(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [
        {"question": "Which?", "choices": ["a", "b"], "answer": 0, "held_out": True},
        {"question": "which? ", "choices": ["a", "b"], "answer": 0, "held_out": False},
        {"question": "Other?", "choices": ["a", "b"], "answer": 0, "held_out": False},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = prepare(tmp_path, str(file))
    assert [asked(each).startswith("other") for each in sets.train] == [True]


def test_rewards_by_hand():
    config = RewardConfig(broken=0.25, call=0.1, overlong=10)
    assert reward(Response("", tokens=5), 1.0, RewardConfig(), 20) == 1
    assert reward(Response("", tokens=10, calls=2), 1.0, config, 20) == pytest.approx(0.8)
    assert reward(Response("", tokens=15, well_formed=False), 1.0, config, 20) == pytest.approx(1 - 0.25 - 0.5)
    assert reward(Response("", tokens=20), 0.0, config, 20) == -1


def test_a_gym_task_scores_as_reasoning_gym_does(tmp_path):
    import reasoning_gym

    for problem in prepare(tmp_path, "gym:letter_counting").held_out[:5]:
        assert isinstance(problem.verifier, GymAnswer)
        score = reasoning_gym.get_score_answer_fn("letter_counting")
        for text in ("1", "2", problem.verifier.item["answer"]):
            assert judge(problem.verifier, Response(f"The answer is {text}.")).score == score(
                text, problem.verifier.item
            )
