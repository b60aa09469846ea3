"""What an exported folder says of itself: what it is, how to load it, what to send."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.types import Policy
from lm.types import Sampling
from reward_models.config import MAJORITY, name_of, parse_reward

README = """\
# {experiment}: {arm}, seed {seed}

{weights}, in {dtype}.
`prompt.json` is the prompt that belongs to it; `generation_config.json` asks as the experiment did.
Exported by tasklift {version}.

{faithful}

## transformers

```python
{transformers}
```

## vLLM

```python
{vllm}
```

{last}
"""
TRANSFORMERS = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
messages = {messages}
tokens = tokenizer.apply_chat_template(
    messages,{tools} add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
answer = model.generate(**tokens{stop})[0, tokens["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))"""
VLLM = """\
from vllm import LLM, SamplingParams

messages = {messages}
sampling = SamplingParams({sampling})
print(LLM(model=".").chat(messages, sampling{tools})[0].outputs[0].text)"""


@dataclass(frozen=True)
class Facts:
    """What is known of an export.

    `gap` is the largest difference of a logit, over `messages`, to the policy as tasklift loads
    it. `tools` are the schemas that the chat template shows. `same_ids`: a plain chat template
    makes the same tokens of them as tasklift does.
    """

    experiment: str
    arm: str
    seed: int
    base: str
    policy: Policy
    sampling: Sampling
    messages: list[dict[str, str]]
    tools: list[dict[str, Any]]
    dtype: str
    gap: float
    same_ids: bool
    version: str


def readme(facts: Facts) -> str:
    """The text of README.md."""
    messages = json.dumps(facts.messages, ensure_ascii=False, indent=4)
    stop = list(facts.sampling.stop)
    tools = f"tools={json.dumps(facts.tools)}" if facts.tools else ""
    return README.format(
        experiment=facts.experiment,
        arm=facts.arm,
        seed=facts.seed,
        dtype=facts.dtype,
        version=facts.version,
        weights=_weights(facts),
        faithful=_faithful(facts),
        transformers=TRANSFORMERS.format(
            messages=messages,
            tools=f" {tools}," if tools else "",
            stop=f", stop_strings={json.dumps(stop)}, tokenizer=tokenizer" if stop else "",
        ),
        vllm=VLLM.format(
            messages=messages,
            sampling=_sampling(facts.sampling),
            tools=f", {tools}" if tools else "",
        ),
        last="\n\n".join([*_choosing(facts), *_acting(facts), _last(facts)]),
    )


def _weights(facts: Facts) -> str:
    policy, base = facts.policy, facts.base
    if base.startswith(("/", "~", ".")):
        base = Path(base).name  # whose folders they were is nobody's business
    if policy.adapter is None and policy.weights is None:
        return f"The model {base} as it came, since this arm changed no weights"
    full = ["all weights trained"] if policy.weights else []
    adapter = ["a low-rank adapter trained and added to the weights"] if policy.adapter else []
    return f"The model {base}, {', then '.join([*full, *adapter])}"


def _faithful(facts: Facts) -> str:
    measured = (
        f"On the messages below no logit differs by more than {_up(facts.gap)} from the policy\n"
        "that the experiment measured, loaded in float32 on a CPU."
    )
    if facts.policy.quantization is None:
        return measured
    return (
        "The experiment held the linear layers in 4 bits (nf4). Here they are the numbers nf4\n"
        "rounds to, with what was trained added, and need no bitsandbytes. Rounded to 4 bits once\n"
        f"more they would be another model.\n{measured}"
    )


def _up(gap: float) -> str:
    """`gap` with one digit, rounded up, so that what is said of it is so."""
    digits = f"{gap:.1e}"
    return "0" if gap == 0 else f"{float(digits) * 1.05:.1g}"


def _sampling(sampling: Sampling) -> str:
    fields = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
    plain = Sampling()
    for name in ("top_k", "top_p", "min_p", "repetition_penalty"):
        if getattr(sampling, name) != getattr(plain, name):
            fields[name] = getattr(sampling, name)
    words = [f"{name}={value}" for name, value in fields.items()]
    words += [f"stop={json.dumps(list(sampling.stop))}"] if sampling.stop else []
    return ", ".join(words)


def _acting(facts: Facts) -> list[str]:
    """What is left to do of an answer with tools."""
    if not facts.policy.prompt.tools:
        return []
    names = ", ".join(tool["function"]["name"] for tool in facts.policy.prompt.tools)
    return [
        f"The arm may call tools ({names}). The code above draws the first turn of an answer:\n"
        "where it is a call, carry it out, add the turn and a message of role tool with the\n"
        "result, and ask again."
    ]


def _choosing(facts: Facts) -> list[str]:
    """What no model folder can do by itself, where the arm picks among answers."""
    best = facts.policy.best_of
    if best is None:
        return []
    reward = name_of(parse_reward(json.loads(best.reward)))
    by = "what most of them say" if reward == MAJORITY else f"the one that {reward} likes best"
    return [
        f"The experiment drew {best.n} answers to each question at temperature "
        f"{best.temperature:g} and took {by}. The code above draws one: its score is not that of "
        "the arm. tasklift picks as the arm did, with `tasklift eval TASK --run RUN --arm ARM`."
    ]


def _last(facts: Facts) -> str:
    prompt, stop = facts.policy.prompt, facts.sampling.stop
    fields = ", ".join(f"`<{name}>`" for name in prompt.inputs)
    lines = [f"Put the question in the place of {fields} in the last message."]
    if prompt.style == "cot":
        lines.append(f"The answer is what follows the last `{prompt.marker}`.")
    if stop:
        lines.append(f"Cut the text at the first of {json.dumps(list(stop))}.")
    if not facts.same_ids:
        lines.append(
            "Part of the messages reads like a control token: tasklift sent it as text, a chat "
            "template does not, so answers may differ."
        )
    return "\n".join(lines)
