"""Documents from Python itself: what they hold, and that no package is imported to get them."""

import ast
import importlib.metadata
import sys
from pathlib import Path

import pytest

from data_pipeline import python_docs
from data_pipeline.errors import UserError
from data_pipeline.python_docs import docstrings, language_reference, language_reference_fingerprint, module_text
from data_pipeline.set_aside import SetAside

MODULE = '''
"""What the module does.

    indented

At the margin.
"""
import nothing_of_the_kind

class Shape(Base, metaclass=Meta):
    """A shape."""
    def area(self, *, unit: str = "m") -> float:
        """
        In square units.
        """
        def inner():
            """Not shown: nobody outside can call it."""
    def undocumented(self): pass

async def fetch(url): "Fetch it."
'''


def test_module_text_names_what_it_documents() -> None:
    assert module_text("pkg.mod", ast.parse(MODULE)) == (
        "module pkg.mod\n\nWhat the module does.\n\n    indented\n\nAt the margin.\n\n\n"
        "class pkg.mod.Shape(Base)\n\nA shape.\n\n\n"
        "pkg.mod.Shape.area(self, *, unit: str='m')\n\nIn square units.\n\n\n"
        "pkg.mod.fetch(url)\n\nFetch it."
    )
    assert module_text("empty", ast.parse("x = 1")) == ""


def test_language_reference_has_every_topic_once() -> None:
    from pydoc_data.topics import topics

    documents = list(language_reference())
    assert sorted({document.text for document in documents}) == sorted(set(topics.values()))
    assert len(documents) == len(set(topics.values()))
    assert [document.id for document in documents] == sorted(document.id for document in documents)
    assert documents[0].id == "pydoc:assert"
    assert sum(len(document.text) for document in documents) > 300_000


def test_language_reference_fingerprint_follows_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    before = language_reference_fingerprint()
    assert before == language_reference_fingerprint()
    monkeypatch.setattr("pydoc_data.topics.topics", {"assert": "Another text."})
    assert language_reference_fingerprint() != before


def test_python_without_its_documentation_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(UserError, match="comes without pydoc_data"):
        list(language_reference())


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small standard library and two installed packages, in place of those of this machine."""
    site = tmp_path / "site-packages"
    for name, module, source in (
        ("Zebra", "zebra/__init__.py", b'"""Stripes."""\nraise RuntimeError("imported")'),
        ("Zebra", "zebra/tests/test_zebra.py", b'"""A test."""'),
        ("Zebra", "zebra/_vendor.py", b'"""Antlers."""'),
        ("ant", "zz.py", b'"""Ants."""'),
        ("ant", "broken.py", b'"""Old."""\nprint "hello"'),
        ("ant", "half.py", b'"Half a pair: \\ud83d"'),
        ("ant", "quiet.py", b"x = 1"),
        ("ant", "../../bin/run.py", b'"""Outside."""'),
        ("ant", "gone.py", None),
    ):
        path = site / module
        path.parent.mkdir(parents=True, exist_ok=True)
        if source is not None:
            path.write_bytes(source)
        metadata = site / f"{name}-1.0.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        with (metadata / "RECORD").open("a") as record:
            record.write(f"{module},,\n")
    library = tmp_path / "lib"
    (library / "site-packages").mkdir(parents=True)
    (library / "site-packages" / "installed.py").write_text('"""Not of the library."""')
    (library / "abc.py").write_text('"""Abstract."""\n"\\d"')
    monkeypatch.setattr(python_docs.sysconfig, "get_path", lambda name: str(library))
    found = list(importlib.metadata.Distribution.discover(path=[str(site)]))
    monkeypatch.setattr(python_docs.importlib.metadata, "distributions", lambda: reversed(found))
    return tmp_path


@pytest.mark.filterwarnings("error")
def test_docstrings_of_library_and_packages_in_order(packages: Path) -> None:
    set_aside = SetAside(packages / "aside.jsonl")
    documents = list(docstrings(set_aside))
    assert [(document.id, document.text) for document in documents] == [
        ("docstrings:abc", "module abc\n\nAbstract."),
        ("docstrings:zz", "module zz\n\nAnts."),
        ("docstrings:zebra", "module zebra\n\nStripes."),
        ("docstrings:zebra._vendor", "module zebra._vendor\n\nAntlers."),
    ]
    assert set_aside.counts == {"Python that does not parse": 1, "text with half a surrogate pair": 1}


def test_docstrings_fingerprint_follows_the_files(packages: Path) -> None:
    before = python_docs.docstrings_fingerprint()
    assert before == python_docs.docstrings_fingerprint()
    (packages / "site-packages" / "zz.py").write_text('"""Bees."""')
    assert python_docs.docstrings_fingerprint() != before
