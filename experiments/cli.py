"""The command line: `tasklift run spec.yaml` and the verbs around it.

Exit codes: 0 done, 1 failed, 2 bad input (one line on stderr). Each verb imports what it needs
when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from experiments import verbs
from experiments.collect_options import add_collect
from experiments.environment import pin_threads, stray_packages
from experiments.errors import SpecError
from lm.ranks import is_first_to_fail, let_the_first_speak, world
from lm.types import ModelError
from tasks.types import TaskError

FORMATS = ("terminal", "markdown", "csv")
DTYPES = ("auto", "float32", "bfloat16", "float16")
TABLES = (
    *("summary", "pairs", "seeds", "samples", "failures", "flow", "links", "slices", "cost"),
    *("curves", "audits", "attribution", "reads", "stopped", "recheck", "error_types"),
    *("error_types_by_arm", "error_examples", "format", "resistance", "tool_use"),
    *("budget", "allocation", "efficiency"),
    "dev_curves",
)
WALL = "of the sandbox: run code without it (network, filesystem, processes, syscalls)"
COMPARED = ("pairs", "flow", "links")


def parser() -> argparse.ArgumentParser:
    """All verbs and options."""
    main = argparse.ArgumentParser(
        prog="tasklift",
        description="Better prompt, SFT, RL, or a chain of them? One task, one honest table.",
    )
    verb = main.add_subparsers(dest="verb", required=True, metavar="VERB")

    run = verb.add_parser("run", help="run a spec; again to finish or resume it")
    run.add_argument("spec", type=Path, help="spec.yaml")
    run.add_argument("--out", type=Path, default=Path("runs"), help="where run folders go")
    run.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change the spec")
    run.add_argument("--dry-run", action="store_true", help="show the plan, run nothing")
    run.set_defaults(do=verbs.run)

    _add_following(verb)
    _add_reports(verb)
    _add_policies(verb)
    _add_reward_train(verb)
    _add_reward_check(verb)
    add_collect(verb)
    _add_tasks(verb)
    return main


def _add_following(verb: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Verbs for while a run is at work, and to talk to what came out of it."""
    watch = verb.add_parser("watch", help="follow a run from another terminal, or see how it went")
    watch.add_argument("run", type=Path, help="runs/NAME")
    watch.add_argument("--every", type=_seconds, default=2.0, metavar="SECONDS", help="look again")
    watch.add_argument("--once", action="store_true", help="as it stands now, and no further")
    watch.set_defaults(do=verbs.watch)

    chat = verb.add_parser("chat", help="talk to an arm of a run")
    chat.add_argument("arm", metavar="RUN:ARM", help="runs/NAME:ARM, or runs/NAME/ARM")
    chat.add_argument("--seed", type=int, help="default: the arm's first")
    chat.add_argument("--raw", action="store_true", help="a free chat, without the arm's prompt")
    chat.add_argument("--max-tokens", type=_positive, help="of an answer; default: the run's")
    chat.add_argument("--device", help="default: the run's")
    chat.set_defaults(do=verbs.chat)


