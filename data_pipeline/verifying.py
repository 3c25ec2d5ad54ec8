from dataclasses import dataclass
@dataclass(frozen=True)
class Checked:
    score: float
    reason: str
    failed: bool
class Verifiers:
    def __init__(self, workers, seconds): pass
    def check(self, pairs):
        return [Checked((v:=p.verifier(r)).score, v.reason, False) for p,r in pairs]
    def close(self): pass
