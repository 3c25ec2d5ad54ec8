"""Other vocabularies as a Hugging Face tokenizer.json: SentencePiece BPE (ours, llama2.c's, GGUF's), GGUF's byte-level BPE.

SentencePiece merges, again and again, the neighbours whose union is the piece of the highest score, the leftmost first. A
tokenizer.json ranks pairs, not pieces. Both do the same if each piece is given one pair only: the last merge when it is
encoded alone. For when a piece comes to be inside a text, all merges within it were made in the same order as if it stood
alone (anything else would have crossed its borders), so no other pair ever makes it. Spaces stay spaces here, not U+2581,
so that a "\u2581" in a text is told from a space.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sentencepiece

from data_pipeline.errors import UserError
from data_pipeline.tokenizer import SPACE_MARK, WHITESPACE_SYMBOLS

NORMAL, BYTE, CONTROL, ALONE = "normal", "byte", "control", "alone"  # ALONE: never merged with what is beside it


@dataclass(frozen=True)
class Piece:
    """One symbol of a SentencePiece vocabulary. Its id is its place in the list."""

    text: str  # spaces as spaces; a byte is <0x41>
    score: float
    kind: str


def from_sentencepiece(contents: bytes) -> str:
    """The tokenizer.json of a `.model` that `train_tokenizer` wrote: the same ids for every text."""
    model = sentencepiece.SentencePieceProcessor(model_proto=contents)
    pieces = []
    for token in range(len(model)):
        text = model.id_to_piece(token)
        if model.is_control(token) or model.is_unknown(token):
            kind = CONTROL
        elif model.is_byte(token):
            kind = BYTE
        else:
            kind = ALONE if text in WHITESPACE_SYMBOLS else NORMAL
        pieces.append(Piece(text.replace(SPACE_MARK, " "), model.get_score(token), kind))
    return from_pieces(pieces)


def from_pieces(pieces: Sequence[Piece]) -> str:
    """The tokenizer.json of a SentencePiece BPE with byte fallback, with nothing normalised and no first space added.

    Raises `UserError` for a vocabulary that is not such a BPE: two pieces of one text or of one score, or bytes missing.
    """
    vocab = {piece.text: token for token, piece in enumerate(pieces)}
    normal = sorted((piece for piece in pieces if piece.kind == NORMAL), key=lambda piece: -piece.score)
    rank = {piece.text: number for number, piece in enumerate(normal)}
    merged = [piece for piece in normal if len(piece.text) > 1]
    if len(vocab) != len(pieces) or len({piece.score for piece in merged}) != len(merged):
        raise UserError("the vocabulary has two pieces of the same text or score: it is not a SentencePiece BPE")
    if sum(piece.kind == BYTE for piece in pieces) != 256:
        raise UserError("the vocabulary has no piece for each byte: a text with other characters would be lost")
    alone = "".join(piece.text for piece in pieces if piece.kind == ALONE)
    return _json(
        vocab,
        [pair for piece in merged if (pair := last_merge(piece.text, rank))],
        [token for token, piece in enumerate(pieces) if piece.kind == CONTROL],
        byte_fallback=True,
        pre_tokenizer=_isolated(f"[{alone}]") if alone else None,
        decoder={"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
    )


def last_merge(text: str, rank: dict[str, int]) -> tuple[str, str] | None:
    """The two pieces that become `text` when it is encoded alone (`rank`: 0 merges first); None when it never does."""
    parts = list(text)
    while len(parts) > 1:
        pairs = [(rank[union], i) for i in range(len(parts) - 1) if (union := parts[i] + parts[i + 1]) in rank]
        if not pairs:
            return None
        _, i = min(pairs)
        if len(parts) == 2:
            return parts[0], parts[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return None


_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# How a byte-level BPE cuts a text into words, by GGUF's name for it (`tokenizer.ggml.pre`).
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _BYTE_LEVEL,
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
    },
}


def from_byte_level(tokens: Sequence[str], merges: Sequence[str], special: Sequence[int], pre_tokenizer: str) -> str:
    """The tokenizer.json of a byte-level BPE: its tokens and merges ("a b") in GPT-2's alphabet, and its special ids.

    Raises `UserError` when it cuts texts in a way that is not known here, or a merge is none.
    """
    if pre_tokenizer not in PRE_TOKENIZERS:
        raise UserError(
            f"tokenizers that cut words as {pre_tokenizer!r} are not supported: {', '.join(PRE_TOKENIZERS)} are"
        )
    pairs = [(merge.partition(" ")[0], merge.partition(" ")[2]) for merge in merges]
    vocab = {token: number for number, token in enumerate(tokens)}
    if broken := next((pair for pair in pairs if not vocab.keys() >= {*pair, "".join(pair)}), None):
        raise UserError(
            f"the vocabulary merges {broken[0]!r} and {broken[1]!r} and does not hold what that takes or gives"
        )
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return _json(
        vocab, pairs, special, byte_fallback=False, pre_tokenizer=PRE_TOKENIZERS[pre_tokenizer], decoder=decoder
    )


def _isolated(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _json(
    vocab: dict[str, int],
    merges: Sequence[tuple[str, str]],
    special: Sequence[int],
    *,
    byte_fallback: bool,
    pre_tokenizer: dict[str, Any] | None,
    decoder: dict[str, Any],
) -> str:
    text_of = {token: text for text, token in vocab.items()}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": token, "content": text_of[token], **flags} for token in special],
            "normalizer": None,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": None,
            "decoder": decoder,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": byte_fallback,
                "ignore_merges": False,
                "vocab": vocab,
                "merges": [list(pair) for pair in merges],
            },
        },
        ensure_ascii=False,
    )
