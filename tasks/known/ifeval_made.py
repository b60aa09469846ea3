"""Prompts with instructions to be followed, made here with replies that follow them.

IFEval is one split, and that is the test. These have the same kinds of instructions (all but JSON,
the language of the reply and the repetition of the prompt) in other words and on other matters;
the matters of train are not those of dev.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TOPICS = {
    "train": """a lighthouse, bread, the night train, a broken umbrella, chess, the first snow,
        a beehive, an old map, ferries, a market in spring, pottery, a lost key, rowing, owls,
        a power cut, apple trees, the public library, a long queue, bicycles, thunder, a harbour,
        tea, moving house, a village choir, volcanoes, a wooden bridge, soap, kites, mushrooms,
        the last bus, a stone wall, honey, tides, a night in a tent, swimming lessons, pencils,
        a rooftop garden, an eclipse, street music, a long letter""",
    "dev": """a windmill, cheese, the morning tram, a torn coat, dominoes, the first frost,
        an anthill, an old clock, canals, a fair in autumn, weaving, a lost glove, sailing, bats,
        a burst pipe, pear trees, the town archive, a short cut, scooters, fog""",
}
KINDS = ("note", "story", "article", "description", "speech", "letter to a friend")
SIZES = {"train": 400, "dev": 100}
WORDS = """river, copper, winter, ladder, silver, window, garden, thunder, basket, candle, meadow,
    engine, lantern, harvest, pocket, feather""".replace("\n", " ").split(",")
KEYWORDS = [word.strip() for word in WORDS]
FILLERS = (
    "There is more to {topic} than meets the eye.",
    "People talk about {topic} when the day is done.",
    "Nobody forgets the first time they see it.",
    "It takes time to learn how to look at such things.",
    "My neighbour says that it was always like this.",
    "We should all think about it once in a while.",
    "The rest of the world goes on as before.",
    "That is why it is worth a few words.",
    "Some of us would even call it beautiful.",
    "In the end it is a small thing that stays with you.",
)

Arguments = dict[str, Any]


@dataclass
class Draft:
    """A reply being put together: sentences, then what stands before, after and around them."""

    topic: str
    sentences: list[str]
    join: Callable[[list[str]], str] = " ".join
    before: str = ""
    after: str = ""
    finish: Callable[[str], str] = str

    def text(self) -> str:
        parts = (self.before, self.join(self.sentences), self.after)
        return self.finish("\n".join(part for part in parts if part))


@dataclass(frozen=True)
class Made:
    """`rules` are pairs of a rule's name and its arguments; `reply` follows them all."""

    prompt: str
    rules: tuple[tuple[str, Arguments], ...]
    reply: str


def make_prompts(split: str) -> list[Made]:
    """The prompts of "train" or "dev", the same at every call, no two alike."""
    draw = random.Random(f"ifeval {split}")
    topics = [topic.strip() for topic in TOPICS[split].split(",")]
    made: dict[str, Made] = {}
    while len(made) < SIZES[split]:
        one = _make(draw, draw.choice(topics))
        made.setdefault(one.prompt, one)
    return list(made.values())


def _make(draw: random.Random, topic: str) -> Made:
    topic = " ".join(topic.split())
    draft = Draft(topic, [line.format(topic=topic) for line in draw.sample(FILLERS, 6)])
    slots = draw.sample((FORMS, ENDS, CONTENTS, WHOLES), draw.choice((1, 2, 2, 3)))
    if slots == [WHOLES]:  # whatever has no comma would follow it
        slots.append(CONTENTS)
    rules, asked = [], [f"Write a short {draw.choice(KINDS)} about {topic}."]
    for slot in [slot for slot in (CONTENTS, FORMS, ENDS, WHOLES) if slot in slots]:
        taken = {name for name, _ in rules}
        rule = draw.choice([name for name in slot if not (taken & CASED and name in CASES)])
        arguments, request = slot[rule](draw, draft)
        rules.append((rule, arguments))
        asked.append(request)
    return Made(" ".join(asked), tuple(rules), draft.text())


Maker = Callable[[random.Random, Draft], tuple[Arguments, str]]


