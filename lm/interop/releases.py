"""Releases in the formats that are known here: opened as one thing, with their tokenizers; and written for Hugging Face."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import UserError
from data_pipeline.tokenizer import Tokenizer, find_tokenizer, load_tokenizer, write_file
from data_pipeline.tokenizer_json import from_pieces, from_sentencepiece
from lm.interop.gguf_file import GGUFFile
from lm.interop.huggingface_config import model_of, release_of
from lm.interop.llama2c import Llama2c, read_vocabulary
from lm.interop.names import GGUF, GPT2, LLAMA
from lm.interop.parameters import Tensors, export_parameters, export_shapes
from lm.interop.safetensors_files import SHARD_BYTES, SafetensorsFolder, create_safetensors
from lm.model.config import ModelConfig

# What goes along with the parameters, both ways, where it is there.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
)
# Tensors of old releases that are no parameters: causal masks, and the rotary frequencies.
NO_PARAMETER = re.compile(
    r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias|model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
)
ROWS = 4096  # compared at a time


@dataclass(frozen=True)
class Release:
    """A model from elsewhere; nothing of its tensors is read yet."""

    format: str
    config: ModelConfig
    tensors: Tensors
    modules: dict[str, str]  # see `lm.interop.names`


def open_release(path: Path) -> Release:
    """A folder in Hugging Face's format, a GGUF file, or a checkpoint of llama2.c (`.bin`).

    Raises `UserError` for what is damaged, or not supported.
    """
    try:
        if path.is_dir():
            return _open_huggingface(path)
        if not path.is_file():
            raise UserError(f"{path}: there is no such folder or file")
        if path.suffix == ".bin":
            llama2c = Llama2c(path)
            return Release("llama2.c", llama2c.config, llama2c, GGUF)
        gguf = GGUFFile(path)
        return Release("GGUF", gguf.config, gguf, GGUF)
    except ModuleNotFoundError as error:
        raise UserError(f'reading {path} needs the {error.name} package: pip install "trivium[convert]"') from None


def _open_huggingface(folder: Path) -> Release:
    file = folder / "config.json"
    if not file.exists():
        raise UserError(f"{folder} has no config.json: name a release's folder, a .gguf file or a llama2.c .bin")
    try:
        values = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): fetch it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{file} is not a release's config")
    config = model_of(values)
    tensors = SafetensorsFolder(folder)
    for name in [name for name in tensors.shapes if NO_PARAMETER.fullmatch(name)]:
        del tensors.shapes[name]
    modules = GPT2 if values["model_type"] == "gpt2" else LLAMA
    if "wte.weight" in tensors.shapes:  # OpenAI's own upload leaves the prefix out
        modules = {ours: theirs.removeprefix("transformer.") for ours, theirs in modules.items()}
    if config.tied_head:
        _leave_out_copy(tensors, f"{modules['token_embedding']}.weight", f"{modules['head']}.weight")
    config.param_dtype = config.compute_dtype = tensors.dtype
    return Release(f"Hugging Face {values['model_type']}", config, tensors, modules)


def _leave_out_copy(tensors: SafetensorsFolder, embedding: str, head: str) -> None:
    """Some files hold a tied head all the same. Raises `UserError` when it is not the embedding."""
    if head not in tensors.shapes or tensors.shapes[head] != tensors.shapes.get(embedding):
        return  # if it is there, it will be told as a tensor without a place
    for start in range(0, tensors.shapes[head][0], ROWS):
        block, other = (tensors.rows(name, start, start + ROWS) for name in (head, embedding))
        if not np.array_equal(block, other):
            raise UserError(
                f"{head} differs from {embedding}, though config.json ties them: tie_word_embeddings is wrong"
            )
    del tensors.shapes[head]


def import_tokenizer(path: Path, release: Release, given: Path | None, folder: Path) -> Tokenizer:
    """Write into a folder of ours the tokenizer of the release at `path`, or the `given` one, and load it.

    Raises `UserError` when there is none, or it cannot be the model's.
    """
    if given and given.suffix == ".bin":
        pieces = read_vocabulary(given, release.config.vocab_size)
        write_file(folder / "tokenizer.json", from_pieces(pieces).encode())
    elif given:
        load_tokenizer(given).save(folder)
    elif isinstance(release.tensors, GGUFFile):
        write_file(folder / "tokenizer.json", release.tensors.tokenizer_json().encode())
        if release.tensors.chat_template:
            write_file(folder / "chat_template.jinja", release.tensors.chat_template.encode())
    elif (path / "tokenizer.json").exists():
        folder.mkdir(parents=True)
        for file in filter(Path.exists, (path / name for name in TOKENIZER_FILES)):
            shutil.copyfile(file, folder / file.name)
    else:
        raise UserError(f"{path} brings no tokenizer.json: name the file of its tokenizer with --tokenizer")
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > release.config.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size:,} symbols and the model {release.config.vocab_size:,}: it is another's"
        )
    return tokenizer


def export_release(
    config: ModelConfig,
    checkpoints: Path,
    step: int | None,
    tokenizer: Path,
    folder: Path,
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Write a checkpoint (None: the newest), with the tokenizer in a folder of ours, for Hugging Face. Returns the step.

    Raises `UserError` for a model that no supported family can compute.
    """
    values = release_of(config, load_tokenizer(tokenizer).document_start)
    export_tokenizer(tokenizer, folder, config.context_length)
    modules = GPT2 if values["model_type"] == "gpt2" else LLAMA
    tensors = create_safetensors(folder, export_shapes(modules, config), config.param_dtype, shard_bytes)
    step = export_parameters(checkpoints, step, config, modules, tensors)
    write_file(folder / "config.json", (json.dumps(values, indent=2) + "\n").encode())
    return step


def export_tokenizer(source: Path, folder: Path, context_length: int) -> None:
    """Write the tokenizer in our folder `source` as `transformers` reads it; a vocabulary of ours gets a tokenizer.json.

    Its special tokens stay what no text can become (`split_special_tokens`). OpenAI's rank files are copied as they are.
    """
    file = find_tokenizer(source)
    if file.name == "tokenizer.model":
        write_file(folder / "tokenizer.json", from_sentencepiece(file.read_bytes()).encode())
    else:
        for name in (file.name, *TOKENIZER_FILES):
            if (source / name).exists():
                shutil.copyfile(source / name, folder / name)
    if (folder / "tokenizer.json").exists() and not (folder / "tokenizer_config.json").exists():
        tokenizer = load_tokenizer(file)
        start = tokenizer.piece(tokenizer.document_start)
        values: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": start,
            "eos_token": start,
            "model_max_length": context_length,
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": True,
        }
        write_file(folder / "tokenizer_config.json", (json.dumps(values, indent=2) + "\n").encode())
