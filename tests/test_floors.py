"""The floors of the house: imports only go down, `data_pipeline` stands alone, and model code knows no text and no flags."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ["launch", "experiments", "lm", "data_pipeline"]  # highest first
# Inside lm, lowest first; a file may import those before it (and its own folder).
LM = [
    "sweep",
    "power_law",
    "ratings",
    "overoptimization",
    "preference_metrics",
    "processes",
    "sharding",
    "model",
    "lora",
    "flops",
    "stage",
    "objectives",
    "optimizer",
    "practice",
    "experiment",
    "checkpoint",
    "metrics",
    "profiler",
    "new_tokens",
    "train",
    "estimate",
    "interop",
    "inference",
    "recall",
    "recitation",
    "evaluation",
    "held_out",
    "pretraining",
    "assistant",
    "rl",
    "preferences",
    "quiz",
    "finetuning",
]


def imported(path: Path) -> set[str]:
    """Dotted names of every module that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which floor they reach"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(floor: str) -> list[Path]:
    found = sorted((ROOT / floor).rglob("*.py"))
    assert found, f"no files under {floor}"
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_only_go_down(floor):
    above = set(FLOORS[: FLOORS.index(floor)])
    upward = [(path.name, name) for path in files(floor) for name in imported(path) if name.split(".")[0] in above]
    assert upward == []


def test_lm_is_layered():
    upward = []
    for path in files("lm"):
        part = path.relative_to(ROOT / "lm").parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for name in imported(path):
            words = name.split(".")
            if words[0] == "lm" and len(words) > 1 and words[1] in LM and LM.index(words[1]) > LM.index(part):
                upward.append((str(path.relative_to(ROOT)), name))
    assert upward == []


def test_every_part_of_lm_has_a_layer():
    parts = {path.name.removesuffix(".py") for path in (ROOT / "lm").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__init__", "__pycache__"} == set(LM)


def test_the_model_knows_no_text_no_flags_and_no_files():
    allowed = {
        "jax",
        "numpy",
        "flax",
        "math",
        "copy",
        "functools",
        "itertools",
        "collections",
        "dataclasses",
        "typing",
        "lm",
        "data_pipeline",
    }
    for path in files("lm/model"):
        names = imported(path)
        assert {name.split(".")[0] for name in names} <= allowed, path
        assert {name for name in names if name.startswith("data_pipeline")} <= {"data_pipeline.errors.UserError"}, path


def test_experiments_are_definitions_only():
    for path in files("experiments"):
        outside = {name.split(".")[0] for name in imported(path)} - {
            "lm",
            "data_pipeline",
            "dataclasses",
            "typing",
            "experiments",
        }
        assert not outside, f"{path} imports {outside}"


def test_the_floors_test_sees_an_upward_import(tmp_path):
    file = tmp_path / "low.py"
    file.write_text("def f():\n    from launch.train import main\n    import lm.train\n")
    assert imported(file) == {"launch.train.main", "lm.train"}
