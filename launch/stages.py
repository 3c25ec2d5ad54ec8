"""From an experiment to the stage that the loop runs: what kind of data it reads decides which."""

import dataclasses
import json
from pathlib import Path

from jax.sharding import Mesh

from data_pipeline.conversations import ConversationsConfig, PreparedConversations, prepare_conversations
from data_pipeline.errors import UserError
from data_pipeline.foreign_tokenizers import with_special_tokens
from data_pipeline.marks import find_marks
from data_pipeline.prepare import DocumentsConfig, PreparedDocuments, prepare
from data_pipeline.problems import prepare_problems
from data_pipeline.rankings import JOKES, PreparedRankings, RankingsConfig, prepare_rankings
from data_pipeline.school.lookups import library
from data_pipeline.school.world import build_world
from data_pipeline.sources import of_school
from data_pipeline.tokenizer import load_tokenizer
from data_pipeline.tools.python import python_tool
from data_pipeline.tools.search import search_tool
from launch.reward_models import fingerprint, load_reward_model
from launch.start_from import make_start, tokenizer_in
from launch.teacher import load_teacher, teacher_identity
from launch.upstream import Upstream, check_reads
from launch.workdir import load_model, started
from lm import processes
from lm.assistant import Toolbox
from lm.experiment import Experiment
from lm.finetuning import finetuning
from lm.practice import PracticeConfig
from lm.preferences import preferences
from lm.pretraining import pretraining
from lm.rl.stage import PreparedProblems, practice
from lm.rl.telling import rater_ceiling, tell_jokes
from lm.stage import Stage

Data = DocumentsConfig | ConversationsConfig | PracticeConfig | RankingsConfig
Prepared = PreparedDocuments | PreparedConversations | PreparedProblems | PreparedRankings


def prepare_data(experiment: Experiment, workdir: Path, upstream: Upstream, cache: Path) -> Prepared:
    """What the run reads, in tokens: by `data.tokenizer`, or by the tokenizer of the run itself or of the one it starts from.

    Raises `UserError` when that cannot be read, or the tokenizer has more symbols than the model.
    """
    data, base = experiment.data, upstream.base
    folder = workdir if started(workdir) else base
    named = "" if folder is None or not experiment.start_from else str(folder / "tokenizer")
    if isinstance(data, DocumentsConfig):
        data = dataclasses.replace(data, tokenizer=data.tokenizer or named)
        return prepare(data, experiment.model.vocab_size, cache)
    known = tokenizer_in(folder) if named and folder else None
    if isinstance(data, PracticeConfig):
        assert known is not None  # practice starts from a run
        models = {}
        for name, judge in upstream.reward_models.items():
            check_reads("data.taste.models", judge, known, experiment.model.context_length)
            models[f"the reward model {name}"] = fingerprint(judge)
        if upstream.teacher:
            check_reads("data.teacher", upstream.teacher, known, experiment.model.context_length)
            models["the teacher"] = teacher_identity(upstream.teacher)
        return PreparedProblems(prepare_problems(data.problems, workdir / "problems_set_aside.jsonl"), known, models)
    if isinstance(data, RankingsConfig):
        tokenizer = load_tokenizer(Path(data.tokenizer).expanduser()) if data.tokenizer else known
        assert tokenizer is not None  # it starts from a run
        if JOKES in data.sources and base:  # anew, until the run has started: it may have been told otherwise since
            processes.first_does(lambda: _rank_jokes(data, experiment.seed, base, workdir))
        return prepare_rankings(data, tokenizer, data.row_length or experiment.model.context_length, workdir)
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


def make_stage(experiment: Experiment, prepared: Prepared, upstream: Upstream, mesh: Mesh, workdir: Path) -> Stage:
    """The stage of a run in `workdir`."""
    start = make_start(upstream.base, experiment, prepared.tokenizer) if upstream.base else None
    if isinstance(prepared, PreparedDocuments):
        return pretraining(experiment, prepared, mesh, start)
    if isinstance(prepared, PreparedProblems):
        toolbox = practice_toolbox(experiment.data)
        models = [load_reward_model(folder, mesh) for folder in upstream.reward_models.values()]
        teacher = load_teacher(upstream.teacher, mesh) if upstream.teacher else None
        return practice(experiment, prepared, mesh, start, toolbox, workdir, models, teacher)
    if isinstance(prepared, PreparedRankings):
        return preferences(experiment, prepared, mesh, start)
    return finetuning(experiment, prepared, mesh, start, school_toolbox(experiment.data))


def _rank_jokes(data: RankingsConfig, seed: int, base: Path, workdir: Path) -> None:
    """WORKDIR/rankings.jsonl, all of it or nothing."""
    model, tokenizer, _ = load_model(base)
    others = [load_model(Path(folder).expanduser()) for folder in data.jokes.tellers]
    for folder, (_, its, _) in zip(data.jokes.tellers, others, strict=True):
        if its.fingerprint != tokenizer.fingerprint:
            raise UserError(f"data.jokes.tellers: {folder} has another tokenizer than {base}")
    rows = tell_jokes([model, *(each for each, _, _ in others)], tokenizer, data.jokes, data.school, seed)
    temporary = workdir / "rankings.jsonl.tmp"
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    temporary.replace(workdir / "rankings.jsonl")
    print(
        f"jokes told and ranked: {sum(len(row['responses']) for row in rows):,}; the rater's own taste is right about "
        f"{rater_ceiling(rows):.1%} of the held-out pairs",
        flush=True,
    )


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
