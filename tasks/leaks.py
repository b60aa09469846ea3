"""The guard against optimized prompts that give the exam away.

What counts as a leak, and why the rules are drawn where they are:

- A demo asks what a train example asks, or stood in the incoming prompt. What it answers is the
  model's affair: a bootstrapped demo shows the model's own answer, not the gold one.
- A held-out input inside the instruction, or in what a demo replies, is a leak when it is *long*:
  20 characters or more. Texts are compared as whole words, without case, spaces and punctuation.
  Long inputs hardly come up by chance; four words like "the name of the" do.
- Short ones do ("Give the past tense": give is a verb of the test split). They are a leak only when
  their answer follows: at once ("go, went"), after one word of the same clause ("go is went"), or
  after up to 4 words with a sign among them ("go -> went", "Verb: go / Past: went"); or when both
  are quoted, in either order, up to 6 words apart ('"went" is the past of "go"'). Where an answer
  stands near anything (labels, "yes", an answer of 2 characters or one that repeats the input),
  it must follow at once or after one word, with a sign ("great: positive", "put -> put").
- Nearly the same: 60 % of the word triples of a held-out input, of at least 6, stand in the text,
  or 13 words in a row. A word changed inside 12 leaves 70 %.
- A held-out answer by itself is a leak in the instruction when it is long and answers are *open*:
  more than 20 different ones, and more than half as many as examples. Labels are no secret.
- What train examples or the incoming instruction say may be said: a held-out text inside one of
  theirs does not count, nor do their word triples, so templates and shared passages are no leaks.

Not found: paraphrases; short inputs listed without answers, told in running text ("for go the word
to write is went") or made of signs alone; short answers without inputs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from tasks.passages import Known, Passage, Span, Triple, line_of, triples_of
from tasks.text import QUOTES, fold, shorten
from tasks.types import Demo, Example, Prompt, SplitName, TaskError

LONG_CHARS = 20
QUOTED_WORDS, SIGN_WORDS, NEAR_WORDS = 6, 4, 1  # that may stand between an input and its answer
NEAR_SHARE, NEAR_TRIPLES = 0.6, 6
RUN_TRIPLES = 11  # of 13 words in a row, the length GPT-3's authors searched for (2005.14165, C)
OPEN_ANSWERS = 20
SHORT_ANSWER = 2  # characters
MARKS = QUOTES + "\u300c\u300d\u300e\u300f"  # and the corner brackets of East Asia
CLAUSE_END = re.compile(r"[.;!?]")
SIGN = re.compile(r"[-=~]>|[=:|\u2190-\u21ff\u27f5-\u27ff]")
ADVICE = "no score on it would mean anything: take it out of the split or run with another seed"


def check_prompt(
    prompt: Prompt,
    before: Prompt,
    train: Sequence[Example],
    held_out: Mapping[SplitName, Sequence[Example]],
    texts: Sequence[str] = (),
) -> None:
    """Raise TaskError when `prompt`, made from `before` with `train`, gives held-out examples away.

    `texts` are what else is shown with it: demos of a program's steps that ask something else.
    The error says in one line which part of the prompt, which text, which split and example. That
    train and held-out examples differ is `tasks.splits.check_disjoint`'s business.
    """
    questions = [_Question(split, e) for split in held_out for e in held_out[split]]
    _check_demos(prompt, before, train, questions)
    passages = _passages(prompt, before)
    passages += [Passage(f"demo {n} of a step", text) for n, text in enumerate(texts, 1)]
    for leak in _leaks(passages, questions, Known(before.instruction, train), train):
        raise TaskError(f"{leak}; {ADVICE}")


def told_in(
    prompt: Prompt, train: Sequence[Example], held_out: Mapping[SplitName, Sequence[Example]]
) -> Iterator[str]:
    """One line for each held-out example that stands in the texts of a prompt, whoever wrote it.

    All of its texts are looked at but for what the demos ask.
    """
    questions = [_Question(split, e) for split in held_out for e in held_out[split]]
    passages = _passages(prompt, replace(prompt, instruction="", demos=()))
    yield from _leaks(passages, questions, Known("", train), train)


def _leaks(
    passages: Sequence[Passage],
    questions: Sequence[_Question],
    known: Known,
    train: Sequence[Example],
) -> Iterator[str]:
    if passages:
        is_open = _is_open([*train, *(question.example for question in questions)])
        yield from _quoted(passages, questions, known, is_open)
        yield from _nearly_quoted(passages, questions, known)


class _Question:
    """A held-out example as lines of words; a field without a word ("+ -") has none."""

    def __init__(self, split: str, example: Example):
        self.example = example
        self.name = f'{split} example "{shorten(example.id)}"'
        lines = {field: line_of(text) for field, text in example.inputs.items()}
        self.fields = {field: line for field, line in lines.items() if line}
        self.answer = line_of(example.answer)


def _check_demos(
    prompt: Prompt, before: Prompt, train: Sequence[Example], questions: Sequence[_Question]
) -> None:
    """Each demo is one of the incoming prompt's or asks what a train example asks."""
    new = [(n, demo) for n, demo in enumerate(prompt.demos, 1) if demo not in before.demos]
    if not new:
        return
    asked = {_asked(prompt, e.inputs) for e in train}
    asked |= {_asked(prompt, demo.inputs) for demo in before.demos}
    for number, demo in new:
        if _asked(prompt, demo.inputs) not in asked:
            shown = shorten(" / ".join(demo.inputs.values()))
            raise TaskError(
                f'prompt: demo {number} asks "{shown}", {_origin(prompt, demo, questions)}; '
                "a method may show train examples only"
            )


