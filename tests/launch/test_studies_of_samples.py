"""launch.agreement and launch.in_context: what they count, and from a run to the table, the figure and the CSV."""

import csv

import pytest
from programs import run

from data_pipeline.school.dictionaries import TRANSLATIONS
from launch.agreement import agreement, correct

SIZES = [
    f"--config.model.{name}={value}" for name, value in {"layers": 1, "width": 16, "heads": 1, "kv_heads": 1}.items()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs that have hardly begun to learn."""
    folder = tmp_path_factory.mktemp("studies")
    for name, values in {
        "school": [
            "--config.data.school.people=10",
            "--config.data.school.arithmetic_documents=10",
            "--config.data.school.frequencies=(2,)",
            "--config.model.vocab_size=512",
            "--config.model.context_length=64",
        ],
        "dictionaries": ["--config.data.sources=dictionaries"],
    }.items():
        file = {"school": "agreement", "dictionaries": "in_context"}[name]
        code, output = run(
            "launch.train",
            f"--config=experiments/pretrain/{file}.py",
            f"--workdir={folder / name}",
            f"--cache={folder / 'cache'}",
            *SIZES,
            *values,
            "--config.steps=4",
            "--config.batch_size=2",
            "--config.optimizer.warmup_steps=1",
            "--config.evaluate.every=0",
            "--config.evaluate.batches=1",
            "--config.sample.prompts=()",
            log=folder / "log",
        )
        assert code == 0, output
    return folder


def test_agreement_is_the_share_of_equal_pairs():
    answers = [["a", "a", "a", "a"], ["a", "b", "c", "d"], ["a", "a", "b", "b"]]
    one = agreement(answers)
    assert one.value == pytest.approx((1 + 0 + 2 / 6) / 3)
    assert one.low < one.value < one.high
    assert correct(answers, ["a", "d", "c"]).value == pytest.approx((1 + 1 / 4 + 0) / 3)


def test_a_school_run_becomes_a_table_a_figure_and_a_csv(folder):
    workdir = folder / "school"
    code, output = run("launch.agreement", f"--workdir={workdir}", "--facts=5", "--samples=3", log=folder / "log")
    assert code == 0, output
    with (workdir / "agreement.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["told_in"], line["facts"]) for line in lines] == [("0", "5"), ("2", "5"), ("12", "5")]
    assert all(0 <= float(line["low"]) <= float(line["agreement"]) <= float(line["high"]) <= 1 for line in lines)
    assert (workdir / "agreement.png").read_bytes().startswith(b"\x89PNG")
    assert "told in 0 documents: " in output


def test_a_model_that_learnt_nothing_is_at_chance(folder):
    workdir = folder / "dictionaries"
    code, output = run("launch.in_context", f"--workdir={workdir}", "--questions=40", log=folder / "log")
    assert code == 0, output
    with (workdir / "in_context.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [line["shots"] for line in lines] == ["0", "1", "2", "4", "8", "16"]
    possible = [float(line["best_possible"]) for line in lines]
    assert possible[0] == pytest.approx(1 / len(TRANSLATIONS))
    assert possible == sorted(possible)
    assert all(float(line["right"]) < 0.25 for line in lines)
    assert (workdir / "in_context.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("module", "arguments", "told"),
    [
        ("launch.agreement", (), "--workdir is missing"),
        ("launch.agreement", ("--workdir={}/school", "--samples=1"), "--samples=1: must be at least 2"),
        ("launch.agreement", ("--workdir={}/dictionaries",), "did not learn the school but dictionaries"),
        ("launch.in_context", (), "--workdir is missing"),
        ("launch.in_context", ("--workdir={}/school",), "did not learn dictionaries but school"),
        ("launch.in_context", ("--workdir={}/school", "--questions=0"), "--questions=0"),
        ("launch.in_context", ("--workdir={}/nowhere",), "holds no run"),
    ],
)
def test_mistakes(folder, module, arguments, told):
    code, output = run(module, *(argument.format(folder) for argument in arguments), log=folder / "log")
    assert code == 2, output
    assert len([line for line in output.splitlines() if line.startswith("error: ")]) == 1
    assert told in output
