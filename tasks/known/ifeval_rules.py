"""The 25 kinds of instructions of IFEval that a program can check, each a function of a reply.

Written anew after Zhou et al., 2023, "Instruction-Following Evaluation for Large Language Models",
and held by tests to give what the authors' code (as lm-eval ships it) gives, with its quirks:
keywords are regular expressions, a text whose language cannot be told counts as in any language.
Two things differ. A letter that is none (the data has "!") is counted as it stands; the authors'
code draws another one. And `langdetect` gets a seed, without which it answers now so, now so.

Sentences are counted by nltk's Punkt. With its English model on this machine (`python -m
nltk.downloader punkt_tab`) the count is the authors'; without, Punkt runs on the abbreviations
listed here, and only rarer ones are taken for the end of a sentence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import islice, zip_longest
from typing import Any

Arguments = Mapping[str, Any]
Rule = Callable[[str, Arguments], bool]

YES_NO = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
FENCES = ("```json", "```Json", "```JSON", "```")
ABBREVIATIONS = """dr mr mrs ms prof st jr sr inc ltd co corp vs etc e.g i.e u.s u.k a.m p.m no gen
    col sgt capt lt gov sen rep jan feb mar apr jun jul aug sep sept oct nov dec ave blvd dept est
    vol ph.d""".split()  # noqa: SIM905
NEEDED = {"langdetect": "langdetect", "nltk": "nltk"}


def missing() -> list[str]:
    """Packages that are needed and not installed."""
    return [package for module, package in NEEDED.items() if not find_spec(module)]


def follows(rule: str, arguments: Arguments, text: str) -> bool:
    """Whether `text` follows the instruction `rule`; an empty text follows none.

    Raises KeyError for an unknown rule or a missing argument.
    """
    return bool(text.strip()) and RULES[rule](text, arguments)


def follows_loosely(rule: str, arguments: Arguments, text: str) -> bool:
    """Whether any of eight versions follows it: without the first line, the last, asterisks."""
    lines = text.split("\n")
    versions = [text, *("\n".join(lines[part]).strip() for part in PARTS)]
    return any(
        follows(rule, arguments, version)
        for text in versions
        for version in dict.fromkeys((text, text.replace("*", "")))
    )


PARTS = (slice(1, None), slice(None, -1), slice(1, -1))


def _compare(count: int, relation: str, bound: int) -> bool:
    return count < bound if relation == "less than" else count >= bound


def _existence(text: str, given: Arguments) -> bool:
    return all(re.search(word, text, re.IGNORECASE) for word in given["keywords"])


def _frequency(text: str, given: Arguments) -> bool:
    count = len(re.findall(given["keyword"].strip(), text, re.IGNORECASE))
    return _compare(count, given["relation"], given["frequency"])


def _forbidden(text: str, given: Arguments) -> bool:
    words = given["forbidden_words"]
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in words)


def _letters(text: str, given: Arguments) -> bool:
    count = text.lower().count(given["letter"].strip().lower())
    return _compare(count, given["let_relation"], given["let_frequency"])


def _language(text: str, given: Arguments) -> bool:
    return _detect(text) in (given["language"], None)


def _sentences(text: str, given: Arguments) -> bool:
    count = sum(1 for _ in islice(_each_sentence(text), given["num_sentences"]))
    return _compare(count, given["relation"], given["num_sentences"])


def _words(text: str, given: Arguments) -> bool:
    return _compare(len(re.findall(r"\w+", text)), given["relation"], given["num_words"])


def _paragraphs(text: str, given: Arguments) -> bool:
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    if not all(parts[1:-1]):
        return False
    return sum(map(bool, parts)) == given["num_paragraphs"]


def _nth_first_word(text: str, given: Arguments) -> bool:
    parts, nth = text.split("\n\n"), given["nth_paragraph"]
    count = sum(bool(part.strip()) for part in parts)
    words = parts[nth - 1].split() if nth <= count else []
    if not words:
        return False
    first = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"').lower())[0]
    return count == given["num_paragraphs"] and first == given["first_word"].lower()


def _placeholders(text: str, given: Arguments) -> bool:
    count = sum(_count_pairs(line) for line in text.split("\n"))
    return count >= given["num_placeholders"]


def _count_pairs(line: str) -> int:
    r"""Matches of \[.*?\], without searching the line anew at every bracket."""
    count, place = 0, line.find("[")
    while place >= 0 and (end := line.find("]", place)) >= 0:
        count, place = count + 1, line.find("[", end)
    return count


def _postscript(text: str, given: Arguments) -> bool:
    marker: str = given["postscript_marker"].strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(marker, marker.lower()), text.lower()) is not None


def _bullets(text: str, given: Arguments) -> bool:
    # the authors' \s* runs over empty lines, which counts the same and takes quadratic time
    stars = re.findall(r"^[^\S\n]*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^[^\S\n]*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == given["num_bullets"]


def _constrained(text: str, given: Arguments) -> bool:
    return any(option in text for option in YES_NO)


def _highlights(text: str, given: Arguments) -> bool:
    single = re.findall(r"\*[^\n\*]*\*", text)
    double = re.findall(r"\*\*[^\n\*]*\*\*", text)
    return sum(bool(h.strip("*").strip()) for h in single + double) >= given["num_highlights"]


def _sections(text: str, given: Arguments) -> bool:
    mark = given["section_spliter"].strip()
    return len(re.findall(rf"\s?{mark}\s?\d+\s?", text)) >= given["num_sections"]


def _json(text: str, given: Arguments) -> bool:
    text = text.strip()
    for fence in FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, given: Arguments) -> bool:
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end - 2 and line[start:end].lstrip("<").rstrip(">").strip():
            return True
    return False


def _two_responses(text: str, given: Arguments) -> bool:
    parts = [part.strip() for part in text.split("******")]
    said = [part for part in parts if part]
    return all(parts[1:-1]) and len(said) == 2 and said[0] != said[1]


def _repeat(text: str, given: Arguments) -> bool:
    return text.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


def _ending(text: str, given: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def _quoted(text: str, given: Arguments) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _capital_words(text: str, given: Arguments) -> bool:
    count, bound = 0, given["capital_frequency"]
    if _most_capitals(text) >= bound:  # else there is no need to look
        for sentence in _each_sentence(text):
            count += _count_capitals(sentence)
            if count >= bound:
                break
    return _compare(count, given["capital_relation"], bound)


def _all_capital(text: str, given: Arguments) -> bool:
    return text.isupper() and _detect(text) in ("en", None)


def _all_lowercase(text: str, given: Arguments) -> bool:
    return text.islower() and _detect(text) in ("en", None)


def _no_comma(text: str, given: Arguments) -> bool:
    return "," not in text


def _detect(text: str) -> str | None:
    """The language's two letters (ISO 639-1), None where the text has nothing to tell it by."""
    import langdetect  # pyright: ignore[reportMissingImports]  an extra

    langdetect.DetectorFactory.seed = 0
    try:
        return langdetect.detect(text)
    except langdetect.LangDetectException:
        return None