def _add_reports(verb: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Verbs that read a run folder."""
    answer = verb.add_parser("answer", help="in words: which arm, how sure, at what cost")
    answer.add_argument("run", type=Path, help="runs/NAME")
    answer.set_defaults(do=verbs.answer)

    report = verb.add_parser("report", help="tables of a run folder, or of several side by side")
    report.add_argument("run", type=Path, nargs="+", help="runs/NAME")
    report.add_argument(
        "--table",
        choices=(*TABLES, "records", "rollouts"),
        help="one table instead of the whole report",
    )
    report.add_argument("--format", choices=(*FORMATS, "latex", "parquet"), default="terminal")
    report.add_argument("--out", type=Path, metavar="FILE", help="write the table there")
    report.add_argument("--html", type=Path, metavar="FILE", help="write the page there")
    report.add_argument("--figures", type=Path, metavar="DIR", help="write all figures as SVG, PNG")
    report.set_defaults(do=verbs.report)

    compare = verb.add_parser(
        "compare",
        help="two arms of a run, or two runs, example by example",
        usage="tasklift compare RUN ARM ARM | RUN[:ARM] RUN[:ARM] [options]",
    )
    compare.add_argument("run", help="runs/NAME, or runs/NAME:ARM")
    compare.add_argument("before", help="an arm of it, or the other run")
    compare.add_argument("after", nargs="?", help="another arm of it")
    compare.add_argument("--table", choices=COMPARED, help="only this one; default: pairs, flow")
    compare.add_argument(
        "--margin", type=float, metavar="POINTS", help="is AFTER worse by less than that?"
    )
    compare.add_argument("--format", choices=(*FORMATS, "latex"), default="terminal")
    compare.set_defaults(do=verbs.compare)

    failures = verb.add_parser("failures", help="what an arm still gets wrong, with examples")
    failures.add_argument("run", type=Path)
    failures.add_argument("--arm", help="only this arm")
    failures.add_argument("--judge", metavar="MODEL", help="a model that labels some of them, too")
    failures.add_argument("--sample", type=_positive, default=50, help="how many it labels")
    failures.add_argument("--endpoint", help="https://host/v1, where MODEL answers")
    failures.add_argument("--key-env", help="environment variable with the key for it")
    failures.add_argument("--format", choices=FORMATS, default="terminal")
    failures.set_defaults(do=verbs.failures)


def _add_policies(verb: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Verbs that load a policy."""
    evaluation = verb.add_parser("eval", help="score a model on a task, or an arm of a run on dev")
    evaluation.add_argument("task")
    evaluation.add_argument("--model", default="smollm2-135m", help="alias, folder, .gguf, Hub id")
    evaluation.add_argument("--run", type=Path, help="take policy from this run folder …")
    evaluation.add_argument("--arm", help="… and this arm of it")
    evaluation.add_argument("--prompt", type=Path, help="a prompt.json")
    evaluation.add_argument("--split", choices=("train", "dev"), default="dev")
    evaluation.add_argument("--limit", type=_positive, help="only the first N examples")
    evaluation.add_argument("--max-tokens", type=_positive, help="default: the run's, else 32")
    evaluation.add_argument("--device", default="auto")
    _add_wall(evaluation)
    evaluation.set_defaults(do=verbs.evaluate)

    again = verb.add_parser("recheck", help="the arms of a run on test examples it has not seen")
    again.add_argument("run", type=Path, help="runs/NAME")
    again.add_argument("--limit", type=_positive, help="only the first N of them")
    again.set_defaults(do=verbs.recheck)

    export = verb.add_parser("export", help="an arm's model as a plain Hugging Face folder")
    export.add_argument("run", type=Path, help="runs/NAME")
    export.add_argument("arm")
    export.add_argument("--out", type=Path, required=True, help="a new folder")
    export.add_argument("--dtype", choices=DTYPES, default="auto", help="default: the run's")
    export.add_argument("--seed", type=int, help="default: the arm's first")
    export.set_defaults(do=verbs.export)


def _add_reward_train(verb: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = verb.add_parser("reward-train", help="a reward model from pairs of answers")
    train.add_argument("task")
    train.add_argument("--model", default="smollm2-135m", help="alias, folder, .gguf, Hub id")
    train.add_argument("--out", type=Path, required=True, help="a new folder")
    train.add_argument(
        "--from",
        dest="sources",
        action="append",
        default=[],
        metavar="RUN[:ARM]",
        help="answers that this run drew; with --draw, the policies to draw with",
    )
    train.add_argument("--draw", type=_positive, metavar="K", help="draw K answers an example")
    train.add_argument("--across", action="store_true", help="pairs across policies only")
    train.add_argument("--pairs", type=Path, metavar="FILE", help="JSONL: what people prefer")
    train.add_argument("--max-pairs", type=_positive, default=2000, help="held-out ones among them")
    train.add_argument("--margin", type=float, default=0.0, help="least difference of scores")
    train.add_argument("--passes", type=_positive, default=1, help="over the pairs")
    train.add_argument("--learning-rate", type=float, help="default: 3e-4, head only 3e-3")
    train.add_argument("--head-only", action="store_true", help="leave the LM's weights alone")
    train.add_argument(
        "--reads",
        choices=("task", "sent"),
        default="task",
        help="the question in the task's own bare words, or the prompt as sent, demos and all",
    )
    train.add_argument(
        "--steps",
        choices=("min", "mean", "last"),
        help="score every line of an answer; the reward is this of the scores",
    )
    train.add_argument("--max-tokens", type=_positive, help="of drawn answers; default: the run's")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default="auto")
    _add_wall(train)
    train.set_defaults(do=verbs.reward_train)


def _add_reward_check(verb: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = verb.add_parser("reward-check", help="how far can a reward be trusted?")
    check.add_argument("reward", help="as in a spec: a name, mine.py:fn, a folder, {parts: …}")
    check.add_argument("--task", required=True, help="its score is the yardstick")
    check.add_argument(
        "--from",
        dest="sources",
        action="append",
        default=[],
        metavar="RUN[:ARM]",
        help="rollouts of this run; with --draw, its policies answer, too",
    )
    check.add_argument("--draw", type=_positive, metavar="K", help="draw K answers to an example")
    check.add_argument("--examples", type=_positive, default=64, help="of dev, to draw for")
    check.add_argument("--model", default="smollm2-135m", help="draws where no --from is given")
    check.add_argument("--answers", type=_positive, default=1024, help="at most, of rollouts")
    check.add_argument(
        "--curve",
        metavar="RUN:ARM",
        help="reward against score along RL; --curve best-of: along best-of-n",
    )
    check.add_argument("--svg", type=Path, metavar="FILE", help="the curve as a picture")
    check.add_argument("--max-tokens", type=_positive, help="of drawn answers; default: the run's")
    check.add_argument("--seed", type=int, default=0)
    check.add_argument("--device", default="auto")
    check.add_argument("--format", choices=FORMATS, default="terminal")
    _add_wall(check)
    check.set_defaults(do=verbs.reward_check)


def _add_tasks(verb: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Verbs about tasks and what is installed, before anything is run."""
    power = verb.add_parser("power", help="what difference can be seen, and with how many examples")
    power.add_argument("task", nargs="?", help="take --n from its test split")
    power.add_argument("--n", type=_positive, help="test examples")
    power.add_argument("--difference", type=float, metavar="POINTS", help="wanted, e.g. 5 or -2")
    power.add_argument("--baseline-rate", type=_percent, default=0.5, metavar="PERCENT")
    power.add_argument("--correlation", type=_fraction, default=0.0, help="between arms, 0 to 1")
    power.add_argument("--sd", type=_percent, metavar="POINTS", help="of graded differences")
    power.add_argument("--power", type=_fraction, default=0.8, help="the chance to see it")
    power.add_argument("--comparisons", type=_positive, default=1, help="that Holm adjusts for")
    power.set_defaults(do=verbs.power)

    tasks = verb.add_parser("tasks", help="the tasks that can be named")
    tasks.set_defaults(do=verbs.tasks)

    check = verb.add_parser("check", help="verify a task: gold answers, splits, scorer")
    check.add_argument("task", help="file.py[:NAME], data.jsonl, task.yaml or a name")
    check.add_argument("--prompt", type=Path, help="a prompt.json: does it hold dev or test?")
    _add_wall(check)
    check.set_defaults(do=verbs.check)

    doctor = verb.add_parser("doctor", help="what is installed, what is missing")
    doctor.set_defaults(do=verbs.doctor)


def _add_wall(verb: argparse.ArgumentParser) -> None:
    """For verbs that score answers without a spec, which says `sandbox: {allow_missing: …}`."""
    verb.add_argument("--allow-missing", action="append", default=[], metavar="WALL", help=WALL)


def _bad_input() -> tuple[type[Exception], ...]:
    """The errors that mean bad input. Asked only once something went wrong: pandas is slow."""
    from reports.load import ReportError

    return SpecError, TaskError, ModelError, ReportError


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("write 1 or more")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.1 <= number <= 3600:
        raise argparse.ArgumentTypeError("write seconds from 0.1 to 3600, such as 2")
    return number


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError("write a number from 0 up to 1, such as 0.8")
    return number


def _percent(text: str) -> float:
    number = float(text) / 100
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("write a number from 0 to 100, such as 60")
    return number


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. TASKLIFT_DEBUG=1 shows tracebacks."""
    options = parser().parse_args(words)
    pin_threads()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8
    try:
        strays = stray_packages()
        if strays:
            raise SpecError(strays[0])
        if world() > 1 and options.verb != "run":
            raise SpecError(f"{options.verb}: is done in one process; write it without a launcher")
        return options.do(options)
    except _bad_input() as error:
        return _say(str(error), 2)
    except KeyboardInterrupt:
        return _say("stopped; the same command goes on from here", 130)
    except BrokenPipeError:  # `tasklift report … | head` had enough; a run did not get to its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1 if options.verb in ("run", "eval") else 0
    except Exception as error:
        if os.environ.get("TASKLIFT_DEBUG"):
            raise
        kind = type(error).__name__
        return _say(f"failed: {kind}: {error} (TASKLIFT_DEBUG=1 shows where)", 1)


def _say(line: str, code: int) -> int:
    if is_first_to_fail():
        print(f"tasklift: {' '.join(line.split())}", file=sys.stderr, flush=True)
    else:
        let_the_first_speak()
    return code


def _leave(code: int) -> NoReturn:
    """One of several processes goes without tidying up: what gloo's threads still hold at that
    point aborts now and then ("terminate called without an active exception"), and the launcher
    takes it for a failure of the run."""
    if world() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _leave(main())
