"""Large arrays in huge pages: on Linux, a program that trains on a CPU is started over with glibc told to ask for them.

XLA gives the memory of a step back at its end and asks for it anew in the next one, and the kernel hands it out in pages of 4
KiB, each at the cost of a page fault, which small models feel. glibc can ask for pages of 2 MiB instead (`glibc.malloc.hugetlb`,
since 2.35), but only when the process starts.
"""

import os
import sys
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def start_over() -> None:
    """Replace this process by the same command with huge pages asked for, where that helps and was not done or decided.

    Call it first: what the process did until then is done again. The process id and the open files stay as they are.
    """
    asked = tunables()
    if asked is not None:
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "GLIBC_TUNABLES": asked})


def ask_for_children() -> None:
    """Have the programs that this one starts from now on ask for huge pages, where that helps and was not decided."""
    asked = tunables()
    if asked is not None:
        os.environ["GLIBC_TUNABLES"] = asked


def tunables() -> str | None:
    """What GLIBC_TUNABLES should be for a program that trains here; None when it should stay as it is."""
    try:
        kernel, libc = KERNEL.read_text(), os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError, AttributeError):  # no such kernel, or another C library
        return None
    return with_huge_pages(os.environ.get("GLIBC_TUNABLES", ""), kernel, libc or "")


def with_huge_pages(tunables: str, kernel: str, libc: str) -> str | None:
    """What GLIBC_TUNABLES should be; None when it should stay as it is.

    `kernel` is what the kernel says of transparent huge pages, such as "always [madvise] never": only in that mode does it
    wait to be asked. `libc` is such as "glibc 2.36".
    """
    name, _, version = libc.partition(" ")
    new_enough = name == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)
    if "[madvise]" not in kernel or not new_enough or TUNABLE in tunables:
        return None
    return f"{tunables}:{TUNABLE}=1".removeprefix(":")
