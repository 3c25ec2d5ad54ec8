"""Lessons: what is trained, what is shown, what is refused. Training itself is replaced by a file it would write."""

import csv
import json

import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipeline.errors import UserError
from launch import hallucination, lesson

LESSON = """
VARIANTS = ("one", "two")
MEASURES = {"skill": {"sums": "problems:*.sum.right", "whole": "well_formed"}}
def get_config(variant): ...
"""


@pytest.fixture(autouse=True, scope="module")
def defined():
    if "root" not in flags.FLAGS:
        lesson.define_common_flags()
    if "config" not in flags.FLAGS:
        flags.DEFINE_string("config", None, "")
    flags.FLAGS.mark_as_parsed()


@pytest.fixture
def trained(monkeypatch):
    """What was run; each training leaves an evaluation that says its variant and seed."""
    commands = []

    def run(module, *arguments):
        commands.append((module, *arguments))
        given = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
        if module != "launch.train":
            return
        folder = lesson.Path(given["workdir"])
        folder.mkdir(parents=True)
        seed = int(given["config.seed"])
        name = folder.name.partition("-")[0]
        metrics = {f"problems:{name}.sum.right": 0.5 + seed / 10 if name == "one" else 0.25, "well_formed": 1.0}
        metrics |= dict.fromkeys(hallucination.MEASURES["hallucination"].values(), 0.5)
        (folder / "evaluations.jsonl").write_text(json.dumps({"well_formed": 0.0}) + "\n" + json.dumps(metrics) + "\n")

    monkeypatch.setattr(lesson, "run", run)
    monkeypatch.setattr(hallucination, "run", run)
    return commands


def test_every_variant_and_seed_is_trained_and_shown_with_its_own_metric(tmp_path, trained, capsys):
    (tmp_path / "l.py").write_text(LESSON)
    with flagsaver.flagsaver(config=str(tmp_path / "l.py"), root=str(tmp_path / "r"), seeds=3, steps=7):
        lesson.main([])
    runs = {f"{name}-{seed}" for name in ("one", "two") for seed in range(3)}
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"lesson.csv", "skill.png", *runs}
    assert all("--config.steps=7" in command for command in trained)
    assert {command[1] for command in trained} == {f"--config={tmp_path / 'l.py'}:{name}" for name in ("one", "two")}
    shown = capsys.readouterr().out
    # 0.5, 0.6, 0.7: Student's t with 2 degrees of freedom is 4.303, and 4.303 x 0.1 / sqrt(3) is 0.248
    assert "60.0% [35.2%, 84.8%]" in shown
    assert "25.0% [25.0%, 25.0%]" in shown
    with (tmp_path / "r" / "lesson.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["value"] for row in rows if row["variant"] == "one" and row["measure"] == "sums"] == [
        "0.5",
        "0.6",
        "0.7",
    ]


def test_hallucination_probes_before_it_finetunes_on_refusals(tmp_path, trained):
    with flagsaver.flagsaver(root=str(tmp_path), seeds=1):
        hallucination.main([])
    assert [command[0] for command in trained] == ["launch.train", "launch.probe", "launch.train", "launch.train"]
    sources = [argument for command in trained for argument in command if argument.startswith("--config.data.sources")]
    assert str(tmp_path / "probe-0" / "refusals.jsonl") in sources[0]
    assert str(tmp_path / "probe-0" / "random_refusals.jsonl") in sources[1]
    assert len(sources) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "there is no lesson"), ("VARIANTS = ()\ndef get_config(variant): ...", "has no MEASURES")],
)
def test_what_is_no_lesson_is_refused(tmp_path, text, message):
    if text:
        (tmp_path / "l.py").write_text(text)
    with (
        flagsaver.flagsaver(config=str(tmp_path / "l.py"), root=str(tmp_path)),
        pytest.raises(UserError, match=message),
    ):
        lesson.main([])
    with flagsaver.flagsaver(root=None), pytest.raises(UserError, match="--root is missing"):
        lesson.root_folder()
