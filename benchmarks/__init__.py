"""Our code and the peers it must beat, on the same prompts, model, dtype and lengths.

`make bench` runs all three; each prints both sides and, last, one line a case: `ratio <case> <x>`,
the peer's median time over ours.
"""
