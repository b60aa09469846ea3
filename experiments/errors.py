"""The error that means a bad spec, option or run folder: one line on stderr, exit code 2."""

from __future__ import annotations


class SpecError(ValueError):
    """A spec, option or run folder that cannot be used. One line: what, where, what instead."""
