"""Programs that train start over with huge pages, once, and only where it helps."""

import json
import os
import subprocess
import sys

import pytest

from launch import huge_pages
from tests.launch.programs import ROOT

MADVISE = "always [madvise] never\n"


@pytest.mark.parametrize(
    ("tunables", "kernel", "libc", "wanted"),
    [
        ("", MADVISE, "glibc 2.36", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=2", MADVISE, "glibc 2.35", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", MADVISE, "glibc 2.36", None),  # decided by the user
        ("", "[always] madvise never", "glibc 2.36", None),  # has them unasked
        ("", "always madvise [never]", "glibc 2.36", None),
        ("", MADVISE, "glibc 2.31", None),  # does not know the tunable
        ("", MADVISE, "", None),
    ],
)
def test_huge_pages_are_asked_for_where_that_helps(tunables, kernel, libc, wanted):
    assert huge_pages.with_huge_pages(tunables, kernel, libc) == wanted


def test_a_program_starts_over_once_with_its_arguments(tmp_path):
    kernel, script = tmp_path / "enabled", tmp_path / "program.py"
    kernel.write_text(MADVISE)
    script.write_text(
        "import json, os, sys\nfrom pathlib import Path\nfrom launch import huge_pages\n"
        f"with open({str(tmp_path / 'starts')!r}, 'a') as file: file.write(f'{{os.getpid()}} ')\n"
        f"huge_pages.KERNEL = Path({str(kernel)!r})\nhuge_pages.start_over()\n"
        "print(json.dumps([sys.argv[1:], os.environ.get('GLIBC_TUNABLES')]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = str(ROOT)
    arguments = ["--steps=3", "two words"]
    done = subprocess.run(
        [sys.executable, "-u", str(script), *arguments], env=environment, capture_output=True, text=True, check=True
    )
    given, tunables = json.loads(done.stdout)
    assert given == arguments
    starts = (tmp_path / "starts").read_text().split()
    new = huge_pages.with_huge_pages("", MADVISE, os.confstr("CS_GNU_LIBC_VERSION"))
    assert tunables == new
    assert len(starts) == (2 if new else 1)
    assert len(set(starts)) == 1  # the same process
