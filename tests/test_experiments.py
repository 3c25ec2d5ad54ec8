"""Every experiment file gives a config that makes sense, in each of its variants."""

import fnmatch
from pathlib import Path

import pytest

from launch.config import check_types, load
from lm.experiment import Experiment, check_experiment

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for path in (ROOT / "experiments").rglob("*.py") if "def get_config" in path.read_text())
LESSONS = [path for path in FILES if path.parent.name == "lecture"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_it_makes_sense(path):
    config = load(str(path))
    if isinstance(config, Experiment):
        check_types(config)
        check_experiment(config)
        for name in ("steps", "seed", "model", "optimizer", "mesh"):
            assert hasattr(config, name)
    else:
        assert path.parent.name == "evaluate"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_measures_what_its_variants_are_asked(path):
    """Each metric is of one topic among the questions of every variant."""
    import runpy

    lesson = runpy.run_path(str(path))
    assert LESSONS
    for variant in lesson["VARIANTS"]:
        config = lesson["get_config"](variant)
        check_experiment(config)
        assert config.model == load(config.start_from).model
        for measures in lesson["MEASURES"].values():
            for metric in measures.values():
                assert len(fnmatch.filter(config.questions.topics, metric.rsplit(".", 2)[0])) == 1
