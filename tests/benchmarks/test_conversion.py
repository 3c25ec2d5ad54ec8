"""A conversion takes memory for a few tensors, not for the model."""

import sys

import pytest
from conversion import measure

pytest.importorskip("safetensors", reason='needs pip install "trivium[convert]"')


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="private memory is read from /proc, which only Linux has"
)
def test_memory_of_a_conversion(tmp_path):
    sizes = measure(tmp_path, 500)
    print(sizes)
    assert sizes["the model"] > 4 * sizes["largest parameter"]
    for direction in ("in", "out"):
        assert 0 < sizes[f"peak of memory, {direction}"] < 3.8 * sizes["largest parameter"]  # never the model
