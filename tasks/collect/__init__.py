"""From somebody's data to a task: `tasklift collect`. Standard library only at import.

sources → fields → clean → guess → cut → card: each file one step, in this order; `work.py` goes
through them.
"""
