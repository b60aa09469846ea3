"""A policy as a plain Hugging Face folder with its prompt, for those who do not have this suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from evaluation.types import Policy
from experiments.environment import versions
from experiments.errors import SpecError
from experiments.export_readme import Facts, readme
from experiments.saved import policy_of_arm
from experiments.store import RunFolder, write_text
from lm.hf import HFModel, load_model, pick_dtype
from lm.merging import load_merged, logits
from lm.rendering import offered, sendable, write_template
from lm.staging import staged_folder
from lm.types import Sampling


def export(run: Path, arm: str, out: Path, dtype: str = "auto", seed: int | None = None) -> Facts:
    """Write the policy of an arm of `run` to the new folder `out`.

    Everything happens on the CPU, in float32 until the end; `dtype` "auto" is the one the run
    computed in. Raises SpecError and ModelError.
    """
    _check_new(out)
    saved = policy_of_arm(run, arm, seed)
    told = RunFolder(run).read("run.json")
    _refuse_program(saved.policy, run, arm)
    policy, wanted = saved.policy, told.get("dtype", "auto") if dtype == "auto" else dtype
    model = load_merged(policy.source, adapter=policy.adapter, quantization=policy.quantization)
    best = policy.best_of
    sampling = best.sampling(saved.sampling) if best is not None else saved.sampling
    fields = {name: f"<{name}>" for name in policy.prompt.inputs}
    chat = policy.prompt.messages(fields)
    messages, tools = sendable(model.tokenizer, chat), offered(model.tokenizer, chat)
    ids = model.encode(chat)
    write_template(model.tokenizer)
    model.model.generation_config = _generation(model, sampling)
    model.model.to(pick_dtype(wanted, model.device))
    facts = Facts(
        experiment=told["name"],
        arm=arm,
        seed=saved.seed,
        base=told["model"],
        policy=policy,
        sampling=sampling,
        messages=messages,
        tools=tools,
        dtype=wanted,
        gap=_gap(policy, model, ids),
        same_ids=ids == _plain_ids(model, messages, tools),
        version=versions()["tasklift"],
    )
    _write(model, facts, out)
    return facts


def _check_new(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise SpecError(f"--out {str(out)!r}: there is something already; name a new folder")


def _refuse_program(policy: Policy, run: Path, arm: str) -> None:
    if policy.program is not None:
        raise SpecError(
            f"{run}: arm {arm!r} is a program of several steps, which no model folder holds; plain "
            f"DSPy loads it from {policy.program}"
        )


def _write(model: HFModel, facts: Facts, out: Path) -> None:
    try:
        with staged_folder(out) as draft:
            model.model.save_pretrained(draft)
            model.tokenizer.save_pretrained(draft)
            write_text(draft / "prompt.json", facts.policy.prompt.to_json())
            write_text(draft / "README.md", readme(facts))
    except OSError as error:
        problem = error.strerror or error
        raise SpecError(
            f"--out {str(out)!r}: cannot be written ({problem}); name another folder"
        ) from None


def _generation(model: HFModel, sampling: Sampling) -> GenerationConfig:
    """How the experiment asked, as what `generate` does unless it is told otherwise."""
    warped = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
    }
    ends = sorted(model.ends)
    pad = model.tokenizer.pad_token_id
    return GenerationConfig(
        max_new_tokens=sampling.max_tokens,
        do_sample=sampling.temperature > 0,
        repetition_penalty=sampling.repetition_penalty,
        bos_token_id=model.tokenizer.bos_token_id,
        eos_token_id=ends,
        pad_token_id=ends[0] if pad is None and ends else pad,
        **(warped if sampling.temperature > 0 else {}),
    )


def _gap(policy: Policy, exported: HFModel, ids: list[int]) -> float:
    """The largest difference of a logit over `ids` between what is exported and the policy."""
    before = load_model(
        policy.source,
        adapter=policy.adapter,
        device="cpu",
        dtype="float32",
        quantization=policy.quantization,
    )
    return float((logits(before, ids) - logits(exported, ids)).abs().max())


def _plain_ids(model: HFModel, messages: list[dict[str, str]], tools: list[Any]) -> list[int]:
    """What the chat becomes without our encoder, which sends control tokens in it as text."""
    found = model.tokenizer.apply_chat_template(
        messages, tools=tools or None, add_generation_prompt=True, return_dict=True
    )
    return list(found["input_ids"])
