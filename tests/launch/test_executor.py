"""The executor of this machine, with real processes."""

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from played_runs import ended, wait_for
from programs import ROOT

from launch.executor import COMMAND, LocalExecutor, gpus, shares
from launch.sweep_folder import last_line


def python(*code: str) -> list[str]:
    return [sys.executable, "-S", "-c", *code]


def test_processes_write_to_their_log_and_say_how_they_ended(tmp_path):
    executor = LocalExecutor(2)
    log = tmp_path / "trial" / "log.txt"
    first = executor.submit(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"), log)
    assert ended(executor, first) == 3
    again = executor.submit(python("print('more')"), log)
    assert ended(executor, again) == 0
    lines = log.read_text().splitlines()
    assert [line for line in lines if not line.startswith(COMMAND)] in (["out", "err", "more"], ["err", "out", "more"])
    assert sum(line.startswith(COMMAND) for line in lines) == 2
    executor.cancel(first)
    executor.kill(first)  # no harm


SLEEPER = (
    "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(143)); print('up', flush=True); time.sleep(60)"
)


def test_cancel_asks_and_kill_does_not(tmp_path):
    executor = LocalExecutor(2)
    jobs = [executor.submit(python(SLEEPER), tmp_path / f"{n}.txt") for n in range(2)]
    wait_for(lambda: all("up" in (tmp_path / f"{n}.txt").read_text().splitlines() for n in range(2)))
    executor.cancel(jobs[0])
    executor.kill(jobs[1])
    assert (ended(executor, jobs[0]), ended(executor, jobs[1])) == (143, -signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not bind processes to cores")
def test_each_slot_has_its_own_cores_and_the_sweep_keeps_all(tmp_path):
    allowed = os.sched_getaffinity(0)
    executor = LocalExecutor(2)
    told = "import os; print('cores', *sorted(os.sched_getaffinity(0)))"
    jobs = [executor.submit(python(told), tmp_path / f"{n}.txt") for n in range(2)]
    assert os.sched_getaffinity(0) == allowed
    assert [ended(executor, job) for job in jobs] == [0, 0]
    given = [set(map(int, last_line(tmp_path / f"{n}.txt").split()[1:])) for n in range(2)]
    assert given[0] | given[1] == allowed
    assert len(allowed) < 2 or not given[0] & given[1]
    third = executor.submit(python(told), tmp_path / "third.txt")
    ended(executor, third)
    assert set(map(int, last_line(tmp_path / "third.txt").split()[1:])) == given[0]  # the slot that was free first


@given(st.lists(st.integers(), unique=True, max_size=20), st.integers(1, 20))
def test_shares_are_even_and_lose_nothing(items, slots):
    parts = shares(items, slots)
    assert len(parts) == slots
    if len(items) >= slots:
        assert [item for part in parts for item in part] == items
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    elif items:
        assert all(len(part) == 1 for part in parts)
        times = Counter(part[0] for part in parts)
        assert set(times) == set(items)
        assert max(times.values()) - min(times.values()) <= 1


def test_gpus_are_dealt_out_or_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    assert gpus() == ["3", "5"]
    told = "import os; print(*(os.environ.get(n) for n in ('CUDA_VISIBLE_DEVICES', 'XLA_PYTHON_CLIENT_MEM_FRACTION')))"

    def environments(slots):
        executor = LocalExecutor(slots)
        jobs = [executor.submit(python(told), tmp_path / f"{slots}-{n}.txt") for n in range(slots)]
        assert [ended(executor, job) for job in jobs] == [0] * slots
        return [last_line(tmp_path / f"{slots}-{n}.txt") for n in range(slots)]

    assert environments(1) == ["3,5 None"]
    assert environments(2) == ["3 None", "5 None"]
    assert environments(4) == ["3 0.450", "5 0.450"] * 2
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert gpus() == []
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []


def test_processes_are_told_to_save_when_the_sweep_is_killed(tmp_path):
    """Once: a second SIGTERM means not to save. (The parent's threads matter to how Linux tells children of its death.)"""
    saver = (
        "import pathlib, signal, time\n"
        "told = []\n"
        "signal.signal(15, lambda *_: told.append(1)); pathlib.Path('up').write_text('x')\n"
        "while not told: time.sleep(0.01)\n"
        "time.sleep(1); pathlib.Path('saved.tmp').write_text(str(len(told))); pathlib.Path('saved.tmp').rename('saved')"
    )
    parent = (
        "import sys, time, pathlib, threading\n"
        "from launch.executor import LocalExecutor\n"
        "for _ in range(20): threading.Thread(target=time.sleep, args=(60,)).start()\n"
        f"LocalExecutor(1).submit([sys.executable, '-S', '-c', {saver!r}], pathlib.Path('log'))\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        wait_for((tmp_path / "up").exists)
    finally:
        process.kill()
        process.wait()
    wait_for((tmp_path / "saved").exists)
    assert (tmp_path / "saved").read_text() == "1"
