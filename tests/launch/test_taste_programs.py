"""The chain of taste as a user runs it: an assistant tells jokes, a reward model learns the rater, the assistant pleases it."""

import html
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from programs import SMALL_MODEL, run

from data_pipeline.taste import gold, rank
from lm.metrics import read_json_lines

SCHOOL = ("--config.data.school.people=20", "--config.data.school.arithmetic_documents=50")
QUICK = ("--config.batch_size=4", "--config.optimizer.warmup_steps=1", "--config.evaluate.every=0")
JOKES = (
    "--config.data.jokes.prompts=12",
    "--config.data.jokes.held_out=4",
    "--config.data.jokes.samples=3",
    "--config.data.jokes.tokens=12",
)


def train(folder: Path, name: str, experiment: str, *arguments: str, code: int = 0) -> str:
    given = (f"--config=experiments/{experiment}", f"--workdir={folder / name}", *SMALL_MODEL, *QUICK, *arguments)
    found, output = run("launch.train", *given, log=folder / "log")
    assert found == code, output
    assert "Traceback" not in output
    return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With an assistant, and two reward models that learnt from its jokes."""
    folder = tmp_path_factory.mktemp("taste")
    base = ("--config.steps=2", "--config.sample.prompts=()", *SCHOOL)
    train(folder, "base", "pretrain/tiny.py", *base)
    start = (*base, f"--config.start_from={folder / 'base'}", "--config.questions.topics=()")
    train(folder, "assistant", "sft/tiny.py", *start)
    for name, loss in (("reward", "bradley_terry"), ("another", "plackett_luce")):
        train(folder, name, f"reward/tiny.py:{loss}", *reward_arguments(folder))
    return folder


def reward_arguments(folder: Path) -> tuple[str, ...]:
    return ("--config.steps=3", f"--config.start_from={folder / 'assistant'}", *JOKES)


def rlhf_arguments(folder: Path, models: tuple[str, ...]) -> tuple[str, ...]:
    return (
        f"--config.start_from={folder / 'assistant'}",
        f"--config.data.taste.models={tuple(str(folder / model) for model in models)!r}",
        "--config.steps=2",
        "--config.data.prompts=4",
        "--config.data.tokens=12",
        "--config.data.problems.held_out=4",
    )


def rlhf(folder: Path, models: tuple[str, ...], name: str, *more: str, code: int = 0) -> str:
    return train(folder, name, "rlhf/tiny.py", *rlhf_arguments(folder, models), *more, code=code)


def test_a_reward_model_learns_from_rankings_that_are_kept(folder):
    rows = read_json_lines(folder / "reward" / "rankings.jsonl")
    assert len(rows) == 16
    assert sum(row["held_out"] for row in rows) == 4
    assert all(sorted(row["ranks"]) == list(range(len(row["responses"]))) for row in rows)
    assert (folder / "another" / "rankings.jsonl").read_bytes() == (folder / "reward" / "rankings.jsonl").read_bytes()
    (last,) = read_json_lines(folder / "reward" / "evaluations.jsonl")
    assert last["score_std"] > 0
    assert "pair_accuracy" in last
    code, output = run("launch.report", f"--workdir={folder / 'reward'}", log=folder / "log")
    assert code == 0, output
    assert "the rater's own taste" in html.unescape((folder / "reward" / "report.html").read_text())


def test_the_assistant_pleases_two_reward_models_and_goes_on(folder):
    output = rlhf(folder, ("reward", "another"), "pleasing")
    assert output.count("reward model: ") == 2
    before = (folder / "pleasing" / "metrics.jsonl").read_bytes()
    steps = read_json_lines(folder / "pleasing" / "metrics.jsonl")
    assert [step["step"] for step in steps] == [1, 2]
    assert steps[0]["doubt"] > 0
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-3)
    evaluations = read_json_lines(folder / "pleasing" / "evaluations.jsonl")
    assert [each["loss"] for each in evaluations] == [-each["gold"] for each in evaluations]
    assert "resuming after step 2 of 2" in rlhf(folder, ("reward", "another"), "pleasing")
    assert (folder / "pleasing" / "metrics.jsonl").read_bytes() == before
    code, output = run("launch.report", f"--workdir={folder / 'pleasing'}", log=folder / "log")
    assert code == 0, output
    assert "It learns to please" in (folder / "pleasing" / "report.html").read_text()


def test_the_assistant_learns_without_a_reward_model(folder):
    train(folder, "dpo", "rlhf/dpo.py:kto", *reward_arguments(folder))
    steps = read_json_lines(folder / "dpo" / "metrics.jsonl")
    assert len(steps) == 3
    assert steps[0]["pair_margin"] == pytest.approx(0, abs=1e-4)  # it is its own reference


def test_the_best_of_n_and_how_far_a_reward_model_can_be_pleased(folder):
    """The table against the answers that are kept, read by a loop; the answers of a killed start are not asked again."""
    out, runs = folder / "best-of", folder / "sweep"
    models = f"--reward={folder / 'reward'},{folder / 'another'}"
    arguments = (f"--workdir={folder / 'assistant'}", models, "--count=5", "--n=3", "--max_tokens=12", f"--out={out}")
    rule = "--rule=data_pipeline.taste:gold"
    code, output = run("launch.best_of", *arguments, rule, log=folder / "log")
    assert code == 0, output
    rows, best = read_json_lines(out / "answers.jsonl"), read_json_lines(out / "best.jsonl")
    asked = {row["id"]: row["prompt"] for row in best}
    table = json.loads((out / "best_of.json").read_text())
    assert [(row["reward_model"], row["n"]) for row in table] == [
        (str(folder / name), n) for name in ("reward", "another") for n in (1, 2, 3)
    ]
    golds = [[gold(asked[row["id"]], text) for text in row["texts"]] for row in rows]
    assert table[0]["gold"] == pytest.approx(np.mean(golds))
    chosen = {row["id"]: gold(row["prompt"], row["text"]) for row in best}
    assert table[2]["reward"] == pytest.approx(np.mean([row["reward"] for row in best]))
    if all(len(set(row["texts"])) == 3 for row in rows):
        assert table[2]["gold"] == pytest.approx(np.mean(list(chosen.values())))
    whole = (out / "answers.jsonl").read_text()
    (out / "answers.jsonl").write_text("".join(whole.splitlines(keepends=True)[:2]) + '{"id": "jo')
    code, output = run("launch.best_of", *arguments, rule, log=folder / "log")
    assert code == 0, output
    assert (out / "answers.jsonl").read_text() == whole

    pleasing = ("--config=experiments/rlhf/tiny.py", *SMALL_MODEL, *QUICK, *rlhf_arguments(folder, ("reward",)))
    swept = ("--sweep=seed=0,1", "--parallel=2", f"--workdir={runs}", f"--cache={folder / 'cache'}")
    code, output = run("launch.sweep", *pleasing, *swept, log=folder / "log")
    assert code == 0, output
    code, output = run("launch.overoptimization", f"--workdir={runs}", f"--best_of={out}", log=folder / "log")
    assert code == 0, output
    fitted = json.loads((runs / "overoptimization.json").read_text())
    assert [(each["way"], each["reward_model"]) for each in fitted] == [
        ("RL", str(folder / "reward")),
        ("RL", str(folder / "reward")),
        ("best of n", str(folder / "reward")),
        ("best of n", str(folder / "another")),
    ]
    evaluations = read_json_lines(runs / "000-seed=0" / "evaluations.jsonl")
    assert fitted[0]["last_gold"] == pytest.approx(evaluations[-1]["gold"] - evaluations[0]["gold"])
    assert fitted[2]["last_gold"] == pytest.approx(table[2]["gold"] - table[0]["gold"])
    assert (runs / "overoptimization.png").stat().st_size > 10_000
    for program, given, told in (
        ("best_of", (*arguments, "--n=4"), "begun with other settings: n (3, now 4)"),
        ("best_of", (*arguments, "--rule=no.module:f"), "write rule:MODULE:FUNCTION"),
        ("best_of", arguments[:1], "--reward is missing"),
        ("overoptimization", (f"--workdir={folder / 'nothing'}",), "holds no runs"),
        ("overoptimization", (f"--workdir={runs}", f"--best_of={folder}"), "run launch.best_of first"),
    ):
        code, output = run(f"launch.{program}", *given, log=folder / "log")
        assert code == 2, output
        assert told in output
        assert "Traceback" not in output


def test_a_prompt_that_is_too_long_is_set_aside(folder):
    prompts, out = folder / "prompts.txt", folder / "best-of-some"
    models = (f"--workdir={folder / 'assistant'}", f"--reward={folder / 'reward'}")
    arguments = (*models, f"--prompts={prompts}", "--n=2", "--max_tokens=4", f"--out={out}")
    long = "goat " * 2_000
    prompts.write_text(f"{long}\n")
    code, output = run("launch.best_of", *arguments, log=folder / "log")
    assert code == 2, output
    assert "the model can read none of the prompts: set aside 1 row" in output
    assert "Traceback" not in output

    prompts.write_text(f"Tell a joke.\n{long}\nAnother.\n")
    code, output = run("launch.best_of", *arguments, log=folder / "log")
    assert code == 0, output
    assert "set aside 1 row" in output
    # Prompts are shuffled by the source's name, here a path that differs from run to run.
    assert {row["prompt"] for row in read_json_lines(out / "best.jsonl")} == {"Tell a joke.", "Another."}
    (row,) = read_json_lines(out / "set_aside.jsonl")
    assert "shorten it" in row["reason"]
    assert row["raw"].strip() == long.strip()


def test_accuracy_on_a_file_of_pairs_by_subset(folder):
    """Against rewards that launch.best_of tells of the same texts, a pair at a time."""
    best = read_json_lines(folder / "best-of" / "best.jsonl")  # each is the best of three by the first reward model
    answers = {row["id"]: row["texts"] for row in read_json_lines(folder / "best-of" / "answers.jsonl")}
    rows = []
    for number, row in enumerate(best):
        other = next(text for text in answers[row["id"]] if text != row["text"])
        told_right = number != 1
        pair = (row["text"], other) if told_right else (other, row["text"])
        subset = "even" if number % 2 == 0 else "odd"
        rows.append({"prompt": row["prompt"], "chosen": pair[0], "rejected": pair[1], "subset": subset})
    rows += [{"prompt": "?", "chosen": "x " * 300, "rejected": "y", "subset": "odd"}, {"chosen": "?"}]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = (f"--reward={folder / 'reward'}", f"--set_aside={folder / 'aside.jsonl'}")
    code, output = run("launch.reward_accuracy", *arguments, f"--rankings={path}", "--by=subset", log=folder / "log")
    assert code == 0, output
    lines = [line.split() for line in output.splitlines()]
    assert [line[:2] for line in lines if line[-1] in ("even", "odd", "all")] == [
        ["3", "100.0%"],
        ["2", "50.0%"],
        ["5", "80.0%"],
    ]
    assert "75.0%" in output
    assert len(read_json_lines(folder / "aside.jsonl")) == 2
    # Over all moods of the rater: as often as its ranks, drawn again and again, have them in the order of the rewards.
    kept = [row for row in read_json_lines(folder / "reward" / "rankings.jsonl") if row["held_out"]]
    noise = ("--held_out", "--noise=0.45", f"--rankings={folder / 'reward' / 'rankings.jsonl'}")
    code, output = run("launch.reward_accuracy", *arguments, *noise, log=folder / "log")
    assert code == 0, output
    lines = output.splitlines()
    rng, shares = np.random.default_rng(0), []
    for row in kept:
        gold_, n = row["gold"], len(row["gold"])
        pairs = [(i, j) for i in range(n) for j in range(i)]
        drawn = np.array([rank(gold_, 0.45, rng) for _ in range(2000)])
        shares.append(np.mean([[(d[i] < d[j]) == (gold_[i] > gold_[j]) for i, j in pairs] for d in drawn]))
    (ceiling,) = (line for line in lines if line.endswith("the rater's own taste"))
    assert float(ceiling.split()[0].rstrip("%")) / 100 == pytest.approx(np.mean(shares), abs=0.03)
    assert any(line.split()[0] == str(len(kept)) for line in lines if line.endswith("all"))
    path.write_text("{}\n")
    code, output = run("launch.reward_accuracy", *arguments, f"--rankings={path}", log=folder / "log")
    assert code == 2, output
    assert "holds no ranking" in output


def test_two_tell_jokes_in_turns_and_the_best_is_imitated(folder):
    tellers = (f"--config.data.jokes.tellers=({str(folder / 'base')!r},)", "--config.data.jokes.held_out=257")
    train(folder, "mixed", "reward/tiny.py", *reward_arguments(folder), *tellers, "--config.steps=1")
    alone, mixed = (read_json_lines(folder / name / "rankings.jsonl") for name in ("reward", "mixed"))
    first, again = mixed[12], mixed[12 + 255]  # there are 255 prompts that are held out
    assert first["prompt"] == again["prompt"] != mixed[13]["prompt"]
    assert first["responses"] != again["responses"]
    assert mixed[0]["responses"][0] == alone[0]["responses"][0]
    assert mixed[0]["responses"] != alone[0]["responses"]
    chosen = f"--config.data.sources=('best:{folder / 'reward' / 'rankings.jsonl'}',)"
    output = train(
        folder,
        "imitating",
        "rlhf/imitation.py",
        f"--config.start_from={folder / 'assistant'}",
        chosen,
        "--config.steps=1",
    )
    assert "12 conversations" in output


def test_mistakes_are_told_in_a_line(folder):
    def refused(*models: str) -> str:
        output = rlhf(folder, models, "refused", code=2)
        (line,) = (line for line in output.splitlines() if line.startswith("error: "))
        return line

    assert "holds no run" in refused("nowhere")
    assert "holds no reward model" in refused("assistant")
    shutil.copytree(folder / "reward", folder / "shorter", dirs_exist_ok=True)
    config = json.loads((folder / "shorter" / "config.json").read_text())
    config["model"]["context_length"] = 64
    (folder / "shorter" / "config.json").write_text(json.dumps(config))
    assert "has a context of 64 tokens, the policy one of 256" in refused("shorter")
    shutil.copytree(folder / "reward", folder / "foreign", dirs_exist_ok=True)
    shutil.rmtree(folder / "foreign" / "tokenizer")
    another_school = (SCHOOL[1], "--config.data.school.people=25")
    train(folder, "other-words", "pretrain/tiny.py", "--config.steps=1", "--config.sample.prompts=()", *another_school)
    shutil.copytree(folder / "other-words" / "tokenizer", folder / "foreign" / "tokenizer")
    assert "has another tokenizer" in refused("foreign")


def test_a_reward_model_that_changed_ends_the_run(folder):
    rlhf(folder, ("reward",), "going-on", "--config.steps=1")
    shutil.copytree(folder / "reward", folder / "before", dirs_exist_ok=True)
    lines = read_json_lines(folder / "reward" / "evaluations.jsonl")
    lines[-1]["score_mean"] += 1.0
    (folder / "reward" / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = rlhf(folder, ("reward",), "going-on", "--config.steps=1", code=2)
    assert "the reward model" in output
    assert "changed since the run" in output
