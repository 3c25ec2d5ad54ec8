r"""Talk with a trained model in the terminal.

    python -m launch.chat --workdir=runs/a
    python -m launch.chat --workdir=runs/a --system="You answer in one sentence." --temperature=0.5 --top_p=0.9
    echo "Who is Orson Kovats?" | python -m launch.chat --workdir=runs/a

A model that was taught to converse sees turns between special tokens. A base model only goes on with a text: it is given
the beginning of a dialogue ("User: ... Assistant:") and stopped when it begins the user's next line.

A line that ends in \ goes on in the next; text between two \"\"\" may have many lines. Ctrl-C stops an answer, Ctrl-D ends.
When stdin is no terminal every line is a message, only the answers go to stdout, and a mistake ends the program.
"""

import contextlib
import difflib
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_pipeline import protocol
from data_pipeline.conversation import Turn, said
from data_pipeline.errors import UserError
from data_pipeline.protocol import Prompt
from data_pipeline.tokenizer import Tokenizer
from launch import cli, inference_flags
from launch.server.deltas import TextDeltas
from launch.tokenize import render, visible_character, wants_color

if TYPE_CHECKING:  # JAX is imported late
    from lm.inference.engine import Engine
    from lm.inference.sampling import Sampling

HELP = (
    r"""/system TEXT     what the assistant is told before everything else; without TEXT: nothing
/temperature X   below 1: safer words; above: wilder; 0: always the most likely
/top_p X         choose among the fewest tokens that together have this probability
/tokens          show the tokens that were read and written, with their ids; again: no more
/reset           forget the conversation
/help            this
/quit            end (as Ctrl-D)
A line that ends in \ goes on in the next; text between two """
    + '""" may have many lines. Ctrl-C stops an answer.'
)


@dataclass
class Chat:
    """A conversation and how it goes on."""

    engine: "Engine"
    tokenizer: Tokenizer
    context: int  # tokens
    max_tokens: int  # of an answer
    seed: int  # of the next answer
    sampling: "Sampling"
    system: str = ""
    show_tokens: bool = False
    turns: list[Turn] = field(default_factory=list)  # the user's and the assistant's


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("workdir", None, "The folder of the run whose model answers.")
    flags.DEFINE_integer("step", None, "Which checkpoint of the run; the newest unless given.")
    flags.DEFINE_string("system", "", "What the assistant is told before everything else.")
    inference_flags.define_sampling()
    inference_flags.define_quantization()
    flags.DEFINE_integer("tokens", 256, "How many tokens at most, of each answer.", lower_bound=1)
    # Counted up with every answer, and to stay below 2^32.
    flags.DEFINE_integer("seed", 0, "The same seed gives the same answers.", lower_bound=0, upper_bound=2**31)


def main(_: list[str]) -> None:
    """Read the model and its tokenizer, then answer until the input ends."""
    options = flags.FLAGS
    if not options.workdir:
        raise UserError("--workdir is missing: name the folder of a run, such as --workdir=runs/course")

    from launch.workdir import load_model
    from lm.inference.engine import Engine

    sampling = inference_flags.sampling()
    cli.remember_compilations(Path(cli.CACHE))
    model, tokenizer, step = load_model(Path(options.workdir).expanduser(), options.step)
    engine = Engine(
        inference_flags.quantized(model),
        slots=1,
        symbols=tokenizer.vocab_size,
        token_bytes=tokenizer.token_bytes,
        quantize_cache=options.quantize_cache,
    )
    context = model.config.context_length
    chat = Chat(engine, tokenizer, context, options.tokens, options.seed, sampling, options.system)
    kind = "a base model, which goes on with a dialogue" if is_base(tokenizer) else "an assistant"
    note(f"{options.workdir} at step {step}: {kind}. /help lists the commands")
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # told of as a mistake when it is encoded
    for message, command in messages():
        try:
            if command and not obey(chat, message):
                break
            if not command:
                answer(chat, message)
        except UserError as error:
            if not sys.stdin.isatty():  # nobody is there to say it another way
                raise
            note(f"error: {error}")


def is_base(tokenizer: Tokenizer) -> bool:
    """Whether a model with this vocabulary is given conversations as plain text."""
    return protocol.default_style(tokenizer) == "plain"


def messages() -> Iterator[tuple[str, bool]]:
    """What the user enters, and whether it is a command, until the input ends."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # not on every system
            import readline  # noqa: F401  (input() then edits lines and remembers them)
    while True:
        try:
            message, command = read_message()
        except EOFError:
            break
        except KeyboardInterrupt:
            note("\n(Ctrl-D ends)")
            continue
        if message.strip():
            yield message, command
    if sys.stdin.isatty():
        print()


def read_message() -> tuple[str, bool]:
    r"""A message, of several lines when one ends in \ or the first begins with \"\"\"; and whether it is a command."""
    message = read_line("> ")
    if message.startswith('"""'):
        message = message[3:]
        with contextlib.suppress(EOFError):  # the end of the input ends the message too
            while not message.rstrip().endswith('"""'):
                message += "\n" + read_line("... ")
        return message.rstrip().removesuffix('"""'), False
    with contextlib.suppress(EOFError):
        while message.endswith("\\"):
            message = message[:-1] + "\n" + read_line("... ")
    return message, message.startswith("/")


