"""Tickets to the help desk of a software company, to be sent to one of six queues, made here.

The queues are three pairs that are easily taken for each other. A ticket is an opening, a request
that decides, and a closing; in a `hard` one the opening speaks of what another queue looks after,
and says that it is settled. The requests of dev and test occur in no other split, so that what is
learned must be what a queue is for and not a sentence (`ticket_phrases` has them all).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tasks.known import ticket_phrases
from tasks.known.ticket_phrases import CLOSINGS, OPENINGS, PRODUCTS, REQUESTS, SETTLED
from tasks.labels import LabelTask
from tasks.types import Example, SplitName

QUEUES: Mapping[str, str] = {
    "billing": "money already charged or invoiced to a customer",
    "sales": "prices, quotes and contracts before anything is bought, and bigger plans",
    "bug": "the product does something else than it says, or fails",
    "feature": "something the product does not do and should",
    "access": "logging in, passwords, roles and invitations of people who should get in",
    "security": "somebody got in, or saw or asked for what is not theirs",
}
PAIRS = (("billing", "sales"), ("bug", "feature"), ("access", "security"))
FAILURES = {
    "empty": "There is no word in the answer.",
    "extra_text": "The right queue, and no other, with words around it.",
    "several": "More than one queue.",
    "invented": "One or two words that name no queue (support, refund).",
    "no_choice": "A longer text that names no queue, such as a reply to the customer.",
    "confused_pair": "The other queue of the pair (billing: sales).",
    "wrong_queue": "A queue of another pair (billing: security).",
}
ADVICE = {
    "empty": "The answer is empty",
    "extra_text": "The answer must be the queue's name and nothing else",
    "several": "Name one queue only",
    "invented": "There is no such queue",
    "no_choice": "The answer must name a queue, not reply to the ticket",
}
SIZES: Mapping[SplitName, int] = {"train": 360, "dev": 90, "test": 150}
PARTS: Mapping[SplitName, slice] = {
    "train": slice(0, 8),
    "dev": slice(8, 10),
    "test": slice(10, None),
}


class TicketRouting(LabelTask):
    """360 train, 90 dev and 150 test tickets; as many of each queue; a third hard in each."""

    name = "ticket-routing"
    instruction = "Choose the queue that should get the ticket. Answer with one word."
    inputs = ("ticket", "queues")
    output = "queue"
    labels, pairs, wrong = QUEUES, PAIRS, "wrong_queue"
    failure_classes = FAILURES
    advice = ADVICE
    told = 'this ticket goes to "{label}" ({about}).'
    files = (Path(ticket_phrases.__file__),)

    def split(self, name: SplitName) -> Sequence[Example]:
        return _make(name)


@cache
def _make(name: SplitName) -> tuple[Example, ...]:
    draw, made = random.Random(f"tickets {name}"), {}
    while len(made) < SIZES[name]:
        queue = [*QUEUES][len(made) % len(QUEUES)]
        hard = len(made) // len(QUEUES) % 3 == 2
        other = draw.choice([q for q in QUEUES if q != queue])
        opening = draw.choice(SETTLED[other] if hard else OPENINGS)
        request = draw.choice(REQUESTS[queue][PARTS[name]])
        product = draw.choice(PRODUCTS)
        said = (part.format(product=product) for part in (opening, request, draw.choice(CLOSINGS)))
        made.setdefault(" ".join(part[0].upper() + part[1:] for part in said), (queue, hard))
    return tuple(_build(f"{name}-{n}", text, *what) for n, (text, what) in enumerate(made.items()))


def _build(id: str, text: str, queue: str, hard: bool) -> Example:
    pair = "/".join(next(pair for pair in PAIRS if queue in pair))
    meta = {"queue": queue, "pair": pair, "hard": hard, "words": len(text.split())}
    return Example(id, {"ticket": text, "queues": " / ".join(QUEUES)}, queue, meta)
