"""What a prompt that somebody brings along gives away of held-out examples.

Unlike one that a method made (`tasks.leaks.check_prompt`) it may show what it likes, but no example
of dev or test: not as a demo, exact or nearly, and not inside its texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tasks.leaks import told_in
from tasks.overlap import find_overlaps
from tasks.types import Example, Prompt, SplitName


def given_away(
    prompt: Prompt,
    train: Sequence[Example],
    held_out: Mapping[SplitName, Sequence[Example]],
) -> Iterator[str]:
    """One line for each demo that is a held-out example, and each held-out text in the prompt."""
    demos = [
        Example(f"demo {number}", _asked(prompt, demo.inputs), demo.output)
        for number, demo in enumerate(prompt.demos, 1)
    ]
    for split, examples in held_out.items():
        asked = [replace(e, inputs=_asked(prompt, e.inputs)) for e in examples]
        yield from map(str, find_overlaps({"prompt": demos, split: asked}))
    yield from told_in(prompt, train, held_out)


def _asked(prompt: Prompt, inputs: Mapping[str, str]) -> dict[str, str]:
    return {name: inputs[name] for name in prompt.inputs if name in inputs}
