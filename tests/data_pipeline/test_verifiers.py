"""Verifiers on answers labelled by hand: what a person would call right. False accepts and rejects are counted, and few.

What is judged otherwise than a person would is listed, so that a change in either direction is seen.
"""

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import gym, gym_settings
from data_pipeline.countdown import Countdown
from data_pipeline.errors import UserError
from data_pipeline.gym import SEED_STRIDE
from data_pipeline.problem import Problem, Response
from data_pipeline.problem_rows import problem_of
from data_pipeline.problems import ProblemsConfig, asked, prepare_problems
from data_pipeline.school.questions import Question
from data_pipeline.verifiers import Choice, CodeTests, GymAnswer, MathAnswer, SchoolAnswer
from data_pipeline.verifying import Verifiers, judge

SCHOOL = {
    "13": True,
    "9 plus 4 is 13.": True,
    "She has 13 marbles.": True,
    "It is 1,3": False,
    "13.0": True,
    "The answer is $13.": True,
    "The answer is \\boxed{13}.": True,
    "12 or 13": False,
    "13 or 12": False,
    "13, no, 12": False,
    "She has 13 marbles and 2 boxes.": False,
    "-13": False,
    "1 3": False,
    "thirteen": False,
    "": False,
    "130": False,
    "0.13": False,
    "13 13": True,
}

# Of 2, 3 and 4, to make 20.
COUNTDOWN = {  # of 2, 3 and 4 to make 20
    "4 * (2 + 3)": True,
    "(3+2)*4": True,
    "The answer is (2 + 3) * 4.": True,
    "The answer is (2 + 3) * 4. I checked it.": True,
    "(2 + 3) * 4 = 20": True,
    "20 = 4*(3+2)": True,
    "I try 2*3*4, which is 24.\n(2 + 3) * 4 = 20": True,
    "\\boxed{(2 + 3) \\times 4}": True,
    "$\\boxed{\\left(2 + 3\\right) \\cdot 4}$": True,
    "<answer>4 × (2 + 3)</answer>": True,
    "**Answer:** (2 + 3) * 4": True,
    "-(0 - 2 - 3) * 4": False,  # a number that was not given
    "-(-2 - 3) * 4": True,
    "4 * 2 + 3 * 4": False,  # 20, with a number used twice
    "4 * 5": False,
    "20": False,
    "2 + 3 + 4 = 20": False,
    "(2 + 3) * 4 = 21": False,
    "2 + 3 = 5, 5 * 4 = 20": False,
    "The answer is (2 + 3) * 4 or 2 * 3 * 4": False,
    "(2 + 3) * 4\nThe answer is 2 * 3 * 4.": False,
    "The answer is (2 + 3) * 4.\nThe answer is unknown.": False,
    "": False,
    "I don't know.": False,
    "(2 + 3) * 4)": False,
    "2 3 4": False,
    "(2 + 3)4": False,
    "2 / (3 - 3) * 4": False,
    "4 // 2 + 3": False,
    "(2 + 3) * 4 # yes": False,
    "２ + ３": False,
    "(2 + 3) * 4.0": False,
    "(2_0 + 3 - 3) * 4 / 4": False,
    "(2 + 3) * 4 if True else 0": False,
}

GYM = {
    "12": True,
    "The answer is 12.": True,
    "The answer is 12. Good luck!": True,
    "answer: **12**": True,
    "5 + 7\n= 12\nThe answer is:\n12": True,
    "<answer>12</answer> is it": True,
    "$\\boxed{12}$, as asked.": True,
    "The answer is 11. No: the answer is 12.": True,
    "+12.00": True,
    "The answer is 12. No: the answer is 11.": False,
    "12 it is.\nOr so I think.": False,
    "The answer is 11 or 12.": False,
    "The answer is 12 or 11.": False,
    "12 apples": False,  # known: the task wants its own form
    "I don't know.": False,
    "": False,
}

