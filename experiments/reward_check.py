"""`tasklift reward-check REWARD --task T`: how far can this reward be trusted, before RL does?"""

from __future__ import annotations

import random
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill
from typing import Any

import pandas as pd
import yaml

from experiments.errors import SpecError
from experiments.locate import locate_reward
from experiments.reward_answers import Origin, draw, drawing
from experiments.reward_curve import Training, answer_of, curve_of, trainings
from experiments.store import write_text
from lm.ledger import Ledger
from reports import escape
from reports.plot import Curve, svg
from reports.render import Format, render
from reward_models.card import read_card
from reward_models.compose import absolute
from reward_models.config import AnyReward, name_of, parse_reward
from reward_models.load import check_reward, is_folder, load_reward
from reward_models.mentions import mentions
from reward_models.overoptimization import best_of_n_curve, best_of_n_lines, rl_line
from reward_models.pairs import question_of
from reward_models.rules import RULES, VERDICTS, Line, verdict
from reward_models.subject import Answer, Subject
from reward_models.trust import check
from tasks.load import load_task
from tasks.sandbox import settle
from tasks.splits import required_split
from tasks.types import Example, Prompt, Task

BEST_OF = "best-of"
DRAWN = 8  # answers to an example where nothing is said
COLUMNS = ("check", "value", "low", "high", "n", "verdict", "detail")
MARKS = {"ok": "ok", "note": "", "care": "care", "no": "NO"}


def reward_check(options: Namespace) -> int:
    """Gather answers, ask the reward about them, print the lines and the verdict; exit code 0."""
    origins = [Origin.of(text) for text in options.sources]
    reward = read_reward(options.reward)
    task = load_task(options.task)
    settle(task, options.allow_missing)
    splits = {name: required_split(task, name) for name in ("train", "dev")}
    ledger = Ledger()
    subject = _subject(reward, task, [*splits["train"], *splits["dev"]], ledger)
    curved = _curved(options)
    kept = [training for origin in origins for training in trainings(origin)]
    unseen = _unseen(reward, _kept_answers(kept, subject), Prompt.of(task))
    answers = _sampled(unseen, options.answers, options.seed)
    drawn: list[Answer] = []
    if options.draw or not (kept or curved):
        drawn = _drawn(options, task, subject, splits["dev"][: options.examples], ledger)
    if kept and not (answers or drawn or curved):
        raise SpecError("reward-check: no kept answer is left to look at; add --draw 8")
    lines = _lines(subject, [*answers, *drawn], drawn, reward, options.seed)
    curve = _curve(options, curved, subject, drawn, ledger)
    if curve is not None and curved is not None:
        lines += rl_line(curve)
    print(shown(reward, task, lines, curve, [*answers, *drawn], options.format), end="")
    if options.svg is not None and curve is not None:
        write_text(options.svg, picture(curve, f"{name_of(reward)} on {task.name}"))
        print(f"curve: {options.svg}")
    return 0


def read_reward(text: str) -> AnyReward:
    """A reward as a spec writes it, a mapping in YAML's braces; files as seen from here.

    Raises SpecError and RewardError.
    """
    raw: Any = text
    if text.lstrip().startswith("{"):
        try:
            raw = yaml.safe_load(text)
        except yaml.YAMLError as error:
            said = str(error).splitlines()[0]
            raise SpecError(f"reward-check: {text!r} is no YAML ({said}); quote it") from None
    return parse_reward(locate_reward(raw, Path(".")))


def _subject(reward: AnyReward, task: Task, examples: Sequence[Example], ledger: Ledger) -> Subject:
    table: Mapping[str, Example] = {example.id: example for example in examples}
    facts: dict[str, Any] = {"score": task.score, "examples": table}
    check_reward(reward, prompt=Prompt.of(task), **facts)  # before anything is drawn

    def opened(prompt: Prompt):
        # a reward that compares within a group says nothing of an answer alone
        return absolute(load_reward(reward, prompt=prompt, ledger=ledger, **facts))

    return Subject(opened, task.score, table)


