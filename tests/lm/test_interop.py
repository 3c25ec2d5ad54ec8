"""GGUF's quantized tensors, the shards that we write, and the rotary order, against the weights they were made of."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_models import build, small

from data_pipeline.errors import UserError
from lm.interop.gguf_file import GGUFFile
from lm.interop.huggingface_config import model_of, release_of
from lm.interop.names import LLAMA
from lm.interop.parameters import import_parameters
from lm.interop.safetensors_files import INDEX, SafetensorsFolder, create_safetensors
from lm.model.config import ModelConfig, RopeScaling

gguf = pytest.importorskip("gguf", reason='needs pip install "trivium[convert]"')
safetensors_numpy = pytest.importorskip("safetensors.numpy", reason='needs pip install "trivium[convert]"')

HEADS, KV_HEADS, SIZE, WIDTH, MLP, LAYERS, V = 4, 2, 8, 32, 64, 2, 1100


def weights() -> dict[str, np.ndarray]:
    """A Llama under GGUF's names, (outputs, inputs), heads paired as halves."""
    chance = np.random.default_rng(0)
    shapes = {"token_embd": (V, WIDTH), "output_norm": (WIDTH,), "output": (V, WIDTH)}
    for i in range(LAYERS):
        shapes |= {
            f"blk.{i}.attn_norm": (WIDTH,),
            f"blk.{i}.attn_q": (HEADS * SIZE, WIDTH),
            f"blk.{i}.attn_k": (KV_HEADS * SIZE, WIDTH),
            f"blk.{i}.attn_v": (KV_HEADS * SIZE, WIDTH),
            f"blk.{i}.attn_output": (WIDTH, HEADS * SIZE),
            f"blk.{i}.ffn_norm": (WIDTH,),
            f"blk.{i}.ffn_gate": (MLP, WIDTH),
            f"blk.{i}.ffn_up": (MLP, WIDTH),
            f"blk.{i}.ffn_down": (WIDTH, MLP),
        }
    return {f"{name}.weight": chance.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def as_neighbours(x: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order of Meta's files: of each head, 0, 4, 1, 5, 2, 6, 3, 7."""
    order = [head * SIZE + i for head in range(heads) for pair in range(SIZE // 2) for i in (pair, pair + SIZE // 2)]
    return x[order]


def write_gguf(path, kind: str, architecture: str = "llama", **more) -> dict[str, np.ndarray]:
    """A GGUF file with its matrices stored as `kind`; returns what they were made of."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500.0)
    for name, value in more.items():
        writer.add_string(name.replace("_DOT_", "."), value)
    original = weights()
    for name, x in original.items():
        if "attn_q" in name or "attn_k" in name:
            x = as_neighbours(x, HEADS if "attn_q" in name else KV_HEADS)
        stored = gguf.GGMLQuantizationType["F32" if x.ndim == 1 else kind]
        data = gguf.quants.quantize(x, stored)
        writer.add_tensor(name, data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return original


@pytest.mark.parametrize(
    ("kind", "error"),
    [("F32", 0), ("F16", 5e-4), ("BF16", 4e-3), ("Q8_0", 0.01), ("Q5_0", 0.06), ("Q4_0", 0.12), ("Q4_1", 0.12)],
)
def test_gguf_tensors_are_what_they_were_made_of(tmp_path, kind, error):
    original = write_gguf(tmp_path / "a.gguf", kind)
    file = GGUFFile(tmp_path / "a.gguf")
    assert file.shapes == {name: x.shape for name, x in original.items()}
    for name, x in original.items():
        got = file.read(name)
        assert got.dtype == np.float32
        found = np.linalg.norm(got - x) / np.linalg.norm(x)
        assert found <= error, name
        if x.ndim > 1 and error:
            assert found > 0, "nothing was quantized"
    config = file.config
    assert (config.heads, config.kv_heads, config.layers, config.tied_head) == (HEADS, KV_HEADS, LAYERS, False)
    assert (config.rope_theta, config.norm_epsilon) == (500.0, 1e-5)


def test_gguf_that_is_not_supported(tmp_path):
    path = tmp_path / "a.gguf"
    write_gguf(path, "F32", architecture="mamba")
    with pytest.raises(UserError, match="'mamba' are not supported: llama is"):
        GGUFFile(path)
    write_gguf(path, "F32", llama_DOT_rope_DOT_scaling_DOT_type="yarn")
    with pytest.raises(UserError, match="rotary scaling of type 'yarn' is not supported"):
        GGUFFile(path)
    write_gguf(path, "F32")
    with pytest.raises(UserError, match="tokenizers of type None are not supported"):
        GGUFFile(path).tokenizer_json()
    whole = path.read_bytes()
    for contents, said in [(whole[:3000], "is damaged"), (b"GGUF", "is damaged"), (b"", "is not a GGUF file")]:
        path.write_bytes(contents)
        with pytest.raises(UserError, match=said) as caught:
            GGUFFile(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shard_bytes", [10**9, 300])
def test_files_that_we_create_are_read_by_safetensors(tmp_path, dtype, shard_bytes):
    shapes = {"a": (3, 5), "b": (7,), "c": (2, 3, 4), "d": (40, 10), "e": (1,)}
    made = {name: np.random.default_rng(0).standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    mapped = create_safetensors(tmp_path, shapes, dtype, shard_bytes)
    for name, x in made.items():
        mapped[name][...] = x
    del mapped
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == (1 if shard_bytes > 300 else 3)
    theirs = {name: x for file in files for name, x in safetensors_numpy.load_file(file).items()}
    assert theirs.keys() == made.keys()
    assert all(np.array_equal(theirs[name], x) and theirs[name].dtype == x.dtype for name, x in made.items())
    assert (tmp_path / INDEX).exists() == (len(files) > 1)
    folder = SafetensorsFolder(tmp_path)
    assert folder.dtype == dtype
    assert folder.shapes == shapes
    assert all(np.array_equal(folder.read(name), x) for name, x in made.items())


def test_a_disk_without_room_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=99))
    with pytest.raises(UserError, match="has room for 99 bytes and the release takes 100"):
        create_safetensors(tmp_path, {"a": (25,)}, "float32")
    assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_are_refused(tmp_path):
    class Broken:
        dtype = "float32"
        shapes = {"model.norm.weight": (4,)}  # noqa: RUF012

        def read(self, name):
            return np.full(self.shapes[name], np.nan, np.float32)

    config = ModelConfig(vocab_size=2, layers=1, width=4, heads=1, kv_heads=1, mlp_width=4)
    with pytest.raises(UserError, match="the release has no tensor"):
        import_parameters(Broken(), LLAMA, config, tmp_path / "a" / "checkpoints")
    from lm.interop.parameters import export_shapes

    broken = Broken()
    broken.shapes = export_shapes(LLAMA, config)
    with pytest.raises(UserError, match="holds values that are not finite"):
        import_parameters(broken, LLAMA, config, tmp_path / "b" / "checkpoints")


GPT2 = {"model_type": "gpt2", "vocab_size": 50, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}
GPT2 |= {"layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}
QWEN = {"model_type": "qwen3", "vocab_size": 50, "max_position_embeddings": 8, "hidden_size": 8, "num_hidden_layers": 6}
QWEN |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "intermediate_size": 16}
QWEN |= {"rms_norm_eps": 1e-6, "hidden_act": "silu"}


@pytest.mark.parametrize(
    ("values", "changes", "said"),
    [
        (GPT2, {"model_type": "gpt_neox"}, "models of type 'gpt_neox' are not supported: gpt2, llama"),
        (GPT2, {"activation_function": "gelu"}, "activation_function='gelu' is not supported: only 'gelu_new' is"),
        (GPT2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True is not supported"),
        (GPT2, {"n_layer": None}, "value of the wrong type"),
        (GPT2, {"n_head": 3}, "does not divide by"),
        (QWEN, {"hidden_act": "gelu"}, "hidden_act='gelu' is not supported"),
        (QWEN, {"attention_bias": True}, "attention_bias=True and mlp_bias=False is not supported"),
        (QWEN, {"rope_scaling": {"type": "yarn", "factor": 4}}, "rotary scaling of type 'yarn' is not supported"),
        (QWEN, {"rope_parameters": {"partial_rotary_factor": 0.5}}, "a part of each head"),
        (QWEN, {"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "has no 'low_freq_factor'"),
        (QWEN, {"quantization_config": {"bits": 4}}, "quantization_config="),
        (QWEN, {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["linear"] * 6}, "layer_types="),
        (QWEN, {"num_key_value_heads": "many"}, "value of the wrong type"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_config_that_is_not_supported_is_refused_by_name(values, changes, said):
    model_of(values)
    with pytest.raises(UserError, match=said.replace("(", r"\(")) as caught:
        model_of(values | changes)
    assert "\n" not in str(caught.value)


def test_a_config_without_a_value_is_refused():
    for values in (GPT2, QWEN):
        for key in values.keys() - {"activation_function", "hidden_act"}:
            without = {name: value for name, value in values.items() if name != key}
            with pytest.raises(UserError, match=f"{key}" if key != "model_type" else "models of type None"):
                model_of(without)


def test_windows_of_a_part_of_the_layers_are_the_shortest_group():
    sliding = QWEN | {"use_sliding_window": True, "sliding_window": 4}
    assert model_of(sliding | {"layer_types": ["sliding_attention", "full_attention"] * 3}).windows == (4, 0)
    assert model_of(sliding | {"max_window_layers": 4}).windows == (0, 0, 0, 0, 4, 4)
    assert model_of(sliding | {"max_window_layers": 4, "use_sliding_window": False}).windows == (0,)


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": "learned", "norm": "layernorm", "activation": "gelu", "biases": True, "norm_epsilon": 1e-5},
        {"kv_heads": 2, "rope_scaling": RopeScaling(8.0, 1.0, 4.0, 64), "tied_head": False},
        {"biases": True, "rope_scaling": RopeScaling(factor=2.0, kind="linear")},
        {"windows": (5,)},
        {"qkv_biases": True, "windows": (0, 5)},
        {"qk_norm": True, "head_dim": 12, "kv_heads": 1, "param_dtype": "bfloat16"},
    ],
    ids=str,
)
def test_configs_come_back(changes):
    config = small(activation=changes.pop("activation", "swiglu"), **changes)
    values = json.loads(json.dumps(release_of(config, 3)))
    back = model_of(values)
    back.param_dtype = config.param_dtype
    back.head_dim = config.head_dim
    assert back == config


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation": "relu2"}, "activation=relu2"),
        ({"residual_scalars": True}, "residual_scalars=True: none of gpt2"),
        ({"value_embeddings": True}, "value_embeddings=True"),
        ({"logit_soft_cap": 30.0}, "logit_soft_cap=30.0"),
        ({"windows": (4, 0)}, "only qwen2 and qwen3 have windows in some layers"),
        ({"windows": (4, 8), "qk_norm": True}, "releases have one window"),
        ({"qk_norm": True, "qkv_biases": True}, "biases with windows or with QK norm"),
        ({"positions": "learned", "norm": "layernorm", "activation": "gelu"}, "a gpt2 has biases"),
    ],
    ids=str,
)
def test_what_no_family_computes_is_not_written(changes, said):
    with pytest.raises(UserError, match=said):
        release_of(small(**{"activation": "swiglu", **changes}), 0)


def test_parameters_come_back_one_by_one(tmp_path):
    """Saved from NumPy and read leaf by leaf, a model is what it was; a later checkpoint is found by its step."""
    from tiny_models import CONFIGS, abstract

    from lm.checkpoint import find_step, read_parameters, restore_model, save_parameters
    from lm.model.summary import parameter_shapes

    config = CONFIGS["biased"]
    model = build(config)
    import jax

    save_parameters(tmp_path / "checkpoints", jax.tree.map(np.asarray, model))
    reading, step = read_parameters(tmp_path / "checkpoints", abstract(config))
    assert step == 0
    found = dict(reading)
    assert {name: x.shape for name, x in found.items()} == parameter_shapes(config)
    for (_, x), wanted in zip(found.items(), jax.tree.leaves(model), strict=True):
        assert np.array_equal(x, wanted)
    restored, _ = restore_model(tmp_path / "checkpoints", abstract(config))
    assert jax.tree.all(jax.tree.map(np.array_equal, restored, model))
    # A run may train in float32 what was released in bfloat16, and the other way round.
    halved, _ = restore_model(tmp_path / "checkpoints", abstract(replace(config, param_dtype="bfloat16")))
    for x, wanted in zip(jax.tree.leaves(halved), jax.tree.leaves(model), strict=True):
        assert np.array_equal(x, wanted.astype("bfloat16"))
    with pytest.raises(UserError, match="no checkpoint 3"):
        find_step(tmp_path / "checkpoints", 3)
