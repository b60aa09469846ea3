"""What the `sql` task asks: templates with the query that answers each, filled by split.

The names in the questions (customers, cities, products, categories, months, prices) are dealt to
train, dev and test, so that none is asked about in two splits. The last wording of each kind, and
the kinds marked `unseen`, are asked on dev and test, or on test, alone: what is learned is to be
shown on other names, other words, and other queries.
"""

from __future__ import annotations

import calendar
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle

from tasks.sql_reader import read
from tasks.sql_shop import CITIES, MONTHS, PRODUCTS, SEED, STATUSES, TABLES, THINGS, shop
from tasks.types import Example, SplitName

SIZES: Mapping[SplitName, int] = {"train": 480, "dev": 90, "test": 240}
SHARES = {"train": 0.6, "dev": 0.15, "test": 0.25}  # of the names there are
LONGEST_LIST = 4
TRIES = 60  # in a row that bring nothing new, then a kind is used up

ORDERED = "orders JOIN customers ON customers.id = orders.customer_id"
SOLD = "items JOIN products ON products.id = items.product_id"
SOLD_WHEN = f"{SOLD} JOIN orders ON orders.id = items.order_id"
BOUGHT = f"{SOLD_WHEN} JOIN customers ON customers.id = orders.customer_id"
MONEY = "SUM(items.quantity * products.price)"


@dataclass(frozen=True)
class Kind:
    """`sql` answers the question; `tie` must give two different rows, or nobody is the first."""

    name: str
    tables: int
    aggregate: str
    sql: str
    wordings: tuple[str, ...]
    unseen: bool = False
    tie: str = ""

    @property
    def difficulty(self) -> str:
        return ("easy", "medium", "hard", "hard")[self.tables - 1]


def _kind(name: str, tables: int, aggregate: str, sql: str, *words: str, **more: str) -> Kind:
    return Kind(name, tables, aggregate, sql, words, "unseen" in more, more.get("tie", ""))


KINDS = (
    _kind(
        *("city_of", 1, "none", "SELECT city FROM customers WHERE name = '{customer}'"),
        *("Which city does {customer} live in?", "Where does {customer} live?"),
        "What is the city of {customer}?",
    ),
    _kind(
        *("price_of", 1, "none", "SELECT price FROM products WHERE name = '{product}'"),
        *("What does the {product} cost?", "What is the price of the {product}?"),
        "How much is the {product}?",
    ),
    _kind(
        *("people_in", 1, "count", "SELECT COUNT(*) FROM customers WHERE city = '{city}'"),
        *("How many customers live in {city}?", "How many customers are from {city}?"),
        "Count the customers in {city}.",
    ),
    _kind(
        *("above", 1, "count", "SELECT COUNT(*) FROM products WHERE price > {price}"),
        *("How many products cost more than {price}?", "How many products are above {price}?"),
        "Count the products with a price over {price}.",
    ),
    _kind(
        *("orders_in", 1, "count", "SELECT COUNT(*) FROM orders WHERE day LIKE '{month}-%'"),
        *("How many orders were placed in {named}?", "How many orders are from {named}?"),
        "Count the orders of {named}.",
    ),
    _kind(
        *("mean_price", 1, "average"),
        "SELECT ROUND(AVG(price), 2) FROM products "
        "WHERE category = '{category}' AND price < {price}",
        "What is the average price of {category} products below {price}?",
        "What do {category} products under {price} cost on average?",
        "Give the mean price of {category} products cheaper than {price}.",
    ),
    _kind(
        *("dearest", 1, "first"),
        "SELECT name FROM products WHERE category = '{category}' AND price < {price} "
        "ORDER BY price DESC LIMIT 1",
        "Which {category} product below {price} is the most expensive?",
        "What is the dearest {category} product under {price}?",
        "Name the {category} product cheaper than {price} with the highest price.",
    ),
    _kind(
        *("orders_of", 2, "count"),
        f"SELECT COUNT(*) FROM {ORDERED} WHERE customers.name = '{{customer}}'",
        *("How many orders did {customer} place?", "How many orders are from {customer}?"),
        "Count the orders of {customer}.",
    ),
    _kind(
        *("status_in", 2, "count"),
        f"SELECT COUNT(*) FROM {ORDERED} "
        "WHERE customers.city = '{city}' AND orders.status = '{status}'",
        "How many {status} orders are from customers in {city}?",
        "How many orders from {city} are {status}?",
        "Count the orders of {city} that are {status}.",
    ),
    _kind(
        *("sold", 2, "sum"),
        f"SELECT SUM(items.quantity) FROM {SOLD} WHERE products.name = '{{product}}'",
        "How many pieces of the {product} were sold?",
        "What is the total quantity sold of the {product}?",
        "Add up the quantities of the {product} in all orders.",
    ),
    _kind(
        *("last_day", 2, "first"),
        f"SELECT MAX(orders.day) FROM {ORDERED} WHERE customers.name = '{{customer}}'",
        *("On which day was the last order of {customer}?", "When did {customer} last order?"),
        "Give the day of the latest order by {customer}.",
    ),
    _kind(
        *("revenue", 3, "sum"),
        f"SELECT {MONEY} FROM {SOLD_WHEN} "
        "WHERE products.category = '{category}' AND orders.day LIKE '{month}-%'",
        "How much money did {category} products bring in in {named}?",
        "What was the revenue from {category} products in {named}?",
        "Add up what was paid for {category} products in {named}.",
    ),
    _kind(
        *("spent", 4, "sum"),
        f"SELECT {MONEY} FROM {BOUGHT} WHERE customers.name = '{{customer}}'",
        *("How much money has {customer} spent?", "What did {customer} pay in all?"),
        "Add up the cost of everything {customer} ordered.",
    ),
    _kind(
        *("buyers", 4, "none"),
        f"SELECT DISTINCT customers.name FROM {BOUGHT} "
        "WHERE products.name = '{product}' AND customers.city = '{city}' ORDER BY customers.name",
        "Which customers from {city} bought the {product}?",
        "Who in {city} has ordered the {product}?",
        "List the buyers of the {product} that live in {city}.",
    ),
    _kind(
        *("newest", 1, "first"),
        "SELECT name FROM customers WHERE city = '{city}' ORDER BY joined DESC LIMIT 1",
        "Which customer from {city} joined last?",
        unseen="yes",
    ),
    _kind(
        *("without_order", 2, "none"),
        "SELECT name FROM customers WHERE city = '{city}' AND id NOT IN "
        "(SELECT customer_id FROM orders WHERE day LIKE '{month}-%') ORDER BY name",
        "Which customers from {city} did not order in {named}?",
        unseen="yes",
    ),
    _kind(
        *("best_seller", 4, "first"),
        f"SELECT products.name FROM {BOUGHT} WHERE customers.city = '{{city}}' "
        "GROUP BY products.id ORDER BY SUM(items.quantity) DESC LIMIT 1",
        "Which product was bought in the largest quantity by customers from {city}?",
        unseen="yes",
        tie=f"SELECT SUM(items.quantity) FROM {BOUGHT} WHERE customers.city = '{{city}}' "
        "GROUP BY products.id ORDER BY SUM(items.quantity) DESC LIMIT 2",
    ),
)


