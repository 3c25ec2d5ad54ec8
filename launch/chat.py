r"""Talk with a trained model in the terminal.

    python -m launch.chat --workdir=runs/a
    python -m launch.chat --workdir=runs/a --system="You answer in one sentence." --temperature=0.5 --top_p=0.9
    echo "Who is Orson Kovats?" | python -m launch.chat --workdir=runs/a

A model that was finetuned on conversations sees turns between special tokens. A base model only goes on with a text: it is
given the beginning of a dialogue ("User: ... Assistant:") and stopped when it begins the user's next line.

Calls of tools, and what comes back, are shown in brackets. A run that was finetuned on the school has its tools, Python and
a search of the school's library; any other that can write calls has Python.

    python -m launch.chat --workdir=runs/b --tools=none
    python -m launch.chat --workdir=runs/b --tools=search --search=paragraphs:notes.txt

A line that ends in \ goes on in the next; text between two \"\"\" may have many lines. Ctrl-C stops an answer, Ctrl-D ends.
When stdin is no terminal every line is a message, only the answers go to stdout, and a mistake ends the program.
"""

import difflib
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_pipeline import protocol
from data_pipeline.conversation import Part, Text, Turn, describe_parts, said
from data_pipeline.errors import UserError
from data_pipeline.protocol import Prompt, Style
from data_pipeline.tokenizer import Tokenizer
from launch import cli, inference_flags
from launch.server.turn_deltas import TurnDeltas, joined
from launch.terminal import interrupts, messages, note, printable
from launch.tokenize import render, wants_color

if TYPE_CHECKING:  # JAX is imported late
    from lm.assistant import Toolbox
    from lm.inference.engine import Engine
    from lm.inference.requests import Written
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
    style: Style = "plain"
    toolbox: "Toolbox | None" = None
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
    inference_flags.define_tools("auto")
    # Counted up with every answer, and to stay below 2^32.
    flags.DEFINE_integer("seed", 0, "The same seed gives the same answers.", lower_bound=0, upper_bound=2**31)


def main(_: list[str]) -> None:
    """Read the model and its tokenizer, then answer until the input ends."""
    options = flags.FLAGS
    if not options.workdir:
        raise UserError("--workdir is missing: name the folder of a run, such as --workdir=runs/course")

    from launch.talking import load_talker, make_toolbox
    from lm.inference.engine import Engine

    sampling = inference_flags.sampling()
    cli.remember_compilations(Path(cli.CACHE))
    folder = Path(options.workdir).expanduser()
    talker = load_talker(folder, options.step)
    if not talker.calls and options.tools not in (["auto"], ["none"]):
        raise UserError(f"{options.workdir} holds a model that calls no tools: leave --tools out")
    toolbox = make_toolbox(talker, options.tools, options.search, folder / "search.set_aside.jsonl")
    tokenizer, context = talker.tokenizer, talker.model.config.context_length
    engine = Engine(
        inference_flags.quantized(talker.model),
        slots=1,
        symbols=tokenizer.vocab_size,
        token_bytes=tokenizer.token_bytes,
        quantize_cache=options.quantize_cache,
    )
    chat = Chat(
        engine, tokenizer, context, options.tokens, options.seed, sampling, talker.style, toolbox, options.system
    )
    kind = "a base model, which goes on with a dialogue" if talker.style == "plain" else "an assistant"
    if toolbox:
        kind += f" with {' and '.join(tool.name for tool in toolbox.tools)}"
    note(f"{options.workdir} at step {talker.step}: {kind}. /help lists the commands")
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
            parts, written, reason = write(chat, prompt, interrupted)
        except UserError:
            chat.turns.pop()
            raise
    drawn = sum(written.drawn)
    if reason == CANCELLED:
        note("(stopped)")
    elif reason == LENGTH:
        note(f"(cut after {drawn} tokens)")
    if chat.show_tokens:
        width = shutil.get_terminal_size().columns
        print(render(chat.tokenizer, [*prompt.tokens, *written.tokens], color=wants_color("auto"), width=width))
        by_tools = f", {len(written.tokens) - drawn} from tools" if drawn < len(written.tokens) else ""
        note(f"({len(prompt.tokens)} tokens read, {drawn} written{by_tools})")
    if describe_parts(parts).strip():
        chat.turns.append(Turn("assistant", joined(parts)))
    else:
        chat.turns.pop()  # turns alternate: what got no answer is forgotten
        note("(no answer)")


def write(chat: Chat, prompt: Prompt, interrupted: list[int]) -> "tuple[list[Part], Written, str]":
    """Print the answer as it is written, until it ends or something is in `interrupted`: its parts, its tokens, and why it
    ended.
    """
    from lm.assistant import answering
    from lm.inference.requests import Request, Written

    plain = chat.style == "plain"  # "Assistant:" is followed by a space, which is the dialogue's
    stop_tokens, interjection = answering(chat.tokenizer, prompt, chat.toolbox)
    request = Request(
        prompt.tokens,
        chat.max_tokens,
        chat.sampling,
        chat.seed,
        stop_tokens=stop_tokens,
        stop_strings=prompt.stop_strings,
        interjection=interjection,
    )
    chat.seed += 1
    deltas = TurnDeltas(chat.tokenizer, prompt.stop_strings, marked=not plain, strip_start=plain)
    parts: list[Part] = []
    written, reason = Written(), ""
    ticket = chat.engine.submit(request)
    while not reason:
        for update in chat.engine.step():
            reason = update.reason
            written.tokens += update.new.tokens
            written.drawn += update.new.drawn
            by_string = isinstance(update.stopped_by, str)
            for part in deltas.feed(update.new, ended=bool(reason), by_string=by_string):
                show(part, parts)
                parts.append(part)
        if interrupted and not reason:
            chat.engine.cancel(ticket)
    print()
    return parts, written, reason


def show(part: Part, before: list[Part]) -> None:
    """Print what an answer grows by: text as it is, everything else as a note on a line of its own."""
    if isinstance(part, Text):
        print(printable(part.text), end="", flush=True)
        return
    if sys.stdout.isatty() and before and isinstance(before[-1], Text) and not before[-1].text.endswith("\n"):
        print()
    note(describe_parts([part]).removesuffix("\n"))


def fitting_prompt(chat: Chat) -> Prompt:
    """The conversation in tokens, without its oldest turns where it would leave too little of the context for an answer.

    Raises `UserError` when the last message alone does not fit.
    """
    room = min(chat.max_tokens, chat.context // 4)
    system = [said("system", chat.system)] if chat.system else []
    left_out = 0
    while True:
        prompt = protocol.prompt(chat.tokenizer, [*system, *chat.turns[left_out:]], chat.style)
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


if __name__ == "__main__":
    define_flags()
    cli.run(main)
