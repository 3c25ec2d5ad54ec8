"""From an experiment to the stage that the loop runs: what kind of data it reads decides which."""

import dataclasses
from pathlib import Path

import jax
from jax.sharding import Mesh

from data_pipeline.conversations import ConversationsConfig, PreparedConversations, prepare_conversations
from data_pipeline.errors import UserError
from data_pipeline.foreign_tokenizers import with_special_tokens
from data_pipeline.marks import find_marks
from data_pipeline.prepare import DocumentsConfig, PreparedDocuments, prepare
from data_pipeline.problems import prepare_problems
from data_pipeline.school.lookups import library
from data_pipeline.school.world import build_world
from data_pipeline.sources import of_school
from data_pipeline.tokenizer import Tokenizer
from data_pipeline.tools.python import python_tool
from data_pipeline.tools.search import search_tool
from launch.start_from import make_start, tokenizer_in
from launch.workdir import load_model, started
from lm.assistant import Toolbox
from lm.experiment import Experiment
from lm.finetuning import finetuning
from lm.model.transformer import Transformer
from lm.practice import PracticeConfig
from lm.pretraining import pretraining
from lm.rl.stage import PreparedProblems, practice
from lm.sharding import tree_shardings
from lm.stage import Stage

Data = DocumentsConfig | ConversationsConfig | PracticeConfig
Prepared = PreparedDocuments | PreparedConversations | PreparedProblems


def prepare_data(experiment: Experiment, workdir: Path, base: Path | None, cache: Path) -> Prepared:
    """What the run reads, in tokens: by `data.tokenizer`, or by the tokenizer of the run itself or of the one it starts from.

    Raises `UserError` when that cannot be read, or the tokenizer has more symbols than the model.
    """
    data = experiment.data
    folder = workdir if started(workdir) else base
    named = "" if folder is None or not experiment.start_from else str(folder / "tokenizer")
    if isinstance(data, DocumentsConfig):
        data = dataclasses.replace(data, tokenizer=data.tokenizer or named)
        return prepare(data, experiment.model.vocab_size, cache)
    known = tokenizer_in(folder) if named and folder else None
    if isinstance(data, PracticeConfig):
        assert known is not None  # practice starts from a run
        return PreparedProblems(prepare_problems(data.problems, workdir / "problems_set_aside.jsonl"), known)
    if known and find_marks(known) is None:
        known = with_special_tokens(known)
    prepared = prepare_conversations(data, known, experiment.model.context_length, cache, experiment.model.vocab_size)
    needed, there = prepared.tokenizer.vocab_size, experiment.model.vocab_size
    if needed > there:
        raise UserError(
            f"the tokenizer has {needed} symbols, the protocol's among them, and model.vocab_size is {there}: "
            f"set --config.model.vocab_size={needed} or more"
        )
    return prepared


def make_stage(experiment: Experiment, prepared: Prepared, base: Path | None, mesh: Mesh, workdir: Path) -> Stage:
    """The stage of a run in `workdir`; `base` is the folder of the run that a new one starts from."""
    start = make_start(base, experiment, prepared.tokenizer) if base else None
    if isinstance(prepared, PreparedDocuments):
        return pretraining(experiment, prepared, mesh, start)
    if isinstance(prepared, PreparedProblems):
        teacher = read_teacher(experiment, prepared.tokenizer, mesh)
        return practice(experiment, prepared, mesh, start, practice_toolbox(experiment.data), workdir, teacher)
    return finetuning(experiment, prepared, mesh, start, school_toolbox(experiment.data))


def read_teacher(experiment: Experiment, ours: Tokenizer, mesh: Mesh) -> Transformer | None:
    """The model of `data.teacher`, if there is one. Raises `UserError` unless it reads the same tokens, and as many."""
    data = experiment.data
    assert isinstance(data, PracticeConfig)  # its problems were prepared
    if not data.teacher:
        return None
    model, tokenizer, step = load_model(Path(data.teacher).expanduser())
    if tokenizer.fingerprint != ours.fingerprint:
        raise UserError(f"data.teacher={data.teacher} has another tokenizer: it must read the policy's tokens")
    if model.config.context_length < experiment.model.context_length:
        raise UserError(
            f"data.teacher={data.teacher} has a context of {model.config.context_length} tokens, the policy one of "
            f"{experiment.model.context_length}: set --config.model.context_length={model.config.context_length}"
        )
    print(f"the teacher: {data.teacher} at step {step}", flush=True)
    return jax.device_put(model, tree_shardings(mesh, model))


def practice_toolbox(data: Data) -> Toolbox | None:
    """Python, where calls are allowed."""
    assert isinstance(data, PracticeConfig)  # its problems were prepared
    return Toolbox((python_tool(),), calls=data.calls) if data.calls else None


def school_toolbox(data: Data) -> Toolbox | None:
    """Python, and a search of the school's library, where the school is what is learnt."""
    assert isinstance(data, ConversationsConfig)  # its conversations were prepared
    if not of_school(data.sources):
        return None
    return Toolbox((python_tool(), search_tool(library(data.school, build_world(data.school)))))
