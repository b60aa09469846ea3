"""What `tasklift collect` takes. Light: the command line asks for it at every start."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments import verbs


def add_collect(verb: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the parser."""
    take = verb.add_parser("collect", help="a task and a spec from a CSV, JSONL, … or Hub dataset")
    take.add_argument("sources", nargs="+", metavar="SOURCE", help="file, folder or hub:owner/name")
    take.add_argument("--out", type=Path, required=True, help="a new folder")
    take.add_argument("--force", action="store_true", help="replace the task in --out")
    for name, told in (("input", "what is asked"), ("answer", "the right answer")):
        several = {"nargs": "+", "action": "extend", "default": []} if name == "input" else {}
        field = {"default": "", **several}
        take.add_argument(f"--{name}", metavar="FIELD", help=f"{told}; default: a guess", **field)
    take.add_argument("--group", default="", metavar="FIELD", help="no value of it in two splits")
    take.add_argument("--time", default="", metavar="FIELD", help="test is latest")
    take.add_argument("--stratify", default="", metavar="FIELD", help="default: labels; or none")
    take.add_argument("--splits", default="0.6,0.2,0.2", metavar="A,B,C", help="train, dev, test")
    take.add_argument("--split-field", default="", metavar="FIELD", help="says the split; or none")
    take.add_argument("--scorer", default="", metavar="NAME", help="default: a guess")
    take.add_argument("--instruction", metavar="TEXT", help="what the model is told")
    take.add_argument("--name", default="", help="default: that of the folder")
    take.add_argument("--max", type=positive, metavar="N", help="at most so many examples")
    take.add_argument("--seed", type=int, default=0)
    take.set_defaults(do=verbs.collect)


def positive(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("write 1 or more")
    return number
