"""The sums of `word_sums` for a model that may call a tool to add: the harness runs the tool in a process of its own."""

import verifiers.v1 as vf
from word_sums import SUMS, SumData, SumTask, told

__all__ = ["WordSumsWithATool"]


class Adder(vf.Toolset[vf.ToolsetConfig]):
    """Adds."""

    TOOL_PREFIX = "sums"

    @vf.tool
    def add(self, first: int, second: int) -> str:
        """Add two numbers."""
        return str(first + second)


class ToolTaskConfig(vf.TaskConfig):
    """Where the tool runs."""

    tools: vf.ToolsetConfig = vf.ToolsetConfig()


class ToolTask(SumTask, vf.Task[SumData, vf.State, ToolTaskConfig]):
    """A problem that comes with the tool."""

    @classmethod
    def toolsets(cls, config: ToolTaskConfig) -> list[vf.Toolset]:
        """The one tool."""
        return [Adder(config.tools)]


class ToolSumsConfig(vf.TasksetConfig):
    """The settings of its tasks."""

    task: ToolTaskConfig = ToolTaskConfig()


class WordSumsWithATool(vf.Taskset[ToolTask, ToolSumsConfig]):
    """All the problems."""

    def load(self) -> list[ToolTask]:
        """The problems, in order."""
        return [ToolTask(SumData(prompt=told(*each), answer=str(sum(each[1:]))), self.config.task) for each in SUMS]


if __name__ == "__main__":
    Adder.run()
