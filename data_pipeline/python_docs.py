"""English that is on every machine with Python: the language reference, and the docstrings of installed packages.

With these a first run needs no download. Packages are parsed, never imported: reading documentation must not run code.
"""

import ast
import hashlib
import importlib.metadata
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePath

from tqdm import tqdm

from data_pipeline.document import Document
from data_pipeline.errors import UserError
from data_pipeline.files import is_unicode
from data_pipeline.set_aside import SetAside

# Other people's packages lie inside the folder of the standard library; tests are not written to be read.
NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests"}


def language_reference() -> Iterator[Document]:
    """The topics of `help()`, about 0.47 MB, sorted by name; a text under several names comes once."""
    seen: set[str] = set()
    for name, text in sorted(_topics().items()):
        if text not in seen:
            seen.add(text)
            yield Document(f"pydoc:{name}", text)


def language_reference_fingerprint() -> str:
    """sha256 over all topics: they change with the version of Python."""
    return hashlib.sha256(repr(sorted(_topics().items())).encode()).hexdigest()


def _topics() -> dict[str, str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise UserError("this Python comes without pydoc_data (the language reference); use another source") from None
    return topics


def docstrings(set_aside: SetAside) -> Iterator[Document]:
    """One document per module that has docstrings: the standard library first, then the installed packages by name.

    Texts that several modules share (copies of a package inside others) come once.
    """
    seen: set[bytes] = set()
    for name, path in _modules():
        source = path.read_bytes()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python warns about escapes like "\d" in the code it parses.
                text = module_text(name, ast.parse(source))
        except (
            SyntaxError,
            ValueError,
            RecursionError,
            MemoryError,
        ):  # MemoryError is how old parsers say "too nested".
            set_aside.add(str(path), "Python that does not parse", source)
            continue
        if not is_unicode(text):
            set_aside.add(str(path), "text with half a surrogate pair", source)
            continue
        digest = hashlib.sha256(text.encode()).digest()
        if text and digest not in seen:
            seen.add(digest)
            yield Document(f"docstrings:{name}", text)


def docstrings_fingerprint() -> str:
    """sha256 over the names and contents of all the modules that `docstrings` reads."""
    digest = hashlib.sha256(f"Python {sys.version_info[:2]}".encode())
    for name, path in _modules():
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def module_text(name: str, module: ast.Module) -> str:
    """The docstrings of a module, of its classes and functions, each under its name and signature; "" without any."""
    return "\n\n\n".join(_entries(f"module {name}", name, module))


def _entries(
    heading: str, name: str, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[str]:
    docstring = ast.get_docstring(node, clean=False)
    if docstring and docstring.strip():
        yield f"{heading}\n\n{inspect.cleandoc(docstring)}"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in node.body:
        if isinstance(child, ast.ClassDef):
            bases = ", ".join(ast.unparse(base) for base in child.bases)
            yield from _entries(f"class {name}.{child.name}({bases})", f"{name}.{child.name}", child)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _entries(f"{name}.{child.name}({ast.unparse(child.args)})", "", child)


def _modules() -> Iterator[tuple[str, Path]]:
    """(dotted name, path) of every module, each file once, in an order that does not depend on the file system."""
    seen: set[Path] = set()
    distributions = sorted(importlib.metadata.distributions(), key=lambda one: (one.metadata["Name"] or "").lower())
    for distribution in tqdm([None, *distributions], desc="reading packages", unit=" packages", delay=1, leave=False):
        if distribution is None:
            library = Path(sysconfig.get_path("stdlib"))
            files = [(PurePath(path.relative_to(library)), path) for path in library.rglob("*.py")]
        else:
            files = [(PurePath(file), Path(str(file.locate()))) for file in distribution.files or []]
        for relative, path in sorted(files):
            named = relative.suffix == ".py" and ".." not in relative.parts and not NOT_LIBRARY & set(relative.parts)
            if named and path not in seen and path.is_file():
                seen.add(path)
                parts = relative.with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path
