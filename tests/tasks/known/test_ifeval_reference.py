"""Our 25 rules against the authors' code, as lm-eval ships it, on thousands of texts.

nltk's English model cannot be had without a network: both sides then get the same Punkt. lm-eval
imports `immutabledict` for one constant; a dict stands in for it where it is not installed.
"""

from __future__ import annotations

import random
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from tasks.known import ifeval_rules
from tasks.known.ifeval_made import make_prompts
from tasks.known.ifeval_rules import RULES, follows, follows_loosely

pytestmark = pytest.mark.skipif(
    bool(ifeval_rules.missing()) or not find_spec("lm_eval"), reason="extras tasks and adapters"
)

WORDS = str.split(
    """the a river Garden LOOK tea, and; is it's "quoted" don't Mr. Dr. U.S. e.g. 3.5 1,000 copper
    winter WINTER apple no yes NASA I never truly amazing [name] *bold* **strong** ** *
    <<title>> <<>> Section SECTION P.S. P.P.S p. s. ****** *** - -- ```json ``` {"a":1} é ñ 世界
    привет"""
)
JOINTS = (
    " ",
    " ",
    " ",
    " ",
    ". ",
    "! ",
    "? ",
    "\n",
    "\n\n",
    "\n* ",
    "\n- ",
    "\n***\n",
    "\n\n\n",
    ", ",
)
MARKERS = ("P.S.", "P.P.S", "PS")
WHOLE = (
    '"All of this is quoted."',
    "My answer is yes.",
    '{"a": [1, 2]}',
    '```json\n{"a": 1}\n```',
    "THIS IS A LONGER TEXT THAT IS WRITTEN IN ENGLISH AND THERE IS NOTHING ELSE IN IT.",
    "the one\n\ncopper",
    "Copper and one",
    "all is written in small english letters and in no others",
    "one\n\ntwo\n\ncopper three",
    "a ****** b",
    "******\na\n******\nb",
    "a\n***\nb\n***\nc",
    "Section 1\nx\nSection 2\ny",
    "Dr. Who met Mr. Li in the U.S. at 3 p.m. on Monday. Then they left! Did they?",
    "Das ist ein ganz gewöhnlicher Satz auf Deutsch.",
    "¿Dónde está la biblioteca? No lo sé.",
    "12345 678",
    "*\n* a",
    "\n\n  * x\n -y\n*",
    "*a*b*c* **d** ** **",
    "<<\n>> <<a>> <<>>>",
    "[a [b] c] [d\n]",
    "First say this. Then more",
    "... that is all.",
    'That is all."',
)


@pytest.fixture(scope="module")
def reference():
    """lm-eval's registry of rules, importable without downloads."""
    with pytest.MonkeyPatch.context() as patch:
        if not find_spec("immutabledict"):
            stub = ModuleType("immutabledict")
            stub.immutabledict = dict  # type: ignore[attr-defined]
            patch.setitem(sys.modules, "immutabledict", stub)
        import nltk

        patch.setattr(nltk, "download", lambda *_, **__: False)
        from lm_eval.tasks.ifeval import instructions_registry, instructions_util, utils

        patch.setattr(instructions_util, "_get_sentence_tokenizer", ifeval_rules._punkt)
        patch.setattr(nltk, "word_tokenize", ifeval_rules._tokens)
        import langdetect

        langdetect.DetectorFactory.seed = 0
        assert set(instructions_registry.INSTRUCTION_DICT) == set(RULES)
        yield utils


def draw_text(draw: random.Random) -> str:
    return "".join(draw.choice(WORDS) + draw.choice(JOINTS) for _ in range(draw.randint(0, 40)))


def draw_arguments(draw: random.Random, rule: str, text: str) -> dict[str, Any]:
    low, word = draw.randint(1, 6), draw.choice(("river", "tea", "no", "win.er", "copper", "it"))
    relation = draw.choice(("less than", "at least"))
    paragraphs = draw.choice((low, text.count("\n\n") + 1))
    return {
        "keywords:existence": {"keywords": [word, draw.choice(("a", "NASA"))]},
        "keywords:frequency": {"keyword": word, "frequency": low, "relation": relation},
        "keywords:forbidden_words": {"forbidden_words": [word, "truly"]},
        "keywords:letter_frequency": {
            "letter": draw.choice("aeQz"),
            "let_frequency": 3 * low,
            "let_relation": relation,
        },
        "language:response_language": {"language": draw.choice(("en", "de", "es", "ru"))},
        "length_constraints:number_sentences": {"num_sentences": low, "relation": relation},
        "length_constraints:number_words": {"num_words": 5 * low, "relation": relation},
        "length_constraints:number_paragraphs": {"num_paragraphs": min(low, 4)},
        "length_constraints:nth_paragraph_first_word": {
            "num_paragraphs": paragraphs,
            "nth_paragraph": draw.randint(1, min(paragraphs, 2)),
            "first_word": draw.choice(("Copper", "the", "one", (text.split() or ["i"])[0])),
        },
        "detectable_content:number_placeholders": {"num_placeholders": min(low, 3)},
        "detectable_content:postscript": {
            "postscript_marker": draw.choice(("P.S.", "P.P.S", "PS"))
        },
        "detectable_format:number_bullet_lists": {"num_bullets": low},
        "detectable_format:number_highlighted_sections": {"num_highlights": low},
        "detectable_format:multiple_sections": {
            "section_spliter": draw.choice(("Section", "SECTION")),
            "num_sections": draw.randint(1, 2),
        },
        "combination:repeat_prompt": {"prompt_to_repeat": draw.choice((text[:20], "First say"))},
        "startend:end_checker": {"end_phrase": draw.choice(("That is all.", "tea", text[-9:]))},
        "change_case:capital_word_frequency": {
            "capital_frequency": low,
            "capital_relation": relation,
        },
    }.get(rule, {})


def theirs(utils: Any, rule: str, arguments: dict[str, Any], text: str) -> tuple[bool, bool]:
    given = utils.InputExample(1, [rule], "prompt", [arguments])
    strict = utils.test_instruction_following_strict(given, text)
    loose = utils.test_instruction_following_loose(given, text)
    return strict.follow_instruction_list[0], loose.follow_instruction_list[0]


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_gives_what_the_authors_code_gives(reference, rule):
    draw, seen = random.Random(rule), set()
    for text in (*WHOLE * 4, *(draw_text(draw) for _ in range(50))):
        arguments = draw_arguments(draw, rule, text)
        if not all(arguments.values()) or not str(arguments.get("prompt_to_repeat", "x")).strip():
            continue  # their code draws arguments at random then
        ours = follows(rule, arguments, text), follows_loosely(rule, arguments, text)
        assert ours == theirs(reference, rule, arguments, text), (arguments, text)
        seen.add(ours[0])
    assert seen == {True, False}


def test_whole_prompts_and_their_replies(reference):
    for made in make_prompts("dev"):
        for text in (made.reply, made.reply[:-1], made.reply.lower(), f"Sure!\n{made.reply}"):
            for rule, arguments in made.rules:
                ours = follows(rule, arguments, text), follows_loosely(rule, arguments, text)
                assert ours == theirs(reference, rule, dict(arguments), text), (rule, text)
