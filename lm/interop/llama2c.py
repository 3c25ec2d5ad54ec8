"""The checkpoints and vocabularies of llama2.c (github.com/karpathy/llama2.c): seven integers, then float32 arrays.

Each kind of tensor is there for all layers at once, as (outputs, inputs). An untied output head is announced by a negative
vocabulary size. After the norms come tables of the rotary positions, which are not needed.
"""

import struct
from pathlib import Path

import numpy as np

from data_pipeline.errors import UserError
from data_pipeline.tokenizer_json import BYTE, CONTROL, NORMAL, Piece
from lm.interop.rotary_order import halves
from lm.model.config import ModelConfig, check_model


class Llama2c:
    """The tensors of a llama2.c checkpoint, mapped, under GGUF's names."""

    dtype = "float32"

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(28)
        if len(header) < 28:
            raise UserError(f"{path} is too short for a llama2.c checkpoint: fetch it again")
        width, mlp_width, layers, heads, kv_heads, vocab_size, context = struct.unpack("<7i", header)
        if min(width, mlp_width, layers, heads, kv_heads, abs(vocab_size), context) < 1 or width % heads:
            raise UserError(f"{path} is not a llama2.c checkpoint of version 0 (only those can be read)")
        self.config = ModelConfig(
            vocab_size=abs(vocab_size),
            context_length=context,
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=kv_heads,
            mlp_width=mlp_width,
            norm_epsilon=1e-5,
            activation="swiglu",
            tied_head=vocab_size > 0,
        )
        check_model(self.config)
        kv_width = width // heads * kv_heads
        self._at: dict[str, int] = {}  # offset in floats
        self.shapes: dict[str, tuple[int, ...]] = {}
        end = 0
        for name, shape in (
            ("token_embd", (abs(vocab_size), width)),
            ("blk.{}.attn_norm", (width,)),
            ("blk.{}.attn_q", (width, width)),
            ("blk.{}.attn_k", (kv_width, width)),
            ("blk.{}.attn_v", (kv_width, width)),
            ("blk.{}.attn_output", (width, width)),
            ("blk.{}.ffn_norm", (width,)),
            ("blk.{}.ffn_gate", (mlp_width, width)),
            ("blk.{}.ffn_down", (width, mlp_width)),
            ("blk.{}.ffn_up", (mlp_width, width)),
            ("output_norm", (width,)),
            (None, (context, width // heads)),  # the rotary tables: cosines and sines, each half as wide
            *([("output", (abs(vocab_size), width))] if vocab_size < 0 else []),
        ):
            for layer in range(layers if name and "{}" in name else 1):
                if name:
                    self._at[name.format(layer) + ".weight"] = end
                    self.shapes[name.format(layer) + ".weight"] = shape
                end += int(np.prod(shape, dtype=np.int64))
        if size != 28 + 4 * end:
            raise UserError(
                f"{path} has {size:,} bytes and its header promises {28 + 4 * end:,}: it is damaged, or not a llama2.c "
                "checkpoint of version 0"
            )
        self._floats = np.memmap(path, np.dtype("<f4"), "r", offset=28)

    def read(self, name: str) -> np.ndarray:
        """One tensor, (outputs, inputs), queries and keys in our order of rotary dimensions."""
        shape = self.shapes[name]
        at = self._at[name]
        x = self._floats[at : at + int(np.prod(shape))].reshape(shape)
        heads = {"attn_q": self.config.heads, "attn_k": self.config.kv_heads}.get(name.split(".")[-2])
        return halves(x, heads) if heads else x


def read_vocabulary(path: Path, vocab_size: int) -> list[Piece]:
    """The pieces of a llama2.c `tokenizer.bin`. Raises `UserError` when it does not hold exactly so many."""
    contents = path.read_bytes()
    pieces: list[Piece] = []
    at = 4  # after the longest length
    try:
        while at < len(contents):
            score, length = struct.unpack_from("<fi", contents, at)
            text = contents[at + 8 : at + 8 + length].decode()
            if length < 0 or at + 8 + length > len(contents):
                raise ValueError("it is cut short")
            at += 8 + length
            number = len(pieces)  # <unk>, <s>, </s> and the bytes come first in every Llama vocabulary
            kind = CONTROL if number < 3 else BYTE if number < 259 else NORMAL
            pieces.append(Piece(text.strip() if kind == CONTROL else text, score, kind))
    except (struct.error, ValueError) as error:
        raise UserError(f"{path} is not a vocabulary of llama2.c, or it is damaged ({error})") from None
    if len(pieces) != vocab_size or [piece.text for piece in pieces[:3]] != ["<unk>", "<s>", "</s>"]:
        raise UserError(f"{path} is not the vocabulary of this model: {len(pieces)} pieces, the model has {vocab_size}")
    return pieces