def _curved(options: Namespace) -> Training | None:
    """The stage whose curve is asked for: the last one of the arm that has kept rollouts."""
    if options.svg is not None and options.curve is None:
        raise SpecError("--svg: a picture of which curve? add --curve RUN:ARM, or --curve best-of")
    if options.curve in (None, BEST_OF):
        return None
    origin = Origin.of(options.curve)
    found = trainings(origin)
    if origin.arm is None or not found:
        raise SpecError(
            f"--curve {options.curve}: names no arm that has trained on rollouts; write "
            f"--curve RUN:ARM with one of grpo, ppo, rft or dpo in it, or --curve {BEST_OF}"
        )
    return found[-1]


def _kept_answers(kept: Sequence[Training], subject: Subject) -> list[Answer]:
    """The rollouts of these stages, the first and the second half of its steps told apart: in the
    first the policy is much as it came, in the second it is tuned."""
    found = []
    for training in kept:
        rows = [row for row in training.rollouts() if row["example_id"] in subject.examples]
        steps = sorted({row["step"] for row in rows})
        half = steps[len(steps) // 2] if len(steps) > 1 else None
        for row in rows:
            late = half is not None and row["step"] >= half
            source = f"{training.method}, {'later' if late else 'first'} steps"
            found.append(answer_of(training, subject, row, source))
    return found


def _unseen(reward: AnyReward, answers: Sequence[Answer], bare: Prompt) -> list[Answer]:
    """Those to questions that no reward model in `reward` has learned from: on the others it says
    what it was told. How many those are is printed."""
    cards = [read_card(Path(m.name).expanduser()) for m in mentions(reward) if m.kind == "folder"]

    def learned(answer: Answer) -> bool:
        chats = [prompt.messages(answer.example.inputs) for prompt in (bare, answer.prompt)]
        return any(card.learned_from(question_of(chat)) for card in cards for chat in chats)

    unseen = [answer for answer in answers if not learned(answer)]
    if count := len(answers) - len(unseen):
        print(
            f"reward-check: {count:,} of {len(answers):,} kept answers left out; the reward model "
            "has learned from their questions",
            file=sys.stderr,
        )
    return unseen


def _sampled(answers: Sequence[Answer], limit: int, seed: int) -> list[Answer]:
    """About `limit` answers, as many of each source: all those to examples drawn at random."""
    rng, kept = random.Random(f"reward-check/{seed}"), set()
    sources = dict.fromkeys(answer.source for answer in answers)
    for source in sources:
        own = [i for i, answer in enumerate(answers) if answer.source == source]
        groups: dict[str, list[int]] = {}
        for i in own:
            groups.setdefault(answers[i].example.id, []).append(i)
        order = rng.sample(list(groups), len(groups))
        room = max(1, limit // len(sources))
        for key in order:
            if room <= 0:
                break
            kept.update(groups[key])
            room -= len(groups[key])
    return [answer for i, answer in enumerate(answers) if i in kept]


def _drawn(
    options: Namespace, task: Task, subject: Subject, asked: Sequence[Example], ledger: Ledger
) -> list[Answer]:
    """Answers drawn for the purpose, to examples of dev, which no reward model has learned from."""
    origins = [Origin.of(text) for text in options.sources]
    policies = drawing(
        origins, task, options.model, options.device, options.max_tokens, who="reward-check"
    )
    with TemporaryDirectory() as folder:
        count, place = options.draw or DRAWN, Path(folder)
        found = draw(policies, task, asked, count, options.seed, place, ledger)
    return [
        Answer(
            f"{a.policy}, drawn",
            found.prompts[a.policy],
            subject.examples[a.example_id],
            a.text,
        )
        for a in found.answers
    ]


def _lines(
    subject: Subject,
    answers: Sequence[Answer],
    drawn: Sequence[Answer],
    reward: AnyReward,
    seed: int,
) -> list[Line]:
    if not answers:
        return []
    learned = isinstance(reward, str) and is_folder(reward)
    lines = check(subject, answers, seed, logits=learned)
    return [*lines, *_best_of_n_lines(subject, drawn, seed)]


def _best_of_n_lines(subject: Subject, drawn: Sequence[Answer], seed: int) -> list[Line]:
    rewards, scores, ids = by_example(subject, drawn)
    return best_of_n_lines(rewards, scores, seed, ids)


def by_example(
    subject: Subject, drawn: Sequence[Answer]
) -> tuple[list[list[float]], list[list[float]], list[str]]:
    """Rewards and scores of drawn answers by example and policy, without those that lack either;
    and of each group the example's id."""
    groups: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    paid, scores = subject.paid(drawn), subject.worth(drawn)
    for answer, reward, score in zip(drawn, paid, scores, strict=True):
        if reward is not None and score.failure != "error":
            group = groups.setdefault((answer.source, answer.example.id), ([], []))
            group[0].append(reward)
            group[1].append(score.value)
    rewards, scores = ([group[i] for group in groups.values()] for i in (0, 1))
    return rewards, scores, [example_id for _, example_id in groups]


def _curve(
    options: Namespace,
    curved: Training | None,
    subject: Subject,
    drawn: Sequence[Answer],
    ledger: Ledger,
) -> pd.DataFrame | None:
    if options.curve is None:
        return None
    if curved is None:
        if not drawn:
            raise SpecError(f"--curve {BEST_OF}: of which answers? add --draw 32")
        rewards, scores, ids = by_example(subject, drawn)
        return best_of_n_curve(rewards, scores, options.seed, ids)
    from lm.hf import load_model

    spec, start = curved.spec.model, curved.start
    model = load_model(
        start.source,
        adapter=start.adapter,
        ledger=ledger,
        device=spec.device,
        dtype=start.dtype(spec.dtype),
        quantization=start.quantization,
    )
    return curve_of(curved, subject, model)


def table(lines: Sequence[Line]) -> pd.DataFrame:
    """The lines as a table, columns `COLUMNS`; `low` to `high` is the 95 % interval."""
    rows = [
        (line.check, line.value, line.low, line.high, line.n, MARKS[line.level], line.detail)
        for line in lines
    ]
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def shown(
    reward: AnyReward,
    task: Task,
    lines: Sequence[Line],
    curve: pd.DataFrame | None,
    answers: Sequence[Answer],
    format: Format,
) -> str:
    """Everything as text. In CSV the lines alone, or the curve where there are none."""
    if format == "csv":
        return render(table(lines) if lines or curve is None else curve, "csv")
    escaped = escape.plain if format == "terminal" else escape.markdown
    parts = [f"{escaped(name_of(reward))} on {escaped(task.name)}\n"]
    for source in dict.fromkeys(answer.source for answer in answers):
        own = [answer for answer in answers if answer.source == source]
        asked = len({answer.example.id for answer in own})
        parts.append(f"- {escaped(source)}: {len(own):,} answers to {asked:,} examples\n")
    if lines:
        parts.append("\n" + render(_with_intervals(lines), format))
    if curve is not None:
        parts.append("\n" + render(curve, format))
    return "".join([*parts, "\n", *_verdict(lines)]) if lines else "".join(parts)


def _with_intervals(lines: Sequence[Line]) -> pd.DataFrame:
    """The interval in the cell of its figure."""

    def cell(line: Line) -> str:
        value = "" if line.value != line.value else f"{line.value:.3g}"
        return value if line.low != line.low else f"{value} [{line.low:.2g}, {line.high:.2g}]"

    frame = table(lines).drop(columns=["low", "high"])
    frame["value"] = [cell(line) for line in lines]
    return frame.rename(columns={"detail": "of what"})


def _verdict(lines: Sequence[Line]) -> list[str]:
    """The verdict, then each rule that was broken, once, with its reason."""
    said = [f"Verdict: {VERDICTS[verdict(lines)]}.\n"]
    for level in ("no", "care"):
        for rule in dict.fromkeys(line.rule for line in lines if line.level == level):
            names = [line.check for line in lines if line.level == level and line.rule == rule]
            text = f"- {MARKS[level]}: {', '.join(names)}. {RULES[rule].reason}."
            said.append(fill(text, 100, subsequent_indent="  ") + "\n")
    return said


def picture(curve: pd.DataFrame, title: str) -> str:
    """The curve as SVG: score on the left scale, reward on the right one, KL below."""
    x = curve["kl"].tolist()
    low, high = (curve[name].tolist() for name in ("gold_low", "gold_high"))
    curves = [
        Curve("task score", x, curve["gold"].tolist(), low, high),
        Curve("reward", x, curve["proxy"].tolist(), right=True),
    ]
    dev = curve["dev_score"].tolist() if "dev_score" in curve else [float("nan")]
    if all(score == score for score in dev):
        curves.append(Curve("task score on dev", x, dev))
    return svg(curves, title=title, x_label="KL from the start, nats")
