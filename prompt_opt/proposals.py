"""DSPy's requests for proposals in a few plain words, for models that cannot follow the originals.

An adapter, set around a search: the modules an optimizer brings along ask through it, while the
program under optimization keeps its own. It knows the outputs that COPRO, MIPROv2, InferRules and
SIMBA ask for; GEPA takes `PlainReflection` as its instruction proposer. Every other proposal comes
from the menu of edits (prompt_opt/edits.py), as does what the model has failed at twice.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dspy

from lm.types import Sampling
from prompt_opt.bench import Bench
from prompt_opt.edits import Edit, Menu, brief, cleaned, fault
from prompt_opt.speaker import Speaker

TRIES = 2
SHOWN = 5  # examples in a request
# at temperature 1 and without a cut a 135M model loses its thread within a sentence
PLAIN: dict[str, Any] = {"max_tokens": 64, "temperature": 0.7, "top_p": 0.9}


class PlainProposals(dspy.Adapter):
    """Asks `speaker` for proposals as DSPy's proposing modules want them returned."""

    def __init__(self, bench: Bench, speaker: Speaker, rules: int = 3):
        super().__init__()
        self.bench, self.speaker, self.count = bench, speaker, rules
        examples = [bench.example(case) for case in bench.pool]
        self.menu = Menu(bench.start, examples, steps=bench.source is not None)
        self._asked = 0  # numbers the requests of a stage: each draws anew
        self._seen: dict[str, set[str]] = {}

    def __call__(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[Any],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        wanted = set(signature.output_fields)
        if "proposed_instruction" in wanted:
            current = _current(inputs)
            texts = self.instructions(current, lm_kwargs.get("n") or 1)
            rows = [{"proposed_instruction": text} for text in texts]
        elif "natural_language_rules" in wanted:
            rows = [{"natural_language_rules": self.rules()}]
        elif "module_advice" in wanted:
            advice = self.advice(inputs)
            rows = [{"module_advice": dict.fromkeys(_names(inputs["module_names"]), advice)}]
        else:
            rows = [{}]
        return [{**dict.fromkeys(wanted, ""), **row} for row in rows]

    def instructions(
        self, current: str, count: int, lesson: str = "", first: int = 0, component: str = ""
    ) -> list[str]:
        """`count` new instructions in the place of `current`: the even ones, counted from `first`,
        are the model's, the others the menu's. `lesson` tells what went wrong with it; none is
        proposed twice to a `component` of the program."""
        seen = self._seen.setdefault(component, set())
        picks = [(self._rng(), number % 2 == 0) for number in range(first, first + count)]
        edits = [rng.choice(self.menu.edits) for rng, _ in picks]
        texts: list[str | None] = [None] * count
        for _ in range(TRIES):
            open_ = [i for i, (_, ask) in enumerate(picks) if ask and texts[i] is None]
            chats = [self._request(current, edits[i], picks[i][0], lesson) for i in open_]
            for i, text in zip(open_, self._ask(chats), strict=True):
                if not _is_useless(text, current, seen):
                    texts[i] = text
                    seen.add(text)
        return [
            text if text is not None else self._edited(current, edit, rng, seen)
            for text, edit, (rng, _) in zip(texts, edits, picks, strict=True)
        ]

    def rules(self) -> str:
        """One rule a line, each induced from other examples of train."""
        asks = [
            f"{self.menu.lines(self._rng(), SHOWN)}\n\nWrite a short rule that tells how to get "
            "from left to right. Write the rule only."
            for _ in range(self.count)
        ]
        found = [text for text in self._ask(asks) if fault(text, "") is None]
        found = found or [self.menu.rule(self._rng())]
        return "\n".join(f"- {text}" for text in dict.fromkeys(found))

    def advice(self, inputs: Mapping[str, Any]) -> str:
        """A sentence that would have led from a worse answer to a better one."""
        question = brief(" / ".join(map(str, _mapping(inputs["program_inputs"]).values())))
        gold = _mapping(inputs["oracle_metadata"]).get(self.bench.start.output, "")
        worse = _mapping(inputs["worse_program_outputs"]).get(self.bench.start.output, "")
        ask = (
            f"Question: {question}\nRight answer: {brief(gold)}\n"
            f"A wrong answer: {brief(worse)}\n\n"
            "Write one short rule that helps to avoid such a mistake. Write the rule only."
        )
        [text] = self._ask([ask])
        return text if fault(text, "") is None else self.menu.rule(self._rng())

    def _request(self, current: str, edit: Edit, rng: random.Random, lesson: str) -> str:
        shown = lesson or f"Examples:\n{self.menu.lines(rng, SHOWN)}"
        return (
            f"Task description: {current}\n\n{shown}\n\nRewrite the task description. "
            f"{edit.request} Write the new task description only."
        )

    def _ask(self, asks: Sequence[str]) -> list[str]:
        sampling = replace(self.speaker.sampling, **PLAIN)
        questions = []
        for ask in asks:
            self._asked += 1
            chat = [{"role": "user", "content": ask}]
            questions.append(self.speaker.question(chat, sampling, (self._asked, 0)))
        answers = self.bench.engine.answers(questions)
        return [cleaned(answer.text, answer.finish_reason == "length") for answer in answers]

    def _edited(self, current: str, first: Edit, rng: random.Random, seen: set[str]) -> str:
        """By the menu: the first edit that gives something new, all else failing the first."""
        others = rng.sample(self.menu.edits, len(self.menu.edits))
        for edit in (first, *others):
            text = edit.apply(current.strip(), rng).strip()
            if not _is_useless(text, current, seen):
                seen.add(text)
                return text
        return current  # which costs nothing: it has been measured

    def _rng(self) -> random.Random:
        self._asked += 1
        return random.Random(f"{self.bench.context.seed}/{self._asked}")


class PlainReflection:
    """GEPA's instruction proposer: what went wrong, in plain words, and a request to mend it."""

    def __init__(self, proposals: PlainProposals):
        self.proposals = proposals
        self._turns: Counter[str] = Counter()  # by component: GEPA takes these in turn, too

    def __call__(
        self,
        candidate: dict[str, str],
        reflective_dataset: Mapping[str, Sequence[Mapping[str, Any]]],
        components_to_update: list[str],
    ) -> dict[str, str]:
        return {
            name: self._mended(name, candidate[name], reflective_dataset[name])
            for name in components_to_update
        }

    def _mended(self, name: str, current: str, rows: Sequence[Mapping[str, Any]]) -> str:
        lesson = "What was answered so far:\n" + "\n".join(map(_told, rows))
        [text] = self.proposals.instructions(current, 1, lesson, self._turns[name], name)
        self._turns[name] += 1
        return text


def _is_useless(text: str, current: str, seen: set[str]) -> bool:
    return text in seen or fault(text, current) is not None


def _told(row: Mapping[str, Any]) -> str:
    asked = " / ".join(str(value) for value in dict(row["Inputs"]).values())
    given = " / ".join(str(value) for value in dict(row["Generated Outputs"]).values())
    return f"{brief(asked)} → {brief(given)}. {brief(row['Feedback'])}"


def _current(inputs: Mapping[str, Any]) -> str:
    """The instruction to start from. COPRO lists attempts, the best one last."""
    if "basic_instruction" in inputs:
        return inputs["basic_instruction"]
    attempts = [text for text in inputs["attempted_instructions"] if text.startswith("Instruction")]
    return attempts[-1].partition(": ")[2]


def _mapping(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def _names(value: Any) -> list[str]:
    return json.loads(value) if isinstance(value, str) else list(value)


def proposal_sampling(max_tokens: int) -> Sampling:
    """By chance, whatever the evaluator does."""
    return Sampling(max_tokens=max_tokens, temperature=1.0)