def _origin(prompt: Prompt, demo: Demo, questions: Sequence[_Question]) -> str:
    for question in questions:
        if _asked(prompt, question.example.inputs) == _asked(prompt, demo.inputs):
            return f"which is {question.name}"
    lines = [line_of(text) for text in demo.inputs.values()]
    for question in questions:
        if any(lines) and set(question.fields.values()) == {line for line in lines if line}:
            return f"which is {question.name} but for punctuation"
    return "which is no train example"


def _asked(prompt: Prompt, inputs: Mapping[str, str]) -> tuple[str | None, ...]:
    """Equal for inputs that put the same question, whatever else an example holds."""
    return tuple(fold(inputs[name]) if name in inputs else None for name in prompt.inputs)


def _passages(prompt: Prompt, before: Prompt) -> list[Passage]:
    """The parts of a prompt that a method may have written."""
    parts = [("the instruction", prompt.instruction)] * (prompt.instruction != before.instruction)
    for number, demo in enumerate(prompt.demos, 1):
        if demo not in before.demos:
            said = [f"{t['content']} {t.get('tool_calls', '')}" for t in demo.turns]
            parts.append((f"demo {number}", "\n".join([*said, demo.reasoning, demo.output])))
    return [Passage(name, text) for name, text in parts]


def _quoted(
    passages: Sequence[Passage], questions: Sequence[_Question], known: Known, is_open: bool
) -> Iterator[str]:
    """Held-out inputs and answers that stand in a passage word by word."""
    everything = "\n".join(passage.line for passage in passages)
    folded = "\n".join(passage.folded for passage in passages)
    instruction = [passage for passage in passages if passage.name == "the instruction"]
    for question in questions:
        for field, text in question.example.inputs.items():
            line = question.fields.get(field)
            if line is None:
                yield from _symbols(passages, folded, question, text, known)
            elif line in everything and _is_long(line) and not known.holds(line):
                where = next(passage.name for passage in passages if line in passage.line)
                yield _told(where, f"holds {field!r} of {question.name}", text)
        if not question.answer or question.answer not in everything:
            continue
        yield from _paired(passages, question, known, is_open)
        if is_open and any(question.answer in passage.line for passage in instruction):
            yield from _answered(question, known)


def _answered(question: _Question, known: Known) -> Iterator[str]:
    """An answer that stands in the instruction, if it is one that tells."""
    if _is_long(question.answer) and not known.holds(question.answer):
        what = f"holds the answer of {question.name}"
        yield _told("the instruction", what, question.example.answer)


def _symbols(
    passages: Sequence[Passage], everything: str, question: _Question, text: str, known: Known
) -> Iterator[str]:
    """An input without a word, say of brackets: compared as it is, but for case and spaces."""
    folded = fold(text)
    if len(folded) >= LONG_CHARS and folded in everything and not known.holds_folded(folded):
        where = next(passage.name for passage in passages if folded in passage.folded)
        yield _told(where, f"holds {question.name}", text)


