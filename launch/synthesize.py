"""Conversations about documents, written by a model and filtered; or questions about them, to find out what a model knows.

    python -m launch.synthesize --documents=paragraphs:pydoc --writer=http://127.0.0.1:8000/v1#NAME --out=runs/written
    python -m launch.synthesize --documents=notes.jsonl --writer=runs/qwen --out=runs/asked --questions=3
    python -m launch.probe --workdir=runs/assistant --out=runs/probe --questions=runs/asked/questions.jsonl

The writer is a run's folder (an assistant, or a converted release), or an OpenAI-compatible address and the name of a model
there; its key, if it needs one, is read from OPENAI_API_KEY. Finetune on the result by adding OUT/conversations.jsonl to
data.sources. Killed and started again, it goes on. The files are described in data_pipeline/synthetic.py and, of questions, in
data_pipeline/questions.py. Documents longer than the writer's context are set aside: paragraphs:SOURCE cuts them.
"""

import itertools
from pathlib import Path

from absl import flags
from tqdm import tqdm

from data_pipeline.errors import UserError
from data_pipeline.questions import questions_from_documents
from data_pipeline.school.world import SchoolConfig
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_documents
from data_pipeline.synthetic import synthesize
from launch import cli
from launch.writers import BATCH, make_writer


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("documents", None, "What is written about: a source of documents (data_pipeline/sources.py).")
    flags.DEFINE_string("writer", None, "The folder of a run, or ADDRESS#MODEL.")
    flags.DEFINE_string("out", None, "The folder for what is written.")
    flags.DEFINE_integer("questions", 0, "So many questions a document, in place of a conversation.", lower_bound=0)
    flags.DEFINE_integer("limit", None, "Only the first so many documents.", lower_bound=1)
    flags.DEFINE_float("temperature", 0.7, "Of what is written.", lower_bound=0.0)
    flags.DEFINE_integer("max_tokens", 1024, "Of what is written about a document, at most.", lower_bound=1)


def main(_: list[str]) -> None:
    """Read the documents, have them written about, and tell what came of it."""
    options = flags.FLAGS
    for name in ("documents", "writer", "out"):
        if not getattr(options, name):
            raise UserError(
                f"--{name} is missing: python -m launch.synthesize --documents=SOURCE --writer=RUN --out=FOLDER"
            )
    out = Path(options.out).expanduser()
    unreadable = SetAside(out / "unreadable.jsonl")
    source = read_documents(options.documents, school=SchoolConfig(), set_aside=unreadable)
    documents = list(tqdm(itertools.islice(source, options.limit), desc="documents", unit="", delay=1))
    if unreadable.counts:
        print(unreadable.summary())
    cli.remember_compilations(Path(cli.CACHE))
    write, model = make_writer(options.writer, options.temperature, options.max_tokens)
    if options.questions:
        made = "questions"
        summary = questions_from_documents(documents, write, out, model=model, count=options.questions, batch=BATCH)
    else:
        made = "conversations"
        summary = synthesize(documents, write, out, model=model, batch=BATCH)
    print(f"{summary['documents']} documents, {summary[made]} {made}: wrote {out / made}.jsonl")
    if summary["set_aside"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary["set_aside"].items())
        print(f"set aside {sum(summary['set_aside'].values())} ({reasons}) in {out}/set_aside.jsonl")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
