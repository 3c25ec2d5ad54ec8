"""A ranking session: who has ranked what, told by the rows of a file, and what each is shown next.

    {"id", "prompt", "responses", "ranks", "rater", "time", "task", "shown", "tokens", "draws", ...}     a ranking
    {"skip": task, "id", "rater", "time"}                                                           a prompt passed over
    {"undo": id, "rater", "time"}                                                          the row of this id taken back

Everybody gets the prompts in the same order, so that what several ranked before they stopped is the same; the responses of
each are shuffled for every rater alone, so that where one stood agrees with nothing.
"""

import os
import random
import threading
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from data_pipeline.conversation import describe_parts
from data_pipeline.ranking import Ranking, pairs
from launch.ranking.record import Record, Row
from launch.ranking.rollouts import Rollouts, Task
from launch.server.errors import ApiError

LONGEST_NAME = 60  # characters


class Session:
    """Any number of raters at once. Every method may be called from any thread, and raises `ApiError` for what cannot be."""

    def __init__(self, record: Record, rollouts: Rollouts) -> None:
        self._record, self._rollouts = record, rollouts
        self._lock = threading.Lock()
        self._live: dict[str, dict[str, Row]] = {}  # rater -> task -> the row that stands, in the order of time
        for row in record.rows():
            self._take_in(row)

    def state(self, rater: str, order: list[list[int]] | None = None) -> Row:
        """What a rater's page shows. `order`: how the task had been ranked, when that was undone."""
        rater = rater_name(rater)
        with self._lock:
            mine = self._live.get(rater, {})
            here = [row for name, row in mine.items() if name in self._rollouts]
            task, waiting = self._rollouts.first(mine)
            skipped = sum("skip" in row for row in here)
            return {
                "rater": rater,
                "ranked": len(here) - skipped,
                "skipped": skipped,
                "total": len(self._rollouts),
                "last": next((row["id"] for row in reversed(mine.values())), None),
                "waiting": waiting,
                "task": _shown(task, rater) if task else None,
                "order": order,
            }

    def rank(self, rater: str, task_id: str, order: Sequence[Sequence[int]]) -> Row:
        """Save a ranking: `order` holds groups of responses, the best first, each by its index. Saving it again is nothing."""
        rater = rater_name(rater)
        with self._lock:
            task = self._task(task_id)
            responses = tuple(rollout.turn for rollout in task.rollouts)
            ranks = ranks_of(order, len(responses))
            ranking = Ranking(f"{task.id}/{rater}", task.prompt, responses, ranks, rater, _now())
            if not pairs(ranking):
                raise ApiError(400, "all responses have the same place: give them an order, or skip the prompt")
            before = self._live.get(rater, {}).get(task.id)
            if before is None:
                self._append(task.row(ranking, shown=shuffled(task, rater)))
            elif before.get("ranks") != list(ranks):
                raise ApiError(409, "you have been through this prompt, and said otherwise: undo that first")
        return self.state(rater)

    def skip(self, rater: str, task_id: str) -> Row:
        """Pass over a prompt, for good unless undone."""
        rater = rater_name(rater)
        with self._lock:
            task = self._task(task_id)
            before = self._live.get(rater, {}).get(task.id)
            if before is None:
                self._append({"skip": task.id, "id": f"{task.id}/{rater}", "rater": rater, "time": _now()})
            elif "skip" not in before:
                raise ApiError(409, "you have ranked this prompt: undo that first")
        return self.state(rater)

    def undo(self, rater: str, row_id: str) -> Row:
        """Take back the last thing that a rater did, which must be the row of this id."""
        rater = rater_name(rater)
        with self._lock:
            last = next(reversed(self._live.get(rater, {}).values()), None)
            if last is None or last["id"] != row_id:
                raise ApiError(409, "that is not the last thing you did: load the page again")
            self._append({"undo": row_id, "rater": rater, "time": _now()})
        return self.state(rater, order_of(last["ranks"]) if "ranks" in last else None)

    def _task(self, name: str) -> Task:
        task = self._rollouts.find(name)
        if task is None or len(task.rollouts) < 2:
            raise ApiError(404, f"there is no prompt {name[:100]!r} in this session: load the page again")
        return task

    def _append(self, row: Row) -> None:
        try:
            self._record.append(row)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise ApiError(507, f"nothing was saved: {why} ({self._record.path}); make room, then save again") from None
        self._take_in(row)

    def _take_in(self, row: Row) -> None:
        mine = self._live.setdefault(str(row.get("rater")), {})
        task = row.get("skip", row.get("task"))
        if "undo" in row:
            for name in [name for name, other in mine.items() if other["id"] == row["undo"]]:
                del mine[name]
        elif isinstance(task, str) and "id" in row:
            mine[task] = row


def rater_name(text: str) -> str:
    """The name under which somebody ranks. Raises `ApiError`."""
    name = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise ApiError(400, f"a name has 1 to {LONGEST_NAME} characters, all on one line", "rater")
    return name


def ranks_of(order: Sequence[Sequence[int]], count: int) -> tuple[int, ...]:
    """The rank of each of `count` responses. Raises `ApiError` unless each stands once in the groups of `order`."""
    ranks: dict[int, int] = {}
    for rank, group in enumerate(group for group in order if group):
        for each in group:
            if not 0 <= each < count:
                raise ApiError(400, f"there is no response {each}: they are 0 to {count - 1}", "order")
            if each in ranks:
                raise ApiError(400, f"response {each} stands at two places", "order")
            ranks[each] = rank
    if missing := [each for each in range(count) if each not in ranks]:
        raise ApiError(400, f"response {missing[0]} has no place", "order")
    return tuple(ranks[each] for each in range(count))


def order_of(ranks: Sequence[int]) -> list[list[int]]:
    """The groups that `ranks_of` makes these ranks of."""
    return [[each for each, rank in enumerate(ranks) if rank == place] for place in sorted(set(ranks))]


def shuffled(task: Task, rater: str) -> list[int]:
    """In which order a rater is shown the responses: always the same, and another one than others are."""
    order = list(range(len(task.rollouts)))
    random.Random(f"{task.id} {rater}").shuffle(order)
    return order


def _shown(task: Task, rater: str) -> dict[str, Any]:
    responses = [(each, describe_parts(task.rollouts[each].turn.parts)) for each in shuffled(task, rater)]
    return {
        "id": task.id,
        "prompt": [{"role": turn.role, "text": describe_parts(turn.parts)} for turn in task.prompt],
        "responses": [{"index": each, "text": text} for each, text in responses],
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