def _paired(
    passages: Sequence[Passage], question: _Question, known: Known, is_open: bool
) -> Iterator[str]:
    """Short inputs that stand beside their answer."""
    fields = _telling_fields(question, known)
    tight = (
        not is_open
        or len(question.answer.replace(" ", "")) <= SHORT_ANSWER
        or any(line in question.answer or question.answer in line for line in fields)
    )
    for passage in passages:
        if fields and all(line in passage.line for line in fields):
            spans = [known.own_spans(passage, line) for line in fields]
            together = _together(passage, spans, passage.spans(question.answer), tight)
            if together and not _in_incoming(fields, question.answer, known.before, tight):
                what = f"holds {question.name} with its answer"
                yield _told(passage.name, what, passage.text(together))


def _telling_fields(question: _Question, known: Known) -> list[str]:
    """The short inputs that tell the example from those of train; all inputs where none does."""
    short = {field: line for field, line in question.fields.items() if not _is_long(line)}
    telling = [short[field] for field in short if (field, short[field]) not in known.values]
    if telling or len(short) < len(question.fields):
        return telling
    return list(short.values())


def _in_incoming(fields: Sequence[str], answer: str, before: Passage, tight: bool) -> bool:
    spans = [before.spans(line) for line in fields]
    return bool(_together(before, spans, before.spans(answer), tight))


def _together(
    passage: Passage, fields: Sequence[Sequence[Span]], answers: Sequence[Span], tight: bool
) -> list[Span]:
    """An answer with one place of each field beside it; nothing where there is no such."""
    others = sum(spans[0][1] - spans[0][0] + 1 for spans in fields[1:] if spans)
    for answer in answers:
        near = [
            [s for s in spans if _is_beside(passage, s, answer, tight, others)] for spans in fields
        ]
        if all(near):
            return [answer, *(spans[0] for spans in near)]
    return []


def _is_beside(passage: Passage, field: Span, answer: Span, tight: bool, others: int) -> bool:
    """Whether the two are shown as question and answer; `others` are words of other fields."""
    first, second = sorted([field, answer])
    gap = second[0] - first[1] - others
    if second[0] < first[1] or gap > QUOTED_WORDS:
        return False
    between = passage.between(first[1], second[0])  # "" in scripts without spaces
    signed = field < answer and bool(SIGN.search(between))
    if tight:
        return signed and gap <= NEAR_WORDS
    quoted = between != "" and between[0] in MARKS and between[-1] in MARKS
    if quoted or (signed and gap <= SIGN_WORDS):
        return True
    together = field < answer and between != "" and not CLAUSE_END.search(between)
    return together and (gap <= 0 or (gap <= NEAR_WORDS and "," not in between))


def _nearly_quoted(
    passages: Sequence[Passage], questions: Sequence[_Question], known: Known
) -> Iterator[str]:
    """Held-out inputs most of which, or a long stretch of which, stands in a passage."""
    everything = frozenset().union(*(passage.triples for passage in passages))
    suspects = []
    for question in questions if everything else ():
        for field, line in question.fields.items():
            triples = triples_of(line.split())
            if sum(t in everything for t in triples) >= NEAR_SHARE * NEAR_TRIPLES:
                suspects.append((question, field, triples))
    said = known.triples({triple for *_, triples in suspects for triple in triples})
    for question, field, triples in suspects:
        for passage in passages:
            if _is_near(triples, passage.triples, said):
                text = question.example.inputs[field]
                yield _told(passage.name, f"nearly holds {field!r} of {question.name}", text)


def _is_near(
    triples: Sequence[Triple], there: Collection[Triple], said: Collection[Triple]
) -> bool:
    telling = set(triples) - set(said)
    if len(telling) < NEAR_TRIPLES:
        return False
    if sum(triple in there for triple in telling) >= NEAR_SHARE * len(telling):
        return True
    run = told = 0
    for triple in triples:
        run, told = (run + 1, told + (triple in telling)) if triple in there else (0, 0)
        if run >= RUN_TRIPLES and told >= NEAR_TRIPLES:
            return True
    return False


def _is_open(examples: Sequence[Example]) -> bool:
    """Whether answers are something to find out, not a set of labels to choose from."""
    different = len({fold(example.answer) for example in examples})
    return different > OPEN_ANSWERS and 2 * different > len(examples)


def _is_long(line: str) -> bool:
    return len(line) - 2 >= LONG_CHARS


def _told(where: str, what: str, text: str) -> str:
    return f'prompt: {where} {what}: "{shorten(" ".join(text.split()))}"'
