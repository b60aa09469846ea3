"""What each verb of the command line does. Every function gets the parsed options."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from dataclasses import replace
from pathlib import Path
from textwrap import fill

from experiments.errors import SpecError
from lm.ranks import is_first


def run(options: Namespace) -> int:
    """Run, resume or (with --dry-run) only plan a spec."""
    from experiments.spec import load_spec

    spec = load_spec(options.spec, options.set)
    base = options.spec.parent
    if options.dry_run:
        if not is_first():
            return 0
        from experiments.allocation import describe_rungs
        from experiments.attribution import describe_cells
        from experiments.plan import describe
        from experiments.power import dry_run_line
        from experiments.run import prepare
        from experiments.store import RunFolder

        prepared = prepare(spec, base)
        plan = prepared.plan
        done = RunFolder(options.out / spec.name).done_stages()
        more = [*describe_cells(spec, plan), *describe_rungs(spec.rungs())]
        print("\n".join([*describe(spec, plan, done), *more]))
        tested = 2 if spec.rungs() else len(spec.arms)  # halving opens test for two
        if len(spec.arms) > 1:
            print(dry_run_line(prepared.tested, tested, len(spec.seeds)))
        return 0
    from experiments.run import run as run_spec

    folder = run_spec(spec, base, options.out)
    return _finish(folder) if is_first() else 0


def _finish(folder: Path) -> int:
    """Write the reports into the run folder; show tripped wires, two tables and the answer."""
    from experiments.store import write_text
    from reports import load_run, recommendation, report_markdown, table, tripped
    from reports.page import write_page

    done = load_run(folder)
    write_text(folder / "report.md", report_markdown(done))
    for line in tripped(done):
        print(line)
    print(f"\n{table(folder, 'summary')}\n{table(folder, 'pairs')}")
    print(f"{fill(recommendation(done), 100, break_on_hyphens=False)}\n")
    write_page(done, folder / "report.html")
    print(f"report: {folder / 'report.md'}")
    print(f"page:   {folder / 'report.html'}")
    return 0


def answer(options: Namespace) -> int:
    """Which arm to take, how sure that is, what it costs and what still fails: one paragraph."""
    from reports import load_run, recommendation

    print(fill(recommendation(load_run(options.run)), 100, break_on_hyphens=False))
    return 0


def report(options: Namespace) -> int:
    """One table, or the whole report; in a terminal the whole report is Markdown too."""
    from reports import load_run, report_markdown

    if options.table:
        from experiments.report_files import report_table

        return report_table(options)
    if options.out or options.format in ("csv", "latex", "parquet"):
        what = "--out" if options.out else f"--format {options.format}"
        raise SpecError(f"{what} needs one table; add e.g. --table summary")
    if len(options.run) > 1:
        raise SpecError("several runs stand side by side in a table; add e.g. --table summary")
    options.run = options.run[0]
    if options.html or options.figures:
        return _shown(options)
    print(report_markdown(load_run(options.run)), end="")
    return 0


def _shown(options: Namespace) -> int:
    """The page, the figures or both, as files."""
    from reports import load_run
    from reports.figures import write_figures
    from reports.page import write_page

    run = load_run(options.run)
    if options.html:
        write_page(run, options.html)
        print(f"page: {options.html}")
    if options.figures:
        files = write_figures(run, options.figures)
        print(f"figures: {len(files) // 2} as SVG and PNG in {options.figures}")
    return 0


def compare(options: Namespace) -> int:
    """The paired difference between two arms, of one run or of two, and how failures flowed."""
    from reports import table

    if options.margin is not None and not 0 < options.margin < 100:
        raise SpecError(f"compare: --margin {options.margin:g}: write points between 0 and 100")
    margin = None if options.margin is None else options.margin / 100
    if options.after is None:
        from experiments.report_files import compare_two_runs

        return compare_two_runs(options, margin)
    arms = (options.before, options.after)
    if options.table:
        given = margin if options.table == "pairs" else None
        print(table(options.run, options.table, options.format, arms=arms, margin=given), end="")
        return 0
    print(table(options.run, "pairs", options.format, arms=arms, margin=margin))
    print(table(options.run, "flow", options.format, arms=arms))
    return 0


def failures(options: Namespace) -> int:
    """What each arm, or one of them, still gets wrong: classes with counts and an example.

    Then the systematic errors of that arm, or the best one, and with --judge what another model
    calls the failures. In CSV, the classes alone.
    """
    from reports import table

    arms = (options.arm,) if options.arm else ()
    print(table(options.run, "failures", options.format, arms=arms), end="")
    if options.format != "csv":
        print(f"\n{table(options.run, 'error_types', options.format, arms=arms)}", end="")
    if options.judge:
        from experiments.judging import judged, open_judge
        from reports import load_run

        run = load_run(options.run)
        judge = open_judge(options.judge, options.endpoint, options.key_env)
        print(f"\n{judged(run, judge, options.arm, options.sample, options.format)}", end="")
    elif options.endpoint or options.key_env:
        raise SpecError("--endpoint and --key-env tell where --judge answers; name one")
    return 0


def power(options: Namespace) -> int:
    """What so many examples show, and how many a wanted difference takes."""
    from experiments.power import Design, describe_power
    from tasks.load import load_task
    from tasks.splits import required_split

    n = options.n
    if n is None and options.task is not None:
        n = len(required_split(load_task(options.task), "test"))
    difference = None if options.difference is None else options.difference / 100
    if n is None and difference is None:
        raise SpecError("power: of how many examples? write a task, --n 300 or --difference 5")
    if difference == 0:
        raise SpecError("power: no number of examples shows a difference of 0; write another")
    design = Design(
        options.baseline_rate,
        options.correlation,
        options.sd,
        options.power,
        options.comparisons,
    )
    print("\n".join(describe_power(design, n, difference)))
    return 0


def tasks(options: Namespace) -> int:
    """The tasks that can be named, one a line, and the other spellings."""
    from importlib.metadata import entry_points

    from tasks.load import BUILT_INS, ENTRY_POINTS, FAMILIES

    for name, where in BUILT_INS.items():
        print(f"{name}  (built in, {where})")
    for point in entry_points(group=ENTRY_POINTS):
        print(f"{point.name}  (installed, {point.value})")
    for family, where in FAMILIES.items():
        print(f"{family}:NAME  (built in, {where})")
    print("or: file.py[:NAME], package.module:NAME, data.jsonl, data.csv, task.yaml")
    return 0


def check(options: Namespace) -> int:
    """Verify a task, and a prompt for it; exit 1 when a check fails. A warning is no failure."""
    from tasks.check import check_prompt_file, check_task
    from tasks.load import load_task
    from tasks.sandbox import settle

    task = load_task(options.task)
    settle(task, options.allow_missing)
    findings = check_task(task, options.task)
    if options.prompt:
        from experiments.saved import prompt_from_file

        findings.append(check_prompt_file(task, prompt_from_file(options.prompt, task)))
    failed = 0
    for finding in findings:
        error = not finding.ok and finding.severity == "error"
        failed += error
        mark = "ok  " if finding.ok else "FAIL" if error else "warn"
        print(f"{mark} {finding.check}: {finding.detail}")
        for line in finding.named:
            print(f"       {line}")
    print(f"{len(findings)} checks, {failed} failed")
    return 1 if failed else 0


def recheck(options: Namespace) -> int:
    """Every arm of a run on unseen test examples, beside what it scores on test."""
    from experiments.recheck import recheck as ask
    from reports import table

    ask(options.run, options.limit)
    print(f"\n{table(options.run, 'recheck')}", end="")
    return 0


def evaluate(options: Namespace) -> int:
    """Score one policy on train or dev, asked as its run asked it. Test belongs to `run`."""
    from tempfile import TemporaryDirectory

    from evaluation.environment import scoring
    from evaluation.evaluate import mean_score
    from evaluation.types import Policy
    from experiments.asking import ask_all
    from experiments.progress import Lines
    from experiments.saved import Saved, opened, policy_of_arm, prompt_from_file
    from experiments.spec import ModelSpec
    from lm.types import Sampling
    from tasks.load import load_task
    from tasks.sandbox import settle
    from tasks.splits import required_split
    from tasks.types import Prompt

    if (options.run is None) != (options.arm is None):
        raise SpecError("--run and --arm go together; write both")
    task = load_task(options.task)
    settle(task, options.allow_missing)
    if options.run is not None:
        saved = policy_of_arm(options.run, options.arm)
    else:
        prompt = prompt_from_file(options.prompt, task) if options.prompt else Prompt.of(task)
        model = ModelSpec(source=options.model, device=options.device)
        saved = Saved(Policy(options.model, prompt), model, Sampling(max_tokens=32))
    if saved.policy.prompt.inputs != tuple(task.inputs):
        raise SpecError(f"arm {options.arm!r} was made for a task with other inputs; name its task")
    sampling = saved.sampling
    if options.max_tokens:
        sampling = replace(sampling, max_tokens=options.max_tokens)
    examples = required_split(task, options.split)[: options.limit]
    model = opened(saved, task, examples)
    with TemporaryDirectory() as folder:
        records = ask_all(
            model,
            saved.policy,
            examples,
            scoring(task),
            sampling,
            split=options.split,
            folder=Path(folder),
            progress=Lines(f"{options.split} {task.name}"),
        )
    print(f"score {100 * mean_score(records):.1f} %  n {len(records)}")
    for failure, count in Counter(r.failure for r in records if not r.correct).most_common():
        print(f"  {count:5d}  {failure}")
    return 0


def export(options: Namespace) -> int:
    """Write an arm's policy as a plain Hugging Face folder; says how close it is."""
    from experiments.export import export as export_arm

    facts = export_arm(options.run, options.arm, options.out, options.dtype, options.seed)
    print(f"{options.out}: {facts.arm}, seed {facts.seed}, in {facts.dtype}; see its README.md")
    print(f"largest difference of a logit to the policy, on its own prompt: {facts.gap:.1g}")
    return 0


