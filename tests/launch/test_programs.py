"""The programs a user meets, one after the other: train, look, generate, report."""

import gzip
import json
import shlex

import pytest
from programs import run
from test_resume import SMALL, STEPS

from data_pipeline.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    samples = ("--config.sample.every=0", "--config.sample.tokens=4", "--config.sample.prompts=('The',)")
    arguments = (
        *SMALL,
        *samples,
        f"--workdir={folder / 'run'}",
        "--dollars_per_hour=3600",
        "--profile=3:4",
    )
    code, output = run("launch.train", *arguments, log=folder / "log")
    assert code == 0, output
    return folder / "run", output


def test_a_run_leaves_what_it_promises(trained):
    workdir, output = trained
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    assert {"loss", "gradient_norm", "learning_rate", "tokens_per_second", "mfu", "seconds", "dollars"} <= set(
        records[0]
    )
    assert records[-1]["dollars"] == pytest.approx(records[-1]["seconds"], rel=0.05)  # a dollar a second
    assert json.loads((workdir / "config.json").read_text())["steps"] == STEPS
    evaluations = [json.loads(line) for line in (workdir / "evaluations.jsonl").read_text().splitlines()]
    assert [record["step"] for record in evaluations] == [6, 12, 18, 24]
    assert evaluations[-1]["bits_per_byte"] < evaluations[0]["bits_per_byte"]
    samples = [json.loads(line) for line in (workdir / "samples.jsonl").read_text().splitlines()]
    assert {record["step"] for record in samples} == {1, STEPS}
    assert (workdir / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((workdir / "tensorboard").iterdir())
    given = shlex.split((workdir / "command.txt").read_text())
    assert given[:3] == ["python", "-m", "launch.train"]
    assert "--config.sample.prompts=('The',)" in given
    for step in range(1, STEPS + 1):
        assert f"step {step:>2}/{STEPS} | loss " in output


def test_the_trace_of_chosen_steps_holds_their_operations(trained):
    workdir, output = trained
    (file,) = (workdir / "profile").rglob("*.trace.json.gz")
    assert f"trace of steps 3 to 4: {file}" in output
    assert output.index("step  4/") < output.index("trace of steps") < output.index("step  5/")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    assert any(event.get("args", {}).get("hlo_module") == "jit_train_step" for event in events)
    assert list((workdir / "profile").rglob("*.xplane.pb"))  # what TensorBoard reads


def test_tensorboard_can_read_the_scalars(trained):
    from tensorboardX.proto.event_pb2 import Event

    # TFRecord: the length (8 bytes), a checksum of it (4), the event, a checksum of that (4).
    (file,) = (trained[0] / "tensorboard").iterdir()
    contents, at, tags = file.read_bytes(), 0, set()
    while at < len(contents):
        length = int.from_bytes(contents[at : at + 8], "little")
        event = Event.FromString(contents[at + 12 : at + 12 + length])
        tags |= {value.tag for value in event.summary.value}
        at += 12 + length + 4
    assert {"train/loss", "validation/loss"} <= tags


def test_generate_repeats_with_a_seed_and_differs_with_another(trained, tmp_path):
    def text(*arguments: str) -> str:
        common = (f"--workdir={trained[0]}", "--prompt=The city", "--tokens=20", "--temperature=1")
        code, output = run("launch.generate", *common, *arguments, log=tmp_path / "log")
        assert code == 0, output
        return output.partition("\n")[2]

    one = text("--seed=1")
    assert one == text("--seed=1")
    assert one != text("--seed=2")
    assert one.startswith("The city")
    _, *samples = text("--samples=3", "--min_p=1").split("--- ")
    assert len(samples) == 3
    assert len({sample.partition("\n")[2] for sample in samples}) == 1  # of the likeliest token only
    # It ends before the first stop string, wherever in tokens that lies.
    pieces = [one[i : i + 3] for i in range(len("The city") + 2, len(one) - 3)]
    plain = [
        piece for piece in pieces if piece.isascii() and piece.isprintable()
    ]  # bytes that are no text cannot be asked for
    middle, later = plain[0], plain[-1]
    assert one.index(middle, 8) < one.index(later, 8)
    assert text("--seed=1", f"--stop={later}", f"--stop={middle}").rstrip("\n") == one[: one.index(middle, 8)]
    assert text("--top=3").count("->") == 1 + len(
        load_tokenizer(trained[0] / "tokenizer" / "tokenizer.model").encode("The city")
    )


def test_tokenize_looks_through_the_tokenizer_of_a_run(trained, tmp_path):
    code, output = run("launch.tokenize", f"--workdir={trained[0]}", "--text=a <|user_start|> b", log=tmp_path / "log")
    assert code == 0, output
    assert "vocabulary 512" in output


def test_the_report_is_one_file_with_everything_in_it(trained, tmp_path):
    workdir = trained[0]
    code, output = run("launch.report", f"--workdir={workdir}", log=tmp_path / "log")
    assert code == 0, output
    page = (workdir / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2  # the loss, and recall
    assert "token_embedding" in page
    assert "http" not in page  # nothing is fetched
    recall = json.loads((workdir / "recall.json").read_text())
    assert recall[0]["frequency"] == 0
    assert all(0 <= entry["preferred"] <= 1 for entry in recall)
