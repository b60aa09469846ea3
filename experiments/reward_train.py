"""`tasklift reward-train`: a reward model out of a run's answers, or out of what people prefer."""

from __future__ import annotations

import math
import shutil
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.environment import versions
from experiments.errors import SpecError
from experiments.plan import digest
from experiments.progress import Lines
from experiments.reward_answers import Gathered, Origin, draw, drawing, rollouts
from experiments.store import RunFolder, without_home, write_text
from lm.ledger import Ledger
from reward_models.margins import Figures
from reward_models.pairs import (
    Answer,
    Chat,
    Pair,
    make_pairs,
    read_pairs,
    sampled_pairs,
    split_pairs,
)
from tasks.load import load_task, task_hash
from tasks.sandbox import settle
from tasks.splits import required_split
from tasks.types import Prompt, Task

LINES = 20  # of progress while it trains


def reward_train(options: Namespace) -> int:
    """Make pairs, train on some, examine on the others, say where the result goes."""
    from lm.hf import pick_device
    from lm.source import resolve

    origins = _check(options)
    task = load_task(options.task)
    settle(task, options.allow_missing)
    pick_device(options.device)  # a typing error must not show up after the answers are drawn
    resolve(options.model)
    from reward_models.training import Training, held_out_figures, train_reward, work_folder

    _begin(options, task, origins, work_folder(options.out))
    pairs, said = _pairs(options, task, origins, work_folder(options.out) / "drawn")
    train, held_out = split_pairs(pairs, options.seed)
    print(_sentence(train, held_out, said), flush=True)
    progress = Lines("train")
    card = train_reward(
        options.model,
        train,
        held_out,
        options.out,
        prompt=Prompt.of(task),
        reads=options.reads,
        steps=options.steps or "",
        training=Training(
            passes=options.passes,
            learning_rate=options.learning_rate,
            head_only=options.head_only,
            seed=options.seed,
        ),
        told=_told(options, task, said),
        device=options.device,
        report=lambda step, total, loss: (
            progress(step, total, loss=loss) if step % max(1, total // LINES) == 0 else None
        ),
    )
    print("\n".join(result(held_out_figures(card), options.out)))
    return 0


def _check(options: Namespace) -> list[Origin]:
    """Raises SpecError for options that do not go together."""
    out: Path = options.out
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SpecError(f"--out {str(out)!r}: there is something already; name a new folder")
    rate: float | None = options.learning_rate
    if not 0 <= options.margin < math.inf:
        raise SpecError(f"--margin {options.margin:g}: write a number that is not negative")
    if rate is not None and not 0 < rate < math.inf:
        raise SpecError(f"--learning-rate {rate:g}: write a number above 0, such as 3e-4")
    if not 0 <= options.seed < 2**31:
        raise SpecError(f"--seed {options.seed}: write 0 or more, below 2147483648")
    origins = [Origin.of(text) for text in options.sources]
    if not origins and options.pairs is None and not options.draw:
        raise SpecError(
            "reward-train: learns from what? write --from RUN, --draw 8 or --pairs FILE.jsonl"
        )
    if options.across and not options.draw and not origins:
        raise SpecError("--across: pairs answers of different policies; name them with --from")
    return origins


def _begin(options: Namespace, task: Task, origins: Sequence[Origin], work: Path) -> None:
    """Make the folder to work in; what another command has left there is removed, and what this
    one drew with other weights."""
    asked = {
        name: str(value)
        for name, value in vars(options).items()
        if name not in ("do", "verb", "out", "device")
    }
    content = options.pairs.read_bytes().hex() if options.pairs and options.pairs.is_file() else ""
    from lm.source import resolve, weights_fingerprint

    drawers = [
        [entry["arm"], entry["seed"], entry["stages"]]
        for origin in origins
        for entry in RunFolder(origin.run).arms()
        if entry["arm"] in origin.arms()
    ]
    weights = weights_fingerprint(resolve(options.model))
    key = digest(asked, task_hash(task), content, weights, drawers)
    path = work / "command"
    if work.is_dir() and any(work.iterdir()) and not path.exists():
        raise SpecError(
            f"--out {str(options.out)!r}: {str(work)!r} is in the way, which this command did not "
            "write; move it away, or name another folder"
        )
    try:
        if work.exists() and (not path.exists() or path.read_text(encoding="utf-8") != key):
            shutil.rmtree(work)
        work.mkdir(parents=True, exist_ok=True)
        write_text(path, key)
    except OSError as error:
        raise SpecError(
            f"--out {str(options.out)!r}: cannot be written ({error.strerror or error}); name "
            "another folder"
        ) from None


def _pairs(
    options: Namespace, task: Task, origins: Sequence[Origin], folder: Path
) -> tuple[list[Pair], dict[str, Any]]:
    """The pairs, and what they were made of."""
    train, prompt = required_split(task, "train"), Prompt.of(task)
    pairs: list[Pair] = []
    said: dict[str, Any] = {}
    if options.pairs is not None:
        held = [e for name in ("dev", "test") for e in required_split(task, name)]
        there = read_pairs(options.pairs, prompt, {e.id: e for e in train}, held)
        pairs = sampled_pairs(there, options.max_pairs, options.seed)
        said |= {"from_people": len(pairs), "left_out": len(there) - len(pairs)}
    if options.draw:
        policies = drawing(origins, task, options.model, options.device, options.max_tokens)
        ledger = Ledger()
        found = draw(policies, task, train, options.draw, options.seed, folder, ledger)
    elif origins:
        found = rollouts(origins, task, train)
    else:
        return pairs, said
    made = make_pairs(
        found.answers,
        _chats(found, options.reads, prompt, {e.id: e.inputs for e in train}),
        most=options.max_pairs - len(pairs),
        seed=options.seed,
        margin=options.margin,
        across=options.across,
    )
    decided = {(p.question, frozenset((p.chosen.strip(), p.rejected.strip()))) for p in pairs}
    made = [
        p  # what people have decided is decided
        for p in made
        if (p.question, frozenset((p.chosen.strip(), p.rejected.strip()))) not in decided
    ]
    said |= {
        "answers": len(found.answers),
        "mean_score": round(sum(a.score for a in found.answers) / len(found.answers), 4),
        "policies": sorted(found.prompts),
        "from_scores": len(made),
    }
    return [*pairs, *made], said


def _chats(found: Gathered, reads: str, prompt: Prompt, inputs: dict[str, Any]):
    """The question of an answer, as the reward model is to read it."""

    def chat(answer: Answer) -> Chat:
        asked = prompt if reads == "task" else found.prompts[answer.policy]
        return asked.messages(inputs[answer.example_id])

    return chat


def _sentence(train: Sequence[Pair], held_out: Sequence[Pair], said: dict[str, Any]) -> str:
    made = []
    if "from_people" in said:
        left = f" ({said['left_out']:,} more left out; raise --max-pairs)"
        made.append(f"{said['from_people']:,} pairs from people{left if said['left_out'] else ''}")
    if "from_scores" in said:
        made.append(
            f"{said['from_scores']:,} from {said['answers']:,} answers with mean score "
            f"{said['mean_score']:.3f}"
        )
    asked = [len({pair.question for pair in some}) for some in (train, held_out)]
    return (
        f"pairs: {' and '.join(made)}; {len(train):,} of {asked[0]} questions to learn from, "
        f"{len(held_out):,} of {asked[1]} others held out"
    )


def _told(options: Namespace, task: Task, said: dict[str, Any]) -> dict[str, Any]:
    sources = [*options.sources, *([str(options.pairs)] if options.pairs else [])]
    made = {"sources": sources, "across": options.across, "draw": options.draw, **said}
    told = {
        "base": options.model,
        "task": task.name,
        "task_hash": task_hash(task),
        "pairs": made,
        "versions": versions(),
    }
    return without_home(told)


def result(found: Figures, out: Path) -> list[str]:
    """What the command prints at its end."""
    return [
        f"held-out pairs: {100 * found.accuracy:.1f} % in the right order "
        f"[{100 * found.low:.1f}, {100 * found.high:.1f}], n {found.pairs}",
        f"calibration of sigmoid(difference): log loss {found.log_loss:.3f} (0.693 says nothing), "
        f"Brier {found.brier:.3f} (0.250), expected error {100 * found.ece:.1f} points",
        f"{out}: in a spec write  reward: {out}  and look at it first: tasklift reward-check {out}",
    ]
