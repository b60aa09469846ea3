"""Messages with what is to be read in them: orders, invitations, flats to let (`json_extraction`).

Each phrasing names things that are not asked for as well: another number, another date, another
person. The last two phrasings of each kind are in test only.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

from tasks.text import fold
from tasks.types import Example, SplitName

ISO = "%Y-%m-%d"


@dataclass(frozen=True)
class Kind:
    """What a value must be: `schema` is JSON Schema, `told` says it in a word or two."""

    told: str
    schema: Mapping[str, Any]

    def fits(self, value: Any) -> bool:
        from jsonschema import Draft202012Validator, FormatChecker

        checker = FormatChecker(("date",))
        return Draft202012Validator(self.schema, format_checker=checker).is_valid(value)


TEXT = Kind("text", {"type": "string"})
WHOLE = Kind("whole number", {"type": "integer"})
NUMBER = Kind("number", {"type": "number"})
DATE = Kind("date as YYYY-MM-DD", {"type": "string", "format": "date"})
FLAG = Kind("true or false", {"type": "boolean"})
TEXTS = Kind("list of texts", {"type": "array", "items": {"type": "string"}})

FIELDS: Mapping[str, Mapping[str, Kind]] = {
    "order": {"customer": TEXT, "item": TEXT, "quantity": WHOLE, "price": NUMBER, "due": DATE},
    "invitation": {"event": TEXT, "host": TEXT, "date": DATE, "guests": WHOLE, "bring": TEXTS},
    "flat": {"city": TEXT, "rooms": WHOLE, "rent": WHOLE, "pets": FLAG, "free": DATE},
}


def same(gold: Any, got: Any) -> bool:
    """Equal, text but for case and white space. True is not 1, and 2 is 2.0."""
    if isinstance(gold, str):
        return isinstance(got, str) and fold(gold) == fold(got)
    if isinstance(gold, list):
        return isinstance(got, list) and len(gold) == len(got) and all(map(same, gold, got))
    return isinstance(gold, bool) == isinstance(got, bool) and gold == got


PHRASINGS = {
    "order": (
        "{customer} here. I would like {quantity} {item} at {price} euros each, please, and I need "
        "them by {due}. My last order had the number {other}.",
        "Order by telephone: {quantity} {item}, {price} euros a piece. Customer: {customer}. To be "
        "delivered until {due}, as agreed with {person}.",
        "Dear {person}, on {early} we spoke about {item}. Please send us {quantity} of them by "
        "{due}; the price of {price} euros each is fine. {customer}",
        "For {customer}: {item}, quantity {quantity}, unit price {price} euros, due {due}. "
        "Reference {other}.",
        "Could {person} put aside {quantity} {item} for me? I would collect them on {due}. You "
        "said {price} euros for one. {customer}, room {other}",
        "As to your offer of {early}: yes, {price} euros for each of the {item} suits us. We take "
        "{quantity}, not {other}. By {due}, please. Yours, {customer}",
    ),
    "invitation": (
        "{host} invites you to the {event} on {date}. There is room for {guests} guests. Please "
        "bring {first} and {second}. Answer before {early}.",
        "You are welcome to our {event}! It takes place on {date}, {guests} people will come, and "
        "whoever can brings {first} and {second}. {host}, house {other}",
        "On {date} we hold the {event}. {host} expects {guests} people. {person} takes the "
        "photographs. Do not forget {first} and {second}.",
        "Save the date: {event}, {date}. Host: {host}. Places: {guests}. To bring: {first} and "
        "{second}. Questions go to {person}.",
        "Not on {early} but on {date} is the {event}, writes {host}. We will be {guests}, and what "
        "we still lack is {first} and {second}.",
        "{person} told me that you may come to the {event}. I count on {guests} of us on {date}; "
        "with {first} and {second} from you all is complete. Yours, {host}",
    ),
    "flat": (
        "To let in {city}: {rooms} rooms, {rent} euros a month, free from {free}. Pets are "
        "{allowed}. Viewing on {early}.",
        "Flat with {rooms} rooms in {city}, {other} square metres. The rent is {rent} euros. You "
        "can move in on {free}; pets {allowed}.",
        "We are looking for somebody for our flat in {city} from {free} on. It has {rooms} rooms, "
        "costs {rent} euros, and pets are {allowed}. Ask for {person}.",
        "{city}. {rooms} rooms. {rent} euros. Available {free}. Pets: {allowed}. Built in 1968.",
        "My flat will be empty from {free}. {rooms} rooms for {rent} euros in {city}, deposit "
        "{other} euros. As to pets, they are {allowed}.",
        "{person} is moving out of {city}, and so {rooms} rooms can be had for {rent} euros, with "
        "pets {allowed}, from {free}, not from {early} as we had written.",
    ),
}
NEW = 2  # phrasings of each kind that are in test only
SIZES: Mapping[SplitName, int] = {"train": 300, "dev": 75, "test": 150}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


MONTHS = _words(
    "January, February, March, April, May, June, July, August, September, October, November, "
    "December"
)
FIRST = _words("Ada, Ben, Carla, Dina, Emil, Freya, Georg, Igor, Jana, Karim, Lena, Omar, Ruth")
LAST = _words("Abel, Brandt, Costa, Dahl, Evans, Fischer, Garcia, Holm, Ito, Jansen, Kovacs, Meyer")
ITEMS = _words(
    "oak chairs, desk lamps, blue folders, garden tables, coffee mugs, wool blankets, "
    "steel shelves, tea sets, door mats, notebooks, picture frames, wall clocks"
)
EVENTS = _words(
    "summer party, book evening, choir concert, chess night, garden lunch, film night, "
    "spring clean, birthday dinner, quiz evening, harvest supper"
)
THINGS = _words(
    "bread, cheese, a salad, a blanket, two chairs, a lamp, apples, a cake, glasses, firewood, "
    "lemonade, a guitar"
)
CITIES = _words("Bergen, Porto, Graz, Leeds, Turin, Ghent, Malmo, Lyon, Basel, Cork, Bonn, Riga")


@dataclass(frozen=True)
class Message:
    kind: str
    text: str
    values: Mapping[str, Any]
    phrasing: str  # "known", or "new" when no message of train is phrased like it


def make_messages(split: SplitName) -> list[Message]:
    """The messages of a split, the same at every call; kinds take turns."""
    draw = random.Random(f"messages {split}")
    made: dict[str, Message] = {}
    while len(made) < SIZES[split]:
        kind = [*FIELDS][len(made) % len(FIELDS)]
        new = split == "test" and len(made) // len(FIELDS) % 2 == 1
        message = _make(draw, kind, new)
        made.setdefault(message.text, message)
    return list(made.values())


def _make(draw: random.Random, kind: str, new: bool) -> Message:
    known = len(PHRASINGS[kind]) - NEW
    phrasing = draw.choice(PHRASINGS[kind][known:] if new else PHRASINGS[kind][:known])
    day, early = (date(2025 + half, draw.randint(1, 12), draw.randint(1, 28)) for half in (1, 0))
    values, shown = DRAWN[kind](draw, day)
    shown |= {"early": _say(draw, early), "other": draw.randint(31, 99), "person": _name(draw)}
    return Message(kind, phrasing.format(**values | shown), values, "new" if new else "known")


@cache
def make_examples(split: SplitName) -> tuple[Example, ...]:
    """The messages as examples: the fields with their types are an input, the JSON the answer."""
    examples = []
    for number, message in enumerate(make_messages(split)):
        kinds = FIELDS[message.kind]
        listed = ", ".join(f"{field} ({kind.told})" for field, kind in kinds.items())
        meta = {"kind": message.kind, "phrasing": message.phrasing, "fields": len(kinds)}
        answer = json.dumps(message.values, ensure_ascii=False)
        inputs = {"message": message.text, "fields": listed}
        examples.append(Example(f"{split}-{number}", inputs, answer, meta))
    return tuple(examples)


Drawn = tuple[dict[str, Any], dict[str, Any]]


def _order(draw: random.Random, day: date) -> Drawn:
    price = draw.randint(20, 900) / 4
    values = {
        "customer": _name(draw),
        "item": draw.choice(ITEMS),
        "quantity": draw.randint(2, 30),
        "price": int(price) if price == int(price) else price,
        "due": day.strftime(ISO),
    }
    return values, {"due": _say(draw, day)}


def _invitation(draw: random.Random, day: date) -> Drawn:
    first, second = draw.sample(THINGS, 2)
    values = {
        "event": draw.choice(EVENTS),
        "host": _name(draw),
        "date": day.strftime(ISO),
        "guests": draw.randint(5, 30),
        "bring": [first, second],
    }
    return values, {"date": _say(draw, day), "first": first, "second": second}


def _flat(draw: random.Random, day: date) -> Drawn:
    pets = draw.random() < 0.5
    values = {
        "city": draw.choice(CITIES),
        "rooms": draw.randint(1, 6),
        "rent": draw.randint(45, 240) * 10,
        "pets": pets,
        "free": day.strftime(ISO),
    }
    allowed = draw.choice(("allowed", "welcome") if pets else ("not allowed", "not wanted"))
    return values, {"free": _say(draw, day), "allowed": allowed}


def _name(draw: random.Random) -> str:
    return f"{draw.choice(FIRST)} {draw.choice(LAST)}"


def _say(draw: random.Random, day: date) -> str:
    month = MONTHS[day.month - 1]  # strftime's depends on the locale
    forms = (f"{day.day} {month} {day.year}", f"{month} {day.day}, {day.year}", f"{day:%d.%m.%Y}")
    return draw.choice(forms)


DRAWN = {"order": _order, "invitation": _invitation, "flat": _flat}
