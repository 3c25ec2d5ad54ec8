"""The Python tool computes, and survives all that a model may write: in time, in little memory, and with nothing left running."""

import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("pydantic_monty", reason="the Python tool needs pydantic-monty")

from data_pipeline.conversation import ToolCall
from data_pipeline.errors import UserError
from data_pipeline.tools.python import PythonLimits, python_tool
from data_pipeline.tools.tool import call

LIMITS = PythonLimits(seconds=0.3)
TOOL = python_tool(LIMITS, workers=4)


def run(code: object) -> str:
    return call([TOOL], ToolCall("python", {"code": code}))


def memory() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("23 * 177", "4071"),
        ("print('hello')\nprint(1, 2)", "hello\n1 2"),
        ("print('x')\n3 + 4", "x\n7"),
        ("'strawberry'.count('r')", "3"),
        ("'ab'[::-1]", "'ba'"),
        ("x = 5", "(no output)"),
        ("None", "(no output)"),
        ("", "(no output)"),
        ("sum(range(101))  # all of them", "5050"),
        (
            "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\n[f(n) for n in range(8)]",
            "[0, 1, 1, 2, 3, 5, 8, 13]",
        ),
        ("import math\nmath.gcd(12, 18)", "6"),
        ("9.11 < 9.9", "True"),
        ("{'a': (1, 2.5)}", "{'a': (1, 2.5)}"),
        ("x = 3; x + 1", "4"),
        ("x = 3; x + 1;", "4"),
        ("if False: 1; 2", "(no output)"),
        ("if True:\n    5", "(no output)"),
        ("(1 +\n 2)  # three\n\n# the end", "3"),
        ("x = [1,\n     2]\nx\n", "[1, 2]"),
        ("y = 'a;b'\ny  ;  # no more", "'a;b'"),
        ("repr = None\n'é🙂'; 'é🙂'", "'é🙂'"),
        ("print('x')\nNone", "x"),
        ("# nothing but a comment", "(no output)"),
        ("2**100", "1267650600228229401496703205376"),
    ],
)
def test_computes(code: str, answer: str) -> None:
    assert run(code) == answer


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("x = 1\ny = x / 0", "error: ZeroDivisionError: division by zero (line 2)"),
        ("def f(:\n    pass", "error: SyntaxError"),
        ("undefined", "NameError"),
        ("print('before')\nraise ValueError('what I said')", "before\nerror: ValueError: what I said (line 2)"),
        ("import numpy", "error: "),
    ],
)
def test_a_mistake_is_told(code: str, part: str) -> None:
    assert part in run(code)


def test_code_that_is_no_text_is_refused() -> None:
    for code in (5, None, ["print(1)"], {"a": 1}):
        assert run(code) == "error: python: the argument 'code' must be of type string"


FORBIDDEN = {
    "file": "open('/etc/passwd').read()",
    "path": "from pathlib import Path\nPath('/etc/passwd').read_text()",
    "writing": "open('/tmp/monty_was_here', 'w').write('x')",
    "listing": "import os\nos.listdir('/')",
    "environment": "import os\nos.environ['PATH']",
    "getenv": "import os\nos.getenv('PATH') or 1 / 0",
    "shell": "import os\nos.system('id')",
    "subprocess": "import subprocess\nsubprocess.run(['id'])",
    "socket": "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "urllib": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
    "ctypes": "import ctypes\nctypes.string_at(0)",
    "__import__": "__import__('os').system('id')",
    "importlib": "import importlib\nimportlib.import_module('subprocess')",
    "subclasses": "().__class__.__base__.__subclasses__()",
    "globals": "(lambda: 0).__globals__['__builtins__']",
    "frames": "import sys\nsys._getframe(0).f_back",
    "eval": "eval('__import__(\"os\")')",
    "exec": "exec('import socket')",
    "exit": "import sys\nsys.exit(3)",
    "input": "input()",
}


