"""A table for a paper: booktabs, intervals in brackets, the best in bold, stars for significance.

It compiles with plain pdflatex. So a character that pdflatex has no glyph for (Chinese, emoji)
shows as its number, `U+4E2D`: what a model writes may be anything.
"""

from __future__ import annotations

import unicodedata

import pandas as pd

from reports import escape, marks
from reports.render import texts

ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': "''",
    "…": r"\ldots{}",
    "\u2013": r"\textendash{}",
    "\u2014": r"\textemdash{}",
    "\u2018": "`{}",
    "\u2019": "'{}",
    "\u201c": "``{}",
    "\u201d": "''{}",
    "\u00d7": r"$\times$",
    "\u00b7": r"$\cdot$",
    "\u2212": "$-$",
    "→": r"$\to$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "⏎": r"$\hookleftarrow$",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "å": r"\aa{}",
    "Å": r"\AA{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "²": "$^2$",
    "\u00a0": "~",
    **{character: f"\\{character}" for character in "{}$&#%_"},
}


def latex(frame: pd.DataFrame, title: str = "") -> str:
    """`frame` as a LaTeX `table`; the preamble needs \\usepackage{booktabs} and nothing else."""
    shown = texts(frame, text, gap=" ")
    best, stars = marks.best(frame), marks.stars(frame)
    names = list(shown.columns)
    lines = []
    for i, row in enumerate(shown.rows()):
        cells = []
        for name, cell in zip(names, row, strict=True):
            number = shown.columns[name]
            told = _number(cell) if number else cell
            if cell and best.get(name, [False] * len(frame))[i]:
                told = f"\\textbf{{{told}}}"
            if name == "delta" and stars[i]:
                told += f"$^{{{stars[i]}}}$"
            cells.append(told)
        line = " & ".join(cells)
        # these would belong to the line break above
        lines.append(f"{'{}' if line.startswith(('[', '*')) else ''}{line} \\\\\n")
    columns = "".join("r" if number else "l" for number in shown.columns.values())
    headings = " & ".join(text(shown.heading(name)) for name in names)
    legend = ["Bold: the best."] if any(any(flags) for flags in best.values()) else []
    legend += [_number(marks.LEGEND)] if any(stars) else []
    return "".join(
        [
            "% \\usepackage{booktabs}\n\\begin{table}\n\\centering\n",
            f"\\caption{{{text(title)}}}\n" if title else "",
            f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}\n\\toprule\n{headings} \\\\\n\\midrule\n",
            *lines,
            "\\bottomrule\n\\end{tabular}\n",
            f"\n\\smallskip\\footnotesize {' '.join(legend)}\n" if legend else "",
            "\\end{table}\n",
        ]
    )


def text(words: str) -> str:
    """`words` on one line, shown literally by pdflatex; cut as in a terminal's cell."""
    # two hyphens would be a dash
    return "".join(map(_character, escape.plain(words))).replace("--", "-{}-").replace("--", "-{}-")


def _character(character: str) -> str:
    if (known := SPECIAL.get(character)) is not None:
        return known
    if character.isascii():
        return character
    base, *accents = unicodedata.normalize("NFD", character)
    if len(accents) == 1 and base.isascii() and base.isalpha() and accents[0] in ACCENTS:
        letter = {"i": r"\i", "j": r"\j"}.get(base, base)
        return f"\\{ACCENTS[accents[0]]}{{{letter}}}"
    return f"{{\\footnotesize U+{ord(character):04X}}}"


def _number(cell: str) -> str:
    return cell.replace("%", "\\%").replace("-", "$-$").replace("<", "$<$")
