from itertools import permutations
from random import Random

from tasks import Example, Score, Task

WORDS = ["apple", "bird", "cloud", "door", "egg", "fish", "glass", "house", "ink", "juice", "key"]
ROWS = {"train": slice(0, 500), "dev": slice(500, 650), "test": slice(650, 950)}
FAILURES = {"order": "The right words in a wrong order.", "words": "Other words."}


class Reverse(Task):
    name = "reverse"
    instruction = "Write the three words in reverse order."
    failure_classes = FAILURES

    def split(self, name):
        drawn = Random(0).sample([*permutations(WORDS, 3)], 950)[ROWS[name]]
        return [Example("-".join(w), {"input": " ".join(w)}, " ".join(w[::-1])) for w in drawn]

    def score(self, example, text):
        words, right = text.lower().replace(",", " ").split(), example.answer.split()
        if words == right:
            return Score(1.0, True, answer=" ".join(words))
        failure = "order" if sorted(words) == sorted(right) else "words"
        return Score(0.0, False, failure, f'Expected "{example.answer}".', " ".join(words)[:80])
