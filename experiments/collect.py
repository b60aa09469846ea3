"""`tasklift collect`: from a user's data to a folder with a task and a spec, ready to run."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.errors import SpecError
from experiments.spec import NAME
from lm.staging import staged_folder
from tasks.collect.card import REASONS, absent_labels, baseline
from tasks.collect.cut import parse_shares
from tasks.collect.files import is_made_here, write_task
from tasks.collect.names import task_name
from tasks.collect.work import Collected, Options, collect
from tasks.text import shorten
from tasks.types import SPLITS, SplitName

FILES = ("task.yaml", "train.jsonl", "dev.jsonl", "test.jsonl", "CARD.md", "spec.yaml")
TRAIN, DEV, TEST = 500, 100, 300  # examples of each split in the spec: an evening on a laptop
CHARS_A_TOKEN = 3.0  # of English it is 4 or more; an answer must fit in any case
LONG_PROMPT = 1500  # characters of an input from which four demos are too much for a small model


def collect_verb(options: Namespace) -> int:
    """Make the task, write its folder, say what was done and what to type next."""
    out: Path = options.out
    _check_out(out, options.sources, options.force)
    if options.name and not re.fullmatch(NAME, options.name):
        raise SpecError(f"--name {options.name!r}: write letters, digits, '.', '_', '+' and '-'")
    wanted = _options(options)
    found = collect(options.sources, wanted)
    try:
        with staged_folder(out.resolve()) as draft:
            write_task(found, draft, _command(options))
            (draft / "spec.yaml").write_text(spec(found), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise SpecError(f"--out {str(out)!r}: cannot be written ({reason})") from None
    print("\n".join(told(found)))
    print(f"wrote {out}: {', '.join(FILES)}")
    print(f"next: tasklift run {shlex.quote(str(out / 'spec.yaml'))}")
    return 0


def _check_out(out: Path, sources: Sequence[str], force: bool) -> None:
    """Nothing is replaced but a task of ours, and no source with it."""
    if not out.is_dir() and (out.exists() or out.is_symlink()):
        raise SpecError(f"--out {str(out)!r}: is a file; name a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if inside := [source for source in sources if _lies_in(source, out)]:
        raise SpecError(f"--out {str(out)!r}: the source {inside[0]} lies there; name a new folder")
    foreign = [path.name for path in out.iterdir() if path.name not in FILES or path.is_dir()]
    if not foreign and not is_made_here(out):
        foreign = [path.name for path in out.iterdir()]
    if foreign:
        raise SpecError(
            f"--out {str(out)!r}: holds {min(foreign)}, which is not ours; name a new folder"
        )
    if not force:
        raise SpecError(
            f"--out {str(out)!r}: there is a task already; name a new folder, or write --force to "
            "replace it"
        )


def _lies_in(source: str, folder: Path) -> bool:
    """Whether the file, or what it links to, is in `folder` or is it."""
    path = Path(source).expanduser()
    return not source.startswith("hub:") and any(
        place.is_relative_to(folder.resolve())
        for place in (path.resolve(), path.parent.resolve() / path.name)
    )


def _options(options: Namespace) -> Options:
    return Options(
        name=options.name or task_name(options.out),
        inputs=tuple(options.input),
        answer=options.answer,
        group=options.group,
        time=options.time,
        stratify=options.stratify,
        split_field=options.split_field,
        shares=parse_shares(options.splits),
        scorer=options.scorer,
        instruction=options.instruction,
        most=options.max,
        seed=options.seed,
    )


def _command(options: Namespace) -> str:
    """The command that makes the same task again."""
    words = ["tasklift", "collect", *options.sources, "--out", str(options.out)]
    if options.input:
        words += ["--input", *options.input]
    for name in ("answer", "group", "time", "stratify", "split_field", "scorer", "name"):
        if getattr(options, name):
            words += [f"--{name.replace('_', '-')}", getattr(options, name)]
    if options.instruction is not None:
        words += ["--instruction", options.instruction]
    if options.max is not None:
        words += ["--max", str(options.max)]
    return shlex.join([*words, "--splits", options.splits, "--seed", str(options.seed)])


def told(found: Collected) -> list[str]:
    """What was done, for the terminal."""
    lines = []
    for source in found.sources:
        said = f" ({source.said})" if source.said else ""
        lines.append(f"read {len(source.records):,} rows of {source.name}{said}")
    lines += found.said
    lines.append(f"instruction: {_cut(found.instruction, 200)}")
    for reason, meaning in REASONS.items():
        if count := found.dropped.counts.get(reason, 0):
            sample = _cut(found.dropped.shown[reason][0], 250)
            lines += [f"dropped {count:,} ({reason}): {meaning}", f"  {sample}"]
    sizes = ", ".join(f"{len(found.splits[split]):,} {split}" for split in SPLITS)
    lines.append(f"splits: {sizes}; {found.how}; nothing of test stands in train or dev")
    if absent := absent_labels(found):
        lines.append(f"note: test has labels that train has not: {shorten(', '.join(absent), 100)}")
    answer, score = baseline(found)
    lines.append(f'always answering "{shorten(answer, 40)}" scores {100 * score:.1f} % on test')
    return lines


def _cut(text: str, limit: int) -> str:
    shown = shorten(" ".join(text.split()), limit)
    return shown if len(shown) == len(text) else f"{shown} …"


def spec(found: Collected) -> str:
    """A spec of three arms for a small model on a laptop."""
    sizes: dict[SplitName, int] = {split: len(found.splits[split]) for split in SPLITS}
    train, dev = min(TRAIN, sizes["train"]), min(DEV, sizes["dev"])
    test = min(TEST, sizes["test"])
    demos = 2 if _typical_input(found) > LONG_PROMPT else 4
    step = min(8, train)
    return f"""\
# Does a better prompt help, and RL on top of it? Made by tasklift collect; edit it as you like.
# More test examples show smaller differences: tasklift power task.yaml
name: {_scalar(found.options.name)}
task: task.yaml # beside this file
model: smollm2-135m
splits: {{train: {train}, dev: {dev}, test: {test}}} # used of {_used(sizes)}
sampling: {{max_tokens: {_max_tokens(found)}}}

methods:
  bootstrap: {{candidates: 6, dev_examples: {min(60, dev)}, max_bootstrapped_demos: {demos}, \
max_labeled_demos: {demos}}}
  grpo: {{steps: 30, prompts_per_step: {step}, group_size: 8, eval_every: 10}}

arms:
  zero-shot: []
  prompt: [bootstrap]
  prompt+grpo: [bootstrap, grpo]
"""


def _scalar(name: str) -> str:
    """As YAML, in quotes where it would be read as a number or a yes."""
    import yaml

    return name if yaml.safe_load(name) == name else f'"{name}"'


def _used(sizes: Mapping[SplitName, int]) -> str:
    return ", ".join(f"{sizes[split]:,}" for split in SPLITS)


def _typical_input(found: Collected) -> int:
    lengths = sorted(sum(map(len, item.inputs.values())) for item in found.splits["train"])
    return lengths[len(lengths) // 2]


def _max_tokens(found: Collected) -> int:
    """Enough for 99 of 100 answers, in steps of 8."""
    lengths = sorted(len(item.answers[0]) for s in SPLITS for item in found.splits[s])
    longest = lengths[int(0.99 * (len(lengths) - 1))]
    return min(512, 8 * round(2 + longest / CHARS_A_TOKEN / 8))
