"""Rows become examples, or are set aside with a reason; answers are found in texts."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_pipeline.errors import UserError
from data_pipeline.set_aside import SetAside
from experiments.evaluate import bbh, choice, gsm8k
from experiments.evaluate import math as math_problems
from lm.evaluation.task import Task, check_task, extract, fill, make_example, read_examples, same_answer

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
HALF = "\ud800"


def written(path: Path, rows: list) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def test_fields_are_taken_from_the_row_and_their_text_is_only_text():
    row = {"q": "{x} is {y}", "n": 3, "deep": {"list": ["a", "b"]}}
    assert fill("Q: {q} ({n}) {deep[list][1]} {{q}}", row) == "Q: {x} is {y} (3) b {q}"
    for bad in ("{missing}", "{deep}", "{q.nothing}", "{deep[list][7]}"):
        with pytest.raises(ValueError, match="row without"):
            fill(bad, row)
    with pytest.raises(ValueError, match="surrogate"):
        fill("{q}", {"q": HALF})


@pytest.mark.parametrize(
    ("changes", "text", "answer"),
    [
        ({}, "  Paris \n", "Paris"),
        ({"extract": gsm8k.get_config().extract}, "5 + 7 = 12\n#### 12", "12"),
        ({"extract": gsm8k.get_config().extract}, "about 12", ""),
        ({"extract": gsm8k.NUMBER}, "He pays $1,234.50. So 7 are left.", "7"),
        ({"extract": gsm8k.NUMBER, "take": "first"}, "He pays $1,234.50. So 7 are left.", "1,234.50"),
        ({"extract": gsm8k.NUMBER}, "it is -3.", "-3"),
        ({"extract": "(a)|b"}, "b", ""),
        ({"extract": math_problems.BOXED}, r"so \boxed{1} and \boxed{\frac{\sqrt{3}}{2}}.", r"\frac{\sqrt{3}}{2}"),
    ],
)
def test_an_answer_is_found_in_a_text(changes, text, answer):
    assert extract(Task(**changes), text) == answer


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("18", "18.0", True),
        ("1,000", "1000", True),
        ("18", "19", False),
        ("a", "a", True),
        ("a", "A", False),
        ("", "0", False),
    ],
)
def test_numbers_are_equal_as_numbers(one, other, same):
    assert same_answer(one, other) is same


def test_choices_are_named_by_text_number_or_letter():
    by_number = choice.get_config()
    row = {"question": "2+2?", "choices": ["3", "4", "5"], "answer": 1}
    example = make_example(by_number, "here", row)
    assert (example.prompt, example.choices, example.right, example.answer) == ("2+2?", (" 3", " 4", " 5"), 1, " 4")
    arc = {"question": "?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}
    letters = replace(by_number, choices="choices.text", right="{answerKey}", right_is="letter")
    assert make_example(letters, "", arc).right == 1
    assert make_example(replace(by_number, right_is="text"), "", {**row, "answer": "5"}).right == 2
    for task, bad in [
        (by_number, {**row, "answer": 3}),
        (by_number, {**row, "answer": -1}),
        (letters, {**arc, "answerKey": "C"}),
        (letters, {**arc, "answerKey": "AB"}),
        (replace(by_number, right_is="text"), row | {"answer": "6"}),
    ]:
        with pytest.raises(ValueError, match="none of its choices"):
            make_example(task, "", bad)
    with pytest.raises(ValueError, match="without a list of choices"):
        make_example(by_number, "", {**row, "choices": ["3"]})


def test_bad_rows_are_set_aside_and_counted(tmp_path):
    rows = [{"question": "a", "answer": "b"}, "not json", "[1]", {"question": "a"}, {"question": HALF, "answer": "b"}]
    source = written(
        tmp_path / "rows.jsonl", [*rows, {"question": "c", "answer": "  "}, {"question": "d", "answer": 4}]
    )
    set_aside = SetAside(tmp_path / "aside.jsonl")
    examples = read_examples(Task(source=source), set_aside)
    assert [(one.prompt, one.answer) for one in examples] == [("a", " b"), ("d", " 4")]
    assert set_aside.counts.total() == 5
    reasons = {json.loads(line)["reason"] for line in (tmp_path / "aside.jsonl").read_text().splitlines()}
    assert "row without answer" in reasons
    assert len(reasons) == 5
    with pytest.raises(UserError, match="holds no examples that can be used: set aside 2 rows"):
        read_examples(Task(source=written(tmp_path / "bad.jsonl", ["x", "3"])), SetAside(tmp_path / "more.jsonl"))


def test_a_json_array_is_rows_too(tmp_path):
    items = [{"input": "x", "target": "1"}, {"input": "y", "target": "2"}, 7]
    for name, whole in (("a", items), ("b", {"canary": "no", "examples": items})):
        (tmp_path / f"{name}.json").write_text(json.dumps(whole, indent=1))
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(whole).encode()))
        for ending in ("json", "json.gz"):
            set_aside = SetAside(tmp_path / "aside.jsonl")
            examples = read_examples(replace(bbh.get_config(), source=str(tmp_path / f"{name}.{ending}")), set_aside)
            assert [one.prompt for one in examples] == ["Q: x\nA:", "Q: y\nA:"]
            assert set_aside.counts.total() == 1
    # Lines of JSON in a file that is called .json
    lines = written(tmp_path / "lines.json", [{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}])
    assert len(read_examples(Task(source=lines), SetAside(tmp_path / "aside.jsonl"))) == 2


def test_shots_are_drawn_by_seed_from_the_other_file(tmp_path):
    train = written(tmp_path / "train.jsonl", [{"question": f"q{i}", "answer": f"a{i}"} for i in range(20)])
    test = written(tmp_path / "test.jsonl", [{"question": f"t{i}", "answer": "x"} for i in range(5)])

    def prompts(seed: int) -> list[str]:
        task = Task(source=test, shots_source=train, shots=3, seed=seed, prompt="Q {question}\nA", separator="--")
        return [one.prompt for one in read_examples(task, SetAside(tmp_path / "aside.jsonl"))]

    assert prompts(0) == prompts(0) != prompts(1)
    for number, prompt in enumerate(prompts(0)):
        *shots, asked = prompt.split("--")
        assert asked == f"Q t{number}\nA"
        assert len(set(shots)) == 3
        for shot in shots:
            which = shot.split()[1].removeprefix("q")
            assert shot == f"Q q{which}\nA a{which}"
    with pytest.raises(UserError, match="holds 20 examples: too few for shots=21"):
        read_examples(Task(source=test, shots_source=train, shots=21), SetAside(tmp_path / "aside.jsonl"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"source": ""}, "source is empty"),
        ({"name": "a/b"}, "a file is named after it"),
        ({"kind": "choise"}, "choose one of text, choice, generate"),
        ({"kind": "choice"}, "choices is empty"),
        ({"samples": 0}, "samples=0: must be at least 1"),
        ({"samples": 4}, "are all the same: set temperature"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"shots": 2}, "shots_source must name"),
        ({"shots": 2, "shots_source": "x.jsonl"}, "would be its own solution"),
        ({"extract": "("}, "is no regular expression"),
        ({"prompt": "{"}, "is no template"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_mistakes(changes, told):
    with pytest.raises(UserError, match=told):
        check_task(Task(**{"source": "x.jsonl", **changes}))


@pytest.mark.parametrize(
    ("file", "task", "count", "first"),
    [
        ("gsm8k/test.jsonl.gz", gsm8k.get_config(), 1319, "18"),
        ("gsm8k/test.jsonl.gz", gsm8k.get_config("flexible"), 1319, "18"),
        ("math500/math500_test.json", math_problems.get_config(), 500, r"\left( 3, \frac{\pi}{2} \right)"),
    ],
)
def test_published_files_are_read_whole(tmp_path, file, task, count, first):
    if not (SHARED / file).exists():
        pytest.skip(f"{SHARED / file} is not there: published files are NOT tried")
    set_aside = SetAside(tmp_path / "aside.jsonl")
    examples = read_examples(replace(task, source=str(SHARED / file)), set_aside)
    assert (len(examples), set_aside.counts.total()) == (count, 0)
    assert extract(task, examples[0].answer) == first