CHOICE = {
    "B": True,
    "(B)": True,
    "B.": True,
    "The answer is B.": True,
    "The answer is **B**.": True,
    "The answer is (B) Paris.": True,
    "The answer is B. Paris": True,
    "It is not Rome.\n\\boxed{B}": True,
    "Rome is in Italy.\nB": True,
    "paris": True,
    "The answer is Paris.": True,
    "The answer is A. The answer is B.": True,
    "The answer is B. The answer is A.": False,
    "The answer is A or B.": False,
    "The answer is B or A.": False,
    "The answer is B. Rome": False,
    "The answer is not B.": False,
    "The answer is Paris or Rome.": False,
    "b": False,
    "A": False,
    "E": False,
    "Paris is nice.\nI do not know.": False,
    "Capital of France?\nA. Rome\nB. Paris": False,
    "": False,
    "The answer is B because it is in France.": True,
}

CODE = {
    "def double(n):\n    return 2 * n": True,
    "So:\n```python\ndef double(n):\n    return n + n\n```\nDone.": True,
    "```\ndef double(n): return 3 * n\n```\nNo:\n```py\ndef double(n): return 2 * n\n```": True,
    "```python\ndef double(n): return 2 * n": True,
    "```python\ndouble = lambda n: n * 2\nprint(double(2))\n```": True,
    "```\ndef double(n): return 2 * n\n```\nNo:\n```\ndef double(n): return 3 * n\n```": False,
    "def double(n): return 4": False,
    "def double(n):\n    while True: pass": False,
    "raise SystemExit": False,
    "def double(n): return 2 * n\nif False:": False,
    "def double(n): return 2 * n\nx = '''": False,
    "class Any:\n    def __eq__(self, other): return True\ndef double(n): return Any()": False,
    "def double(n): return [0] * 10**10": False,
    "print('passed')": False,
    "The answer is 4.": False,
    "": False,
}

# (right answer, what is written, whether it is right, whether we take it for right where that differs)
MATHS = [
    ("42", "42", True),
    ("42", "She has 42 apples.", True),
    ("42", "The answer is $42.", True),
    ("42", "The answer is \\boxed{42}", True),
    ("42", "\\boxed{42} apples remain, out of 60.", True),
    ("42", "6 * 7 = 42\n#### 42", True),
    ("42", "It is 17.\nThe answer is 42.", True),
    ("42", "The answer is 42.0", True),
    ("42", "**Answer:** 42", True),
    ("42", "The answer is 42. I am sure of it 100%.", True),
    ("42", "The answer is 84/2", True),
    ("42", "The answer is -42", False),
    ("42", "The answer is 17.\nIt might be 42, too", False),
    ("42", "42 is not what I say.\nThe answer is 17.", False),
    ("42", "42\nSo it goes.", False),
    ("42", "The answer is 41 or 42.", False),
    ("42", "The answer is 42 or 41.", False),
    ("42", "The answer is 41 and 42.", False),
    ("42", "\\boxed{41}, \\boxed{42}", True),  # the last one counts
    ("42", "\\boxed{41, 42}", False),
    ("42", "The answer is 17 out of 42.", False),
    ("42", "The answer is 42.0001", False),
    ("42", "The answer is 420", False),
    ("42", "", False),
    ("42", "I don't know.", False),
    ("42", "The answer is forty-two.", True, False),
    ("1200", "The answer is 1,200 dollars.", True),
    ("1,200", "The answer is 1200", True),
    ("1,200", "The answer is 1,200", True),
    ("1200", "The answer is 12,00", False),
    ("1200", "The answer is 1 200", True, False),
    ("1000", "The answer is 1e3", True, False),
    ("1", "The answer is 1 million", False, True),
    ("12.5", "It costs $12.50.", True),
    ("12", "The answer is 12 cm", True),
    ("12 m", "The answer is 12", True),
    ("12 m", "The answer is 12 km", False, True),
    ("12 m", "The answer is 1200 cm", True, False),
    ("50", "The answer is 50%", True),
    ("0.5", "The answer is 50%", True),
    ("90^\\circ", "\\boxed{90}", True),
    ("\\frac{1}{2}", "The answer is 1/2.", True),
    ("\\frac{1}{2}", "The answer is 0.5", True),
    ("\\frac12", "$\\dfrac{1}{2}$", True),
    ("\\frac{1}{2}", "\\boxed{\\frac{2}{4}}", True),
    ("\\frac{1}{2}", "\\boxed{\\frac{1}{3}}", False),
    ("3/4", "The answer is 3/4 of the pizza.", True),
    ("1.5", "The answer is 1 1/2", True, False),
    ("1.5", "\\boxed{1\\frac{1}{2}}", True),
    ("\\frac{1}{3}", "The answer is 0.33", False),
    ("2\\sqrt{3}", "\\boxed{\\sqrt{12}}", True),
    ("2\\sqrt{3}", "\\boxed{3.46}", False),
    ("x+1", "The answer is 1+x", True),
    ("x+1", "The answer is 1-x", False),
    ("(1,2)", "\\boxed{(1, 2)}", True),
    ("(1,2)", "\\boxed{(2, 1)}", False),
    ("\\{1,2\\}", "\\boxed{\\{2,1\\}}", True),
    ("[1,2]", "\\boxed{(1,2)}", False),
    ("5", "\\boxed{x = 5}", True),
    ("\\text{Evelyn}", "\\boxed{Evelyn}", True),
    ("\\text{Evelyn}", "\\boxed{\\text{Briana}}", False),
]


