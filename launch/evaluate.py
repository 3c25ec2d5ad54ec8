"""Ask a trained model the examples of a task, and say how well it did and how sure that is.

    python -m launch.evaluate --workdir=runs/a --config=experiments/evaluate/gsm8k.py --config.source=test.jsonl.gz \
        --config.shots_source=train.jsonl.gz
    python -m launch.evaluate --workdir=runs/a --step=60 --config=experiments/evaluate/text.py --config.source=book.txt
    python -m launch.evaluate --workdir=runs/a --lm_eval_tasks=my_task --lm_eval_include=my_tasks/

A task is a file that returns a `lm.evaluation.task.Task`; every value in it is a flag. Writes WORKDIR/evaluation/NAME.jsonl, a
record for each example, and adds what they come to, a line for each number, to WORKDIR/evaluation/results.jsonl.

`--lm_eval_tasks` lets EleutherAI's evaluation harness ask instead (`pip install lm-eval`), with its own tasks or those of a
folder; see `launch/lm_eval_adapter.py`.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

from data_pipeline.errors import UserError
from data_pipeline.set_aside import SetAside
from launch import cli, inference_flags
from launch.config import check_overrides, check_types
from lm.evaluation.task import Task, check_task

if TYPE_CHECKING:  # JAX is imported late
    from lm.evaluation.evaluate import Evaluation


def define_flags() -> None:
    """The flags of this program."""
    config_flags.DEFINE_config_file(
        "config", None, "The task: FILE.py or FILE.py:VARIANT. Any value in it can be overridden: --config.limit=100"
    )
    flags.DEFINE_string("workdir", None, "The folder of the run whose model is asked.")
    flags.DEFINE_integer("step", None, "Which checkpoint of the run; the newest unless given.")
    inference_flags.define_quantization()
    flags.DEFINE_list("lm_eval_tasks", [], "Tasks of EleutherAI's harness, in place of --config.")
    flags.DEFINE_string("lm_eval_include", None, "A folder with more of its tasks (YAML files).")
    flags.DEFINE_integer("lm_eval_limit", None, "Only the first so many examples of each.")


def main(_: list[str]) -> None:
    """Read the model, ask it, write the records and the table."""
    options = flags.FLAGS
    if not options.workdir:
        raise UserError("--workdir is missing: name the folder of a run, such as --workdir=runs/course")
    if (options.config is None) == (not options.lm_eval_tasks):
        raise UserError("give a task, --config=experiments/evaluate/NAME.py, or else --lm_eval_tasks=NAME")
    if not options.lm_eval_tasks and (options.lm_eval_include or options.lm_eval_limit):
        raise UserError("--lm_eval_include and --lm_eval_limit need --lm_eval_tasks")
    task = options.config
    if task is not None:
        check(task)
        if options.quantize_cache and task.kind != "generate":
            raise UserError(f"--quantize_cache: a {task.kind} task writes nothing, so it has no cache: leave it out")

    from launch.workdir import load_model

    cli.remember_compilations(Path(cli.CACHE))
    workdir = Path(options.workdir).expanduser()
    model, tokenizer, step = load_model(workdir, options.step)
    model = inference_flags.quantized(model)
    folder = workdir / "evaluation"
    folder.mkdir(exist_ok=True)
    if options.lm_eval_tasks:
        from launch.lm_eval_adapter import run_harness

        run_harness(
            model,
            tokenizer,
            step,
            folder,
            options.lm_eval_tasks,
            options.lm_eval_include,
            options.lm_eval_limit,
            quantize_cache=options.quantize_cache,
        )
        return

    from tqdm import tqdm

    from lm.evaluation.evaluate import evaluate

    set_aside = SetAside(folder / f"{task.name}.set_aside.jsonl")
    with tqdm(desc=task.name, unit=" texts", delay=1) as bar:
        evaluation = evaluate(task, model, tokenizer, set_aside, bar.update, quantize_cache=options.quantize_cache)
    write_json_lines(folder / f"{task.name}.jsonl", evaluation.records)
    held = {"quantize": options.quantize} if options.quantize else {}
    held |= {"quantize_cache": True} if options.quantize_cache else {}
    lines = [{"task": task.name, "step": step, **held, **asdict(estimate)} for estimate in evaluation.estimates]
    with (folder / "results.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    print(f"\n{task.name}, {workdir} at step {step}\n{report(evaluation)}")
    for warning in warnings(task, evaluation, set_aside):
        print(warning, file=sys.stderr)
    print(f"wrote {folder / task.name}.jsonl")


def check(task: Any) -> None:
    """Raise `UserError` unless it is a task that makes sense."""
    if not isinstance(task, Task):
        raise UserError("--config is no task but an experiment: name one of experiments/evaluate/")
    check_types(task)
    check_task(task)


def report(evaluation: "Evaluation") -> str:
    """A row for each number: its value, standard error, 95% interval and the number of examples."""
    from launch.compare_runs import table

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    rows = [
        [
            one.metric,
            shown(one.value),
            shown(one.standard_error),
            f"{shown(one.low)} to {shown(one.high)}",
            f"{one.examples:,}",
        ]
        for one in evaluation.estimates
    ]
    return table(["metric", "value", "std. error", "95% interval", "examples"], rows)


def warnings(task: Task, evaluation: "Evaluation", set_aside: SetAside) -> list[str]:
    """What the numbers do not say: a line for each kind of example that is not in them, or only half."""
    lines = []
    if set_aside.counts:
        lines.append(set_aside.summary())
    if evaluation.too_long:
        asked = len(evaluation.records) - evaluation.too_long
        lines.append(
            f"{evaluation.too_long:,} of {len(evaluation.records):,} prompts do not fit the model's context and were not asked; "
            f"the numbers are of the other {asked:,}" + (": give fewer shots" if task.shots else "")
        )
    if evaluation.cut_off:
        lines.append(
            f"{evaluation.cut_off:,} answers were cut off at max_tokens={task.max_tokens} or the end of the context"
        )
    return lines


def write_json_lines(file: Path, records: list[dict[str, Any]]) -> None:
    """A line for each record; the file appears whole or not at all."""
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in records))
    temporary.replace(file)


if __name__ == "__main__":
    define_flags()
    cli.run(main, check_overrides)
