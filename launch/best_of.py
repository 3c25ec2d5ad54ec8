r"""The best of n answers, as a reward model judges (map rows 24, 26).

    python -m launch.best_of --workdir=runs/assistant --reward=runs/reward --prompts=questions.txt --n=16 --out=runs/best
    python -m launch.best_of --workdir=runs/assistant --reward=runs/reward --prompts=jokes --rule=data_pipeline.taste:gold \
        --n=64 --out=runs/best-of

A policy that is better than the model which it samples from, without any training: each prompt is answered n times, and the
answer with the highest reward is kept. With --rule, a function of prompt and text that says how good they really are, it tells
what that buys, and where the reward model is fooled: the more answers there are to choose from, the likelier one is among them
that pleases it alone. Several reward models, --reward=A,B, choose from the same answers.

In the folder: answers.jsonl has all answers, best.jsonl {"id", "prompt", "text", "reward"} of the first reward model's choice,
best_of.json a table by reward model and n, set_aside.jsonl what could not be asked. Killed and started again, it goes on.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from data_pipeline.errors import UserError
from data_pipeline.locked import locked
from data_pipeline.model_text import writable
from data_pipeline.problem import Problem
from data_pipeline.resumable import Row, begin, do_rows, write_rows, write_whole
from data_pipeline.set_aside import SetAside
from launch import cli

BATCH = 32  # prompts that are answered at once, and lost when it is killed
SLOTS = 64


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of the run whose model answers.")
    flags.DEFINE_integer("step", None, "Which checkpoint of the run; the newest unless given.")
    flags.DEFINE_list(
        "reward", [], "Reward models: folders of runs, or experiment files, which are trained if need be."
    )
    flags.DEFINE_string("prompts", "jokes", "What is asked: see launch/arena_prompts.py.")
    flags.DEFINE_integer("count", 200, "Prompts, at most.", lower_bound=1)
    flags.DEFINE_integer("n", 16, "Answers to each prompt.", lower_bound=1)
    flags.DEFINE_string("rule", "", "MODULE:FUNCTION of (prompt, text): how good an answer really is.")
    flags.DEFINE_integer("max_tokens", 64, "Of an answer.", lower_bound=1)
    flags.DEFINE_float("temperature", 1.0, "Of the answers.", lower_bound=0.0)
    flags.DEFINE_integer("seed", 0, "Of the answers.", lower_bound=0)
    flags.DEFINE_string("out", None, "The folder for all of it.")
    flags.DEFINE_string("cache", cli.CACHE, "As for launch.train.")


def main(_: list[str]) -> None:
    """Answer, judge, keep the best, and tell."""
    options = flags.FLAGS
    for name in ("workdir", "reward", "out"):
        if not getattr(options, name):
            raise UserError(f"--{name} is missing: python -m launch.best_of --workdir=RUN --reward=RUN --out=FOLDER")

    from launch.arena_judges import reward_model, rule
    from launch.arena_prompts import prompts
    from launch.start_from import find_base

    truly = rule(options.rule) if options.rule else None
    cache, out = Path(options.cache).expanduser(), Path(options.out).expanduser()
    judges = {name: find_base(name, cache) for name in options.reward}
    cli.remember_compilations(cache)
    with locked(out):
        set_aside = SetAside(out / "set_aside.jsonl")
        problems = prompts(options.prompts, options.count, set_aside, verified=False)
        answered = answers(out, problems, set_aside)
        if set_aside.counts:
            print(set_aside.summary(), file=sys.stderr)
        problems = [problem for problem in problems if problem.id in answered]
        pairs = [(problem, text) for problem in problems for text in answered[problem.id]["texts"]]
        shape = (len(problems), options.n)
        rewards = {name: scores(reward_model(folder)(pairs), shape) for name, folder in judges.items()}
        gold = scores(truly(pairs), shape) if truly else None
        first = next(iter(rewards.values()))
        chosen = first.argmax(axis=1)
        write_rows(
            out / "best.jsonl",
            [
                {
                    "id": problem.id,
                    "prompt": problem.turns[-1].text,
                    "text": answered[problem.id]["texts"][place],
                    "reward": float(of[place]),
                }
                for problem, place, of in zip(problems, chosen, first, strict=True)
            ],
        )
        table = [row for name, of in rewards.items() for row in by_number(name, of, gold)]
        write_whole(out / "best_of.json", json.dumps(table, indent=1) + "\n")
    print(told(table))
    print(f"wrote {out / 'best.jsonl'} and {out / 'best_of.json'}")


def answers(out: Path, problems: Sequence[Problem], set_aside: SetAside) -> dict[str, Row]:
    """{"id", "texts": n of them} of each prompt by its id; only what is not there yet is asked.

    Prompts that the model cannot read go to `set_aside`. Raises `UserError` where it can read none.
    """
    from launch.talking import load_talker
    from lm.assistant import replies, request
    from lm.inference.engine import Engine
    from lm.inference.requests import Request
    from lm.inference.sampling import Sampling
    from lm.rl.rollout import seed_of

    options = flags.FLAGS
    talker = load_talker(Path(options.workdir).expanduser(), options.step)
    engine = Engine(talker.model, slots=SLOTS, symbols=talker.tokenizer.vocab_size, steady=True)
    names = ("prompts", "count", "n", "max_tokens", "temperature", "seed")
    begin(
        out / "settings.json",
        {"run": options.workdir, "step": talker.step, **{name: getattr(options, name) for name in names}},
    )

    items: list[tuple[str, Request]] = []
    for problem in problems:
        try:
            asked = request(
                talker.tokenizer,
                problem.turns,
                options.max_tokens,
                Sampling(temperature=options.temperature),
                seed=seed_of(options.seed, "best", problem.id),
                samples=options.n,
                style=talker.style,
            )
            engine.check(asked)
        except UserError as error:  # too long, or with parts that it has no marks for
            set_aside.add(problem.id, str(error), problem.turns[-1].text.encode())
            continue
        items.append((problem.id, asked))
    if not items:
        raise UserError(f"the model can read none of the prompts: {set_aside.summary()}")

    def answer(some: list[tuple[str, Request]]) -> list[Row]:
        groups = replies(engine, talker.tokenizer, [asked for _, asked in some])
        return [
            {"id": id, "texts": [writable(reply.text) for reply in group]}
            for (id, _), group in zip(some, groups, strict=True)
        ]

    return do_rows(out / "answers.jsonl", items, answer, batch=BATCH, name="answering")


def scores(found: Sequence[float | None], shape: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of the answers to each prompt; what could not be judged is as bad as the worst. Raises `UserError` for none."""
    judged = [score for score in found if score is not None]
    if not judged:
        raise UserError("the judge has read none of the answers: lower --max_tokens")
    return np.array([min(judged) if score is None else score for score in found]).reshape(shape)


def by_number(name: str, rewards: Any, gold: Any) -> list[dict[str, Any]]:
    """What the best of 1, 2, 4, ... is worth: the reward model's own view, and how good it really is where that is known."""
    from lm.overoptimization import kl_of_best, mean_of_best

    n = rewards.shape[1]
    return [
        {
            "reward_model": name,
            "n": k,
            "kl": kl_of_best(k),
            "reward": mean_of_best(k, rewards, rewards),
            **({} if gold is None else {"gold": mean_of_best(k, rewards, gold)}),
        }
        for k in sorted({*(2**i for i in range(n.bit_length())), n})
    ]


def told(table: Sequence[dict[str, Any]]) -> str:
    """The table for people."""
    lines = [f"{'best of':>8} {'KL':>6} {'reward':>8} {'gold':>8}  reward model"]
    for row in table:
        gold = f"{row['gold']:8.3f}" if "gold" in row else " " * 8
        lines.append(f"{row['n']:8} {row['kl']:6.2f} {row['reward']:8.3f} {gold}  {row['reward_model']}")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