@pytest.fixture(scope="module")
def verifiers():
    made = Verifiers(workers=2, seconds=20)
    yield made
    made.close()


def misjudged(verifiers, verifier, table):
    """(texts that are accepted and wrong, texts that are rejected and right)."""
    found = verifiers.check([(Problem("", (), verifier, ""), Response(text)) for text in table])
    assert not [each for each in found if each.failed]
    rows = [(text, right, each.score == 1) for (text, right), each in zip(table.items(), found, strict=True)]
    return [text for text, right, ours in rows if ours and not right], [
        t for t, right, ours in rows if right and not ours
    ]


def test_school(verifiers):
    question = Question("", (), "", ("13",), reading="last number")
    assert misjudged(verifiers, SchoolAnswer(question), SCHOOL) == (["12 or 13"], [])  # the last number counts


def test_countdown(verifiers):
    assert misjudged(verifiers, Countdown(20, (2, 3, 4)), COUNTDOWN) == ([], ["-(-2 - 3) * 4"])


def test_choice(verifiers):
    verifier = Choice("B", ("Rome", "Paris", "A dog", "none"))
    assert misjudged(verifiers, verifier, CHOICE) == ([], ["The answer is B because it is in France."])
    assert misjudged(verifiers, Choice("C", verifier.choices), {"A dog": True, "The answer is A dog.": True}) == (
        [],
        [],
    )


def test_code(verifiers):
    assert misjudged(verifiers, CodeTests(("assert double(2) == 4", "assert double(-1) == -2")), CODE) == ([], [])


def test_code_that_is_too_long_or_takes_too_long_is_wrong_and_no_failure():
    tests = CodeTests(tuple(f"assert f() == {number}" for number in range(20)))
    start = time.monotonic()
    for text in ("f = lambda: 0\n" + "#" * 20_000, "while True: pass"):
        checked = judge(tests, Response(text))
        assert (checked.score, checked.failed) == (0, False)
    assert time.monotonic() - start < 4  # one test of them


def test_code_starts_one_sandbox_whatever_is_asked(monkeypatch):
    from data_pipeline.tools import python

    started = []
    real = python.python_tool
    monkeypatch.setattr(python, "python_tool", lambda *limits, **more: started.append(1) or real(*limits, **more))
    for number in range(3):
        assert judge(CodeTests((f"assert f() == {number}",)), Response(f"f = lambda: {number}")).score == 1
    assert len(started) <= 1


