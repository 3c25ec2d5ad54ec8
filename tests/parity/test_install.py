"""What `make parity` does where PyTorch would bring CUDA, where pip fails, and where all is there already."""

import json
import subprocess

import install
import pytest


def answer(*names: str) -> subprocess.CompletedProcess:
    report = {"install": [{"metadata": {"name": name, "version": "1"}} for name in names]}
    return subprocess.CompletedProcess([], 0, stdout=json.dumps(report), stderr="")


NO_WHEEL = subprocess.CompletedProcess(
    [], 1, stdout="", stderr="WARNING: slow\nERROR: No matching distribution found for torch==2.13.0\n"
)


@pytest.fixture
def run(monkeypatch):
    """Run the script on a machine where pip, asked, gives `first`; the pip commands that it called come back."""

    def run(first: subprocess.CompletedProcess, *, installed: bool = False) -> list[list[str]]:
        called = []

        def pip(command, **_):
            called.append(command[command.index("pip") + 1 :])
            return first if "--dry-run" in command else answer()

        monkeypatch.setattr(install.importlib.util, "find_spec", lambda _: object() if installed else None)
        monkeypatch.setattr(install.subprocess, "run", pip)
        assert install.main() == 0
        return called

    return run


def test_without_cuda_it_installs(run, capsys):
    asked, installed = run(answer("torch", "transformers", "numpy", "MarkupSafe"))
    assert "--dry-run" in asked
    assert "--dry-run" not in installed
    assert set(installed) > set(install.PACKAGES)
    assert "SKIPPED" not in capsys.readouterr().out


@pytest.mark.parametrize("package", ["nvidia-cublas", "NVIDIA-cudnn-cu13", "triton", "cuda-bindings"])
def test_with_cuda_it_says_so_and_installs_nothing(run, capsys, package):
    assert len(run(answer("torch", package, "transformers"))) == 1
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith("PARITY SKIPPED: ")
    assert package.lower() in told
    assert "make parity" in told


def test_where_pip_fails_its_reason_is_told(run, capsys):
    assert len(run(NO_WHEEL)) == 1
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith("PARITY SKIPPED: ")
    assert "No matching distribution found for torch==2.13.0" in told


def test_what_is_there_is_left_alone(run, capsys):
    assert run(NO_WHEEL, installed=True) == []
    assert capsys.readouterr().out == ""
