"""The shop that the `sql` task asks about: two years of orders, the same at every call.

Everything is drawn from a seed: who lives where, what things cost, what was bought. Names are two
words of which no other name is a part, so that they can be told in an answer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from tasks.sql_reader import Refused, built, confine_process, read
from tasks.worker import Worker, WorkerFailed

SEED = 9
CUSTOMERS, ORDERS = 120, 420
TABLES = ("customers", "products", "orders", "items")
SCHEMA = """\
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT, joined TEXT);
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, category TEXT, price INTEGER);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, day TEXT, status TEXT);
CREATE TABLE items (order_id INTEGER, product_id INTEGER, quantity INTEGER);
"""
STATUSES = ("delivered", "shipped", "returned")
MONTHS = tuple(f"{year}-{month:02}" for year in (2024, 2025) for month in range(1, 13))
FIRST, LAST, CITIES, LOOKS = (
    words.split()
    for words in (
        "Ada Bruno Carla David Elena Felix Greta Hugo Ines Jonas Klara Leo Mira Nils Olga Paul "
        "Rosa Samir Tilda Yusuf",
        "Abel Bosch Costa Duval Ekman Frei Gallo Haas Ivanov Jansen Keller Lund Moreau Novak "
        "Okoro Pereira Quist Rossi Suter Tanaka",
        "Amsterdam Athens Bergen Bern Bologna Cork Dresden Geneva Ghent Graz Helsinki Krakow "
        "Lisbon Lyon Malaga Oslo Porto Prague Riga Seville Tallinn Turin Uppsala Vienna",
        "red blue green small large old",
    )
)
THINGS = {
    "clothing": "scarf coat belt hat",
    "furniture": "table chair shelf stool",
    "garden": "spade rake bucket hose",
    "kitchen": "kettle pan bowl jug",
    "lighting": "lamp lantern candle chandelier",
    "office": "stapler folder notebook pen",
    "sports": "racket rope ball sled",
    "toys": "kite puzzle robot drum",
}
PRODUCTS = tuple(
    (f"{look} {thing}", category)
    for category, things in THINGS.items()
    for place, thing in enumerate(things.split())
    for look in (LOOKS[place], LOOKS[(place + 2) % 6])
)

SECONDS = 20.0  # of a query; no machine is so slow, it is for what nobody has thought of
_worker = Worker("tasks.sql_shop:answered")


def ask(sql: str) -> str:
    """The rows that `sql` gives, as `tasks.sql_reader.read`, and raises what that does."""
    try:
        reply = _worker.ask(sql, SECONDS)
    except WorkerFailed as error:
        raise ValueError(f"the database {error}; ask for less") from None
    if "rows" in reply:
        return reply["rows"]
    raise (Refused if reply.get("refused") else ValueError)(reply.get("error", reply.get("raised")))


def answered(sql: str) -> dict[str, object]:
    """What `ask` asks its worker."""
    _confined()
    try:
        return {"rows": read(shop(), TABLES, sql)}
    except ValueError as error:
        return {"error": str(error), "refused": isinstance(error, Refused)}


@cache
def _confined() -> None:
    shop()
    confine_process()


@cache
def shop() -> bytes:
    """The database, as `tasks.sql_reader.read` takes it."""
    rng = random.Random(f"{SEED}/shop")
    prices = rng.sample(range(4, 250), len(PRODUCTS))  # all different: no two are the dearest
    orders = _orders(rng)
    return built(
        SCHEMA,
        [
            ("customers", _customers(rng)),
            ("products", _products(prices)),
            ("orders", orders),
            ("items", _items(rng, len(orders))),
        ],
    )


def _customers(rng: random.Random) -> Sequence[Sequence[object]]:
    names = rng.sample([f"{first} {last}" for first in FIRST for last in LAST], CUSTOMERS)
    days = rng.sample([f"{m}-{day:02}" for m in MONTHS for day in range(1, 29)], CUSTOMERS)
    return [
        (number, name, rng.choice(CITIES), day)
        for number, (name, day) in enumerate(zip(names, days, strict=True), 1)
    ]


def _products(prices: Sequence[int]) -> Sequence[Sequence[object]]:
    priced = zip(PRODUCTS, prices, strict=True)
    return [(number, *product, price) for number, (product, price) in enumerate(priced, 1)]


def _orders(rng: random.Random) -> Sequence[Sequence[object]]:
    days = sorted(f"{rng.choice(MONTHS)}-{rng.randint(1, 28):02}" for _ in range(ORDERS))
    buyers = range(1, CUSTOMERS - 15)  # some never buy
    return [
        (number, rng.choice(buyers), day, rng.choices(STATUSES, (6, 3, 2))[0])
        for number, day in enumerate(days, 1)
    ]


def _items(rng: random.Random, orders: int) -> Sequence[Sequence[object]]:
    return [
        (order, product, rng.randint(1, 4))
        for order in range(1, orders + 1)
        for product in rng.sample(range(1, len(PRODUCTS) + 1), rng.choice((1, 2, 2, 3)))
    ]
