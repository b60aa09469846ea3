"""An exported folder gives our answers to a program that has never heard of us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments.cli import main
from experiments.export import export
from experiments.export_readme import readme
from experiments.saved import policy_of_arm
from lm.hf import HFModel, load_model
from lm.merging import load_merged, merged
from lm.rendering import ChatEncoder, sendable, write_template
from lm.tiny import write_tiny_model
from rl.config import LoraConfig
from rl.weights import with_adapter
from tasks.types import Demo, Prompt

QUESTIONS = [f"test {i}" for i in range(12)]
# What the README says, with a list of questions in the place of one; `sys.path` has none of ours.
STRANGER = """
import json, re, sys
sys.path = [p for p in sys.path if p not in ("", {root!r})]
assert not any(hasattr(f, "known_source_files") for f in sys.meta_path)
def ask(code, question):
    names = {{}}
    exec(re.sub("<(input|verb)>", question, code), names)
    return names["answer"].tolist(), names["model"]
code, questions = json.loads(sys.stdin.read())
found = [ask(code, question) for question in questions]
ours = ("tasks", "lm", "evaluation", "rl", "prompt_opt", "reports", "experiments")
assert not [name for name in sys.modules if name.split(".")[0] in ours]
print("tokens", json.dumps([ids for ids, _ in found]), found[0][1].dtype)
"""


def code_in(readme: Path, heading: str) -> str:
    part = readme.read_text().split(f"## {heading}\n\n```python\n")[1]
    return part.split("```")[0]


def ask_as_a_stranger(folder: Path, questions: list[str], root: Path) -> tuple[Any, str]:
    """Greedy tokens for each question, by the README's own code run in the exported folder."""
    code = code_in(folder / "README.md", "transformers")
    done = subprocess.run(
        [sys.executable, "-c", STRANGER.format(root=str(root))],
        input=json.dumps([code, questions]),
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("tokens "))
    tokens, dtype = line.removeprefix("tokens ").rsplit(" ", 1)
    return json.loads(tokens), dtype


def our_tokens(run: Path, arm: str, questions: list[str]) -> list[list[int]]:
    saved = policy_of_arm(run, arm)
    policy = saved.policy
    model = load_model(policy.source, adapter=policy.adapter, quantization=policy.quantization)
    chats = [policy.prompt.messages({policy.prompt.inputs[0]: question}) for question in questions]
    return [list(group[0].token_ids) for group in model.generate(chats, saved.sampling, "eval")]


@pytest.mark.parametrize("arm", ["untouched", "lora", "full", "full+lora", "qlora+prompt"])
def test_plain_transformers_give_the_same_tokens(
    kinds: Path, tmp_path: Path, root: Path, arm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(kinds), arm, "--out", str(out)]) == 0
    assert "README.md" in capsys.readouterr().out
    tokens, dtype = ask_as_a_stranger(out, QUESTIONS, root)
    assert tokens == our_tokens(kinds, arm, QUESTIONS)
    assert dtype == "torch.float32"
    prompt = Prompt.from_json((out / "prompt.json").read_text())
    assert prompt == policy_of_arm(kinds, arm).policy.prompt
    assert ("nf4" in (out / "README.md").read_text()) == arm.startswith("qlora")


