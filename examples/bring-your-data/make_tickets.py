"""Writes tickets.csv: 500 made-up messages to a shop, as a spreadsheet would have them.

The same seed gives the same file. Some rows are as untidy as they are in life: sent twice, without
a queue, with another spelling of it, or filed by two people in two queues.
"""

from __future__ import annotations

import csv
import random
import sys

ROWS, SEED = 500, 7
_THINGS = """kettle lamp rucksack tent blender jacket keyboard printer mattress bicycle scooter
toaster speaker headset camera drill carpet bookshelf telescope aquarium guitar suitcase monitor
fridge hammock raincoat wardrobe trampoline microscope barbecue"""
_NAMES = "Ana Ben Chloe Dario Elif Finn Greta Hugo Iris Jan Kira Luis Mina Noor Olga Paul"
_CITIES = "Lisbon Oslo Graz Porto Turin Malmo Ghent Cork Lyon Brno"
THINGS, NAMES, CITIES = _THINGS.split(), _NAMES.split(), _CITIES.split()
TIMES = (
    *("yesterday", "last night", "on Monday", "two weeks ago", "this morning", "over the weekend"),
    *("in March", "on the 3rd", "before the holidays", "an hour ago", "since Friday", "at noon"),
)
QUEUES = {
    "billing": (
        "You charged my card twice for the {thing} {time}.",
        "The invoice for my {thing} shows {sum} euros, but the shop said {less}.",
        "I need a receipt with our tax number for the {thing}.",
        "Why was {sum} euros debited from my account {time}?",
        "My discount code was not taken off the price of the {thing}.",
        "Can I pay for the {thing} in {count} instalments?",
        "The payment for a {thing} failed {time}, yet the money is gone.",
        "Please change the billing address on the invoice of {time}.",
    ),
    "delivery": (
        "The tracking page has said 'on its way' {time}; where is my {thing}?",
        "The courier left the {thing} with a neighbour I do not know.",
        "Parcel number {number} never arrived at my door.",
        "Can you ship the {thing} to a pick-up point near me instead?",
        "My {thing} was promised for {time} and still has not come.",
        "Which day will the van bring the {thing}?",
        "The driver rang {time} while I was out; please deliver again.",
        "Do you send a {thing} to addresses abroad?",
    ),
    "returns": (
        "The {thing} is too big, I would like to send it back.",
        "How do I return a {thing} I bought {time}?",
        "I posted the {thing} back {time} and wait for my refund.",
        "Please send me a label to return parcel {number}.",
        "Can I swap the {thing} for one in another colour?",
        "I changed my mind about the {thing} and want to cancel the purchase.",
        "How many days do I have to give a {thing} back?",
        "You sent a {thing} although I ordered a {other}; how can I exchange it?",
    ),
    "account": (
        "I cannot log in {time}, the page says wrong password.",
        "The link to reset my password does not arrive.",
        "Please change my e-mail address to the one I write from.",
        "How do I delete my profile and all data about me?",
        "Somebody signed in as me {time} from {city}.",
        "The code for the login on my phone never comes {time}.",
        "I have two user names, {city}{count} and {thing}{count}; can you merge them?",
        "My account was locked {time} after {count} attempts.",
    ),
    "repair": (
        "The {thing} makes a strange noise {time} and then stops.",
        "The {thing} broke after {count} days, is that under warranty?",
        "A screw is missing from the {thing}, can I get a spare part?",
        "My {thing} does not switch on any more {time}.",
        "There is a crack in the {thing}; can it be mended?",
        "Smoke came out of the {thing} {time}!",
        "The manual of the {thing} does not say how to change the battery.",
        "The {thing} I bought {time} leaks, can a technician look at it?",
    ),
}
OPENINGS = ("", "", "Hello, ", "Hi there! ", "Dear team, ", "Good evening. ", "URGENT: ", "Hey, ")
CLOSINGS = ("", "", " Thanks!", " Kind regards, {name}", " Please help.", " I am rather annoyed.")


def message(queue: str, rng: random.Random) -> str:
    text = rng.choice(OPENINGS) + rng.choice(QUEUES[queue]) + rng.choice(CLOSINGS)
    return text.format(
        thing=rng.choice(THINGS),
        other=rng.choice(THINGS),
        time=rng.choice(TIMES),
        sum=rng.randint(40, 900),
        less=rng.randint(10, 39),
        number=rng.randint(10_000, 99_999),
        count=rng.randint(2, 90),
        city=rng.choice(CITIES),
        name=rng.choice(NAMES),
    )


def rows(seed: int = SEED) -> list[dict[str, str]]:
    """ticket, received, customer, message, queue."""
    rng = random.Random(seed)
    made: list[dict[str, str]] = []
    for number in range(ROWS):
        queue = rng.choices(list(QUEUES), weights=(26, 24, 20, 16, 14))[0]
        row = {
            "ticket": f"T-{1000 + number}",
            "received": f"2026-{1 + number // 60:02}-{1 + number % 28:02}",
            "customer": f"C{rng.randint(1, 180):03}",
            "message": message(queue, rng),
            "queue": queue,
        }
        untidy = rng.random()
        if untidy < 0.02 and made:
            row |= {name: rng.choice(made)[name] for name in ("message",)} | {"queue": ""}
        elif untidy < 0.05 and made:
            twice = rng.choice(made)
            row |= {"message": twice["message"].upper(), "queue": twice["queue"]}
        elif untidy < 0.08:
            row["queue"] = f" {queue.capitalize()}"
        elif untidy < 0.09 and made:
            row["message"] = rng.choice(made)["message"]
        made.append(row)
    return made


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else "tickets.csv"
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["ticket", "received", "customer", "message", "queue"])
        writer.writeheader()
        writer.writerows(rows())
