"""The files and the line that tell how a run is going."""

import json
import threading

import pytest

from lm.metrics import JsonLines, MetricWriter, announced, duration, read_json_lines, step_line


def test_resuming_cuts_back_to_the_checkpoint_and_drops_a_half_written_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path, last_step=0)
    for step in range(1, 6):
        lines.write({"step": step, "loss": 1 / step})
    lines.close()
    with path.open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    assert [record["step"] for record in read_json_lines(path)] == [1, 2, 3, 4, 5]
    lines = JsonLines(path, last_step=3)
    assert lines.steps == {1, 2, 3}
    lines.write({"step": 4, "loss": 0.5})
    lines.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 0.5},
        {"step": 3, "loss": 1 / 3},
        {"step": 4, "loss": 0.5},
    ]


def test_long_work_is_announced_and_ends_quietly(capsys):
    with announced("compiling"):
        assert capsys.readouterr().out == "compiling ...\n"
    with pytest.raises(ZeroDivisionError), announced("dividing"):
        raise ZeroDivisionError
    assert capsys.readouterr().out == "dividing ...\n"
    assert not [thread for thread in threading.enumerate() if "repeat" in thread.name]


def test_a_missing_file_has_no_records(tmp_path):
    assert read_json_lines(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59, "59s"), (60, "1m00s"), (185, "3m05s"), (7800, "2h10m"), (273_600, "3d04h"), (float("inf"), "?")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_an_evaluation_has_a_line_and_one_for_each_topic(tmp_path, capsys):
    """Everything is in the file; on the terminal, shares that are 0 are left out but for the first of each kind."""
    record = {
        "step": 20,
        "loss": 0.5,
        "bits_per_byte": 1.25,
        "well_formed": 0.97,
        "facts.asked.right": 0.806,
        "facts.asked.refused": 0.0,
        "facts.asked.called": 0.02,
        "facts.told.right": 0.0,
        "facts.told.refused": 0.0,
        "facts.told.called": 0.0,
        "problems:python.sum.right": 1.0,
        "problems:python.sum.refused": 0.0,
        "problems:python.sum.called": 1.0,
    }
    writer = MetricWriter(tmp_path, 0, 100, 0.0)
    writer.evaluation(record, is_best=True)
    writer.close()
    assert capsys.readouterr().out.splitlines() == [
        "  validation at step 20: loss 0.5000, bits_per_byte 1.2500, well_formed 0.9700 (best so far)",
        "  facts: asked 81% right, 2% called; told 0% right",
        "  problems:python: sum 100% right, 100% called",
    ]
    assert read_json_lines(tmp_path / "evaluations.jsonl") == [record]


def test_the_line_of_a_step():
    record = {
        "step": 20,
        "loss": 3.25,
        "gradient_norm": 0.5,
        "learning_rate": 3e-4,
        "tokens_per_second": 12345.6,
        "mfu": 0.414,
    }
    line = step_line(record, 400, 125)
    assert line == "step  20/400 | loss 3.2500 | grad 0.500 | lr 3.00e-04 | 12,346 tok/s | MFU 41.4% | left 2m05s"
    assert step_line({**record, "dollars": 1234.5}, 400, 125).endswith("| $1,234.50")
