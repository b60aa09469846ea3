"""Was it the weights, the prompt, or the two together? The 2 x 2 design, example by example.

Four policies answered the same examples: {base, tuned} weights x {base, tuned} prompt. With the
score of example i in each of them written base, prompt, weights (either tuned alone) and both,

    weights effect   c_i = [(weights - base) + (both - prompt)] / 2
    prompt effect    c_i = [(prompt - base) + (both - weights)] / 2
    interaction      c_i = both - prompt - weights + base

A main effect is what moving one brings, averaged over the two levels of the other; the interaction
is what the two bring together beyond the sum of what each brings alone, or what tuned weights add
to the effect of the prompt. Each is the mean of one figure an example, so it is paired as a
difference of two arms is (`evaluation.compare`).
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from evaluation.compare import Contrast, aligned, contrast

Scores = pd.Series  # the mean score of an example over its samples, by example id


@dataclass(frozen=True)
class Attribution:
    """The two main effects and the interaction, in score units."""

    weights: Contrast
    prompt: Contrast
    interaction: Contrast


def attribute(base: Scores, prompt: Scores, weights: Scores, both: Scores) -> Attribution:
    """The effects behind four cells' scores.

    Raises ValueError when there is no example, or when an example is not in all of them.
    """
    base_E, prompt_E, weights_E, both_E = aligned([base, prompt, weights, both])
    return Attribution(
        contrast(((weights_E - base_E) + (both_E - prompt_E)) / 2, reach=1),
        contrast(((prompt_E - base_E) + (both_E - weights_E)) / 2, reach=1),
        contrast(both_E - prompt_E - weights_E + base_E, reach=2),
    )
