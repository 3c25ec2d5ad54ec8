"""Milliseconds for one call of each tool.

    python tests/benchmarks/tools.py

The library has `--documents` short documents. Each figure is the median of `--calls` calls, and the slowest. About half a minute.
"""

import random
import statistics
import time

from absl import flags
from side_by_side import markdown

from data_pipeline.conversation import ToolCall
from data_pipeline.document import Document
from data_pipeline.tools.python import python_tool
from data_pipeline.tools.search import search_tool
from data_pipeline.tools.tool import Tool, call
from launch import cli


def define_flags() -> None:
    """The flags of this benchmark."""
    flags.DEFINE_integer("documents", 100_000, "Documents in the library.", lower_bound=1)
    flags.DEFINE_integer("calls", 100, "Calls of each kind.", lower_bound=1)


def main(_: list[str]) -> None:
    """Index the library, time the calls, print the table."""
    rng = random.Random(0)
    vocabulary = [f"word{number}" for number in range(20_000)]
    weights = [1 / (number + 1) for number in range(len(vocabulary))]  # as words are in a language
    documents = [
        Document(str(n), " ".join(rng.choices(vocabulary, weights, k=30))) for n in range(flags.FLAGS.documents)
    ]
    start = time.perf_counter()
    search = search_tool(documents)
    print(f"{len(documents):,} documents indexed in {time.perf_counter() - start:.1f} s", flush=True)
    rare = [" ".join(rng.choices(vocabulary[500:], k=4)) for _ in range(flags.FLAGS.calls)]
    common = [" ".join(rng.choices(vocabulary, weights, k=6)) for _ in range(flags.FLAGS.calls)]
    sums = [f"print({n} * 177)" for n in range(flags.FLAGS.calls)]
    python = python_tool()
    rows = [
        ["search, four rare words", *milliseconds(search, "query", rare)],
        ["search, six words of a sentence", *milliseconds(search, "query", common)],
        ["Python, a product", *milliseconds(python, "code", sums)],
    ]
    print(markdown(["call", "median ms", "slowest ms"], rows))


def milliseconds(tool: Tool, argument: str, values: list[str]) -> tuple[str, str]:
    """The median and the slowest call, after a first one that is not timed."""
    taken = []
    for value in [values[0], *values]:
        start = time.perf_counter()
        call([tool], ToolCall(tool.name, {argument: value}))
        taken.append(1000 * (time.perf_counter() - start))
    return f"{statistics.median(taken[1:]):.1f}", f"{max(taken[1:]):.1f}"


if __name__ == "__main__":
    define_flags()
    cli.run(main)
