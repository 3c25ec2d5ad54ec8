"""Install PyTorch, transformers and lm-eval for the parity tests, or say loudly why not. `make parity` runs it.

They are not in requirements.lock: nothing but these tests needs them, and on Linux the package index has PyTorch with
gigabytes of CUDA libraries, which nobody should get by asking for tests. So pip is first asked what it would install.
"""

import importlib.util
import json
import subprocess
import sys

# accelerate is what the `hf` model of lm-eval asks for besides.
PACKAGES = ("torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0", "lm-eval==0.4.13")
ACCELERATOR = ("nvidia", "cuda", "triton")  # what names of CUDA's parts begin with
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def main() -> int:
    """The exit code: 0 also where they are not installed, since the tests then skip what needs them."""
    if all(importlib.util.find_spec(package.split("==")[0].replace("-", "_")) for package in PACKAGES):
        return 0
    print(f"parity: asking pip what {', '.join(PACKAGES)} would bring", flush=True)
    reason = why_not()
    if reason:
        print(
            f"PARITY SKIPPED: {reason}. Install PyTorch's CPU build (https://pytorch.org/get-started) and "
            f"{', '.join(PACKAGES[1:])} into .venv by hand, then run make parity again.",
            flush=True,
        )
        return 0
    return subprocess.run([*PIP, "install", *PACKAGES], check=False).returncode


def why_not() -> str:
    """The reason not to let pip install them, or nothing."""
    asked = subprocess.run(
        [*PIP, "install", "--dry-run", "--quiet", "--report", "-", *PACKAGES],
        check=False,
        capture_output=True,
        text=True,
    )
    if asked.returncode:
        complaints = [line for line in asked.stderr.splitlines() if line.startswith("ERROR:")]
        return f"pip cannot install {', '.join(PACKAGES)} here ({complaints[-1] if complaints else 'no reason given'})"
    unwanted = accelerator_packages(json.loads(asked.stdout))
    if unwanted:
        return f"pip would bring PyTorch with {len(unwanted)} CUDA packages ({', '.join(unwanted[:3])}, ...)"
    return ""


def accelerator_packages(report: dict) -> list[str]:
    """Names of CUDA's parts in pip's installation report."""
    names = [item["metadata"]["name"].lower() for item in report["install"]]
    return sorted(name for name in names if name.startswith(ACCELERATOR))


if __name__ == "__main__":
    sys.exit(main())
