"""The only file that touches private methods of TRL's GRPOTrainer (written against TRL 1.16).

What it changes, and nothing else: rollouts come from our batched sampler, log-probabilities from
the forward that computes a shared prefix once, advantages and loss from an objective
(rl/objectives.py) or a critic (rl/ppo.py), rows without a learning signal cost no forward, and the
rows of a step are shuffled anew for each pass over them. Batching, accumulation and the optimizer
are TRL's, untouched. tests/rl/test_trl_seam.py holds the signatures used here and the equality of
loss and gradient with stock TRL.
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
from trl.trainer.utils import shuffle_sequence_dict, split_tensor_dict

from lm.packed_forward import allow_checkpointing, allows_checkpointing, has_attention_dropout
from lm.ranks import gathered, own_part
from lm.scoring import Scored, completion_logprobs
from rl.data_parallel import DataParallel, mean_entropy, token_means
from rl.objectives import Batch, Metrics, Objective
from rl.rollouts import Rollouts
from rl.vllm_engine import asked_through
from rl.weights import Reference

PROBED = 4  # rows that are scored once more where training is at another temperature than 1


class SeamTrainer(DataParallel, GRPOTrainer):
    """GRPOTrainer that samples through `rollouts` and reports back to it.

    After a step `rollouts` also holds advantages, trained tokens and the log-probability gap.
    `clip` is how far below and above 1 a ratio may go, `beta` the weight of the KL divergence to
    the policy this trainer was made with.
    """

    critic: Any = None  # hidden states (N, D) to values (N,), where a subclass has one

    def __init__(
        self,
        rollouts: Rollouts,
        objective: Objective,
        clip: tuple[float, float],
        *,
        beta: float = 0.0,
        **arguments: Any,
    ):
        self.rollouts, self.objective, self.clip, self.kl_beta = rollouts, objective, clip, beta
        self.reference = Reference(arguments["model"]) if beta else None
        self._kept: Scored | None = None  # a forward that waits for its way back
        with _quiet_start():
            super().__init__(
                reward_funcs=_rewarded(rollouts),
                rollout_func=_drawn,
                **arguments,
            )
        self.remove_callback(PrinterCallback)
        if self.use_vllm:
            rollouts.model = asked_through(self, rollouts.model)

    @property
    def updates(self) -> int:
        """Optimizer updates between two generations."""
        args = cast(GRPOConfig, self.args)
        parts = cast(int, args.steps_per_generation) // args.gradient_accumulation_steps
        return parts * self.num_iterations

    def _send_telemetry(self) -> None:
        """Nothing about what is trained here leaves the machine."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """A checkpoint is for resuming, not for publishing."""

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL's, with the rows of a step in a new order for each pass over them."""
        parts = cast(int, cast(GRPOConfig, self.args).steps_per_generation)
        if self._buffered_inputs and self._step % parts == 0 and self._step % self._every != 0:
            buffered: list[Any] = self._buffered_inputs
            whole: Any = {
                name: torch.cat([part[name] for part in buffered]) if value.dim() else value
                for name, value in buffered[0].items()
            }
            mixed: Any = shuffle_sequence_dict(whole)
            self._buffered_inputs = split_tensor_dict(mixed, parts)
        return super()._prepare_inputs(generation_batch)

    @property
    def _every(self) -> int:
        """Forwards between two generations."""
        return cast(int, cast(GRPOConfig, self.args).steps_per_generation) * self.num_iterations

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        model: Any = self.model
        step = self.state.global_step // self.updates + 1
        rows = self.rollouts.collect(inputs, step, trainer_state=self.state)
        if self.use_vllm:  # so that TRL does not load the weights once more, its own way
            self._last_loaded_step = self.state.global_step
        model.train()  # TRL reads the mode, sampling has switched it
        output = super()._generate_and_score_completions(rows)
        output.pop("old_per_token_logps", None)  # zeros; see `_get_per_token_logps_and_entropies`
        if allows_checkpointing(model):  # TRL has switched it off and on again, its own way
            allow_checkpointing(model)
        with torch.no_grad():
            with _evaluating(model):
                self._add_reference(output)
                if self.temperature != 1.0:
                    self._probe(output)
            self._look_back(output)
        return output

    def _look_back(self, output: dict[str, Any]) -> None:
        """Add what must be known of the rollouts before the weights move."""
        rewards = [math.nan if reward is None else reward for reward in self.rollouts.rewards]
        rewards_GN = output["prompt_ids"].new_tensor(rewards, dtype=torch.float32)
        rewards_GN = rewards_GN.view(-1, self.rollouts.sampling.n)
        advantages_GN = self.objective.advantage(rewards_GN).nan_to_num(nan=0.0)
        output["advantages"] = advantages_GN[own_part(len(advantages_GN))].flatten()
        self.rollouts.advantages = advantages_GN.flatten().tolist()
        if self.updates > 1:
            output["old_per_token_logps"] = self._before(output).logprobs_BT

    def _before(self, output: dict[str, Any]) -> Scored:
        """The rollouts as the policy that drew them scores them, without a gradient.

        Where one forward holds all rows it is the very one that the first update goes back
        through, and is kept for it. Not so with dropout, which the sampler does without.
        """
        model: Any = self.model
        live_B = self._live(output)
        whole = cast(GRPOConfig, self.args).steps_per_generation == 1
        drops = any(m.p for m in model.modules() if isinstance(m, torch.nn.Dropout))
        if whole and not drops and not has_attention_dropout(model):
            with torch.enable_grad():
                self._kept = self._forward(model, output, live_B, with_entropy=True)
            output["row"] = torch.arange(len(live_B), device=live_B.device)
            return self._kept.map(Tensor.detach)
        with _evaluating(model):
            return self._forward(model, output, live_B)

    def _add_reference(self, output: dict[str, Any]) -> None:
        if self.reference is None:
            return
        with self.reference.standing_in() as model:
            scored = self._forward(model, output, all_rows(output))
            output["ref_per_token_logps"] = scored.logprobs_BT

    def _probe(self, output: dict[str, Any]) -> None:
        """Compare sampler and trainer at the temperature of what the sampler reports."""
        told_at = self.temperature if self.use_vllm else 1.0
        few_B = torch.arange(len(output["prompt_ids"]), device=output["prompt_ids"].device) < PROBED
        found = self._forward(self.model, output, few_B, temperature=told_at).logprobs_BT
        mask_BT = own_mask(output).bool() & few_B[:, None]
        gap = (found - output["sampling_per_token_logps"])[mask_BT].abs().max().item()
        self.rollouts.logprob_gap = max(self.rollouts.logprob_gap or 0.0, gap)

    def _live(self, inputs: dict[str, Any]) -> Tensor:
        """(B,) bool: with an advantage of 0 a row's loss and gradient are 0, unless a KL term acts
        on it too."""
        some = self.objective.skips and self.kl_beta == 0
        return inputs["advantages"] != 0 if some else all_rows(inputs)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        live_B = self._live(inputs)
        scored, self._kept = self._kept, None
        if scored is None:
            first_pass = self._step % self._every < self._every // self.num_iterations
            scored = self._forward(model, inputs, live_B, with_entropy=first_pass)
        else:
            scored = scored.map(lambda table_BT: table_BT[inputs["row"]])
        batch = self._batch(inputs, scored.logprobs_BT, live_B)
        loss, metrics = self._loss(batch, inputs, scored)
        self._report(inputs, batch, live_B)
        self._log(batch, metrics, scored)
        return loss

    def _loss(self, batch: Batch, inputs: dict[str, Any], scored: Scored) -> tuple[Tensor, Metrics]:
        return self.objective.loss(batch)

    def _log(self, batch: Batch, metrics: Metrics, scored: Scored) -> None:
        own = {"kl"} if batch.ref_logps_BT is not None else set()
        named = {k if k in own else f"objective/{k}": v for k, v in metrics.items()}
        if scored.entropies_BT is not None:  # of the first pass: of the policy that drew
            named["entropy"] = mean_entropy(scored.entropies_BT, batch.mask_BT)
        counted = batch.mask_BT.sum().item(), {k: v.item() for k, v in named.items()}
        for name, value in token_means(gathered(counted)).items():
            self._metrics["train"][name].append(value)  # type: ignore[union-attr]

    def _batch(self, inputs: dict[str, Any], logps_BT: Tensor, live_B: Tensor) -> Batch:
        """The rows of one forward as an objective sees them."""
        mask_BT = own_mask(inputs)
        now_BT = logps_BT.detach()
        args, parts = cast(GRPOConfig, self.args), self.current_gradient_accumulation_steps
        tokens = float(inputs["num_items_in_batch"]) / self.accelerator.num_processes
        return Batch(
            logps_BT=logps_BT,
            old_logps_BT=inputs.get("old_per_token_logps", now_BT).where(live_B[:, None], now_BT),
            ref_logps_BT=inputs.get("ref_per_token_logps"),
            mask_BT=mask_BT,
            advantages_BT=inputs["advantages"].view(len(mask_BT), -1),
            rows=len(mask_BT) * parts,
            tokens=tokens * parts / (args.steps_per_generation or parts),
            longest=self.rollouts.sampling.max_tokens,
            epsilon=self.clip[0],
            epsilon_high=self.clip[1],
            beta=self.kl_beta,
        )

    def _report(self, inputs: dict[str, Any], batch: Batch, live_B: Tensor) -> None:
        seen_BT = inputs["completion_mask"][live_B]
        self.rollouts.trained_tokens += int(inputs["prompt_mask"][live_B].sum() + seen_BT.sum())
        if self.temperature != 1.0 or not live_B.any():
            return  # the sampler's log-probabilities are those of temperature 1
        own_BT = own_mask(inputs) * live_B[:, None]
        gap_BT = (batch.old_logps_BT - inputs["sampling_per_token_logps"]).abs() * own_BT
        self.rollouts.logprob_gap = max(self.rollouts.logprob_gap or 0.0, gap_BT.max().item())

    def _forward(
        self,
        model: Any,
        inputs: dict[str, Any],
        live_B: Tensor,
        *,
        with_entropy: bool = False,
        temperature: float | None = None,
    ) -> Scored:
        """What is `Scored` of the rows in `live_B`, (B, T) with zeros for the others.

        Entropies of rows left out are the mean of the others (NaN without others, which TRL leaves
        out of its log), so the logged mean is that of the rows computed.
        """
        completions = inputs["completion_mask"]
        zeros_BT = torch.zeros(completions.shape, device=completions.device)
        logps_BT, entropies_BT, values_BT = zeros_BT, zeros_BT.clone(), zeros_BT
        if not live_B.any():
            unknown_BT = torch.full_like(zeros_BT, torch.nan)
            return Scored(zeros_BT + _zero_of(model), unknown_BT if with_entropy else None)
        for part in live_B.nonzero().squeeze(1).split(self._rows_at_once):
            with self.accelerator.autocast():
                scored = completion_logprobs(
                    self.accelerator.unwrap_model(model),
                    _rows(inputs, "prompt", part),
                    _rows(inputs, "completion", part),
                    temperature=self.temperature if temperature is None else temperature,
                    with_entropy=with_entropy,
                    critic=self.critic,
                )
            found, entropies, values = (
                None if table is None else pad(table, (0, zeros_BT.shape[1] - table.shape[1]))
                for table in scored
            )
            logps_BT = logps_BT.index_copy(0, part, cast(Tensor, found))
            if entropies is not None:
                entropies_BT[part] = entropies
            if values is not None:
                values_BT = values_BT.index_copy(0, part, values)
        own_BT = own_mask(inputs)
        live_tokens = own_BT[live_B].sum().clamp(min=1)
        entropies_BT[~live_B] = (entropies_BT * own_BT).sum() / live_tokens
        return Scored(
            logps_BT,
            entropies_BT if with_entropy else None,
            values_BT if self.critic is not None else None,
        )

    @property
    def _rows_at_once(self) -> int:
        return cast(GRPOConfig, self.args).per_device_train_batch_size

    def _get_per_token_logps_and_entropies(  # type: ignore[override]
        self, *arguments: Any, **_: Any
    ) -> Any:
        """TRL asks for old log-probabilities before a step; `_look_back` has the real ones."""
        ids, keep = arguments[1], arguments[3]
        return torch.zeros(len(ids), keep, device=ids.device), None, None