@pytest.mark.parametrize("code", FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_is_forbidden_is_an_error(code: str) -> None:
    answer = run(code)
    assert answer.startswith("error: "), answer
    assert "root:" not in answer
    assert not Path("/tmp/monty_was_here").exists()


ENDLESS = {
    "while": "while True: pass",
    "while with work": "n = 0\nwhile True:\n    n += 1",
    "caught": "while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass",
    "finally": "def f():\n    try:\n        while True: pass\n    finally:\n        f()\nf()",
    "generator": "def g():\n    while True:\n        yield 1\nsum(g())",
    "iterator": "import itertools\nsum(itertools.count())",
    "range": "sum(range(10**18))",
    "comprehension": "any(n < 0 for n in range(10**18))",
    "map": "max(map(abs, range(10**18)))",
    "in": "-1 in iter(range(10**18))",
    "sort": "x = list(range(1000))\nwhile True:\n    x.sort(key=lambda n: -n)",
    "prints": "while True: print('x')",
    "prints nothing": "while True: print(end='')",
    "sleeps": "import time\nwhile True: time.sleep(100)",
    "regex": "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
    "regex with references": "import re\nre.match(r'(a*)*\\1b', 'a' * 40 + 'c')",
    "power": "x = 10**10**8",
    "tower": "x = 9**9**9**9",
    "factorial": "import math\nmath.factorial(10**7)",
    "product": "x = 3\nwhile True: x *= x",
    "digits": "x = 7 ** 300000\nwhile True: str(x)",
    "shift": "x = 1 << 10**12",
    "modular": "while True: pow(7, 10**4000, 10**4000 + 1)",
    "format": "'{:>1000000000}'.format(1)",
    "percent": "'%1000000000d' % 1",
    "replace": "x = 'a' * 10**6\nx.replace('a', 'b' * 10**6)",
    "join": "x = 'a' * 10**6\nx.join(x)",
    "string": "x = 'a'\nwhile True: x += x",
    "list": "x = [0]\nwhile True: x += x",
    "bomb": "x = [0] * 10**12",
    "bytes": "x = bytes(10**12)",
    "dictionary": "x = {}\nn = 0\nwhile True:\n    x[n] = n\n    n += 1",
    "nested lists": "x = []\nwhile True: x = [x, x]",
    "recursion": "def f(): return f()\nf()",
    "lambda": "f = lambda: f()\nf()",
    "deep repr": "x = []\nfor _ in range(10**5): x = [x]\nrepr(x)",
    "deep equality": "x, y = [], []\nfor _ in range(10**5): x, y = [x], [y]\nx == y",
    "own repr": "class A:\n    def __repr__(self): return repr(self)\nrepr(A())",
    "deep parentheses": "(" * 4900 + ")" * 4900,
    "deep lists": "[" * 4900 + "]" * 4900,
    "deep minus": "-" * 9900 + "1",
    "long sum": "+".join(["1"] * 4900),
    "long attribute": "x" + ".x" * 4900,
    "deep blocks": "\n".join(" " * n + "if 1:" for n in range(150)),
    "too long": "x = 1\n" * 10_000,
    "long number": "9" * 9_900,
    "odd letters": "\0\ufeff\ud800\u202e = 1",
}


@pytest.mark.parametrize("code", ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_or_grows_is_stopped(code: str) -> None:
    start = time.monotonic()
    answer = run(code)
    assert time.monotonic() - start < 3, answer
    assert len(answer) <= 2000


@pytest.mark.parametrize(
    "code",
    [
        "'a' * (20 << 20)",
        "'a' * (8 << 20)",
        "x = []\nfor _ in range(20): x = [x] * 10\nx",
        "class A:\n    def __repr__(self): return 5\nA()",
        "class A:\n    def __repr__(self): return 'x' * 10**6\n[A()] * 10**5",
        "[0.5] * 10**6",
        "x = []\nfor _ in range(10**5): x = [x]\nx",
        "x = []\nx.append(x)\nx",
        "x = [0]\nfor _ in range(40): x = [x, x]\nx",
        "10 ** 100000",
        "class A:\n    pass\nA()",
        "lambda: 1",
        "'\\ud800'",
    ],
)
def test_a_value_that_is_hard_to_show_does_no_harm(code: str) -> None:
    before = memory()
    start = time.monotonic()
    answer = run(code)
    assert time.monotonic() - start < 3, answer
    assert 0 < len(answer) <= 2000
    assert memory() - before < 200 << 20


def test_a_hundred_megabytes_of_output_are_cut() -> None:
    answer = run("print('start')\nfor _ in range(1000): print('x' * 100_000)")
    assert answer.startswith("start")
    assert len(answer) <= 2000


def test_this_process_does_not_grow() -> None:
    codes = ["x = 'a' * (20 << 20)\nx", "print('x' * (20 << 20))", "while True: print('y' * 1000)", "x = [0] * 10**9"]
    for code in codes:
        run(code)
    before = memory()
    for code in codes * 3:
        run(code)
    assert memory() - before < 64 << 20


def test_calls_know_nothing_of_each_other_and_repeat_themselves() -> None:
    run("secret = 5")
    assert "NameError" in run("secret")
    assert run("import random\nrandom.random()") == run("import random\nrandom.random()")
    assert run("import datetime\ndatetime.datetime.now().year") == "2026"


def test_sleeping_takes_no_time() -> None:
    start = time.monotonic()
    assert run("import time\ntime.sleep(100)\n'awake'") == "'awake'"
    assert time.monotonic() - start < 2


def test_many_threads_get_their_own_answers() -> None:
    codes = [f"print({n})\n{n} ** 2" if n % 5 else "while True: pass" for n in range(40)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(run, codes))
    for n, answer in enumerate(answers):
        assert answer.startswith("error: ") if n % 5 == 0 else answer == f"{n}\n{n**2}"


def test_an_interpreter_that_does_not_start_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONTY_BIN", "/nonexistent/monty")
    with pytest.raises(UserError, match=r"does not start: .*nonexistent"):
        call([python_tool()], ToolCall("python", {"code": "1"}))


def test_a_forked_process_is_refused_and_does_not_hang() -> None:
    run("1")
    child = os.fork()
    if not child:
        try:
            run("1")
        except UserError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_nothing_is_left_running() -> None:
    """A program that used the tool, and had workers killed, ends at once and leaves no process, even in the midst of a call."""
    program = """
        import os, threading, time
        from pathlib import Path
        from data_pipeline.conversation import ToolCall
        from data_pipeline.tools.python import PythonLimits, python_tool
        from data_pipeline.tools.tool import call
        tool = python_tool(PythonLimits(seconds=0.2), workers=2)
        for code in ("1 + 1", "while True: pass", "import re; re.match('(a+)+$', 'a' * 60 + 'b')", "x = 9**9**9**9"):
            call([tool], ToolCall("python", {"code": code}))
        def state(pid):
            try:
                return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                return "gone"
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        threads = [p for t in Path("/proc/self/task").iterdir() for p in (t / "children").read_text().split()]
        print(*{*children, *threads})
        endless = ToolCall("python", {"code": "while True: pass"})
        slow = python_tool(PythonLimits(seconds=1))
        threading.Thread(target=lambda: call([slow], endless), daemon=True).start()
        time.sleep(0.2)
        assert "Z" not in [state(pid) for pid in {*children, *threads}]
    """
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 10
    workers = done.stdout.split()
    assert workers, "the test must see the workers to see them gone"
    deadline = time.monotonic() + 3
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []
