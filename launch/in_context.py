"""Does a model learn from the lines before it? Its accuracy against the number of shots (map row 8).

    python -m launch.train --config=experiments/pretrain/in_context.py --workdir=runs/in_context
    python -m launch.in_context --workdir=runs/in_context

Each question is put after 0, 1, 2, ... lines of a dictionary that no training document has (see
`data_pipeline/school/dictionaries.py`), drawn as in those documents; the likeliest next text must be the translation. "Best
possible" is what the same lines allow whoever knows how documents are made. Writes in_context.csv and in_context.png.
"""

import csv
import random
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_pipeline.errors import UserError
from data_pipeline.school.dictionaries import LINES, best_possible, draw_dictionary, line
from data_pipeline.tokenizer import Tokenizer
from launch import cli

if TYPE_CHECKING:  # JAX is imported late
    from lm.evaluation.estimate import Estimate
    from lm.inference.engine import Engine

SHOTS = (0, 1, 2, 4, 8, 16)
assert max(SHOTS) < LINES


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of a run on dictionaries.")
    flags.DEFINE_integer("step", None, "Which checkpoint of the run; the newest unless given.")
    flags.DEFINE_integer("questions", 500, "How many for each number of shots.")
    flags.DEFINE_integer("seed", 0, "Of the questions.")


def main(_: list[str]) -> None:
    """Ask, print the table, draw the figure."""
    options = flags.FLAGS
    if not options.workdir:
        raise UserError("--workdir is missing: name the folder of a run, such as --workdir=runs/in_context")
    if options.questions < 1:
        raise UserError(f"--questions={options.questions}: must be at least 1")
    workdir = Path(options.workdir).expanduser()

    from launch.compare_runs import table
    from launch.figures import estimates_figure
    from launch.workdir import load_model, read_config, sources_of
    from lm.inference.engine import Engine

    sources = sources_of(read_config(workdir))
    if "dictionaries" not in sources:
        raise UserError(f"{workdir} did not learn dictionaries but {', '.join(sources)}: name a run that did")
    cli.remember_compilations(Path(cli.CACHE))
    model, tokenizer, step = load_model(workdir, options.step)
    engine = Engine(model, slots=64, symbols=tokenizer.vocab_size, token_bytes=tokenizer.token_bytes)
    found = {shots: measure(engine, tokenizer, shots, options.questions, options.seed) for shots in SHOTS}
    rows = [
        [str(shots), f"{one.value:.1%} [{one.low:.1%}, {one.high:.1%}]", f"{best:.1%}"]
        for shots, (one, best) in found.items()
    ]
    print(f"{workdir} at step {step}, {options.questions} questions for each number of shots")
    print(table(["shots", "right [95% interval]", "best possible"], rows))
    with (workdir / "in_context.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["shots", "questions", "right", "low", "high", "best_possible"])
        writer.writerows(
            [shots, one.examples, one.value, one.low, one.high, best] for shots, (one, best) in found.items()
        )
    estimates_figure(
        workdir / "in_context.png",
        [str(shots) for shots in found],
        {"right": [one for one, _ in found.values()]},
        xlabel="shots: word pairs before the question",
        ylabel="share of questions",
        best_possible=[best for _, best in found.values()],
    )
    print(f"wrote {workdir / 'in_context.csv'} and {workdir / 'in_context.png'}")


def measure(engine: "Engine", tokenizer: Tokenizer, shots: int, questions: int, seed: int) -> "tuple[Estimate, float]":
    """The share of questions answered rightly after so many shots, and the share that could be."""
    from lm.evaluation.estimate import share
    from lm.evaluation.evaluate import completion_text
    from lm.inference.generate import generate
    from lm.inference.requests import Request
    from lm.inference.sampling import Sampling

    rng = random.Random(f"{seed}/{shots}")
    requests, right, possible = [], [], []
    for _ in range(questions):
        dictionary = draw_dictionary(rng, held_out=True)
        *shown, asked = rng.choices(list(dictionary), k=shots + 1)
        prompt = "".join(line(word, dictionary) for word in shown) + asked
        tokens = (tokenizer.document_start, *tokenizer.encode(prompt))
        requests.append(Request(tokens, max_tokens=8, sampling=Sampling(temperature=0.0), stop_strings=("\n",)))
        right.append(f" {dictionary[asked]}")
        possible.append(best_possible(shown, asked))
    answers = [completion_text(one, tokenizer, ("\n",)) for (one,) in generate(engine, requests)]
    hits = [answer == wanted for answer, wanted in zip(answers, right, strict=True)]
    return share("right", hits), sum(possible) / questions


if __name__ == "__main__":
    define_flags()
    cli.run(main)
