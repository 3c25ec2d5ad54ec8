"""Many seeded requests, mostly wrong, against a real server: it must stay up, answer in form, and not grow.

    python tests/benchmarks/serve_fuzz.py --requests=10000 --rounds=2

Starts `launch.serve` with a small untrained model on a free loopback port, sends it what `tests/launch/nonsense.py` makes
of the seeds (about a tenth of the clients go away in the middle), and prints the kinds of answers, requests a second, and
the server's resident memory along the way; with `--rounds=2` all of it twice. A model's engine compiles programs for what it is
asked for, and keeps a number of them (`PROGRAMS` in lm/inference/programs.py), so its memory steps up and then stays. `--played`
puts an engine without a model in its place, which shows what the server itself keeps, and fails when memory grew by more than
5% from the middle to the end.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests" / "launch")]


def resident(process: int) -> float:
    """Resident memory of a process, MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Print what happened; exit with 1 when something did that must not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1, help="how often, all of them")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--played", action="store_true", help="no model: the server alone")
    parser.add_argument("--clients", type=int, default=16, help="at once")
    options = parser.parse_args()
    from serving import save_run

    with tempfile.TemporaryDirectory() as folder:
        if not options.played:
            save_run(Path(folder))
        command = [sys.executable, "-m", "launch.serve", f"--model=played={folder}", "--port=0", "--slots=16"]
        if options.played:
            command = [sys.executable, str(ROOT / "tests" / "launch" / "serving.py")]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
            try:
                url = next(found[0] for line in server.stdout if (found := re.search(r"http://[\d.:]+", line)))
                print(f"{url}, process {server.pid}")
                sys.exit(attack(url, server.pid, options))
            finally:
                server.terminate()
                print(f"exit code {server.wait(60)} after SIGTERM")


def attack(url: str, process: int, options: argparse.Namespace) -> int:
    """Send the requests; the exit code."""
    import nonsense

    kinds: collections.Counter = collections.Counter()
    memory = []
    start = time.perf_counter()
    seeds = range(options.first, options.first + options.requests)
    part = max(1, options.requests // 10)
    with concurrent.futures.ThreadPoolExecutor(options.clients) as pool:
        for first in options.rounds * list(range(0, len(seeds), part)):
            kinds.update(pool.map(lambda seed: nonsense.send(url, seed), seeds[first : first + part]))
            memory.append(resident(process))
            print(f"{part * len(memory):>7} requests  {memory[-1]:.0f} MiB", flush=True)
    seconds = time.perf_counter() - start
    for (status, kind), count in sorted(kinds.items()):
        print(f"{status or '-':>4} {kind:<10} {count:>6}")
    print(f"{options.rounds * len(seeds) / seconds:.0f} requests a second")
    health = json.load(urllib.request.urlopen(f"{url}/health"))
    print(f"health: {health}")
    grown = memory[-1] / memory[len(memory) // 2] - 1
    print(f"memory grew by {grown:.1%} from the middle to the end")
    return int(
        health["status"] != "ok" or health["models"]["played"]["samples"] != 0 or (options.played and grown > 0.05)
    )


if __name__ == "__main__":
    main()
