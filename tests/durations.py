"""Which tests take long: what `make fast` leaves out is listed in tests/long.txt, printed by

OMP_NUM_THREADS=1 python -m pytest -m "not slow" --junitxml=times.xml
python -m tests.durations times.xml > tests/long.txt
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

LIST = Path(__file__).with_name("long.txt")
FILE, FUNCTION = 10.0, 0.25  # seconds


def main(reports: Sequence[str]) -> None:
    """Print a line for each file of tests that takes long, and in others for each function.

    In a long file what is quick may wait for what its neighbours have set up.
    """
    of_file, of_function = Counter[str](), Counter[str]()
    for case in (c for path in reports for c in ElementTree.parse(path).iter("testcase")):
        file = f"{case.attrib['classname'].replace('.', '/')}.py"
        name, seconds = case.attrib["name"].partition("[")[0], float(case.attrib["time"])
        of_file[file] += seconds
        of_function[f"{file}::{name}"] = max(of_function[f"{file}::{name}"], seconds)
    files = {file for file, seconds in of_file.items() if seconds >= FILE}
    functions = {name for name, seconds in of_function.items() if seconds >= FUNCTION}
    rest = {name for name in functions if name.partition("::")[0] not in files}
    print("\n".join(sorted(files | rest)))


def is_long(node: str) -> bool:
    """Whether a test, by its id in pytest, is one of those."""
    function = node.partition("[")[0]
    return function in _listed() or function.partition("::")[0] in _listed()


@cache
def _listed() -> frozenset[str]:
    return frozenset(LIST.read_text().split())


if __name__ == "__main__":
    main(sys.argv[1:])