def _existence(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    words = draw.sample(KEYWORDS, 2)
    draft.sentences[1] = f"It made me think of the {words[0]} and the {words[1]}."
    return {"keywords": words}, f"Use the words {words[0]} and {words[1]}."


def _frequency(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    word, count = draw.choice(KEYWORDS), draw.choice((2, 3, 4))
    draft.sentences[1] = "I say it again: " + " and ".join([word] * count) + "."
    arguments = {"keyword": word, "frequency": count, "relation": "at least"}
    return arguments, f"The word {word} must occur at least {count} times."


def _placeholders(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    count = draw.choice((1, 2, 3))
    shown = " and ".join(["[name]", "[place]", "[date]"][:count])
    draft.sentences[1] = f"Please fill in {shown}."
    return {"num_placeholders": count}, f"Leave {count} or more gaps in brackets, like [name]."


def _highlights(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    count = draw.choice((1, 2, 3))
    draft.sentences[:count] = [f"*{line}*" for line in draft.sentences[:count]]
    return {"num_highlights": count}, f"Highlight {count} or more passages, like *this one*."


def _answer(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    draft.sentences[1] = draw.choice(("My answer is yes.", "My answer is no."))
    options = '"My answer is yes.", "My answer is no." or "My answer is maybe."'
    return {}, f"Would you recommend it? Include one of {options}"


def _bullets(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    count = draw.choice((2, 3, 4))
    draft.join = lambda lines: "\n".join(f"- {line}" for line in _merge(lines, count))
    return {"num_bullets": count}, f"Write exactly {count} bullet points, like - this one."


def _paragraphs(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    count = draw.choice((2, 3, 4))
    draft.join = lambda lines: "\n***\n".join(_merge(lines, count))
    return {"num_paragraphs": count}, f"Write {count} paragraphs with *** between them."


def _first_word(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    count, word = draw.choice((2, 3)), draw.choice(KEYWORDS)
    nth = draw.randint(2, count)  # a title may stand before the first
    draft.sentences[nth - 1] = f"{word.capitalize()} and rain. {draft.sentences[nth - 1]}"
    draft.join = lambda lines: "\n\n".join(_merge(lines, count))
    arguments = {"num_paragraphs": count, "nth_paragraph": nth, "first_word": word}
    request = f"Write {count} paragraphs with an empty line between them; number {nth} starts with"
    return arguments, f"{request} the word {word}."


def _sections(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    count, mark = draw.choice((2, 3)), draw.choice(("Section", "Part", "Chapter"))
    draft.join = lambda lines: "\n".join(
        f"{mark} {n + 1}\n{' '.join(lines[n::count])}" for n in range(count)
    )
    request = f"Write {count} sections, each under a line of its own such as {mark} 1."
    return {"section_spliter": mark, "num_sections": count}, request


def _two_responses(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    draft.join = lambda lines: f"{' '.join(lines[:3])}\n******\n{' '.join(lines[3:])}"
    return {}, "Give two different versions with ****** between them."


def _title(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    draft.before = f"<<On {draft.topic}>>"
    return {}, "Start with a title in double angular brackets, like <<a title>>."


def _postscript(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    draft.after = "P.S. Write soon."
    return {"postscript_marker": "P.S."}, "Add a postscript that starts with P.S. at the end."


def _ending(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    phrase = draw.choice(("That is all.", "What do you think?", "I hope this helps."))
    draft.after = phrase
    return {"end_phrase": phrase}, f'End with exactly these words: "{phrase}"'


def _quotation(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    draft.before, draft.after = '"It began like this.', 'And so it ends."'
    return {}, "Put the whole reply in double quotation marks."


def _lowercase(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    draft.finish = str.lower
    return {}, "Write in English and in lowercase letters only."


def _capital(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    draft.finish = str.upper
    return {}, "Write in English and in capital letters only."


def _no_comma(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    return {}, "Use no commas."


def _words(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    relation, bound = draw.choice((("at least", 20), ("at least", 30), ("less than", 180)))
    return {"num_words": bound, "relation": relation}, f"Use {relation} {bound} words."


def _sentences(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    bound = draw.choice((2, 3))
    arguments = {"num_sentences": bound, "relation": "at least"}
    return arguments, f"Write at least {bound} sentences."


def _forbidden(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    words = draw.sample(("very", "amazing", "journey", "truly", "delve", "tapestry"), 2)
    return {"forbidden_words": words}, f"Do not use the words {words[0]} and {words[1]}."


def _letters(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    letter, bound = draw.choice("ehino"), draw.choice((4, 5, 6))
    arguments = {"letter": letter, "let_frequency": bound, "let_relation": "at least"}
    return arguments, f"The letter {letter} must occur at least {bound} times."


def _capital_words(draw: random.Random, draft: Draft) -> tuple[Arguments, str]:
    count = draw.choice((1, 2))
    draft.sentences[0] = " ".join(["LOOK", "HERE"][:count]) + f" and listen. {draft.sentences[0]}"
    arguments = {"capital_frequency": count, "capital_relation": "at least"}
    return arguments, f"Write at least {count} of the words in capital letters."


def _merge(lines: list[str], count: int) -> list[str]:
    """`count` texts; the last one has all that is left."""
    return [*lines[: count - 1], " ".join(lines[count - 1 :])]


CONTENTS: Mapping[str, Maker] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:constrained_response": _answer,
}
FORMS: Mapping[str, Maker] = {
    "detectable_format:number_bullet_lists": _bullets,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_format:multiple_sections": _sections,
    "combination:two_responses": _two_responses,
}
ENDS: Mapping[str, Maker] = {
    "detectable_format:title": _title,
    "detectable_content:postscript": _postscript,
    "startend:end_checker": _ending,
    "startend:quotation": _quotation,
}
WHOLES: Mapping[str, Maker] = {
    "change_case:english_lowercase": _lowercase,
    "change_case:english_capital": _capital,
    "change_case:capital_word_frequency": _capital_words,
    "punctuation:no_comma": _no_comma,
    "length_constraints:number_words": _words,
    "length_constraints:number_sentences": _sentences,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
}
# these ask for words in a case of their own
CASED = {"detectable_format:constrained_response", "detectable_format:multiple_sections"}
CASES = {"change_case:english_lowercase", "change_case:english_capital"}