@cache
def questions(split: SplitName) -> tuple[Example, ...]:
    """The examples of a split; kinds take turns as long as they have something new to ask."""
    rng = random.Random(f"{SEED}/{split}")
    open_ = {kind.name: _asked(rng, split, kind) for kind in KINDS if _belongs(kind, split)}
    found: list[Example] = []
    for name in cycle(list(open_)):
        if len(found) == SIZES[split] or not open_:
            break
        example = next(open_[name], None) if name in open_ else None
        if example is None:
            open_.pop(name, None)
        else:
            found.append(example)
    rng.shuffle(found)
    return tuple(found)


def _belongs(kind: Kind, split: SplitName) -> bool:
    return split == "test" or not kind.unseen


def _asked(rng: random.Random, split: SplitName, kind: Kind) -> Iterator[Example]:
    seen: set[str] = set()
    tried = 0
    while tried < TRIES:
        tried += 1
        slots = _slots(rng, split)
        sql = kind.sql.format(**slots)
        rows = read(shop(), TABLES, sql).splitlines()
        if sql in seen or not _is_fair(kind, rows, slots):
            continue
        seen.add(sql)
        tried = 0
        new = len(kind.wordings) - 1
        wording = rng.randrange(new if split == "train" else len(kind.wordings)) if new else 0
        meta = {
            "kind": kind.name,
            "tables": kind.tables,
            "aggregate": kind.aggregate,
            "difficulty": kind.difficulty,
            "new_kind": kind.unseen,
            "new_words": wording == new,
            "sql": sql,
        }
        asked = {"question": kind.wordings[wording].format(**slots)}
        yield Example(f"{split}-{kind.name}-{len(seen)}", asked, ", ".join(rows), meta)


def _is_fair(kind: Kind, rows: Sequence[str], slots: Mapping[str, str]) -> bool:
    """Whether there is an answer, one that is no accident, and no other."""
    if rows[0] in ("0", "NULL", "(no rows)") or len(rows) > LONGEST_LIST:
        return False
    return not kind.tie or len(set(read(shop(), TABLES, kind.tie.format(**slots)).split())) == 2


def _slots(rng: random.Random, split: SplitName) -> dict[str, str]:
    slots = {name: rng.choice(values[split]) for name, values in _dealt().items()}
    year, month = slots["month"].split("-")
    named = f"{calendar.month_name[int(month)]} {year}"
    return {**slots, "named": named, "status": rng.choice(STATUSES)}


@cache
def _dealt() -> dict[str, dict[str, list[str]]]:
    """The values of each slot by split."""
    names = read_column("SELECT name FROM customers")
    return {
        "customer": _deal("customer", names),
        "city": _deal("city", CITIES),
        "product": _deal("product", [name for name, _ in PRODUCTS]),
        "category": _deal("category", list(THINGS)),
        "month": _deal("month", MONTHS),
        "price": _deal("price", [str(price) for price in range(30, 240)]),
    }


def read_column(sql: str) -> list[str]:
    """All values of a column, twenty at a time."""
    found: list[str] = []
    while True:
        rows = read(shop(), TABLES, f"{sql} LIMIT 20 OFFSET {len(found)}").splitlines()
        if rows == ["(no rows)"]:
            return found
        found += rows


def _deal(name: str, values: Sequence[str]) -> dict[str, list[str]]:
    mixed = list(values)
    random.Random(f"{SEED}/{name}").shuffle(mixed)
    first = round(SHARES["train"] * len(mixed))
    second = first + round(SHARES["dev"] * len(mixed))
    return {"train": mixed[:first], "dev": mixed[first:second], "test": mixed[second:]}
