"""Worked examples straight from train, drawn several times: DSPy's LabeledFewShot, and the best."""

from __future__ import annotations

import random

from dspy.teleprompt import LabeledFewShot

from prompt_opt.bench import Bench
from prompt_opt.config_search import LabeledConfig
from prompt_opt.forms import form_of
from prompt_opt.prompt_method import PromptMethod


class Labeled(PromptMethod):
    """DSPy draws the same examples every time; here each candidate shuffles train first."""

    name = "labeled"
    finalists = 0
    config: LabeledConfig

    def search(self, bench: Bench) -> None:
        for candidate in range(self.config.candidates):
            pool = list(bench.pool)
            random.Random(f"{bench.context.seed}/labeled/{candidate}").shuffle(pool)
            labels = LabeledFewShot(k=self.config.demos)
            bench.measure(form_of(labels.compile(bench.student(), trainset=pool)))
