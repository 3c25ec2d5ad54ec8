"""An engine that writes what it is told, and asks for interjections as the real one does."""

from dataclasses import dataclass, field

from lm.inference.requests import CANCELLED, LENGTH, STOP, Alternative, Update, Written


@dataclass
class ScriptedEngine:
    """Each request is answered with the next of `answers`: the tokens that are drawn, all its samples alike."""

    answers: list[list[int]]
    size: int = 3  # tokens of a step
    slow: bool = False  # a tool's answer never comes
    before_step: object = lambda number: None
    requests: list = field(default_factory=list)
    rows: list = field(default_factory=list)  # [ticket, sample, request, what is left, what there is]
    updates: list = field(default_factory=list)
    steps: int = 0

    @property
    def idle(self):
        return not (self.rows or self.updates)

    def submit(self, request):
        self.requests.append(request)
        ticket = len(self.requests)
        self.rows += [[ticket, n, request, list(self.answers[ticket - 1]), []] for n in range(request.samples)]
        return ticket

    def cancel(self, ticket):
        self.updates += [Update(ticket, row[1], Written(), CANCELLED) for row in self.rows if row[0] == ticket]
        self.rows = [row for row in self.rows if row[0] != ticket]

    def step(self):
        self.before_step(self.steps)
        self.steps += 1
        for row in list(self.rows):
            self.write(row)
        updates, self.updates = self.updates, []
        return updates

    def write(self, row):
        ticket, sample, request, left, there = row
        pauses = request.interjection.tokens if request.interjection else ()
        if self.slow and there and there[-1] in pauses:
            return
        new = []
        while left and len(new) < self.size:
            new.append(left.pop(0))
            if new[-1] in (*request.stop_tokens, *pauses):
                break
        there += new
        if new:
            top = [[Alternative(token, -1.0)] * request.top for token in new] if request.top else []
            written = Written(new, [-1.0] * len(new), [-1.0] * len(new), top, [True] * len(new))
            if new[-1] in request.stop_tokens:
                return self.end(row, written, STOP, new[-1])
            if not left and new[-1] not in pauses:
                return self.end(row, written, LENGTH)
            self.updates.append(Update(ticket, sample, written))
            if new[-1] not in pauses:
                return
        if self.slow:
            return
        told = request.interjection.answer(list(there))
        if told is None:
            return self.end(row, Written(), STOP, new[-1])
        there += told
        zeros = [0.0] * len(told)
        top = [[] for _ in told] if request.top else []
        self.updates.append(Update(ticket, sample, Written(list(told), zeros, zeros, top, [False] * len(told))))

    def end(self, row, written, reason, by=None):
        self.rows.remove(row)
        self.updates.append(Update(row[0], row[1], written, reason, by))


def drawn_tokens(tokenizer, *parts):
    """What a model draws of an assistant's turn, its end too: tool results are left out."""
    from data_pipeline.conversation import Turn, said
    from data_pipeline.protocol import render

    user = [said("user", "x")]
    rendered = render(tokenizer, [*user, Turn("assistant", parts)])
    return [token for token, trained in zip(rendered.tokens, rendered.trained, strict=True) if trained]
