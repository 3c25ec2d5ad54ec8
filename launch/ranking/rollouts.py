"""The tasks of a ranking session: a prompt and what a model wrote to it, written ahead of the raters and kept in a file.

What was shown to one rater is shown to the next, and after a restart: texts are sampled once, whatever becomes of the run.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from data_pipeline.conversation import Turn
from data_pipeline.ranking import Ranking
from data_pipeline.ranking_rows import texts_of, write_row
from launch.ranking.record import Record, Row

AHEAD = 50  # tasks that are sampled beyond the one that the fastest rater is at
BATCH = 4  # prompts that are sampled at once: few, so that the first is there soon

Prompt = tuple[Turn, ...]


@dataclass(frozen=True)
class Rollout:
    """What a model wrote; `seed` and `sample` are the engine's, which writes the same text from them."""

    turn: Turn
    tokens: tuple[int, ...]
    seed: int
    sample: int


# From prompts, each with its seed, to the rollouts of each, which differ in what they say.
Sampler = Callable[[Sequence[tuple[Prompt, int]]], list[list[Rollout]]]


@dataclass(frozen=True)
class Task:
    """Something to rank. `facts`: what wrote the responses (run, step, temperature, ...), kept with every ranking."""

    id: str
    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    facts: Row

    def row(self, ranking: Ranking, **more: Any) -> Row:
        """A row that `read_rankings` reads as `ranking`, with the exact tokens and all that wrote them."""
        tokens = [list(each.tokens) for each in self.rollouts]
        draws = [[each.seed, each.sample] for each in self.rollouts]
        return write_row(ranking, **more, task=self.id, tokens=tokens, draws=draws, **self.facts)


class Rollouts:
    """The tasks in order of the prompts. A thread samples; other threads may ask at any time."""

    def __init__(self, prompts: Sequence[Prompt], sampler: Sampler, record: Record, facts: Row, seed: int) -> None:
        """`seed`: another one gives other texts. `facts` is part of what a task is: a later checkpoint has its own."""
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], object] = lambda: None  # called in the thread that samples
        self._sampler, self._record, self._facts, self._seed = sampler, record, facts, seed
        self._prompts = {self._name(prompt): prompt for prompt in prompts}
        self._tasks: dict[str, Task] = {}
        self._asked = 0  # the place of the task furthest ahead that somebody asked for
        self._closed = False
        self._changed = threading.Condition()
        for row in record.rows():
            if row.get("id") in self._prompts:
                self._tasks[row["id"]] = self._read(row)
        self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many can be ranked, as far as it is known."""
        return len(self._prompts) - sum(len(task.rollouts) < 2 for task in list(self._tasks.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._prompts

    def find(self, name: str) -> Task | None:
        """The task of a name, if it is one and has been sampled."""
        return self._tasks.get(name)

    def first(self, done: Collection[str]) -> tuple[Task | None, bool]:
        """(the first task that is not in `done`, whether it is still to be written); (None, False): there is none."""
        for place, name in enumerate(self._prompts):
            if name in done:
                continue
            with self._changed:
                self._asked = max(self._asked, place)
                self._changed.notify_all()
            task = self._tasks.get(name)
            if task is None or len(task.rollouts) >= 2:
                return task, task is None
        return None, False

    def close(self, timeout: float = 10.0) -> None:
        """End the thread after the batch that it is at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            with tqdm(total=len(self._prompts), initial=len(self._tasks), desc="prompts answered", delay=1) as bar:
                while names := self._next():
                    seeds = [self._seed_of(name) for name in names]
                    asked = [(self._prompts[name], seed) for name, seed in zip(names, seeds, strict=True)]
                    for name, rollouts in zip(names, self._sampler(asked), strict=True):
                        task = Task(name, self._prompts[name], tuple(rollouts), self._facts)
                        responses = tuple(each.turn for each in rollouts)
                        self._record.append(task.row(Ranking(name, task.prompt, responses, ())))
                        self._tasks[name] = task
                        if len(rollouts) < 2:
                            tqdm.write(f"(passed over, too few of its answers differ: {task.prompt[-1].text[:60]!r})")
                    bar.update(len(names))
        except BaseException as error:
            self.failure = error
            self.on_failure()

    def _next(self) -> list[str]:
        """What to sample now, once somebody comes near it; nothing when all is sampled or closed."""
        missing = [(place, name) for place, name in enumerate(self._prompts) if name not in self._tasks]
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not missing or missing[0][0] <= self._asked + AHEAD)
            return [] if self._closed else [name for _, name in missing[:BATCH]]

    def _name(self, prompt: Prompt) -> str:
        written = write_row(Ranking("", prompt, (), ()))["prompt"]
        identity = json.dumps([written, self._facts, self._seed], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:12]

    def _seed_of(self, name: str) -> int:
        return int(name[:8], 16)

    def _read(self, row: Row) -> Task:
        _, responses = texts_of(row)
        rollouts = [
            Rollout(turn, tuple(tokens), *draw)
            for turn, tokens, draw in zip(responses, row["tokens"], row["draws"], strict=True)
        ]
        return Task(row["id"], self._prompts[row["id"]], tuple(rollouts), self._facts)
