"""vLLM as a peer, in an interpreter of its own: it pins other versions than we do.

Run as a script it serves one model: a JSON line in, `{"ids", "wanted", "temperature", "n"}`, and
one out, `{"seconds", "lengths"}`. It imports nothing of this project.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

VLLM = "vLLM (its memory apart)"


@contextmanager
def vllm_peer(python: str | None, folder: str, dtype: str) -> Iterator[VLLMPeer | None]:
    """vLLM in the interpreter `python`, else in this one if it has it; None where there is none."""
    if python is None and importlib.util.find_spec("vllm"):
        python = sys.executable
    peer = VLLMPeer(python, folder, dtype) if python else None
    try:
        yield peer
    finally:
        if peer:
            peer.close()


class VLLMPeer:
    """Answers of given lengths from vLLM; a call returns the seconds that generation took."""

    def __init__(self, python: str, folder: str, dtype: str):
        self._process = subprocess.Popen(
            [python, __file__, folder, dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self, ids: Sequence[Sequence[int]], wanted: Sequence[int], temperature: float, n: int
    ) -> float:
        asked = {"ids": ids, "wanted": wanted, "temperature": temperature, "n": n}
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("vLLM has ended; what it said stands above")
        answer = json.loads(line)
        assert answer["lengths"] == [length for length in wanted for _ in range(n)]
        return answer["seconds"]

    def close(self) -> None:
        self._process.communicate()  # no more lines: it ends


def serve(folder: str, dtype: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever vLLM prints must not stand among the answers
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GB; a GPU build does not look at it
    vllm: Any = importlib.import_module("vllm")
    engine = vllm.LLM(folder, dtype=dtype, max_model_len=2048, disable_log_stats=True)
    for line in sys.stdin:
        asked = json.loads(line)
        engine.reset_prefix_cache()  # every run of ours starts without one, too
        sampling = [
            vllm.SamplingParams(
                n=asked["n"],
                temperature=asked["temperature"],
                max_tokens=length,
                ignore_eos=True,
                detokenize=False,
            )
            for length in asked["wanted"]
        ]
        prompts = [{"prompt_token_ids": ids} for ids in asked["ids"]]
        start = time.perf_counter()
        found = engine.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - start
        lengths = [len(each.token_ids) for request in found for each in request.outputs]
        print(json.dumps({"seconds": seconds, "lengths": lengths}), file=answers, flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