def _drawn(prompts: list[Any], trainer: Any) -> dict[str, list[list[Any]]]:
    """TRL's `rollout_func`: what `collect` has drawn."""
    return trainer.rollouts.for_trl()


def _rewarded(rollouts: Rollouts) -> Any:
    """TRL's reward function: what `collect` has rewarded."""

    def rewarded(**_: Any) -> list[float | None]:
        return [reward for group in rollouts.own for reward in group.rewards]

    return rewarded


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """As the sampler sees the model: without dropout."""
    model.eval()
    try:
        yield
    finally:
        model.train()


def _zero_of(model: Any) -> Tensor:
    """A zero that hangs on every trainable parameter, for a batch in which no row is live.

    Its gradient is zero, as TRL's is, rather than none: Adam's momentum goes on, and backward has
    a graph to run through.
    """
    return torch.stack([(p * 0.0).sum() for p in model.parameters() if p.requires_grad]).sum()


def own_mask(inputs: dict[str, Any]) -> Tensor:
    """(B, T) 1 for the model's own tokens: neither padding, nor what a tool said."""
    return inputs["completion_mask"] * inputs.get("tool_mask", 1)


def all_rows(inputs: dict[str, Any]) -> Tensor:
    return torch.ones_like(inputs["prompt_ids"][:, 0]).bool()


def _rows(inputs: dict[str, Any], kind: str, index: Tensor) -> list[list[int]]:
    """Token ids of the rows `index`, without TRL's padding."""
    rows = zip(inputs[f"{kind}_ids"][index], inputs[f"{kind}_mask"][index].bool(), strict=True)
    return [ids[mask].tolist() for ids, mask in rows]


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
