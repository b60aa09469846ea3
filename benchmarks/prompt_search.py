"""DSPy on the model in this process: batched metric calls, and a whole search against a server.

`metric_calls_64`: one `dspy.Evaluate` of 64 questions, whose threads the engine batches, against
the same 64 chats one by one. `bootstrap_server`: our `bootstrap` against DSPy's own optimizer that
talks to a llama.cpp server on the same weights (the GGUF they come from), with the same program,
demos, dev examples and metric; needs `--llama PYTHON`, an interpreter with `llama-cpp-python
[server]`. The better of one and eight threads counts for the server.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspy
import torch
from dspy.teleprompt import BootstrapFewShotWithRandomSearch

from benchmarks.measure import OURS, options, print_setting, race, say
from benchmarks.workload import TASK, chats, examples, few_shot, open_model
from evaluation.types import Context, Policy
from lm.hf import HFModel
from lm.types import Sampling
from lm.wheel import gguf_from_wheel
from prompt_opt.adapter import PlainPredict
from prompt_opt.bench import THREADS, Bench
from prompt_opt.bootstrap import Bootstrap
from prompt_opt.config import BootstrapConfig
from prompt_opt.engine import Engine
from prompt_opt.quiet import quiet
from tasks.types import Prompt

CASES = ["metric_calls_64", "bootstrap_server"]
SAMPLING = Sampling(max_tokens=16)
CONFIG = BootstrapConfig(candidates=2, train_examples=32, dev_examples=64)


def main(argv: Sequence[str] | None = None) -> None:
    chosen = options(__doc__ or "", CASES, argv)
    print_setting(chosen)
    model = open_model(chosen)
    if "metric_calls_64" in chosen.only:
        _metric_calls(chosen, model)
    if "bootstrap_server" in chosen.only:
        if chosen.llama is None:
            print("\nbootstrap_server: left out; it needs --llama PYTHON")
        else:
            _search(chosen, model)


def _metric_calls(chosen: Any, model: HFModel) -> None:
    prompt = few_shot(model, 91)
    asked = examples(8 if chosen.quick else 64, skip=len(prompt.demos))
    questions = chats(prompt, len(asked))

    def ours() -> None:
        with _bench(model, prompt) as bench, dspy.context(lm=bench.engine.lm, max_errors=1):
            bench.know(asked)
            evaluate = dspy.Evaluate(
                devset=[bench.case(e) for e in asked], metric=bench.metric, num_threads=THREADS
            )
            with quiet():
                evaluate(PlainPredict(prompt))

    def one_by_one() -> None:
        model.forget()
        for chat in questions:
            model.generate([chat], SAMPLING, "metric")

    sides = {OURS: ours, "generate, one by one": one_by_one}
    race("metric_calls_64", sides, chosen.device, chosen.repeats, chosen.peer_repeats)


def _search(chosen: Any, model: HFModel) -> None:
    train, dev = TASK.split("train"), TASK.split("dev")
    start = Prompt.of(TASK)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            context = _context(model, Path(folder))
            Bootstrap(CONFIG).improve(Policy("m", start), train, dev, context)

    def theirs(url: str, threads: int) -> None:
        with _bench(model, start) as bench:
            lm = dspy.LM("openai/m", api_base=url, api_key="none", cache=False, max_tokens=16,
                         temperature=0.0)  # fmt: skip
            student, teacher = PlainPredict(start, lm), bench.teacher(CONFIG.max_labeled_demos)
            assert isinstance(teacher, PlainPredict)
            teacher.own_lm = teacher.lm = lm
            with quiet(), dspy.context(lm=lm, disable_history=True, max_errors=1):
                search: Any = BootstrapFewShotWithRandomSearch(
                    metric=bench.metric,
                    max_bootstrapped_demos=CONFIG.max_bootstrapped_demos,
                    max_labeled_demos=CONFIG.max_labeled_demos,
                    num_candidate_programs=CONFIG.candidates,
                    num_threads=threads,
                )
                search.compile(student, teacher=teacher, trainset=bench.pool, valset=bench.dev)

    with _served(chosen.llama) as url:
        sides: dict[str, Any] = {OURS: ours}
        for n in (1, 8):
            sides[f"llama.cpp server, {n} threads"] = lambda n=n: theirs(url, n)
        race("bootstrap_server", sides, chosen.device, chosen.repeats, chosen.peer_repeats)


@contextmanager
def _bench(model: HFModel, prompt: Prompt) -> Iterator[Bench]:
    """A bench in a folder of its own; nothing is remembered from the last one."""
    with tempfile.TemporaryDirectory() as folder:
        model.forget()
        context = _context(model, Path(folder))
        with Engine(model, SAMPLING, Path(folder)) as engine:
            train, dev = TASK.split("train"), TASK.split("dev")
            yield Bench(CONFIG, prompt, train, dev, context, engine)


def _context(model: HFModel, folder: Path) -> Context:
    return Context(
        score=TASK.score,
        open=lambda policy: model,
        ledger=model.ledger,
        folder=folder,
        sampling=SAMPLING,
        seed=0,
        progress=lambda *_, **__: None,
    )


@contextmanager
def _served(python: str) -> Iterator[str]:
    """The address of a llama.cpp server on the GGUF of smollm2-135m."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="tasklift-bench-"))
    threads = str(torch.get_num_threads())
    command = [python, "-m", "llama_cpp.server", "--model", str(gguf_from_wheel(folder))]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "2048"]
    command += ["--n_threads", threads, "--n_threads_batch", threads]
    log = (folder / "log").open("w")
    server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}/v1"
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{url}/models", timeout=1).read()
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise SystemExit(f"the server did not start; see {folder / 'log'}")
        say(f"server at {url}")
        yield url
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
