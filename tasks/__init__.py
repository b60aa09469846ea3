"""Tasks: what is asked and what counts as right. Standard library only at import."""

from tasks.types import SPLITS, Demo, Example, Message, Prompt, Score, SplitName, Task, TaskError

__all__ = [
    "SPLITS",
    "Demo",
    "Example",
    "Message",
    "Prompt",
    "Score",
    "SplitName",
    "Task",
    "TaskError",
]
