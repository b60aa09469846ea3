"""How much arithmetic it takes, estimated: 2 N for a token read or written, 6 N for one trained.

N is the number of weights a token is multiplied with, and a multiplication with its addition counts
as 2 (Kaplan et al., 2020, arXiv:2001.08361, section 2.1: the forward pass takes about 2 N, the
backward pass twice as much). It is a rule of thumb that makes methods comparable, no measurement:

- attention over the context is left out (small while it is shorter than about 12 times the width);
- what a prefix shared by several rows saves counts as if it had been computed for each prompt;
- of a LoRA stage 6 N is too much: the frozen weights need no gradient, so about 4 N are done;
- of a mixture of experts N holds all experts, though a token meets a few of them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from lm.types import ModelError

FORWARD, TRAINED = 2, 6  # floating point operations for each weight and token

EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
HEADS = ("lm_head.weight", "embed_out.weight", "score.weight")  # the last one a classifier's


def forward_flops(parameters: int, tokens: int) -> int:
    """The estimate for tokens that are read or written."""
    return FORWARD * parameters * tokens


def training_flops(parameters: int, tokens: int) -> int:
    """The estimate for tokens that went through forward and backward."""
    return TRAINED * parameters * tokens


def count_parameters(folder: Path) -> int:
    """N of a model folder, from the headers of its safetensors.

    An embedding is looked up, not multiplied: it counts only where it is the output matrix as well,
    that is where none is stored beside it. Raises ModelError for a damaged file.
    """
    sizes: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            sizes |= _sizes(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"model: {str(path)!r} is damaged ({error}); write or download it again"
            ) from error
    if any(name.endswith(HEADS) for name in sizes):
        sizes = {name: size for name, size in sizes.items() if not name.endswith(EMBEDDINGS)}
    return sum(sizes.values())


def _sizes(path: Path) -> dict[str, int]:
    """Entries of each tensor of a safetensors file, by name."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    return {name: math.prod(tensor["shape"]) for name, tensor in header.items()}
