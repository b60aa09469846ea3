"""The task that draws its pictures, and the type that carries them."""

from __future__ import annotations

import copy
import io
import json
import sys
from typing import Any

import pytest
from PIL import Image as Pillow

from tasks.check import check_task
from tasks.digit_image import DigitImage, _build_split
from tasks.images import LARGEST_BYTES, Image
from tasks.types import Demo, Example, Prompt, TaskError

TASK = DigitImage()
TEST = TASK.split("test")
NUMBER = next(e for e in TEST if e.meta["kind"] == "number" and e.meta["size"] == 3)
BARS = next(e for e in TEST if e.meta["kind"] == "bars" and e.answer == "red")


def png(width: int = 2, height: int = 2) -> bytes:
    data = io.BytesIO()
    Pillow.new("RGB", (width, height), "red").save(data, "PNG")
    return data.getvalue()


def test_it_passes_its_own_check() -> None:
    failed = [f for f in check_task(TASK, "digit-image") if not f.ok]
    assert not failed, failed


def test_no_number_is_in_two_splits() -> None:
    def numbers(split: str) -> set[str]:
        return {e.answer for e in TASK.split(split) if e.meta["kind"] == "number"}  # type: ignore[arg-type]

    assert not numbers("test") & (numbers("train") | numbers("dev"))
    assert not numbers("train") & numbers("dev")


def test_pictures_show_what_is_asked() -> None:
    picture = BARS.inputs["picture"]
    assert isinstance(picture, Image)
    image = Pillow.open(io.BytesIO(picture.png))
    counted: Any = image.convert("RGB").getcolors(image.width * image.height)
    shown = {colour: count for count, colour in counted}
    bars = {name: shown.get(rgb, 0) for name, rgb in RGB.items()}
    highest = "highest" in BARS.inputs["question"]
    seen = {name: count for name, count in bars.items() if count}
    assert BARS.answer == (max if highest else min)(seen, key=lambda name: seen[name])


RGB = {
    "red": (204, 34, 34),
    "blue": (34, 68, 204),
    "green": (34, 136, 68),
    "orange": (238, 136, 0),
}


@pytest.mark.parametrize(
    ("example", "text", "failure"),
    [
        (NUMBER, NUMBER.answer, None),
        (NUMBER, f"It is {NUMBER.answer}.", None),
        (NUMBER, str(int(NUMBER.answer) ^ 1), "wrong_digit"),
        (NUMBER, NUMBER.answer + "0", "wrong_length"),
        (NUMBER, f"{NUMBER.answer}%", "wrong_length"),
        (NUMBER, "a number", "no_number"),
        (NUMBER, "", "no_number"),
        (BARS, "Red.", None),
        (BARS, "The red one", None),
        (BARS, "blue", "wrong_bar"),
        (BARS, "red or blue", "several"),
        (BARS, "reddish", "no_colour"),
        (BARS, "7", "no_colour"),
    ],
)
def test_scores(example: Example, text: str, failure: str | None) -> None:
    score = TASK.score(example, text)
    assert score.failure == failure and score.correct == (failure is None)
    assert score.correct or score.feedback


@pytest.mark.parametrize("text", ["\ud800", "9" * 100_000, "1e999", "nan", "\0", "red " * 50_000])
def test_hostile_answers_are_scored(text: str) -> None:
    score = TASK.score(NUMBER, text)
    assert not score.correct
    score.answer.encode()
    TASK.score(BARS, text).answer.encode()


def test_an_image_is_its_name_and_keeps_its_bytes() -> None:
    image = Image(png())
    assert image == Image(png()) and image != Image(png(3)) and len(image) == 74
    assert json.loads(json.dumps({"picture": image}))["picture"] == str(image)
    for same in (copy.copy(image), copy.deepcopy(image)):
        assert same.png == image.png and same == image and same.file_name == image.file_name


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GIF89a", "convert the picture"),
        (png()[:12], "convert the picture"),
        (png(5_000, 1), "make it smaller"),
        (png() + b"\0" * LARGEST_BYTES, "make it smaller"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Image(data)


def test_a_prompt_shows_pictures_as_parts() -> None:
    prompt = Prompt.of(TASK).with_demos([Demo(BARS.inputs, "red")])
    chat = prompt.messages(NUMBER.inputs)
    assert [m["role"] for m in chat] == ["system", "user", "assistant", "user"]
    assert chat[1]["content"][1]["image"] is BARS.inputs["picture"]
    assert chat[-1]["content"] == [
        {"type": "text", "text": "Picture: "},
        {"type": "image", "image": NUMBER.inputs["picture"]},
        {"type": "text", "text": "Question: Which number is this?"},
    ]
    [alone] = Prompt("", ("picture",)).messages(NUMBER.inputs)
    assert alone["content"] == [{"type": "image", "image": NUMBER.inputs["picture"]}]


def test_without_pillow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    _build_split.cache_clear()
    with pytest.raises(TaskError, match=r"pip install 'tasklift\[images\]'"):
        TASK.split("dev")
