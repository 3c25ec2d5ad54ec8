from dataclasses import dataclass, field
from data_pipeline.problem import Problem, Response, Verdict
from data_pipeline.school.world import SchoolConfig
from data_pipeline.school import problems as sp
from data_pipeline.school.questions import Question, is_right
@dataclass
class ProblemsConfig:
    sources: tuple[str, ...] = ("school:either",)
    school: SchoolConfig = field(default_factory=SchoolConfig)
@dataclass(frozen=True)
class ProblemSets:
    train: tuple
    held_out: tuple
    fingerprint: str
@dataclass(frozen=True)
class V:
    q: Question
    def __call__(self, r): 
        ok=is_right(self.q, r.text); return Verdict(float(ok), "right" if ok else f"not {self.q.answers[0]}")
def check_problems(c): pass
def prepare_problems(c):
    out=[]
    for h in (False,True):
        out.append(tuple(Problem(q.id,q.turns,V(q),q.kind,q.size) for q in sp.questions(c.school,"either",held_out=h) ))
    return ProblemSets(out[0],out[1],"x")