def test_mathematics(verifiers):
    pytest.importorskip("math_verify", reason="math-verify is not installed: its verifier is not tested")
    accepted, rejected = [], []
    found = verifiers.check([(Problem("", (), MathAnswer(row[0]), ""), Response(row[1])) for row in MATHS])
    for row, checked in zip(MATHS, found, strict=True):
        assert not checked.failed, row
        assert checked.score == row[-1], (row, checked)  # the last: what is known of our judgement
        if checked.score != row[2]:
            (accepted if checked.score else rejected).append(row)
    assert (len(MATHS), len(accepted), len(rejected)) == (61, 2, 5)


def test_mathematics_without_end_is_given_up_and_a_right_answer_that_cannot_be_read_is_a_failure(verifiers):
    pytest.importorskip("math_verify", reason="math-verify is not installed: its verifier is not tested")
    pairs = [("5", "\\boxed{9^{9^{9^{9}}}}"), (" ", "5"), ("5", "5")]
    start = time.monotonic()
    endless, unreadable, right = verifiers.check([(Problem("", (), MathAnswer(a), ""), Response(b)) for a, b in pairs])
    assert time.monotonic() - start < 15
    assert endless.score == 0
    assert unreadable.failed
    assert right.score == 1


@pytest.mark.parametrize(
    ("answer", "gold"),
    [("(1,2)", "(1,2)"), ("so\n#### 1,200", "1200"), ("$\\boxed{\\{1, 2\\}}$.", "\\{2,1\\}"), (7, "7"), ("3.5", "7/2")],
)
def test_right_answers_of_rows_keep_what_they_say(answer, gold, verifiers):
    pytest.importorskip("math_verify", reason="math-verify is not installed: its verifier is not tested")
    problem = problem_of("here", {"question": "?", "answer": answer})
    texts = [problem.gold, f"\\boxed{{{gold}}}", "\\boxed{12}"]
    assert [each.score for each in verifiers.check([(problem, Response(text)) for text in texts])] == [1, 1, 0]


