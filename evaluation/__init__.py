"""Policies measured: ask, judge each answer, keep records, compare arms in pairs."""
