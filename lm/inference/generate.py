"""Many requests to the end: what evaluation, RL and the samples of a run need."""

from collections.abc import Callable, Sequence

from lm.inference.engine import Engine
from lm.inference.requests import Completion, Request, Update, Written


def generate(
    engine: Engine, requests: Sequence[Request], on_update: Callable[[int, Update], None] | None = None
) -> list[list[Completion]]:
    """The samples of each request. `on_update` is told, with the index of its request, what is new as it comes.

    The engine must be idle. Raises `UserError` for a request that cannot be served, before anything is written.
    """
    for request in requests:
        engine.check(request)
    places = {engine.submit(request): i for i, request in enumerate(requests)}
    results = [[Completion(Written(), "") for _ in range(request.samples)] for request in requests]
    while not engine.idle:
        for update in engine.step():
            result = results[places[update.ticket]][update.sample]
            for name, values in vars(update.new).items():
                getattr(result.written, name).extend(values)
            result.reason, result.stopped_by = update.reason, update.stopped_by
            if on_update:
                on_update(places[update.ticket], update)
    return results