def reward_train(options: Namespace) -> int:
    """Train a reward model; see experiments/reward_train.py."""
    from experiments.reward_train import reward_train as train

    return train(options)


def reward_check(options: Namespace) -> int:
    """How far a reward can be trusted; see experiments/reward_check.py."""
    from experiments.reward_check import reward_check as checked

    return checked(options)


def watch(options: Namespace) -> int:
    """Follow a run; see experiments/watch.py."""
    from experiments.watch import watch as follow

    return follow(options.run, options.every, options.once)


def chat(options: Namespace) -> int:
    """Talk to an arm of a run; see experiments/chat.py."""
    from experiments.chat import chat as talk

    return talk(options)


def collect(options: Namespace) -> int:
    """A task from data; see experiments/collect.py."""
    from experiments.collect import collect_verb

    return collect_verb(options)


def doctor(options: Namespace) -> int:
    """Versions, device, the model at hand; exit 1 when something needed is missing."""
    from experiments.environment import surroundings, versions
    from lm.source import HUB_ALIASES, cache_folder

    found = versions()
    print("  ".join(f"{name} {number}" for name, number in found.items()))
    missing = [name for name, number in found.items() if number == "missing"]
    if missing:
        print(f"missing: {', '.join(missing)}; run make demo, or pip install tasklift")
        return 1
    around = surroundings("auto", "auto")
    print("  ".join(f"{name} {around[name]}" for name in ("device", "dtype", "threads")))
    for alias in HUB_ALIASES:
        there = (cache_folder() / alias / "model.safetensors").exists()
        print(f"model {alias}: {'in the cache' if there else 'fetched at first use'}")
    return 0
