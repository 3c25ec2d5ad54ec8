"""The gate before practice."""

import json

from programs import run


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


def test_mistakes(tmp_path):
    for arguments, says in ((), "--problems is missing"), (("--problems=nothing.jsonl",), "no file nothing.jsonl"):
        code, output = audit(tmp_path, *arguments)
        assert code == 2
        assert says in output
        assert "Traceback" not in output
