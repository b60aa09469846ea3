"""Log-probabilities out of a language-model head that is not trained, without keeping logits.

The gradient of a log-probability with respect to the hidden state is `W[token] - p @ W`, whatever
comes from above scales it. So the forward pass, which has the probabilities p at hand, leaves
`p @ W`, as large as the hidden state, and the backward pass never sees the vocabulary. This saves
the memory of the logits and the product that would compute them again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def is_frozen_linear(head: Any) -> bool:
    """Whether `FrozenHead` may stand for this module."""
    return (
        type(head) is nn.Linear
        and head.bias is None
        and head.weight.is_floating_point()
        and not head.weight.requires_grad
    )


class FrozenHead(torch.autograd.Function):
    """(hidden_UD, weight_VD, where_E, token_E, with_entropy) to (E,) log-probabilities in nats.

    Log-probability e is that of `token_E[e]` under the softmax at place `where_E[e]`. Also returns
    the (U,) entropies, which carry no gradient (zeros unless `with_entropy`).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_UD: Tensor,
        weight_VD: Tensor,
        where_E: Tensor,
        token_E: Tensor,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        logits_UV = (hidden_UD @ weight_VD.mT).float()
        chosen_E = logits_UV[where_E, token_E]
        probs_UV, lse_U, entropy_U = softmax_parts(logits_UV, with_entropy)
        if ctx.needs_input_grad[0]:
            mean_UD = probs_UV.to(weight_VD.dtype) @ weight_VD
            ctx.save_for_backward(mean_UD, weight_VD, where_E, token_E)
            ctx.dtype = hidden_UD.dtype
        ctx.mark_non_differentiable(entropy_U)
        return chosen_E - lse_U[where_E], entropy_U

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        grad_E = grads[0]
        mean_UD, weight_VD, where_E, token_E = ctx.saved_tensors
        total_U = grad_E.new_zeros(len(mean_UD)).index_add_(0, where_E, grad_E)
        d_hidden_UD = mean_UD.float() * -total_U[:, None]
        d_hidden_UD.index_add_(0, where_E, weight_VD[token_E].float() * grad_E[:, None])
        return d_hidden_UD.to(ctx.dtype), None, None, None, None


def softmax_parts(logits_UV: Tensor, with_entropy: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities (U, V), log-sum-exp (U,) and entropies in nats (U,); overwrites the logits."""
    top_U1 = logits_UV.amax(dim=1, keepdim=True)
    below_UV = logits_UV.sub_(top_U1)
    if not with_entropy:
        probs_UV = below_UV.exp_()
        total_U1 = probs_UV.sum(dim=1, keepdim=True)
        lse_U = (top_U1 + total_U1.log())[:, 0]
        return probs_UV.div_(total_U1), lse_U, torch.zeros_like(lse_U)
    below_UV.clamp_(min=-1e4)  # -inf would meet its probability of 0
    probs_UV = below_UV.exp()
    total_U1 = probs_UV.sum(dim=1, keepdim=True)
    probs_UV.div_(total_U1)
    entropy_U = total_U1[:, 0].log() - torch.linalg.vecdot(probs_UV, below_UV)
    return probs_UV, (top_U1 + total_U1.log())[:, 0], entropy_U
