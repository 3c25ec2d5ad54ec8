"""What whoever talks with a run must know of it: how its conversations are written, and which tools answer its calls."""

import sys
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.protocol import Style, call_end, default_style
from data_pipeline.school.lookups import library
from data_pipeline.school.world import SchoolConfig, build_world
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import of_school
from data_pipeline.sources import read_documents as read_source
from data_pipeline.tokenizer import Tokenizer
from data_pipeline.tools.python import python_tool
from data_pipeline.tools.search import search_tool
from data_pipeline.tools.tool import Tool
from launch.workdir import load_model, read_config, read_documents, school_of, sources_of
from lm.assistant import Toolbox
from lm.model.transformer import Transformer

AUTO, NONE, PYTHON, SEARCH = "auto", "none", "python", "search"


@dataclass(frozen=True)
class Talker:
    """A run's model, to talk with."""

    model: Transformer
    tokenizer: Tokenizer
    step: int
    style: Style
    school: SchoolConfig | None = None  # what it was finetuned on, if it was

    @property
    def calls(self) -> bool:
        """Whether it can write a tool call."""
        return self.style == "tokens" and call_end(self.tokenizer) is not None


def load_talker(folder: Path, step: int | None = None) -> Talker:
    """A run's model at a checkpoint (None: the newest). Raises `UserError` as `load_model` does.

    A run that read conversations is talked to in special tokens. Any other is a base model of ours, which has never seen
    them in use, or a converted release, of which its vocabulary tells.
    """
    model, tokenizer, step = load_model(folder, step)
    values = read_config(folder)
    if read_documents(values):
        return Talker(model, tokenizer, step, default_style(tokenizer))
    school = school_of(values) if of_school(sources_of(values)) else None
    return Talker(model, tokenizer, step, "tokens", school)


def make_toolbox(talker: Talker, tools: list[str], search: str | None, set_aside: Path) -> Toolbox | None:
    """The tools that `--tools` and `--search` name; None where there are none, or where the model cannot call any.

    "auto": those of the school for a run that was finetuned on it; else Python, and a search where `search` names a source.
    Rows of that source that cannot be used go to the file `set_aside`. Raises `UserError` for a tool that there is not.
    """
    if unknown := [name for name in tools if name not in (AUTO, NONE, PYTHON, SEARCH)]:
        raise UserError(
            f"--tools={','.join(tools)}: there is no tool {unknown[0]!r}: choose python, search, both or none"
        )
    if len(tools) > 1 and {AUTO, NONE} & set(tools):
        raise UserError(f"--tools={','.join(tools)}: auto and none stand alone")
    if tools == [NONE] and search:
        raise UserError("--search needs a tool to search with: add --tools=search")
    if not talker.calls or tools in ([], [NONE]):
        return None
    if tools == [AUTO]:
        tools = [PYTHON, SEARCH] if search or talker.school else [PYTHON]
    made: list[Tool] = []
    if PYTHON in tools:
        _need("pydantic_monty", "pydantic-monty", PYTHON)
        made.append(python_tool())
    if SEARCH in tools:
        _need("bm25s", "bm25s", SEARCH)
        made.append(search_tool(_documents(talker, search, SetAside(set_aside))))
    return Toolbox(tuple(made))


def _documents(talker: Talker, source: str | None, set_aside: SetAside) -> list[Document]:
    from tqdm import tqdm

    if source:
        documents = read_source(source, school=talker.school or SchoolConfig(), set_aside=set_aside)
        found = list(tqdm(documents, desc="documents to search", unit="", delay=1))
        if set_aside.counts:
            print(set_aside.summary(), file=sys.stderr)
        return found
    if talker.school is None:
        raise UserError(
            "--tools=search: this run was not finetuned on the school: name a source, such as --search=pydoc"
        )
    return library(talker.school, build_world(talker.school))


def _need(module: str, package: str, tool: str) -> None:
    """Raise `UserError` unless a package is there."""
    try:
        __import__(module)
    except ModuleNotFoundError:
        raise UserError(f"the tool {tool} needs a package: pip install {package}, or leave it out of --tools") from None