@cache
def _punkt() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer, PunktTokenizer

    try:
        return PunktTokenizer("english")
    except LookupError:
        known = PunktParameters()
        known.abbrev_types = set(ABBREVIATIONS)
        return PunktSentenceTokenizer(known)


def _each_sentence(text: str) -> Iterator[str]:
    """Punkt's sentences, one by one: who counts up to a bound need not see them all."""
    return (text[start:end] for start, end in _punkt().span_tokenize(text))


def _most_capitals(text: str) -> int:
    """No fewer than there are words in capitals: each has a letter with no small one behind it, but
    for those that are cut in two ('Tis, In't)."""
    ends = sum(
        a.isupper() and not b.islower() for a, b in zip_longest(text, text[1:], fillvalue=" ")
    )
    return ends + text.count("'T") + text.count("n't")


@lru_cache(maxsize=10_000)  # the eight versions that are judged loosely have most in common
def _count_capitals(sentence: str) -> int:
    return sum(word.isupper() for word in _words_of(sentence))


def _words_of(sentence: str) -> list[str]:
    return _word_tokenizer().tokenize(sentence)


@cache
def _word_tokenizer() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


def _tokens(text: str) -> list[str]:
    """nltk's `word_tokenize`, on our Punkt."""
    return [word for sentence in _each_sentence(text) for word in _words_of(sentence)]


RULES: Mapping[str, Rule] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_words": _words,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:nth_paragraph_first_word": _nth_first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat,
    "startend:end_checker": _ending,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _all_capital,
    "change_case:english_lowercase": _all_lowercase,
    "punctuation:no_comma": _no_comma,
}
FAMILIES = tuple(dict.fromkeys(rule.partition(":")[0] for rule in RULES))
FAILURES = {  # of the task; the last are the families above
    "empty": "The answer is empty.",
    "loose_only": "All is followed once the first line, the last line or asterisks are taken off.",
    "several": "Instructions of two or more families are not followed.",
    "keywords": "Words or letters that were asked for are missing, too few or forbidden.",
    "language": "The reply is in another language.",
    "length_constraints": "The count of words, sentences or paragraphs is wrong.",
    "detectable_content": "A postscript or gaps in brackets are missing.",
    "detectable_format": "Bullets, sections, highlights, title, JSON or fixed phrase are wrong.",
    "combination": "There are not two responses, or the request is not repeated first.",
    "startend": "The reply does not end, or is not wrapped, as was asked.",
    "change_case": "Capital or lowercase letters are not as was asked.",
    "punctuation": "There are commas.",
}
