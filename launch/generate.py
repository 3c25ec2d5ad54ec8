"""Let a trained model write.

    python -m launch.generate --workdir=runs/a --prompt="Orson Kovats was born in" --temperature=0.7 --samples=3
    python -m launch.generate --workdir=runs/a --prompt="The assert statement" --top_k=50 --seed=1 --tokens=200

A base model is an autocomplete: it goes on from the prompt, whatever it says. The same seed writes the same text; another
one another. Text appears as it is written when there is one sample.
"""

import codecs
import sys
from pathlib import Path

from absl import flags

from data_pipeline.errors import UserError
from launch import cli

WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run whose model writes.")
STEP = flags.DEFINE_integer("step", None, "Which checkpoint of the run; the newest unless given.")
PROMPT = flags.DEFINE_string("prompt", "", "The beginning of the text; the start of a document unless given.")
SAMPLES = flags.DEFINE_integer("samples", 1, "How many texts.")
TOKENS = flags.DEFINE_integer("tokens", 100, "How many tokens at most, of each text.")
TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "Below 1: safer words; above: wilder; 0: always the most likely.")
TOP_K = flags.DEFINE_integer("top_k", 0, "Choose among the k most likely tokens only; 0: among all.")
TOP_P = flags.DEFINE_float("top_p", 1.0, "Choose among the fewest tokens that together have this probability.")
SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same text.")


def main(_: list[str]) -> None:
    """Read the model and its tokenizer, then write to stdout."""
    if not WORKDIR.value:
        raise UserError("--workdir is missing: name the folder of a run, such as --workdir=runs/course")
    for name, flag in (("samples", SAMPLES), ("tokens", TOKENS)):
        if flag.value < 1:
            raise UserError(f"--{name}={flag.value}: must be at least 1")
    if SEED.value < 0:
        raise UserError(f"--seed={SEED.value}: must not be negative")

    from launch.workdir import load_model
    from lm.inference.generate import generate
    from lm.inference.sampling import Sampling, check_sampling

    sampling = Sampling(TEMPERATURE.value, TOP_K.value, TOP_P.value)
    check_sampling(sampling)
    model, tokenizer, step = load_model(Path(WORKDIR.value).expanduser(), STEP.value)
    print(f"{WORKDIR.value} at step {step}, seed {SEED.value}", file=sys.stderr)
    prompt = [tokenizer.document_start, *tokenizer.encode(PROMPT.value)]
    stream = codecs.getincrementaldecoder("utf-8")("replace")  # a character may be spread over several tokens

    def show(_: int, tokens: list[int]) -> None:
        print(stream.decode(b"".join(map(tokenizer.token_bytes, tokens))), end="", flush=True)

    if SAMPLES.value == 1:
        print(PROMPT.value, end="", flush=True)
    texts = generate(
        model,
        [prompt] * SAMPLES.value,
        max_tokens=TOKENS.value,
        sampling=sampling,
        seed=SEED.value,
        stop=tokenizer.document_start,
        on_tokens=show if SAMPLES.value == 1 else None,
    )
    if SAMPLES.value == 1:
        print(stream.decode(b"", final=True))
    else:
        for number, tokens in enumerate(texts, 1):
            print(f"--- {number}\n{PROMPT.value}{tokenizer.decode(tokens)}")


if __name__ == "__main__":
    cli.run(main)
