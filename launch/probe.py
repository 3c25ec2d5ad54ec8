"""What does an assistant know? Ask it, judge it, and write refusals for what it does not know (map row 14).

    python -m launch.probe --workdir=runs/assistant --out=runs/probe
    python -m launch.probe --workdir=runs/assistant --out=runs/probe --questions=questions.jsonl

Without --questions, a run on the school is asked about its people, some of them never told of. A file has a question and its
right answer a row: {"question": ..., "gold": ...}; launch.synthesize --questions=3 has a model write one about your documents.
--judge names a model, as --writer of launch.synthesize does, or the rule that finds the right answer's words in an answer
(normalised), or wants nothing else there (exact). Finetune on the result by adding OUT/refusals.jsonl to data.sources;
random_refusals.jsonl beside it is the control. Killed and started again, it goes on. The files are described in
data_pipeline/probing.py.
"""

from pathlib import Path

from absl import flags

from data_pipeline.errors import UserError
from data_pipeline.judges import Judge, each, exact, judged_by, normalised
from data_pipeline.probing import ProbingConfig, probe
from data_pipeline.questions import Question, questions_from_pairs
from data_pipeline.set_aside import SetAside
from launch import cli


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of a finetuned run.")
    flags.DEFINE_string("out", None, "The folder for what is found.")
    flags.DEFINE_string("questions", None, "A JSONL file; else the school's questions.")
    flags.DEFINE_string("judge", "normalised", "Of the answers: normalised, exact, a run's folder, or ADDRESS#MODEL.")
    flags.DEFINE_integer("strangers", 1200, "Never-told people that the school's questions ask about.", lower_bound=0)
    flags.DEFINE_integer("samples", 8, "Answers to each question.", lower_bound=1)
    flags.DEFINE_integer("known_at_least", 6, "So many right answers or more: known.")
    flags.DEFINE_integer("unknown_at_most", 1, "So many right answers or fewer: unknown.")
    flags.DEFINE_float("temperature", 1.0, "Of the answers.", lower_bound=0.0)
    flags.DEFINE_integer("max_tokens", 48, "Of an answer, at most.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the answers, of the refusals' words, and of the control.")


def main(_: list[str]) -> None:
    """Ask, judge, write, and tell how many of each there are."""
    options = flags.FLAGS
    for name in ("workdir", "out"):
        if not getattr(options, name):
            raise UserError(f"--{name} is missing: python -m launch.probe --workdir=RUN --out=FOLDER")
    workdir = Path(options.workdir).expanduser()
    config = ProbingConfig(options.samples, options.known_at_least, options.unknown_at_most, options.seed)

    from data_pipeline.conversation import said
    from launch.workdir import load_model, read_config, read_documents
    from lm.assistant import replies, request
    from lm.inference.engine import Engine
    from lm.inference.sampling import Sampling

    values = read_config(workdir)
    if read_documents(values):
        raise UserError(f"{workdir} holds a base model, which answers nothing: finetune it first")
    questions = given(Path(options.questions)) if options.questions else of_the_school(values, options.strangers)
    cli.remember_compilations(Path(cli.CACHE))
    judge, judged = make_judge(options.judge)
    model, tokenizer, step = load_model(workdir)
    engine = Engine(model, slots=64, symbols=tokenizer.vocab_size)
    sampling = Sampling(temperature=options.temperature)

    def ask(asked: list[str], samples: int) -> list[list[str]]:
        requests = [
            request(
                tokenizer,
                [said("user", text)],
                options.max_tokens,
                sampling,
                seed=options.seed,
                samples=samples,
                style="tokens",
            )
            for text in asked
        ]
        return [[reply.text for reply in answers] for answers in replies(engine, tokenizer, requests)]

    summary = probe(
        Path(options.out).expanduser(),
        questions,
        ask,
        judge,
        config,
        model=f"{workdir} at step {step}, temperature {options.temperature:g}",
        judged_by=judged,
        batch=64 if judged == options.judge else 8,  # a model is slower than a rule
    )
    print(
        f"{summary['questions']} questions: {summary['known']} known, {summary['unsure']} unsure, {summary['unknown']} unknown; "
        f"wrote {options.out}/refusals.jsonl"
    )


def make_judge(named: str) -> tuple[Judge, str]:
    """The judge that --judge names, and what to call it in what is stored."""
    if rule := {"exact": exact, "normalised": normalised}.get(named):
        return each(rule), named
    from launch.writers import make_writer

    write, model = make_writer(named, temperature=0.0, max_tokens=256)
    return judged_by(write), model


def of_the_school(values: dict, strangers: int) -> list[Question]:
    """The questions of a run that learnt the school."""
    from data_pipeline.school.strangers import probing_questions
    from data_pipeline.sources import of_school
    from launch.workdir import school_of, sources_of

    if not of_school(sources_of(values)):
        raise UserError("the run did not learn the school: say what to ask by --questions=FILE.jsonl")
    return questions_from_pairs(probing_questions(school_of(values), strangers))


def given(path: Path) -> list[Question]:
    """The questions of a file. Raises `UserError` for one that cannot be read, or has a row without them."""
    from data_pipeline.sources import read_rows

    pairs = []
    set_aside = SetAside(path.with_suffix(".set_aside.jsonl"))
    for where, row in read_rows(str(path), set_aside):
        if not all(isinstance(row.get(name), str) and row[name].strip() for name in ("question", "gold")):
            raise UserError(f'{where}: a row must have a "question" and a "gold", both text')
        pairs.append((row["question"], row["gold"]))
    return questions_from_pairs(pairs)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
