"""A sequence classifier with one label on an LM's trunk: one number for a row of tokens.

What reward models are, in the layout of transformers. Rows begin alike (an instruction, a
question), and what they begin with is computed once, forward and backward, as in `lm.scoring`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lm.hf import first_line, pick_device
from lm.packed_forward import causal_lm, packed_hidden, shares_prefixes
from lm.rendering import ChatEncoder
from lm.source import checked_folder
from lm.token_tree import token_tree
from lm.types import Chat, ModelError

TOKENS_AT_ONCE = 1 << 14  # of a forward's rows, before what they share is taken out


@dataclass(frozen=True)
class Classifier:
    """`model` scores rows of token ids, which `encode` makes of conversations."""

    model: Any
    tokenizer: Any

    @cached_property
    def encode(self) -> ChatEncoder:
        return ChatEncoder(self.tokenizer)

    def rows_of(
        self, chats: Sequence[Chat], replies: Sequence[str], steps: bool = False
    ) -> tuple[list[list[int]], list[list[int]]]:
        """The token ids of each conversation, and the places where it is read: at its end, or with
        `steps` at the end of each line of the reply that has text."""
        rows, places = [], []
        for chat, reply in zip(chats, replies, strict=True):
            pieces = self.encode.conversation(chat, reply, steps)
            ends = np.cumsum([len(piece) for piece in pieces]) - 1
            row = [i for piece in pieces for i in piece]
            rows.append(row)
            places.append([*ends[:-1].tolist(), self._last(row)])
        return rows, places

    def _last(self, row: Sequence[int]) -> int:
        """Where transformers reads a row: at its last token that is no padding."""
        padding = self.model.config.get_text_config().pad_token_id
        return next((i for i in reversed(range(len(row))) if row[i] != padding), 0)

    @property
    def window(self) -> int | None:
        """How many tokens a row may have, None where the model does not say."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)


def check_classifier(folder: Path) -> None:
    """Raises ModelError when `folder` holds no classifier with one label, as far as its files tell
    without loading weights."""
    checked_folder(folder, str(folder))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = (config.get("architectures") or [""])[0]
        labels = len(config.get("id2label") or {}) or config.get("num_labels", 2)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"model: {str(folder)!r} has a damaged config.json ({error})") from None
    if not kind.endswith("ForSequenceClassification") or labels != 1:
        raise ModelError(
            f"model: {str(folder)!r} holds a {kind or 'model'} with {labels} labels; a reward "
            "needs a …ForSequenceClassification with one (tasklift reward-train writes one)"
        )


def load_classifier(folder: Path, device: str = "auto") -> Classifier:
    """Load a folder with one label, in fp32. Raises ModelError."""
    check_classifier(folder)
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        if found["missing_keys"]:  # transformers would fill them with random numbers
            raise ValueError(f"its weights lack {min(found['missing_keys'])}")
    except Exception as error:  # a foreign folder can fail in any way
        raise ModelError(f"model: cannot load {str(folder)!r}: {first_line(error)}") from error
    return Classifier(model.eval().to(pick_device(device)), tokenizer)


def new_classifier(folder: Path, device: str = "auto") -> Classifier:
    """The trunk of the causal LM in `folder` with a new head that says 0 of everything, in fp32.

    The tokenizer pads with a token that ends no turn, since a classifier of transformers reads a
    row at its last token that is no padding. Raises ModelError when it has no such token, or the
    model is none that transformers knows as a classifier.
    """
    transformers_logging.disable_progress_bar()
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # that the head is new, we know
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, num_labels=1
        )
        with torch.no_grad():
            model.score.weight.zero_()
    except Exception as error:
        line = first_line(error)
        raise ModelError(f"model: {str(folder)!r} makes no classifier: {line}") from error
    finally:
        transformers_logging.set_verbosity(before)
    _choose_padding(model, tokenizer)
    return Classifier(model.to(pick_device(device)), tokenizer)


def _choose_padding(model: Any, tokenizer: Any) -> None:
    encode = ChatEncoder(tokenizer)
    [ids] = encode.conversation([{"role": "user", "content": "a"}], "b")
    known = [tokenizer.pad_token_id, tokenizer.unk_token_id]
    known += [number for number, t in tokenizer.added_tokens_decoder.items() if t.special]
    free = [number for number in known if number is not None and number != ids[-1]]
    ends = {tokenizer.eos_token_id}
    chosen = next((n for n in free if n not in ends), None)
    if chosen is None:
        raise ModelError("model: its tokenizer has no token to pad with but the end; add one")
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(chosen)
    tokenizer.padding_side = "right"
    model.config.get_text_config().pad_token_id = chosen


def place_scores(
    model: Any, rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]]
) -> Tensor:
    """(E,) what the head says at `places[i]` of row i, row after row; gradients flow.

    Foreign architectures that pool rows in their own way give one number a row, whatever the place.
    """
    base = causal_lm(model)
    if not hasattr(base, "score"):
        out = base(**_right_padded(rows, base.device))
        return out.logits[:, 0].float()
    if shares_prefixes(model):
        tree = token_tree(rows)
        hidden_ND = packed_hidden(model, tree)
        index_E = np.concatenate([p[list(at)] for p, at in zip(tree.paths, places, strict=True)])
    else:
        hidden_ND, width = _padded(base, rows)
        index_E = np.concatenate([i * width + np.array(at) for i, at in enumerate(places)])
    index = torch.from_numpy(index_E.astype(np.int64)).to(hidden_ND.device)
    return base.score(hidden_ND[index])[:, 0].float()


def _padded(base: Any, rows: Sequence[Sequence[int]]) -> tuple[Tensor, int]:
    """Hidden states (B * L, D) of rows padded on the right, and L."""
    given = _right_padded(rows, base.device)
    out = getattr(base, base.base_model_prefix)(**given, use_cache=False)
    return out[0].flatten(0, 1), given["input_ids"].shape[1]


def _right_padded(rows: Sequence[Sequence[int]], device: Any) -> dict[str, Tensor]:
    width = max(map(len, rows))
    ids = [[*row, *[0] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return {
        "input_ids": torch.tensor(ids, device=device),
        "attention_mask": torch.tensor(mask, device=device),
    }


def read_scores(
    classifier: Classifier, rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]]
) -> list[list[float]]:
    """What the classifier says at `places` of each row, in the order of `rows`; no gradient.

    Rows that begin alike are computed together, whatever order they come in, each once. Other
    company moves a score by rounding alone: about 1e-5 of a 135M model's logits, in fp32.
    """
    model = classifier.model
    order = sorted(range(len(rows)), key=lambda i: tuple(rows[i]))
    found: list[list[float]] = [[] for _ in rows]
    for part in _parts(order, [len(row) for row in rows]):
        with torch.no_grad():  # packed weights would save little, and round four times as much
            flat = place_scores(model, [rows[i] for i in part], [places[i] for i in part]).tolist()
        for i in part:
            found[i], flat = flat[: len(places[i])], flat[len(places[i]) :]
    return found


def _parts(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    parts: list[list[int]] = []
    room = 0
    for i in order:
        if not parts or room < lengths[i]:
            parts.append([])
            room = TOKENS_AT_ONCE
        parts[-1].append(i)
        room -= lengths[i]
    return parts
