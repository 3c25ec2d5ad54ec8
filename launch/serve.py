r"""Serve trained models to programs that speak OpenAI's interface, and a playground to people.

    python -m launch.serve --workdir=runs/a
    python -m launch.serve --model=small=runs/a --model=large=runs/b --port=8080 --api_key=secret

    curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' \
        -d '{"prompt": "Orson Kovats was born in", "max_tokens": 20, "temperature": 0}'

Any OpenAI client works with base_url="http://127.0.0.1:8000/v1": completions, chat, streams, log-probabilities. Requests that
are there at the same time are decoded together. A base model chats by prompt alone: it is shown a dialogue, and it goes on.

    python -m launch.serve --workdir=runs/b --tools=python,search

A model that was finetuned to call tools may be given some here; each answer then shows what it did with them, in a field of
ours (`parts`). Or the client brings its own, with OpenAI's `tools`, and runs them itself.

Ctrl-C and SIGTERM let the requests that are running finish, for at most --grace seconds (exit codes 130 and 143). A second
Ctrl-C stops at once. Only this machine can connect unless --host says otherwise.
"""

import signal
import socket
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_pipeline.errors import UserError
from data_pipeline.tokenizer import Tokenizer
from launch import cli, inference_flags

if TYPE_CHECKING:  # imported late
    from launch.server.generation import Served
    from lm.model.transformer import Transformer


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of the run to serve, under the folder's name.")
    flags.DEFINE_multi_string("model", [], "NAME=FOLDER of a run to serve under a name; may be given several times.")
    flags.DEFINE_string("host", "127.0.0.1", "The address to listen at; 0.0.0.0 lets other machines connect.")
    flags.DEFINE_integer("port", 8000, "The port to listen at; 0: any free one.", 0, 65535)
    flags.DEFINE_string("api_key", None, "What clients must send as their API key; none unless given.")
    flags.DEFINE_integer("slots", 32, "How many texts each model writes at once.", 1)
    flags.DEFINE_integer("queue", 256, "How many more may wait; beyond that a client is told to come again (429).", 0)
    inference_flags.define_tools("none")
    inference_flags.define_quantization()
    flags.DEFINE_integer("grace", 30, "Seconds that running requests may take to finish when the server is stopped.", 0)


def main(_: list[str]) -> int | None:
    """Load the models, then serve until a signal."""
    options = flags.FLAGS
    folders = named_folders(options.workdir, options.model)
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f'serving needs the {error.name} package: pip install "trivium[serve]"') from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    listener = listen(options.host, options.port)  # a port that is taken is told before the models are loaded
    cli.remember_compilations(Path(cli.CACHE))
    models = {name: load(name, folder, options) for name, folder in folders.items()}
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"ready at {address} (for OpenAI clients: base_url={address}/v1); Ctrl-C stops", flush=True)
    serve(models, listener, options.api_key, options.grace)
    return None


def named_folders(workdir: str | None, models: list[str]) -> dict[str, Path]:
    """The folders to serve, by name. Raises `UserError`."""
    named = [(Path(workdir).expanduser().absolute().name, workdir)] if workdir else []
    for model in models:
        name, equals, folder = model.partition("=")
        if not (name and equals and folder):
            raise UserError(f"--model={model}: write NAME=FOLDER, such as --model=small=runs/a")
        named.append((name, folder))
    if not named:
        raise UserError("--workdir is missing: name the folder of a run, such as --workdir=runs/course")
    folders = {name: Path(folder).expanduser() for name, folder in named}
    if len(folders) < len(named):
        raise UserError(f"two models are named alike ({', '.join(name for name, _ in named)}): rename one by --model")
    return folders


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `UserError` for an address that cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise UserError(f"cannot listen at --host={host} --port={port}: {error.strerror}; choose another") from None
    return listener


def load(name: str, folder: Path, options: flags.FlagValues) -> "Served":
    """A run's newest checkpoint, in an engine of its own."""
    from launch.talking import load_talker, make_toolbox

    talker = load_talker(folder)
    toolbox = make_toolbox(talker, options.tools, options.search, folder / "search.set_aside.jsonl")
    names = " and ".join(tool.name for tool in toolbox.tools) if toolbox else "no tools"
    what = "" if options.tools == ["none"] else f", with {names}"
    print(f"{name}: {folder} at step {talker.step}{what}", flush=True)
    model = inference_flags.quantized(talker.model)
    served = serve_model(
        name, model, talker.tokenizer, options.slots, options.queue, quantize_cache=options.quantize_cache
    )
    return replace(served, style=talker.style, toolbox=toolbox)


def serve_model(
    name: str, model: "Transformer", tokenizer: Tokenizer, slots: int, waiting: int, *, quantize_cache: bool = False
) -> "Served":
    """A model in an engine, and the engine in a thread."""
    from launch.server.engine_thread import EngineThread
    from launch.server.generation import Served
    from lm.inference.engine import Engine
    from lm.inference.prompt_scores import prompt_scores

    symbols = tokenizer.vocab_size
    engine = Engine(
        model, slots=slots, symbols=symbols, token_bytes=tokenizer.token_bytes, quantize_cache=quantize_cache
    )
    score = partial(prompt_scores, model, symbols=symbols)
    return Served(name, tokenizer, EngineThread(engine, slots + waiting), model.config.context_length, score)


def serve(models: dict[str, "Served"], listener: socket.socket, api_key: str | None, grace: int) -> None:
    """Answer until a signal. What an engine failed of is raised here."""
    import uvicorn

    from launch.server.app import make_app

    config = uvicorn.Config(
        make_app(models, api_key),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=grace,
    )
    server = uvicorn.Server(config)
    engines = [served.engine for served in models.values()]
    for engine in engines:
        engine.on_failure = lambda: setattr(server, "should_exit", True)
    try:
        server.run(sockets=[listener])
    finally:
        for engine in engines:
            engine.close()
        for engine in engines:  # told also when a signal came after it
            if engine.failure:
                raise engine.failure


if __name__ == "__main__":
    define_flags()
    cli.run(main)