def test_what_an_export_holds(kinds: Path, tmp_path: Path) -> None:
    facts = export(kinds, "full+lora", tmp_path / "out", "bfloat16")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("README.md", "prompt.json", "config.json", "generation_config.json"),
        *("model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }
    assert facts.dtype == "bfloat16" and 0 < facts.gap < 1 and facts.same_ids
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["dtype"] == "bfloat16" and "quantization_config" not in config
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        assert str(Path.home()).encode() + b"/" not in content, path
        assert str(kinds.parent.parent).encode() not in content, path
    compile(code_in(tmp_path / "out/README.md", "vLLM"), "README.md", "exec")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_may_be_named(kinds: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(kinds, "untouched", tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").exists()


def test_a_kill_leaves_no_folder_that_looks_whole(kinds: Path, tmp_path: Path) -> None:
    for attempt in range(5):  # on a busy machine the moment to kill it is missed now and then
        place = tmp_path / str(attempt)
        place.mkdir()
        if _killed_while_writing(kinds, place):
            break
    else:
        pytest.fail("never caught it while it was writing")
    assert not (place / "out").exists()
    export(kinds, "lora", place / "out")


def _killed_while_writing(kinds: Path, place: Path) -> bool:
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.cli", "export", str(kinds), "lora", "--out", "out"],
        cwd=place,
        start_new_session=True,
    )
    while process.poll() is None:
        if list(place.glob(".out.*/draft/*")):
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.001)
    return process.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("modules", ["all-linear", ["lm_head", "q_proj"], ["embed_tokens"]])
def test_an_adapter_on_tied_weights_is_merged_into_one_of_them(
    tiny: Path, tmp_path: Path, modules: str | list[str]
) -> None:
    opened = load_model(str(tiny))
    adapted = with_adapter(opened.model, LoraConfig(r=4, target_modules=modules), 0).eval()
    torch.manual_seed(0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name or "lora_embedding_" in name:
            weight.data.normal_(0, 0.1)
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        before = adapted(ids).logits
        merged(adapted).save_pretrained(tmp_path)
        opened.tokenizer.save_pretrained(tmp_path)
        after = load_model(str(tmp_path)).model(ids).logits
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_weights_in_4_bits_are_exported_as_rounded(tiny: Path) -> None:
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        plain, quantized, exported = (
            model.model(ids).logits
            for model in (
                load_model(str(tiny)),
                load_model(str(tiny), quantization="nf4"),
                load_merged(str(tiny), quantization="nf4"),
            )
        )
    torch.testing.assert_close(exported, quantized, atol=1e-4, rtol=1e-4)
    assert (plain - quantized).abs().max() > 0.1


def test_a_model_without_a_chat_template_gets_ours(tiny: Path) -> None:
    tokenizer = load_model(str(tiny)).tokenizer
    tokenizer.chat_template = None
    chat = Prompt("Say {it}.", demos=(Demo({"input": "a"}, "b"),)).messages({"input": "c"})
    expected = ChatEncoder(tokenizer)(chat)
    write_template(tokenizer)
    found = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    assert found["input_ids"] == expected


def test_a_template_that_refuses_a_system_message_is_sent_none(tiny: Path) -> None:
    tokenizer = load_model(str(tiny)).tokenizer
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    tokenizer.chat_template = refusing + tokenizer.chat_template
    chat = Prompt("Say it.").messages({"input": "c"})
    assert sendable(tokenizer, chat) == [{"role": "user", "content": "Say it.\n\nc"}]


def test_stop_strings_and_odd_texts_survive_the_readme(kinds: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    facts = export(kinds, "untouched", tmp_path / "out")
    odd = 'a "quote", {braces},\n\\n, ``, 𝄞'
    sampling = replace(facts.sampling, stop=('"\n',), temperature=0.5, top_k=7)
    told = replace(facts, messages=[{"role": "user", "content": odd}], sampling=sampling)
    path = tmp_path / "README.md"
    path.write_text(readme(told), encoding="utf-8")
    for heading in ("transformers", "vLLM"):
        code = code_in(path, heading)
        names: dict[str, Any] = {}
        exec(code[code.index("messages =") :].split("]\n")[0] + "]", names)
        assert names["messages"] == told.messages
        assert '["\\"\\n"]' in code
    assert "top_k=7" in code_in(path, "vLLM") and "temperature=0.5" in code_in(path, "vLLM")


def test_what_bitsandbytes_holds_stays_as_loaded(tiny: Path) -> None:
    """With AVX512-BF16 it would lay weights out anew in eval mode, and pass no gradient on."""
    opened: HFModel = load_model(str(tiny), quantization="nf4")
    ids = torch.arange(3, 20)[None]

    def gradient() -> torch.Tensor:
        embedded = opened.model.get_input_embeddings()(ids).detach().requires_grad_(True)
        opened.model(inputs_embeds=embedded).logits.square().mean().backward()
        assert embedded.grad is not None
        return embedded.grad

    before = gradient()
    with torch.no_grad():
        opened.model.eval()(ids)
    opened.model.train()
    torch.testing.assert_close(gradient(), before, atol=0, rtol=0)


@pytest.mark.slow
def test_the_real_model_too(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sft = {"steps": 3, "rows_per_step": 8, "eval_every": 3, "learning_rate": 1e-3, "audits": False}
    spec = {
        "name": "real",
        "task": "inflection",
        "model": "smollm2-135m",
        "splits": {"train": 32, "dev": 16, "test": 8},
        "sampling": {"max_tokens": 8},
        "arms": {"sft": [{"sft": sft}]},
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    assert main(["run", "spec.yaml"]) == 0
    run, out = tmp_path / "runs/real", tmp_path / "out"
    assert policy_of_arm(run, "sft").policy.adapter is not None
    facts = export(run, "sft", out)
    assert facts.gap < 1e-3 and facts.same_ids
    verbs = ["sing", "walk", "try", "bring", "go", "stop"]
    assert ask_as_a_stranger(out, verbs, root)[0] == our_tokens(run, "sft", verbs)
