"""TensorFlow Datasets stored as ArrayRecord, written and read here without TensorFlow."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipeline.errors import UserError
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_rows
from data_pipeline.tfds_source import SOURCE, read_tfds, tfds_fingerprint

TEXTS = [f"Text number {i}, é." for i in range(10)]


def write(
    folder: Path, name: str, rows: list[dict], features: dict, version: str = "1.0.0", file_format: str = "array_record"
) -> None:
    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _: object) -> dict:
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict]]:
            yield from enumerate(rows)

    Tiny.name = name
    Tiny(data_dir=folder, file_format=file_format).download_and_prepare()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    text = tfds.features.Text()
    rows = [{"text": each, "title": "t", "n": i} for i, each in enumerate(TEXTS)]
    write(folder, "tiny_documents", rows, {"text": text, "title": text, "n": np.int32})
    write(folder, "tiny_one_string", [{"story": each, "n": 0} for each in TEXTS], {"story": text, "n": np.int32})
    write(folder, "tiny_two_strings", [{"a": "x", "b": "y"}], {"a": text, "b": text})
    write(folder, "tiny_numbers", [{"n": 0, "many": ["x"]}], {"n": np.int32, "many": tfds.features.Sequence(text)})
    write(folder, "tiny_flaws", [{"text": "good"}, {"text": " "}, {"text": b"\xff"}], {"text": text})
    return folder


@pytest.fixture(autouse=True)
def _in_data_dir(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))


def read(source: str, folder: Path) -> list[str]:
    return [document.text for document in read_tfds(source, SetAside(folder / "aside.jsonl"))]


@pytest.mark.parametrize(
    ("source", "name", "split"),
    [
        ("tfds:lm1b", "lm1b", None),
        ("tfds:lm1b:test", "lm1b", "test"),
        ("tfds:wiki40b/en:1.3.0", "wiki40b/en:1.3.0", None),
        ("tfds:wiki40b/en:1.*.*:train[:10%]", "wiki40b/en:1.*.*", "train[:10%]"),
        ("tfds:lm1b:train[5:10]+test", "lm1b", "train[5:10]+test"),
    ],
)
def test_names_versions_and_splits_are_told_apart(source: str, name: str, split: str | None) -> None:
    parsed = SOURCE.fullmatch(source)
    assert parsed
    assert (parsed["name"], parsed["split"]) == (name, split)


def test_reads_the_text_feature_or_the_only_string(tmp_path: Path) -> None:
    assert sorted(read("tfds:tiny_documents", tmp_path)) == TEXTS
    assert sorted(read("tfds:tiny_one_string:test", tmp_path)) == TEXTS
    assert read("tfds:tiny_documents", tmp_path) == read("tfds:tiny_documents:1.0.0:train", tmp_path)
    assert read("tfds:tiny_documents:train[:30%]", tmp_path) == read("tfds:tiny_documents", tmp_path)[:3]
    first = next(read_tfds("tfds:tiny_documents", SetAside(tmp_path / "aside.jsonl")))
    assert first.id == "tfds:tiny_documents/1.0.0:train#0"


def test_rows_that_are_not_text_are_set_aside(tmp_path: Path) -> None:
    set_aside = SetAside(tmp_path / "aside.jsonl")
    assert [document.text for document in read_tfds("tfds:tiny_flaws", set_aside)] == ["good"]
    assert set_aside.counts == {"invalid UTF-8": 1, "empty text": 1}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tfds:", "is not tfds:NAME"),
        ("tfds:tiny_numbrs", r'is not prepared in .*: prepare it with tfds.builder\("tiny_numbrs", file_format="array'),
        ("tfds:tiny_documents:2.0.0", "is not prepared"),
        ("tfds:tiny_documents:validation", "has the splits (train, test|test, train): Unknown split"),
        ("tfds:tiny_documents:train[", "has the splits .*train"),
        ("tfds:tiny_two_strings", r"no feature named text, and several strings \(a, b\)"),
        ("tfds:tiny_numbers", r"no feature named text, and no string \(many, n\)"),
        ("tfds:some where", "tfds:some where"),
    ],
)
def test_messages(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(source, tmp_path)
    assert "\n" not in str(caught.value)


def test_other_file_formats_are_refused(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(data_dir / "tiny_documents", tmp_path / "tiny_documents")
    info = tmp_path / "tiny_documents" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match="is stored as tfrecord, not as array_record: prepare it with"):
        read("tfds:tiny_documents", tmp_path)


def test_the_fingerprint_follows_name_version_split_and_counts(data_dir: Path, tmp_path: Path) -> None:
    text = tfds.features.Text()
    before = tfds_fingerprint("tfds:tiny_documents")
    assert before == tfds_fingerprint("tfds:tiny_documents:1.0.0:train")
    others = [tfds_fingerprint(f"tfds:{rest}") for rest in ("tiny_documents:test", "tiny_documents:train[:5]")]
    write(tmp_path, "tiny_documents", [{"text": "t"}] * 10, {"text": text}, version="2.0.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(tmp_path))
        others.append(tfds_fingerprint("tfds:tiny_documents"))
    assert len({before, *others}) == 4


def test_tensorflow_is_never_imported(data_dir: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from data_pipeline.tfds_source import read_tfds, tfds_fingerprint\n"
        "from data_pipeline.set_aside import SetAside\n"
        "assert len(list(read_tfds('tfds:tiny_documents', SetAside(pathlib.Path('unused'))))) == 10\n"
        "tfds_fingerprint('tfds:tiny_documents')\n"
        "assert 'tensorflow_datasets' in sys.modules and 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_rows_are_plain_values_and_bad_ones_are_set_aside(tmp_path: Path) -> None:
    set_aside = SetAside(tmp_path / "aside.jsonl")
    (only,) = read_rows("tfds:tiny_numbers:test", set_aside)
    assert only == ("tfds:tiny_numbers/1.0.0:test#0", {"n": 0, "many": ["x"]})
    assert type(only[1]["n"]) is int
    assert [row["text"] for _, row in read_rows("tfds:tiny_flaws", set_aside)] == ["good", " "]
    assert set_aside.counts == {"invalid UTF-8": 1}
    with pytest.raises(UserError, match="is not prepared in"):
        read_rows("tfds:nothing_like_it", set_aside)