def read_line(prompt: str) -> str:
    """A line of the input; the prompt is shown to people only."""
    return input(prompt if sys.stdin.isatty() else "")


def obey(chat: Chat, line: str) -> bool:
    """Do what a command says; False for the one that ends the program. Raises `UserError` for what cannot be done."""
    from lm.inference.sampling import check_sampling

    command, _, value = line.strip().partition(" ")
    value = value.strip()
    match command:
        case "/quit":
            return False
        case "/help":
            print(HELP)
        case "/reset":
            chat.turns.clear()
            note("(the conversation is forgotten)")
        case "/tokens":
            chat.show_tokens = not chat.show_tokens
            note(f"(tokens are {'shown' if chat.show_tokens else 'not shown'})")
        case "/system":
            chat.system = value
            note("(the system prompt is set)" if value else "(no system prompt)")
        case "/temperature" | "/top_p":
            try:
                number = float(value)
            except ValueError:
                raise UserError(f"{command} {value}: write a number, such as {command} 0.9") from None
            sampling = chat.sampling
            sampling = (
                replace(sampling, temperature=number) if command == "/temperature" else replace(sampling, top_p=number)
            )
            check_sampling(sampling)
            chat.sampling = sampling
            note(f"({command[1:]} {number:g})")
        case _:
            commands = ("/system", "/temperature", "/top_p", "/tokens", "/reset", "/help", "/quit")
            near = difflib.get_close_matches(command, commands, n=1)
            raise UserError(f"no command {command}{f': did you mean {near[0]}?' if near else ''} (/help lists them)")
    return True


def answer(chat: Chat, message: str) -> None:
    """Let the model answer, and print it as it is written. Raises `UserError` for a message that does not fit."""
    from lm.inference.requests import CANCELLED, LENGTH

    chat.turns.append(said("user", message))
    with interrupts() as interrupted:
        try:
            prompt = fitting_prompt(chat)
        except UserError:
            chat.turns.pop()
            raise
        text, tokens, reason = write(chat, prompt, interrupted)
    if reason == CANCELLED:
        note("(stopped)")
    elif reason == LENGTH:
        note(f"(cut after {len(tokens)} tokens)")
    if chat.show_tokens:
        width = shutil.get_terminal_size().columns
        print(render(chat.tokenizer, [*prompt.tokens, *tokens], color=wants_color("auto"), width=width))
        note(f"({len(prompt.tokens)} tokens read, {len(tokens)} written)")
    if text.strip():
        chat.turns.append(said("assistant", text))
    else:
        chat.turns.pop()  # turns alternate: what got no answer is forgotten
        note("(no answer)")


def write(chat: Chat, prompt: Prompt, interrupted: list[int]) -> tuple[str, list[int], str]:
    """Print the answer as it is written, until it ends or something is in `interrupted`: its text, tokens, and why it ended."""
    from lm.inference.requests import Request

    request = Request(
        prompt.tokens,
        chat.max_tokens,
        chat.sampling,
        chat.seed,
        stop_tokens=prompt.stop_tokens,
        stop_strings=prompt.stop_strings,
    )
    chat.seed += 1
    strip_start = is_base(chat.tokenizer)  # the space after "Assistant:"
    deltas = TextDeltas(chat.tokenizer.token_bytes, prompt.stop_strings, strip_start=strip_start)
    text, tokens, reason = "", [], ""
    ticket = chat.engine.submit(request)
    while not reason:
        for update in chat.engine.step():
            tokens += update.new.tokens
            reason = update.reason
            by_string = isinstance(update.stopped_by, str)
            new = deltas.feed(update.new.tokens, ended=bool(reason), by_string=by_string)
            print(printable(new), end="", flush=True)
            text += new
        if interrupted and not reason:
            chat.engine.cancel(ticket)
    print()
    return text, tokens, reason


def fitting_prompt(chat: Chat) -> Prompt:
    """The conversation in tokens, without its oldest turns where it would leave too little of the context for an answer.

    Raises `UserError` when the last message alone does not fit.
    """
    room = min(chat.max_tokens, chat.context // 4)
    system = [said("system", chat.system)] if chat.system else []
    left_out = 0
    while True:
        prompt = protocol.prompt(chat.tokenizer, [*system, *chat.turns[left_out:]])
        if len(prompt.tokens) + room <= chat.context:
            break
        if left_out + 2 > len(chat.turns):
            raise UserError(
                f"the message{' and the system prompt have' if system else ' has'} {len(prompt.tokens)} tokens; with "
                f"{room} for an answer they must fit the context of {chat.context}: shorten it"
            )
        left_out += 2
    if left_out:
        del chat.turns[:left_out]
        note(f"(the context of {chat.context} tokens is full: the {left_out} oldest turns are left out)")
    return prompt


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """A list that Ctrl-C adds to, in place of ending the program."""
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def printable(text: str) -> str:
    """The text, for a terminal without what would command it (escape sequences)."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else visible_character(c) for c in text)


def note(text: str) -> None:
    """A line that is no part of the conversation, dim where there are colours."""
    print(f"\x1b[2m{text}\x1b[0m" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
