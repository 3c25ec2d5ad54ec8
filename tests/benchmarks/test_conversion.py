"""A conversion takes memory for a few tensors, not for the model."""

import sys

import pytest
from conversion import measure

pytest.importorskip("safetensors", reason='needs pip install "trivium[convert]"')


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="private memory is read from /proc, which only Linux has"
)
def test_memory_of_a_conversion(tmp_path):
    sizes = measure(tmp_path, 300)
    print(sizes)
    assert sizes["the model"] > 250
    for direction in ("in", "out"):
        assert 0 < sizes[f"peak of memory, {direction}"] < 2.5 * sizes["largest parameter"]
        assert sizes[f"peak of memory, {direction}"] < 0.8 * sizes["the model"]
