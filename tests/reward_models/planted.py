"""A task, a policy that is right about half the time, and rewards whose worth is known."""

from __future__ import annotations

import random
from collections.abc import Callable

from reward_models.subject import Answer, Subject
from tasks.types import Example, Prompt, Score

CONSONANTS, VOWELS = "bdfgklmnprst", "aeiou"
PROMPT = Prompt("Write the word backwards, and nothing else.")
CHATTER = ("", "", "I think it is ", "well, ", "Sure! Here is the word: ")

Paid = Callable[[str, Example], float | None]  # of a reply


def words(count: int, seed: int) -> list[str]:
    rng = random.Random(f"words/{seed}")
    found: dict[str, None] = {}
    while len(found) < count:
        size = rng.randint(2, 4)
        found["".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(size))] = None
    return list(found)


def examples(count: int, seed: int = 0) -> list[Example]:
    return [
        Example(f"w{i}", {"input": word}, word[::-1]) for i, word in enumerate(words(count, seed))
    ]


def exact(example: Example, text: str) -> Score:
    right = text.strip() == example.answer
    return Score(float(right), right, None if right else "wrong")


def answers(asked: list[Example], each: int, seed: int, right: float = 0.5) -> list[Answer]:
    """`each` answers to every question; wrong ones are chatty, copied or scrambled."""
    rng = random.Random(f"answers/{seed}")

    def say(example: Example) -> str:
        if rng.random() < right:
            return example.answer
        letters = rng.sample(example.answer, len(example.answer))
        tried = rng.choice([example.inputs["input"], "".join(letters), example.answer[1:]])
        return rng.choice(CHATTER) + tried

    said = [(example, say(example)) for example in asked for _ in range(each)]
    return [Answer("planted", PROMPT, e, text) for e, text in said]


def subject(paid: Paid, asked: list[Example]) -> Subject:
    table = {example.id: example for example in asked}

    def reward(prompts, completions, *, example_id, **_):
        replies = [turns[-1]["content"] for turns in completions]
        return [paid(text, table[key]) for text, key in zip(replies, example_id, strict=True)]

    return Subject(lambda prompt: reward, exact, table)


def noise(text: str, example: Example, seed: int, sd: float) -> float:
    """The same for the same reply to the same question."""
    return random.Random(f"{seed}/{example.id}/{text}").gauss(0, sd)