def test_without_math_verify_the_hint_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(UserError, match=r"pip install \"trivium\[math\]\""):
        MathAnswer("4").load()


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9**9",
        "2**3**4**99999",
        "(" * 5000 + "2" + ")" * 5000,
        "-" * 100_000 + "2",
        "2" * 100_000,
        "*".join(["9" * 40] * 400),
        "__import__('pathlib').Path('ran').touch() or 20",
        "(lambda: 20)()",
        "[20][0]",
        "20 if 2 else 3+4",
        "(x := 20)",
        "f'{2+3}'",
        "True",
        "1e400",
        "2\n+3",
        "\0",
        "answer is " * 20_000,
        "answer:" + " " * 100_000,
        "\\boxed{" * 20_000,
        "```\n" * 20_000,
    ],
)
def test_no_text_takes_long_or_is_run_where_verifiers_cannot_be_stopped(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for verifier in (Countdown(20, (2, 3, 4)), Choice("B", ("Rome", "Paris"))):
        start = time.process_time()  # whatever else the machine does
        checked = judge(verifier, Response(text))
        assert (checked.score, checked.failed) == (0, False)
        assert time.process_time() - start < 1
    assert list(tmp_path.iterdir()) == []


@given(st.text("0123456789+-*/()= .,xe_answeris\\boxed{}<>AB\n", max_size=60) | st.text(max_size=40))
def test_whatever_is_written_is_judged(text):
    for verifier in (Countdown(20, (2, 3, 4)), Choice("B", ("Rome", "Paris"))):
        checked = judge(verifier, Response(text))
        assert checked.score in (0, 1)
        assert not checked.failed


class TestGym:
    @pytest.fixture(autouse=True)
    def _needs_reasoning_gym(self):
        pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed: its tasks are not tested")

    def prepared(self, folder, name, count, held_out, seed=0):
        return prepare_problems(ProblemsConfig((f"gym:{name}",), count, held_out, seed), folder / "aside.jsonl")

    def test_tricky_answers(self, verifiers):
        item = {"question": "", "answer": "12", "metadata": {}}
        assert misjudged(verifiers, GymAnswer("chain_sum", item), GYM) == ([], [])

    # With settings, levels, full stops and several lines in answers, partial scores, and a scorer that throws.
    @pytest.mark.parametrize(
        "name",
        [
            "chain_sum?min_terms=2&max_terms=3",
            "basic_arithmetic?levels=3",
            "sentence_reordering",
            "emoji_mystery",
            "mini_sudoku",
            "spell_backward",
            "prime_factorization",
            "syllogism",
            "countdown",
        ],
    )
    def test_the_task_s_own_answers_are_right_bare_in_a_sentence_and_in_a_box(self, name, verifiers, tmp_path):
        sets = self.prepared(tmp_path, name, 15, 5)
        pairs = []
        for each in (*sets.train, *sets.held_out):
            answer = each.verifier.item["answer"]
            sentence = f"The answer is:\n{answer}" if "\n" in answer else f"The answer is {answer}."
            texts = (each.gold, answer, sentence, f"So.\n\\boxed{{{answer}}}\nDone.")
            pairs += [(each, Response(text)) for text in texts]
        found = verifiers.check(pairs)
        assert len(found) == 80
        assert [each for each in found if each.score != 1 or each.failed] == []

    def test_settings_reach_the_task(self, tmp_path):
        for each in self.prepared(tmp_path, "chain_sum?min_terms=3&max_terms=3&min_digits=1&max_digits=2", 40, 5).train:
            expression = each.turns[0].text.partition(": ")[2].removesuffix(" =")
            assert len(expression.split()) == 5
            assert each.gold == f"The answer is {eval(expression)}"

    def test_levels_are_even_and_get_harder(self, tmp_path):
        sets = self.prepared(tmp_path, "chain_sum?levels=3", 60, 30)
        assert [sum(each.level == level for each in sets.train) for level in range(3)] == [20, 20, 20]
        most = [
            max(
                each.turns[0].text.count(" + ") + each.turns[0].text.count(" - ")
                for each in sets.train
                if each.level == level
            )
            for level in range(3)
        ]
        assert most == [1, 2, 3]
        assert {each.level for each in sets.train[:10]} == {0, 1, 2}  # mixed
        assert not {asked(each) for each in sets.train} & {asked(each) for each in sets.held_out}
        assert sets.held_out == self.prepared(tmp_path, "chain_sum?levels=3", 60, 30, seed=1).held_out

    def test_items_of_another_draw_are_not_taken_again(self):
        taken: set[str] = set()
        first = gym.items("chain_sum", 30, SEED_STRIDE, taken, ())
        second = gym.items("chain_sum", 30, SEED_STRIDE, taken, ())
        assert len({item["question"] for item, _ in first + second}) == 60 == len(taken)

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("chain_sums", "did you mean chain_sum?"),
            ("chain_sum?terms=3", "has no setting 'terms'"),
            ("chain_sum?max_terms", "is not SETTING=VALUE"),
            ("chain_sum?min_terms=9&max_terms=3", "refuses"),
            ("chain_sum?levels=0", "levels=0"),
            ("chain_sum?seed=3", "has no setting 'seed'"),
            ("composite", "refuses"),
        ],
    )
    def test_what_does_not_exist_is_told_in_one_line(self, name, says):
        with pytest.raises(UserError) as error:
            gym_settings.parse(name)
        assert says in str(error.value)
        assert "\n" not in str(error.value)

    def test_without_reasoning_gym_the_hint_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "reasoning_gym", None)
        with pytest.raises(UserError, match=r"pip install \"trivium\[gym\]\""):
            gym_settings.parse("chain_sum")
