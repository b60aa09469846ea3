"""300 examples of a few-shot task: our evaluator against lm-eval's `hf` backend.

Both get the same model object, the very same token ids in front of every answer, greedy decoding
up to 16 tokens, and score every answer. The best of three batch sizes of lm-eval counts.
"""

from __future__ import annotations

import importlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import OURS, options, print_setting, race
from benchmarks.workload import TASK, examples, few_shot, open_model
from evaluation.evaluate import evaluate, mean_score
from evaluation.types import EvalRecord
from lm.hf import HFModel
from lm.types import Sampling
from tasks.types import Example, Prompt

CASE = "evaluator_300"
MAX_TOKENS = 16
SHARED = 91  # tokens at least that all prompts begin with


def main(argv: Sequence[str] | None = None) -> None:
    chosen = options(__doc__ or "", [CASE], argv)
    os.environ |= {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    print_setting(chosen)
    model = open_model(chosen)
    prompt = few_shot(model, SHARED)
    asked = examples(12 if chosen.quick else 300, skip=len(prompt.demos))
    harness = _Harness(model, prompt, asked)

    def ours() -> list[EvalRecord]:
        return evaluate(model, prompt, asked, TASK.score, Sampling(MAX_TOKENS), split="dev")

    records, theirs = ours(), harness.answers(64)
    same = sum(r.text.strip() == theirs[r.example_id].strip() for r in records)
    scores = [TASK.score(example, theirs[example.id]).value for example in asked]
    print(
        f"\n{CASE}: {same} of {len(records)} answers are the same; score {mean_score(records):.4f} "
        f"(ours), {sum(scores) / len(scores):.4f} (lm-eval)"
    )
    for record in records:
        if record.text.strip() != theirs[record.example_id].strip():
            print(f"  {record.example_id}: {record.text!r} (ours), {theirs[record.example_id]!r}")
    sizes = [4, 8] if chosen.quick else [16, 32, 64]
    sides: dict[str, Any] = {OURS: ours}
    sides |= {f"lm-eval, {size} rows": lambda size=size: harness.seconds(size) for size in sizes}
    race(CASE, sides, chosen.device, chosen.repeats, chosen.peer_repeats)


class _Harness:
    """lm-eval on the same examples, their prompts rendered beforehand."""

    def __init__(self, model: HFModel, prompt: Prompt, asked: Sequence[Example]):
        huggingface: Any = importlib.import_module("lm_eval.models.huggingface")
        self.by_id = {example.id: example for example in asked}
        chats = [prompt.messages(example.inputs) for example in asked]
        texts = [
            model.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            for chat in chats
        ]
        self.backend = huggingface.HFLM(
            pretrained=model.model, tokenizer=model.tokenizer, device=str(model.device)
        )
        for chat, text in zip(chats, texts, strict=True):
            assert self.backend.tok_encode(text) == model.encode(chat)
        self.file = Path(tempfile.mkdtemp(prefix="tasklift-bench-")) / "examples.jsonl"
        rows = [
            {"id": example.id, "text": text} for example, text in zip(asked, texts, strict=True)
        ]
        self.file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def answers(self, batch_size: int) -> dict[str, str]:
        """The answer to each example."""
        lm_eval: Any = importlib.import_module("lm_eval")
        self.backend.batch_size_per_gpu = batch_size
        found = lm_eval.simple_evaluate(
            self.backend, tasks=[self._task()], bootstrap_iters=0, log_samples=True
        )
        samples = found["samples"]["few_shot"]
        return {sample["doc"]["id"]: sample["filtered_resps"][0] for sample in samples}

    def seconds(self, batch_size: int) -> float:
        """Of the backend alone: what lm-eval does around it costs seconds and is not counted."""
        spent: list[float] = []
        generate_until = self.backend.generate_until

        def watched(*given: Any, **options: Any) -> Any:
            start = time.perf_counter()
            found = generate_until(*given, **options)
            spent.append(time.perf_counter() - start)
            return found

        self.backend.generate_until = watched
        try:
            self.answers(batch_size)
        finally:
            del self.backend.generate_until
        return sum(spent)

    def _task(self) -> dict[str, Any]:
        def score(doc: dict[str, Any], answers: list[str]) -> dict[str, float]:
            return {"exact": TASK.score(self.by_id[doc["id"]], answers[0]).value}

        return {
            "task": "few_shot",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(self.file)}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{text}}",
            "doc_to_target": "",
            "process_results": score,
            "metric_list": [{"metric": "exact", "aggregation": "mean", "higher_is_better": True}],
            "generation_kwargs": {
                "until": ["<|im_end|>"],
                "max_gen_toks": MAX_TOKENS,
                "do_sample": False,
            },
        }


if __name__ == "__main__":
    main()
