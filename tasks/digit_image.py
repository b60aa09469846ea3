"""Small pictures that the task draws itself: a number to read, or bars to compare.

Nothing is downloaded: digits are seven strokes, as on a pocket calculator, and bars are rectangles,
drawn with Pillow from a seed. Colours, place, thickness and specks change from picture to picture.
No number and no set of bars is in two splits, so that what is learned is to read. A model that
reads text only has nothing to go by. The pixels are the same everywhere; the bytes, and so the
names of the pictures, may change with Pillow's version.
"""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from tasks.images import Image
from tasks.scorers import read_number
from tasks.text import MAX_CHARS, contains, normalize, shorten
from tasks.types import Example, Score, SplitName, Task, TaskError

SEED = 9
SIZES: Mapping[SplitName, int] = {"train": 240, "dev": 60, "test": 180}  # half are numbers
SHARES = {"train": 0.6, "dev": 0.15, "test": 0.25}  # of the numbers there are
WIDTH, HEIGHT = 96, 64  # pixels
SPECKS = (0, 40)

# which of the strokes a to g each digit has
STROKES = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abfgcd")
ENDS = {  # of each stroke, in units of a digit's width and half its height
    **{"a": (0, 0, 1, 0), "b": (1, 0, 1, 1), "c": (1, 1, 1, 2), "d": (0, 2, 1, 2)},
    **{"e": (0, 1, 0, 2), "f": (0, 0, 0, 1), "g": (0, 1, 1, 1)},
}
COLOURS = {"red": "#c22", "blue": "#24c", "green": "#284", "orange": "#e80"}
INKS = ("#111", "#148", "#611", "#063")

FAILURES = {
    "no_number": "The answer holds no number.",
    "wrong_digit": "As many digits, and some of them are others.",
    "wrong_length": "More digits than there are, or fewer.",
    "no_colour": "The answer names no colour of a bar.",
    "several": "More than one colour.",
    "wrong_bar": "Another bar.",
}


class DigitImage(Task):
    """240 train, 60 dev and 180 test pictures; `meta` has kind, digits or bars, and specks."""

    name = "digit-image"
    instruction = "Look at the picture and answer the question with one word or number."
    inputs = ("picture", "question")
    output = "answer"
    failure_classes = FAILURES
    format_failures = ("no_number", "no_colour", "several")

    def split(self, name: SplitName) -> Sequence[Example]:
        return _build_split(name)

    def score(self, example: Example, text: str) -> Score:
        number = example.meta["kind"] == "number"
        said, failure = _read_number(example, text) if number else _read_colour(example, text)
        if failure is None:
            return Score(1.0, True, answer=said)
        feedback = f"{FAILURES[failure]} The picture shows {_described(example)}."
        return Score(0.0, False, failure, feedback, shorten(said or text))


def _read_number(example: Example, text: str) -> tuple[str, str | None]:
    found = read_number(text[-MAX_CHARS:])
    if found is None:
        return "", "no_number"
    said = f"{found[0]:.10g}%" if found[1] else f"{found[0]:.10g}"
    if said == example.answer:
        return said, None
    alike = len(said) == len(example.answer) and said.isdigit()
    return said, "wrong_digit" if alike else "wrong_length"


def _read_colour(example: Example, text: str) -> tuple[str, str | None]:
    named = [colour for colour in COLOURS if contains(normalize(text), colour)]
    if len(named) != 1:
        return "", "several" if named else "no_colour"
    return named[0], None if named[0] == example.answer else "wrong_bar"


def _described(example: Example) -> str:
    if example.meta["kind"] == "number":
        return f"the number {example.answer}"
    return f"bars of which the {example.answer} one is asked for"


@cache
def _build_split(name: SplitName) -> tuple[Example, ...]:
    rng = random.Random(f"{SEED}/{name}")
    half = SIZES[name] // 2
    numbers = rng.sample(_numbers()[name], half)
    built = [_number(rng, name, number) for number in numbers]
    built += [_bars(rng, name, place) for place in range(half)]
    rng.shuffle(built)
    return tuple(built)


@cache
def _numbers() -> dict[str, list[int]]:
    """The numbers of one to three digits, dealt to the splits."""
    numbers = list(range(1_000))
    random.Random(f"{SEED}/numbers").shuffle(numbers)
    first = round(SHARES["train"] * len(numbers))
    second = first + round(SHARES["dev"] * len(numbers))
    return {"train": numbers[:first], "dev": numbers[first:second], "test": numbers[second:]}


def _number(rng: random.Random, split: str, number: int) -> Example:
    specks = rng.choice(SPECKS)
    text = str(number)
    image, draw = _canvas(rng, specks)
    ink, thick = rng.choice(INKS), rng.randint(2, 4)
    left, top = rng.randint(6, 10 + 26 * (3 - len(text))), rng.randint(8, 18)
    for place, digit in enumerate(text):
        for stroke in STROKES[int(digit)]:
            x1, y1, x2, y2 = ENDS[stroke]
            x, y = left + 26 * place, top
            ends = [x + 16 * x1, y + 18 * y1, x + 16 * x2, y + 18 * y2]
            draw.line(ends, fill=ink, width=thick)
    meta = {"kind": "number", "size": len(text), "specks": specks > 0}
    asked = {"picture": _as_png(image), "question": "Which number is this?"}
    return Example(f"{split}-number-{number}", asked, text, meta)


def _bars(rng: random.Random, split: str, place: int) -> Example:
    specks, count = rng.choice(SPECKS), rng.choice((3, 4))
    while True:
        colours = rng.sample(list(COLOURS), count)
        heights = rng.sample(range(8, HEIGHT - 6, 5), count)
        if _split_of(colours, heights) == split:
            break
    image, draw = _canvas(rng, specks)
    left = rng.randint(4, 12)
    for number, (colour, height) in enumerate(zip(colours, heights, strict=True)):
        x = left + 20 * number
        draw.rectangle((x, HEIGHT - 4 - height, x + 13, HEIGHT - 4), fill=COLOURS[colour])
    word, pick = rng.choice((("highest", max), ("lowest", min)))
    answer = colours[heights.index(pick(heights))]
    meta = {"kind": "bars", "size": count, "specks": specks > 0}
    asked = {"picture": _as_png(image), "question": f"Which colour has the {word} bar?"}
    return Example(f"{split}-bars-{place}", asked, answer, meta)


def _split_of(colours: Sequence[str], heights: Sequence[int]) -> str:
    """The only split that may show these bars."""
    luck = random.Random(f"{SEED}/{colours}/{heights}").random()
    return "train" if luck < SHARES["train"] else "dev" if luck < 1 - SHARES["test"] else "test"


def _canvas(rng: random.Random, specks: int) -> tuple[Any, Any]:
    try:
        from PIL import Image as Pillow
        from PIL import ImageDraw
    except ImportError:
        raise TaskError(
            "task \"digit-image\": draws with Pillow; pip install 'tasklift[images]'"
        ) from None
    image = Pillow.new("RGB", (WIDTH, HEIGHT), rng.choice(("#fff", "#ffe", "#eef")))
    draw = ImageDraw.Draw(image)
    for _ in range(specks):
        draw.point((rng.randrange(WIDTH), rng.randrange(HEIGHT)), fill="#999")
    return image, draw


def _as_png(image: Any) -> Image:
    data = io.BytesIO()
    image.save(data, "PNG")
    return Image(data.getvalue())
