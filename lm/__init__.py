"""Open-weight language models: find, load, adapt, generate in batches, count.

Importing this package loads no torch; `lm.hf` does.
"""

from lm.ledger import BudgetExhausted, Caps, Ledger, Purpose
from lm.scripted import ScriptedLM
from lm.types import Chat, Completion, LanguageModel, ModelError, Sampling

__all__ = [
    "BudgetExhausted",
    "Caps",
    "Chat",
    "Completion",
    "LanguageModel",
    "Ledger",
    "ModelError",
    "Purpose",
    "Sampling",
    "ScriptedLM",
]
