"""Log-probabilities of given completions: one packed forward, its logits a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lm.frozen_head import FrozenHead, is_frozen_linear, softmax_parts
from lm.packed_forward import head, packed_hidden, shares_prefixes
from lm.token_tree import token_tree

LOGITS_AT_ONCE = 1 << 23  # 32 MB in fp32


class Scored(NamedTuple):
    """(B, T) fp32 each, T the longest completion, zero behind each completion's end.

    `values_BT` are what a critic says of the text before each token.
    """

    logprobs_BT: Tensor
    entropies_BT: Tensor | None = None
    values_BT: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Scored:
        """Each table changed the same way."""
        entropies_BT, values_BT = (t if t is None else change(t) for t in self[1:])
        return Scored(change(self.logprobs_BT), entropies_BT, values_BT)


def completion_logprobs(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
    critic: Callable[[Tensor], Tensor] | None = None,
) -> Scored:
    """Log-probabilities in nats, and entropies, of completion tokens after their prompts.

    Entropies carry no gradient and are None unless `with_entropy`; `critic` maps hidden states
    (N, D) to values (N,). What rows begin with in common, prompts and answers alike, is computed
    once, forward and backward, and the gradient is exact. Logits are divided by `temperature`, as
    TRL does. `model` is a causal LM of transformers, or peft's wrap; one without standard
    attention runs row by row, padded.
    """
    if not completion_ids:
        return Scored(torch.zeros(0, 0, device=model.device))
    rows = [[*prompt, *ids] for prompt, ids in zip(prompt_ids, completion_ids, strict=True)]
    lengths = [len(ids) for ids in completion_ids]
    row_E = np.repeat(np.arange(len(rows)), lengths)
    step_E = np.concatenate([np.arange(n) for n in lengths])
    token_E = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in completion_ids])
    width = max(lengths, default=0)
    logprobs_BT = torch.zeros(len(rows), width, device=model.device)
    entropies_BT = torch.zeros_like(logprobs_BT) if with_entropy else None
    values_BT = torch.zeros_like(logprobs_BT) if critic is not None else None
    if not len(row_E):
        return Scored(logprobs_BT, entropies_BT, values_BT)

    if shares_prefixes(model):
        tree = token_tree([row[:-1] for row in rows])
        hidden_ND = packed_hidden(model, tree)
        starts = [len(prompt) - 1 for prompt in prompt_ids]
        source_E = np.concatenate(
            [p[s:] for p, s, n in zip(tree.paths, starts, lengths, strict=True) if n]
        )
        logprobs_E, entropies_E = _read(
            head(model), hidden_ND, source_E, token_E, temperature, with_entropy
        )
    else:
        starts = [len(prompt) - 1 for prompt in prompt_ids]
        keep = max(map(len, rows)) - min(starts)
        logits_BLV, hidden_BLD = _padded(model, rows, keep, critic is not None)
        offset = max(map(len, rows)) - logits_BLV.shape[1]
        column_E = np.array(starts)[row_E] + step_E - offset
        source_E = row_E * logits_BLV.shape[1] + column_E
        hidden_ND = hidden_BLD.flatten(0, 1)
        logprobs_E, entropies_E = _read(
            lambda logits: logits, logits_BLV.flatten(0, 1), source_E, token_E, temperature,
            with_entropy,
        )  # fmt: skip
    place = _tensor(row_E, model.device), _tensor(step_E, model.device)
    logprobs_BT = logprobs_BT.index_put(place, logprobs_E)
    if entropies_BT is not None:
        entropies_BT[place] = entropies_E
    if values_BT is not None and critic is not None:
        values_E = critic(hidden_ND[_tensor(source_E, model.device)]).float()
        values_BT = values_BT.index_put(place, values_E)
    return Scored(logprobs_BT, entropies_BT, values_BT)


def _padded(
    model: Any, rows: Sequence[Sequence[int]], keep: int, with_hidden: bool
) -> tuple[Tensor, Tensor]:
    """Logits (B, keep, V) of the last columns; the padding stands behind, where no token looks.

    Hidden states (B, keep, D) come along `with_hidden`, else something small.
    """
    width = max(map(len, rows))
    ids = [[*row, *[0] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    out = model(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        use_cache=False,
        logits_to_keep=keep,
        output_hidden_states=with_hidden,
    )
    return out.logits, out.hidden_states[-1][:, -keep:] if with_hidden else out.logits[..., :1]


def _read(
    to_logits: Any,
    hidden_ND: Tensor,
    source_E: np.ndarray,
    token_E: np.ndarray,
    temperature: float,
    with_entropy: bool,
) -> tuple[Tensor, Tensor]:
    """(E,) log-probabilities of `token_E` at the places `source_E`, and entropies there.

    Logits exist for the places that are read, each once, and for a slice of them at a time.
    """
    places_U, where_E = np.unique(source_E, return_inverse=True)
    order_E = np.argsort(where_E, kind="stable")
    with torch.no_grad():
        vocabulary = to_logits(hidden_ND[:1]).shape[-1]
    step = max(1, LOGITS_AT_ONCE // vocabulary)
    frozen = is_frozen_linear(to_logits)
    device = hidden_ND.device
    logprobs, entropies = [], []
    for start in range(0, len(places_U), step):
        mine_E = order_E[slice(*np.searchsorted(where_E[order_E], [start, start + step]))]
        hidden_UD = hidden_ND[_tensor(places_U[start : start + step], device)]
        where = _tensor(where_E[mine_E] - start, device)
        token = _tensor(token_E[mine_E], device)
        if frozen:
            found, entropy = FrozenHead.apply(  # type: ignore[misc]
                hidden_UD / temperature, to_logits.weight, where, token, with_entropy
            )
        else:
            found, entropy = checkpoint(
                _slice, to_logits, hidden_UD, where, token, temperature, use_reentrant=False
            )
        logprobs.append(found)
        entropies.append(entropy[where])
    back_E = _tensor(np.argsort(order_E, kind="stable"), device)
    return torch.cat(logprobs)[back_E], torch.cat(entropies)[back_E]


def _slice(
    to_logits: Any, hidden_UD: Tensor, where_E: Tensor, token_E: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits_UV = to_logits(hidden_UD).float() / temperature
    lse_U = logits_UV.logsumexp(dim=1)
    logprobs_E = logits_UV[where_E, token_E] - lse_U[where_E]
    with torch.no_grad():
        entropy_U = softmax_parts(logits_UV.clone())[2]
    return logprobs_E, entropy_U


def _tensor(values: np.ndarray, device: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
