"""Both sides of the generation benchmark answer the same requests with the same tokens, and its loads are what it says."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the generation benchmark is not tested")
pytest.importorskip("transformers", reason="transformers is not installed: the generation benchmark is not tested")

import generation  # noqa: E402
from generation_sides import Load, answer, for_generation, ours, peer, peer_answer, read_bandwidth  # noqa: E402
from side_by_side import ROOT  # noqa: E402
from torch_peer import model_of  # noqa: E402

from lm.inference.engine import Engine  # noqa: E402
from lm.model.presets import gpt2  # noqa: E402

TOY = replace(gpt2(2, 32, 2), vocab_size=64, context_length=64, compute_dtype="float32", init_std=0.2)
LOAD = Load(((1, 2, 3, 4, 5), (6,), (7, 8, 9), (10, 11), (12, 13, 14, 15)), (3, 9, 1, 12, 7), rows=2)


def test_same_weights_write_the_same_tokens_padded_or_not(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "parity")
    import copying

    torch.manual_seed(1)
    theirs = for_generation(model_of(TOY))
    for parameter in theirs.parameters():
        parameter.data *= 8  # far from uniform, so that rounding decides nothing
    arrays = {name: parameter.detach().numpy() for name, parameter in theirs.named_parameters()}
    engine = Engine(copying.build(TOY, copying.from_gpt2(arrays, TOY.layers)), slots=LOAD.rows)
    written = answer(engine, LOAD)
    assert tuple(map(len, written)) == LOAD.wanted
    assert len({token for tokens in written for token in tokens}) > 5
    assert peer_answer(theirs, LOAD) == written


def test_both_sides_count_what_was_asked_for_and_nothing_else():
    for work in (ours(TOY, LOAD), peer(TOY, LOAD)):
        assert work.tokens == 3 + 9 + 1 + 12 + 7
        work.step()  # raises where an answer has another length
        work.finish()


def test_loads_are_seeded_and_fit_the_model():
    for size in generation.sizes("float32").values():
        mixed = generation.load_of(size, "mixed")
        assert mixed == generation.load_of(size, "mixed")
        assert (len(mixed.prompts), mixed.rows) == (size.requests, 32)
        assert (min(map(len, mixed.prompts)), min(mixed.wanted)) >= (8, size.shortest)
        assert max(map(len, mixed.prompts)) <= 96
        assert max(mixed.wanted) <= size.longest
        equal = generation.load_of(size, "3")
        assert [len(prompt) for prompt in equal.prompts] == [size.prompt] * 3
        assert equal.wanted == (size.answer,) * 3
        longest = max(len(p) + n for p, n in zip(mixed.prompts, mixed.wanted, strict=True))
        assert longest <= size.model.context_length


def test_bytes_read_for_a_token():
    known, half = generation.sizes("float32"), generation.sizes("bfloat16")
    assert generation.bytes_read(known["124m"].model) == 4 * (124_439_808 - 1024 * 768)
    assert generation.bytes_read(half["124m"].model) == 2 * (124_439_808 - 1024 * 768)


def test_a_bandwidth_is_one_that_a_machine_can_have():
    assert 1e9 < read_bandwidth() < 1e13
