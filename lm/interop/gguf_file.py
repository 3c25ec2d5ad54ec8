"""GGUF files of the Llama architecture: the model, its tensors (dequantized one by one) and its tokenizer."""

from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import UserError
from data_pipeline.tokenizer import SPACE_MARK
from data_pipeline.tokenizer_json import BYTE, CONTROL, NORMAL, Piece, from_byte_level, from_pieces
from lm.interop.rotary_order import halves
from lm.model.config import ModelConfig, RopeScaling, check_model

ROWS = 1024  # dequantized at a time: the library's own steps take several times what they give
# Token types of llama.cpp.
NORMAL_TYPE, BYTE_TYPE, UNUSED_TYPE = 1, 6, 5


class GGUFFile:
    """The tensors of a GGUF file, mapped, under its own names."""

    dtype = "float32"

    def __init__(self, path: Path) -> None:
        import gguf

        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise UserError(f"{path} is not a GGUF file")
        try:
            reader = gguf.GGUFReader(path)
            self._fields: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        except Exception as error:  # whatever NumPy, the file's end or strange bytes make of it
            raise UserError(f"{path} is damaged, or no GGUF file that can be read ({error}): fetch it again") from None
        self.path = path
        self.shapes = {name: tuple(int(n) for n in reversed(t.shape)) for name, t in self._tensors.items()}
        self.config = self._config()

    def _config(self) -> ModelConfig:
        architecture = self._fields.get("general.architecture")
        if architecture != "llama":
            raise UserError(f"{self.path}: GGUF models of type {architecture!r} are not supported: llama is")

        def get(name: str, *default: Any) -> Any:
            return self._fields.get(f"llama.{name}", *default) if default else self._fields[f"llama.{name}"]

        try:
            width, heads = int(get("embedding_length")), int(get("attention.head_count"))
            head_dim = int(get("attention.key_length", width // heads))
            scaling, factor = get("rope.scaling.type", "none"), float(get("rope.scaling.factor", 1.0))
            config = ModelConfig(
                vocab_size=self.shapes["token_embd.weight"][0],
                context_length=int(get("context_length")),
                layers=int(get("block_count")),
                width=width,
                heads=heads,
                kv_heads=int(get("attention.head_count_kv", heads)),
                head_dim=0 if head_dim * heads == width else head_dim,
                mlp_width=int(get("feed_forward_length")),
                rope_theta=float(get("rope.freq_base", 10_000.0)),
                rope_scaling=RopeScaling(factor=factor, kind="linear") if scaling == "linear" else RopeScaling(),
                norm_epsilon=_short(get("attention.layer_norm_rms_epsilon")),
                activation="swiglu",
                tied_head="output.weight" not in self.shapes,
            )
        except KeyError as error:
            raise UserError(f"{self.path} has no {error.args[0]!r}, which a llama needs") from None
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.path} has a value of the wrong type ({error})") from None
        check_model(config)
        unsupported = {
            f"rotary scaling of type {scaling!r}": scaling not in ("none", "linear"),
            "a table of rotary frequencies (Llama 3.1 and later)": "rope_freqs.weight" in self.shapes,
            "rotary positions on a part of each head": int(get("rope.dimension_count", head_dim)) != head_dim,
            "heads of two widths": int(get("attention.value_length", head_dim)) != head_dim,
            "experts": int(get("expert_count", 0)) > 0,
        }
        for what, found in unsupported.items():
            if found:
                raise UserError(f"{self.path}: {what} is not supported in GGUF files")
        return config

    def read(self, name: str) -> np.ndarray:
        """One tensor, dequantized, (outputs, inputs), queries and keys in our order of rotary dimensions."""
        from gguf import quants

        tensor, shape = self._tensors[name], self.shapes[name]
        rows = tensor.data.reshape(-1, tensor.data.shape[-1])
        x = np.empty((len(rows), shape[-1]), np.float32)
        try:
            for start in range(0, len(rows), ROWS):
                x[start : start + ROWS] = quants.dequantize(rows[start : start + ROWS], tensor.tensor_type)
        except NotImplementedError:
            kind = tensor.tensor_type.name
            raise UserError(f"{self.path}: {name} is quantized as {kind}, which is not supported") from None
        x = x.reshape(shape)
        heads = {"attn_q": self.config.heads, "attn_k": self.config.kv_heads}.get(name.split(".")[-2])
        return halves(x, heads) if heads else x

    def tokenizer_json(self) -> str:
        """Its vocabulary as a tokenizer.json. Raises `UserError` for a kind that is not supported."""
        kind = self._fields.get("tokenizer.ggml.model")
        if kind not in ("gpt2", "llama"):
            raise UserError(f"{self.path}: tokenizers of type {kind!r} are not supported: gpt2 and llama are")
        try:
            tokens: list[str] = self._fields["tokenizer.ggml.tokens"]
            types: list[int] = self._fields["tokenizer.ggml.token_type"]
            if kind == "gpt2":
                special = [token for token, type_ in enumerate(types) if type_ not in (NORMAL_TYPE, UNUSED_TYPE)]
                merges = self._fields["tokenizer.ggml.merges"]
                return from_byte_level(tokens, merges, special, self._fields["tokenizer.ggml.pre"])
            kinds = {NORMAL_TYPE: NORMAL, UNUSED_TYPE: NORMAL, BYTE_TYPE: BYTE}
            scores = self._fields["tokenizer.ggml.scores"]
        except KeyError as error:
            raise UserError(f"{self.path} has no {error.args[0]!r}, which its tokenizer needs") from None
        return from_pieces(
            [
                Piece(text.replace(SPACE_MARK, " "), score, kinds.get(type_, CONTROL))
                for text, score, type_ in zip(tokens, scores, types, strict=True)
            ]
        )

    @property
    def chat_template(self) -> str | None:
        """The Jinja template of its conversations, if it has one."""
        return self._fields.get("tokenizer.chat_template")


def _short(value: float) -> float:
    """A float32 as the shortest decimal number that is the same float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))
