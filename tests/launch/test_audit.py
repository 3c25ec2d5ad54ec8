"""The gate before practice."""

import json

import pytest
from programs import run

from launch.audit import given_away


def audit(folder, *arguments):
    return run("launch.audit", *arguments, log=folder / "audit.log")


def test_what_is_fit_and_what_is_not(tmp_path):
    code, output = audit(tmp_path, "--problems=school:either,countdown,parity", "--count=40")
    assert code == 0, output
    assert "fit to be practised" in output
    assert [line.split()[3] for line in output.splitlines() if line.startswith(("school", "countdown", "parity"))] == [
        "100.0%"
    ] * 3


def test_a_source_with_a_wrong_answer_and_a_generous_verifier(tmp_path):
    """A choice whose words are in the question is paid for echoing nothing; tests that test nothing pay everything."""
    file = tmp_path / "rows.jsonl"
    rows = [
        {"question": f"Write {i}.", "tests": ["assert True"], "answer": "x = (", "held_out": i > 2} for i in range(5)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, output = audit(tmp_path, f"--problems={file}", "--count=5")
    assert code == 2
    assert "100.0% of its own answers do not score 1" in output
    assert "garbage is paid" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("prompt", "gold", "given"),
    [
        ("What is 3 plus 4? The answer is 7. Say so.", "3 plus 4 is 7, so the answer is 7.", True),
        ("What is 3 plus 4?\n#### 7\nSay so.", "The answer is 7.", True),
        ("Copy: Emily has 7 pears. And?", "Emily has 7 pears.", True),
        ("Is \\boxed{7} right?", "The answer is 7.", True),
        ("Take 7 from 14.", "14 minus 7 is 7, so the answer is 7.", False),
        ("Answer: yes or no. Is it so?", "yes", False),
        ("The answer is 17?", "The answer is 7.", False),
        ("Anything?", "", False),
    ],
)
def test_a_prompt_that_gives_its_answer_away(prompt, gold, given):
    assert given_away(prompt, gold) == given


def test_a_row_with_its_answer_in_the_question_fails(tmp_path):
    file = tmp_path / "rows.jsonl"
    row = {"question": "Which?\nThe answer is B.", "choices": ["it", "that"], "answer": "B"}
    good = {"question": "And now?", "choices": ["it", "that"], "answer": "B", "held_out": True}
    file.write_text(json.dumps(row | {"held_out": False}) + "\n" + json.dumps(good) + "\n")
    code, output = audit(tmp_path, f"--problems={file}", "--floor=1")
    assert code == 2
    assert output.splitlines()[-1].endswith("1 prompts give their answer away")


def test_mistakes(tmp_path):
    for arguments, says in ((), "--problems is missing"), (("--problems=nothing.jsonl",), "no file nothing.jsonl"):
        code, output = audit(tmp_path, *arguments)
        assert code == 2
        assert says in output
        assert "Traceback" not in output
