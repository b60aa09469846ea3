"""The only file that touches private methods of TRL's GRPOTrainer (written against TRL 1.16).

What it changes, and nothing else: rollouts come from our batched sampler, log-probabilities from
the forward that computes a shared prefix once, advantages and loss from an objective
(rl/objectives.py), and rows without a learning signal cost no forward. Batching, accumulation and
the optimizer are TRL's, untouched. tests/rl/test_trl_seam.py holds the signatures used here and the
equality of loss and gradient with stock TRL.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PrinterCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from lm.scoring import completion_logprobs
from rl.objectives import Batch, Objective
from rl.rollouts import Rollouts


class SeamTrainer(GRPOTrainer):
    """GRPOTrainer that samples through `rollouts` and reports back to it.

    After a step `rollouts` also holds advantages, trained tokens and the log-probability gap.
    """

    def __init__(
        self, rollouts: Rollouts, objective: Objective, clip: tuple[float, float], **arguments: Any
    ):
        self.rollouts, self.objective, self.clip = rollouts, objective, clip
        self._live: Tensor | None = None  # (B,) bool during a loss: the rows worth a forward
        self._logps: Tensor | None = None  # (B, T) of the newest loss
        with _quiet_start():
            super().__init__(
                reward_funcs=rollouts.rewarded,  # type: ignore[arg-type]
                rollout_func=_draw,
                **arguments,
            )
        self.remove_callback(PrinterCallback)

    def _send_telemetry(self) -> None:
        """Nothing about what is trained here leaves the machine."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """A checkpoint is for resuming, not for publishing."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        rewards = [math.nan if reward is None else reward for reward in self.rollouts.rewards]
        rewards_GN = output["advantages"].new_tensor(rewards).view(-1, self.rollouts.sampling.n)
        advantages_B = self.objective.advantage(rewards_GN).flatten().nan_to_num(nan=0.0)
        output["advantages"] = advantages_B
        self.rollouts.advantages = advantages_B.tolist()
        return output

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        advantages_B = inputs["advantages"]
        # With an advantage of 0 a row's loss and gradient are 0, unless a KL term acts on it too.
        some = self.objective.skips and self.beta == 0
        live_B = advantages_B != 0 if some else torch.ones_like(advantages_B).bool()
        self._live = live_B
        try:
            batch, entropies_BT = self._forward(model, inputs)
            loss, metrics = self.objective.loss(batch)
            self._report(inputs, live_B)
        finally:
            self._live = self._logps = None
        tokens = batch.mask_BT.sum().clamp(min=1)
        own = {"kl"} if batch.ref_logps_BT is not None else set()
        named = {k if k in own else f"objective/{k}": v for k, v in metrics.items()}
        named["entropy"] = (entropies_BT * batch.mask_BT).sum() / tokens
        for name, value in named.items():
            gathered = self.accelerator.gather(value.detach().float())
            self._metrics["train"][name].append(gathered.nanmean().item())  # type: ignore[union-attr]
        return loss

    def _forward(self, model: Any, inputs: dict[str, Any]) -> tuple[Batch, Tensor]:
        """The rows of one forward as an objective sees them, and their entropies (B, T)."""
        ids, mask = (
            torch.cat([inputs[f"prompt_{kind}"], inputs[f"completion_{kind}"]], dim=1)
            for kind in ("ids", "mask")
        )
        mask_BT = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        logps_BT, entropies_BT, _ = self._get_per_token_logps_and_entropies(
            model, ids, mask, mask_BT.shape[1], compute_entropy=True
        )
        assert self._live is not None and entropies_BT is not None
        now_BT, live_B1 = logps_BT.detach(), self._live[:, None]
        args, parts = cast(GRPOConfig, self.args), self.current_gradient_accumulation_steps
        tokens = float(inputs["num_items_in_batch"]) / self.accelerator.num_processes
        batch = Batch(
            logps_BT=logps_BT,
            old_logps_BT=inputs.get("old_per_token_logps", now_BT).where(live_B1, now_BT),
            ref_logps_BT=inputs.get("ref_per_token_logps"),
            mask_BT=mask_BT,
            advantages_BT=inputs["advantages"].view(len(mask_BT), -1),
            rows=len(mask_BT) * parts,
            tokens=tokens * parts / (args.steps_per_generation or parts),
            longest=self.rollouts.sampling.max_tokens,
            epsilon=self.clip[0],
            epsilon_high=self.clip[1],
            beta=self.beta,
        )
        return batch, entropies_BT

    def _report(self, inputs: dict[str, Any], live_B: Tensor) -> None:
        mask_BT = inputs["completion_mask"][live_B].bool()
        self.rollouts.trained_tokens += int(inputs["prompt_mask"][live_B].sum() + mask_BT.sum())
        if self.temperature != 1.0 or self._logps is None or not live_B.any():
            return  # the sampler's log-probabilities are those of temperature 1
        gap = (self._logps[live_B] - inputs["sampling_per_token_logps"][live_B])[mask_BT].abs()
        self.rollouts.logprob_gap = max(self.rollouts.logprob_gap or 0.0, gap.max().item())

    def _get_per_token_logps_and_entropies(  # type: ignore[override]
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **media: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """As TRL's: (B, T) log-probabilities at the training temperature and entropies.

        Entropies of rows left out are the mean of the others (NaN without others, which TRL leaves
        out of its log), so the logged mean is that of the rows computed.
        """
        if compute_aux_loss or any(value is not None for value in media.values()):
            raise NotImplementedError("the shared-prefix forward has no auxiliary loss or images")
        live_B = self._live
        if live_B is None:  # the reference's log-probabilities: every row counts
            live_B = torch.ones(len(input_ids), dtype=torch.bool, device=input_ids.device)
        index = live_B.nonzero().squeeze(1)
        logps_BT = torch.zeros(len(input_ids), logits_to_keep, device=input_ids.device)
        entropies_BT = torch.zeros_like(logps_BT) if compute_entropy else None
        if not len(index):
            return logps_BT + _zero_of(model), torch.full_like(logps_BT, torch.nan), None
        for part in index.split(batch_size or len(input_ids)):
            prompts, completions = _rows(input_ids[part], attention_mask[part], logits_to_keep)
            with self.accelerator.autocast():
                logps, entropies = completion_logprobs(
                    model,
                    prompts,
                    completions,
                    temperature=self.temperature,
                    with_entropy=compute_entropy,
                )
            missing = (0, logits_to_keep - logps.shape[1])
            logps_BT = logps_BT.index_copy(0, part, pad(logps, missing))
            if entropies_BT is not None and entropies is not None:
                entropies_BT[part] = pad(entropies, missing)
        if entropies_BT is not None:
            live_tokens = attention_mask[live_B, -logits_to_keep:].sum()
            entropies_BT[~live_B] = entropies_BT.sum() / live_tokens.clamp(min=1)
            self._logps = logps_BT.detach()
        return logps_BT, entropies_BT, None


def _draw(prompts: list[Any], trainer: Any) -> dict[str, list[list[Any]]]:
    """TRL's `rollout_func`. Sampling switches to eval mode; TRL reads the mode afterwards."""
    try:
        return trainer.rollouts.draw(prompts, step=trainer.state.global_step + 1)
    finally:
        trainer.model.train()


def _zero_of(model: Any) -> Tensor:
    """A zero that hangs on every trainable parameter, for a batch in which no row is live.

    Its gradient is zero, as TRL's is, rather than none: Adam's momentum goes on, and backward has
    a graph to run through.
    """
    return torch.stack([(p * 0.0).sum() for p in model.parameters() if p.requires_grad]).sum()


def _rows(
    ids_BL: Tensor, mask_BL: Tensor, completion_width: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Prompt and completion ids of each row, without TRL's padding."""
    split = ids_BL.shape[1] - completion_width

    def unpadded(part: slice) -> list[list[int]]:
        rows = zip(ids_BL[:, part], mask_BL[:, part].bool(), strict=True)
        return [ids[mask].tolist() for ids, mask in rows]

    return unpadded(slice(None, split)), unpadded(slice(split, None))


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Silences two warnings: `rollout_func` is experimental in TRL (its version is pinned for
    that), and a reward may be None (TRL prints the whole row; here it shows in the rollouts)."""
    logging.getLogger("trl.trainer.grpo_trainer").addFilter(_none_rewards_are_data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
        yield


def _none_rewards_are_data(record: logging.LogRecord) -> bool:
    return "All reward functions returned None" not in record.getMessage()
