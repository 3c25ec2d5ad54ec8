"""From runs to the table, the figure and the CSV of what they recite; and what is said when that cannot be."""

import csv
import json
import shutil

import numpy as np
import pytest
from programs import run

from launch.recitation import Asked, Run, data_config, examples, recitation_figure
from lm.recitation import Passage, Recall, Recitation, wilson

STEPS, BATCH, CONTEXT = 12, 4, 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two runs of different width on the same documents, and one that has only begun."""
    folder = tmp_path_factory.mktemp("recitation")
    chance = np.random.default_rng(1)
    rows = [" ".join(chance.choice(list("abcdefgh"), int(n))) for n in chance.integers(20, 60, 40)]
    (folder / "letters.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    for width in (32, 16):
        code, output = run(
            "launch.train",
            "--config=experiments/pretrain/recitation.py",
            f"--workdir={folder / 'sweep' / f'width={width}'}",
            f"--cache={folder / 'cache'}",
            f"--config.data.sources={folder / 'letters.jsonl'}",
            "--config.data.repeats=(0,1,3)",
            "--config.model.vocab_size=280",
            f"--config.model.context_length={CONTEXT}",
            "--config.model.layers=1",
            f"--config.model.width={width}",
            "--config.model.heads=1",
            "--config.model.kv_heads=1",
            "--config.model.mlp_width=16",
            f"--config.steps={STEPS}",
            f"--config.batch_size={BATCH}",
            "--config.optimizer.warmup_steps=2",
            log=folder / "log",
        )
        assert code == 0, output
    begun = folder / "sweep" / "begun"
    begun.mkdir()
    shutil.copy(folder / "sweep" / "width=16" / "config.json", begun)
    return folder


def recite(folder, *arguments: str, log: str = "log") -> tuple[int, str]:
    return run("launch.recitation", *arguments, f"--cache={folder / 'cache'}", log=folder / log)


def refused(folder, *arguments: str) -> str:
    code, output = recite(folder, *arguments)
    assert code == 2, output
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, output
    return lines[0]


def test_a_sweep_becomes_a_table_a_csv_and_a_figure(folder):
    sweep = folder / "sweep"
    code, output = recite(folder, f"--workdir={sweep}", "--prompt_tokens=4", "--tokens=6")
    assert code == 0, output
    assert f"{sweep / 'begun'} has no checkpoint yet and is left out" in output
    assert "reciting: 100%" in output
    assert output.count(" to learn from, ") == 1  # the two runs read the same, which is prepared once
    with (sweep / "recitation.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [line["run"] for line in lines] == ["width=16"] * 3 + ["width=32"] * 3  # from small to large
    assert [line["repeats"] for line in lines] == ["0", "1", "3"] * 2
    documents = [int(line["documents"]) + int(line["left_out"]) for line in lines[:3]]
    held_in = json.loads(next((folder / "cache" / "documents").glob("*/manifest.json")).read_text())["train"]
    assert sum(documents) == held_in["documents"]
    assert max(documents) - min(documents) <= 1
    for line in lines:
        exact = round(float(line["exact"]) * int(line["documents"]))
        assert (float(line["low"]), float(line["high"])) == wilson(exact, int(line["documents"]))
        assert 0 <= float(line["exact"]) <= float(line["before_first_difference"]) <= 1
        assert float(line["times_seen"]) == pytest.approx(int(line["repeats"]) * float(line["epochs"]))
    # Rows of an epoch lie between tokens / CONTEXT and twice that.
    epochs = float(lines[0]["epochs"])
    assert int(lines[0]["step"]) == STEPS
    tokens = (held_in["tokens"] - held_in["documents"]) * 4 / 3  # groups of 0, 1 and 3
    assert STEPS * BATCH * CONTEXT / tokens / 2.2 < epochs < STEPS * BATCH * CONTEXT / tokens * 1.2
    for line in ("share whose 6 tokens after the first 4 are recited exactly", "x0", "[0%, "):
        assert line in output
    assert "  original  '" in output
    assert (sweep / "recitation.png").read_bytes().startswith(b"\x89PNG")


def test_one_run_will_do_and_so_will_few_documents(folder):
    workdir = folder / "sweep" / "width=16"
    code, output = recite(folder, f"--workdir={workdir}", "--prompt_tokens=4", "--tokens=6", "--documents=2")
    assert code == 0, output
    assert "Asked for: 2 x0, 2 x1, 2 x3;" in output
    assert (workdir / "recitation.csv").exists()
    assert (workdir / "recitation.png").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--workdir is missing"),
        (("--workdir=nowhere",), "there is no folder nowhere: check --workdir"),
        (("--workdir=tests",), "tests holds no run and no runs"),
        (("--workdir={sweep}", "--tokens=0"), "--tokens=0: must be at least 1"),
        (("--workdir={sweep}", "--prompt_tokens=-1"), "--prompt_tokens=-1: must be at least 1"),
        (("--workdir={sweep}", "--documents=0"), "--documents=0: must be at least 1"),
        (("--workdir={sweep}", "--tokens=30"), "do not fit the model's context of 32: ask for fewer"),
        (("--workdir={sweep}/begun",), "has a checkpoint yet: train first"),
    ],
)
def test_mistakes(folder, arguments, told):
    assert told in refused(folder, *(argument.format(sweep=folder / "sweep") for argument in arguments))


def changed(folder, name: str, file: str, change) -> str:
    """A copy of a run in which a JSON file was changed."""
    copy = folder / name
    shutil.copytree(folder / "sweep" / "width=16", copy)
    contents = json.loads((copy / file).read_text())
    change(contents)
    (copy / file).write_text(json.dumps(contents))
    return f"--workdir={copy}"


SHORT = ("--prompt_tokens=4", "--tokens=6")


def test_data_that_changed_is_refused(folder):
    workdir = changed(
        folder, "other-data", "data.json", lambda names: names.update({k: "0" for k in names if "/" in k})
    )
    assert "letters.jsonl changed since" in refused(folder, workdir, *SHORT)
    (folder / "other-data" / "data.json").unlink()
    assert "data.json is missing or damaged" in refused(folder, workdir, *SHORT)


def test_runs_that_cannot_be_counted_are_refused(folder):
    workdir = changed(folder, "weighted", "config.json", lambda config: config["data"].update(weights=[1.0]))
    assert "was trained with data.weights" in refused(folder, workdir, *SHORT)
    workdir = changed(folder, "alien", "config.json", lambda config: config["data"].update(colour="red"))
    assert "of another version of this project" in refused(folder, workdir, *SHORT)
    workdir = changed(folder, "empty", "config.json", lambda config: config.clear())
    assert "is not the config of a run" in refused(folder, workdir, *SHORT)


def test_the_config_of_a_run_is_read_back(folder):
    values = json.loads((folder / "sweep" / "width=16" / "config.json").read_text())["data"]
    config = data_config(values)
    assert config.repeats == (0, 1, 3)
    assert isinstance(config.school.frequencies, tuple)
    old = {name: value for name, value in values.items() if name != "repeats"}
    assert data_config(old).repeats == ()


def fabricated(tmp_path, name: str, parameters: int, shares: dict[int, float]) -> Asked:
    recall = [
        Recall(often, 100, 0, share, *wilson(round(share * 100), 100), share / 2 + 0.1)
        for often, share in shares.items()
    ]
    return Asked(Run(tmp_path / name, {}, parameters), 10, 1.0, recall, [], None)


@pytest.mark.parametrize(
    "shares", [{0: 0.0, 1: 0.1, 8: 0.9}, {0: 0.0}, {4: 1.0}, {0: 0.0, **dict.fromkeys(range(1, 14), 0.5)}]
)
def test_every_figure_can_be_drawn(tmp_path, shares):
    asked = [fabricated(tmp_path, "a", 85_000, shares), fabricated(tmp_path, "b", 85_000, shares)]
    recitation_figure(tmp_path / "figure.png", asked, 16, 32)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


class Letters:
    def decode(self, tokens) -> str:
        return "".join(chr(96 + token) for token in tokens)


def test_examples_are_the_least_seen_that_was_recited_and_the_best_that_was_not(tmp_path):
    def one(name: str, often: int, written: list[int]) -> Recitation:
        return Recitation(Passage(name, often, [1, 2], [3, 4, 5]), written)

    recited = [
        one("control", 0, [3, 4, 5]),
        one("often", 9, [3, 4, 5]),
        one("seldom", 2, [3, 4, 5]),
        one("bad", 9, [1]),
        one("better", 9, [3, 1, 1]),
    ]
    asked = Asked(Run(tmp_path, {}, 1), 1, 1.0, [], recited, Letters())
    text = "\n".join(examples(asked))
    assert "seldom, read 2 times an epoch: recited\n    prompt  'ab'\n  original  'cde'\n     model  'cde'" in text
    assert "better, read 9 times an epoch: right for 1 tokens" in text
    assert "control" not in text
    assert examples(Asked(Run(tmp_path, {}, 1), 1, 1.0, [], [], Letters())) == []
