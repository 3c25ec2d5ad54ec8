"""The peer does the same work: as many parameters, as many FLOPs, causal, and it learns."""

import math

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the benchmarks' peer is not tested")
pytest.importorskip("transformers", reason="transformers is not installed: the benchmarks' peer is not tested")

from dataclasses import replace  # noqa: E402

from accelerator import SHAPES, experiment  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from torch_peer import build, model_of, parameter_count  # noqa: E402
from training import pairs  # noqa: E402

from lm import flops  # noqa: E402
from lm.experiment import Experiment  # noqa: E402
from lm.model import summary  # noqa: E402
from lm.model.config import ModelConfig  # noqa: E402
from lm.optimizer import OptimizerConfig  # noqa: E402


def on_meta(config: ModelConfig):
    """The peer's model without numbers in it."""
    with torch.device("meta"):
        return model_of(config)


def our_parameters(config: ModelConfig) -> int:
    return summary.parameter_count(summary.parameter_shapes(config))


@pytest.mark.parametrize("size", ["0.9m", "5m", "124m"])
def test_as_many_parameters_at_the_same_architecture(size):
    pair = pairs()[size]
    assert pair.ours == pair.peer
    assert parameter_count(on_meta(pair.peer.model)) == our_parameters(pair.ours.model)


def test_the_tiny_recipe_meets_a_gpt2_of_its_size():
    pair = pairs()["tiny"]
    theirs, mine = parameter_count(on_meta(pair.peer.model)), our_parameters(pair.ours.model)
    assert theirs == our_parameters(pair.peer.model)
    assert theirs == pytest.approx(mine, rel=0.05)
    shape = ("layers", "width", "mlp_width", "vocab_size", "context_length")
    assert all(getattr(pair.peer.model, name) == getattr(pair.ours.model, name) for name in shape)
    assert (pair.peer.batch_size, pair.peer.model.compute_dtype) == (pair.ours.batch_size, "float32")


@pytest.mark.parametrize("name", SHAPES)
def test_as_many_parameters_on_the_accelerator(name):
    full, toy = experiment(name, rows=0, tiny=False), experiment(name, rows=3, tiny=True)
    assert parameter_count(on_meta(full.model)) == our_parameters(full.model)
    assert (full.batch_size, full.model.context_length) == SHAPES[name]
    assert full.model.compute_dtype == "bfloat16"
    assert toy.batch_size == 3
    assert our_parameters(toy.model) < 200_000


@pytest.mark.parametrize("config", [pairs()["0.9m"].peer.model, experiment("llama3-1b", 0, tiny=True).model])
def test_as_many_flops(config):
    tokens = torch.zeros((2, config.context_length), dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model_of(config)(input_ids=tokens, use_cache=False)
    counted = counter.get_total_flops() / tokens.numel()
    heads = config.heads * config.dim_per_head
    attention = 4.0 * config.layers * config.context_length * heads  # a CPU's fused kernel may not be in its tables
    ours = flops.forward_flops_per_token(config, config.context_length)
    assert counted == pytest.approx(ours, rel=1e-3) or counted == pytest.approx(ours - attention, rel=1e-3)


@pytest.mark.parametrize("config", [pairs()["0.9m"].peer.model, experiment("llama3-1b", 0, tiny=True).model])
def test_its_attention_is_causal_and_sees_all_that_came_before(config):
    torch.manual_seed(0)
    model = model_of(config).eval()
    tokens = torch.randint(0, config.vocab_size, (1, 32))
    changed = tokens.clone()
    changed[0, 16] = (changed[0, 16] + 1) % config.vocab_size
    with torch.no_grad():
        before, after = (model(input_ids=x, use_cache=False).logits[0] for x in (tokens, changed))
    torch.testing.assert_close(before[:16], after[:16])
    differs = (before - after).abs().amax(dim=-1)
    assert (differs[16:] > 0).all()


def test_its_steps_learn_eight_batches_by_heart():
    model = replace(pairs()["0.9m"].peer.model, layers=1, context_length=8, vocab_size=64)
    work = build(Experiment(batch_size=4, model=model, optimizer=OptimizerConfig(learning_rate=1e-3)), compiled=False)
    assert work.tokens == 4 * 8
    for _ in range(120):
        work.step()
    work.finish()  # raises where the loss is not finite
    assert work.facts()["last_loss"] < 0.3 * math.log(64)  # the loss of guessing


def test_what_the_peer_lacks_is_refused():
    with pytest.raises(ValueError, match="no QK norm"):
        model_of(ModelConfig(qk_norm=True))
    with pytest.raises(ValueError, match="GPT-2 or a Llama"):
        model_of(ModelConfig(activation="gelu"))
