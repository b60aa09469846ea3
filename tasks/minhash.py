"""Which texts are nearly the same: pairs proposed by MinHash (Broder 1997), then counted.

A text is a set of shingles: its words and its pairs of neighbouring words, numbered, so that two
shingles are equal only when their words are. Its signature holds, for each of many hash functions,
the smallest hash of its shingles; two texts agree in one place with the probability of their
Jaccard similarity. Texts that agree in all `ROWS` places of one of `BANDS` bands are proposed: at a
similarity of 0.8 all but 1 of 20,000 pairs are. The similarity that is returned is counted, not
estimated. All in numpy: what has no shingle in common with another text, nearly all of a clean
task, is gone before anything is hashed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

BANDS, ROWS = 25, 5
SLACK = 0.15  # four standard deviations of a guess
CROWD = 8  # texts of one bucket that are looked at; more are one family, and one of it is enough

Fields = Sequence[Sequence[str]]


def propose(
    texts: Sequence[Fields],
    groups: Sequence[int] | None,
    keys: Sequence[str],
    *,
    frame_size: float,
    few: int,
    near: float,
    most: int,
) -> Iterator[tuple[int, int, float]]:
    """(text, one of a lower group with the same key, their Jaccard similarity), where it is `near`.

    Without groups: (text, an earlier one with the same key, …), in the order of the texts.
    Shingles that more than `frame_size` texts have are left out; texts with fewer than `few` others
    are, too, and so are those that share less than `near` of theirs with all other texts together.
    For each text at most `most` others, those most alike first; without groups, the earliest.
    """
    bags = _bags(texts).without_frame(frame_size).only_likely(few, near)
    if not len(bags.text_S):
        return
    signature_TH = _signatures(bags)
    place_T = np.asarray(bags.names)
    key_T = np.array([crc32(keys[name].encode()) for name in bags.names], dtype=np.uint64)
    if groups is None:
        here_P, there_P = _pairs_within(signature_TH, key_T)
    else:
        here_P, there_P = _pairs(signature_TH, np.asarray(groups)[place_T], key_T)
    guess_P = _agreement(signature_TH, here_P, there_P)
    if groups is None:  # of a family the first counts, which the others are dropped for
        likely_P = guess_P >= near - SLACK
        here_P, there_P, guess_P = here_P[likely_P], there_P[likely_P], np.ones(likely_P.sum())
    order_P = np.lexsort((there_P, -guess_P, here_P))
    here_P, there_P = here_P[order_P], there_P[order_P]
    rank_P = np.arange(len(here_P)) - np.searchsorted(here_P, here_P)
    for here, there in zip(here_P[rank_P < most], there_P[rank_P < most], strict=True):
        similarity = bags.jaccard(here, there)
        if similarity >= near:
            yield int(place_T[here]), int(place_T[there]), similarity


@dataclass(frozen=True)
class _Bags:
    """Shingles with their texts, each pair once, sorted by text; `names` are the texts' numbers."""

    text_S: np.ndarray
    shingle_S: np.ndarray
    names: Sequence[int]

    def counts(self) -> np.ndarray:
        """For each shingle here: how many texts have it."""
        _, inverse_S, count_U = np.unique(self.shingle_S, return_inverse=True, return_counts=True)
        return count_U[inverse_S]

    def where(self, kept_S: np.ndarray) -> _Bags:
        return _Bags(self.text_S[kept_S], self.shingle_S[kept_S], self.names)

    def without_frame(self, size: float) -> _Bags:
        return self.where(self.counts() <= size)

    def only_likely(self, few: int, near: float) -> _Bags:
        """Texts with enough shingles, most of which another text has as well; numbered anew."""
        texts = len(self.names)
        size_T = np.bincount(self.text_S, minlength=texts)
        shared_T = np.bincount(self.text_S[self.counts() > 1], minlength=texts)
        likely_T = (size_T >= few) & (shared_T >= near * size_T)
        kept = self.where(likely_T[self.text_S])
        number_T = np.cumsum(likely_T) - 1
        return _Bags(number_T[kept.text_S], kept.shingle_S, np.flatnonzero(likely_T).tolist())

    def jaccard(self, a: int, b: int) -> float:
        one, other = (self._of(text) for text in (a, b))
        both = len(np.intersect1d(one, other, assume_unique=True))
        return both / (len(one) + len(other) - both)

    def _of(self, text: int) -> np.ndarray:
        first, last = np.searchsorted(self.text_S, [text, text + 1])
        return self.shingle_S[first:last]


def _bags(texts: Sequence[Fields]) -> _Bags:
    vocabulary: dict[str, int] = {}
    words, owners = [], []  # a -1 between fields keeps pairs from crossing it
    for text, fields in enumerate(texts):
        for field in fields:
            words += [vocabulary.setdefault(word, len(vocabulary)) for word in field]
            words.append(-1)
            owners.append((text, len(field) + 1))
    word_W = np.array(words, dtype=np.int64)
    owner_W = np.repeat(*np.array(owners, dtype=np.int64).reshape(-1, 2).T)
    is_word_W = word_W >= 0
    is_pair_W = is_word_W[:-1] & is_word_W[1:]
    pair_W = (word_W[:-1] + 1) * len(vocabulary) + word_W[1:]
    text_S = np.concatenate([owner_W[is_word_W], owner_W[:-1][is_pair_W]])
    shingle_S = np.concatenate([word_W[is_word_W], pair_W[is_pair_W]])
    order_S = np.lexsort((shingle_S, text_S))
    text_S, shingle_S = text_S[order_S], shingle_S[order_S]
    new_S = np.ones(len(text_S), dtype=bool)
    new_S[1:] = (np.diff(text_S) != 0) | (np.diff(shingle_S) != 0)
    return _Bags(text_S[new_S], shingle_S[new_S], range(len(texts)))


def _signatures(bags: _Bags) -> np.ndarray:
    """The smallest of each hash by text, (T, BANDS * ROWS); the same in every process."""
    factors = np.random.default_rng(0).integers(2**63, size=(2, BANDS * ROWS), dtype=np.uint64)
    start_T = np.searchsorted(bags.text_S, np.arange(len(bags.names)))
    mixed_S = _mix(bags.shingle_S.astype(np.uint64))
    columns = [
        np.minimum.reduceat((mixed_S * (2 * a + np.uint64(1)) + b) >> np.uint64(32), start_T)
        for a, b in factors.T
    ]
    return np.stack(columns, axis=1)


def _mix(value: np.ndarray) -> np.ndarray:
    """The end of splitmix64 (Steele et al. 2014): numbers in a row become numbers all over."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _agreement(signature_TH: np.ndarray, here_P: np.ndarray, there_P: np.ndarray) -> np.ndarray:
    """The share of places in which two signatures agree: the guess at their similarity."""
    agreed_P = np.zeros(len(here_P))
    for column_T in signature_TH.T:
        agreed_P += column_T[here_P] == column_T[there_P]
    return agreed_P / signature_TH.shape[1]


def _pairs(
    signature_TH: np.ndarray, group_T: np.ndarray, key_T: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Texts in one bucket of a band, each with such of lower groups; every pair once."""
    texts = len(group_T)
    found = [np.zeros(0, dtype=np.int64)]
    for group in np.unique(group_T)[1:]:
        here_A, there_B = np.flatnonzero(group_T == group), np.flatnonzero(group_T < group)
        for bucket_T in _buckets(signature_TH, key_T):
            order_B = np.argsort(bucket_T[there_B], kind="stable")
            sorted_B = bucket_T[there_B][order_B]
            first_A = np.searchsorted(sorted_B, bucket_T[here_A], "left")
            size_A = np.searchsorted(sorted_B, bucket_T[here_A], "right") - first_A
            for step in range(min(CROWD, size_A.max(initial=0))):
                hit_A = np.flatnonzero(size_A > step)
                found.append(here_A[hit_A] * texts + there_B[order_B[first_A[hit_A] + step]])
    return np.divmod(np.unique(np.concatenate(found)), texts)


def _pairs_within(signature_TH: np.ndarray, key_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texts in one bucket of a band, each with its first one and those just before; once each."""
    texts = len(key_T)
    found = [np.zeros(0, dtype=np.int64)]
    for bucket_T in _buckets(signature_TH, key_T):
        order_T = np.argsort(bucket_T, kind="stable")
        sorted_T = bucket_T[order_T]
        place_T = np.arange(texts)
        first_T = np.searchsorted(sorted_T, sorted_T, "left")
        for back_T in (place_T - first_T, *range(1, CROWD)):
            there_T = place_T - back_T
            is_pair_T = (there_T >= first_T) & (there_T < place_T)
            found.append(order_T[is_pair_T] * texts + order_T[there_T[is_pair_T]])
    return np.divmod(np.unique(np.concatenate(found)), texts)


def _buckets(signature_TH: np.ndarray, key_T: np.ndarray) -> Iterator[np.ndarray]:
    """For each band, a number by text that is the same for texts that agree in all its rows."""
    for band in range(BANDS):
        bucket_T = key_T
        for row in signature_TH[:, band * ROWS : (band + 1) * ROWS].T:
            bucket_T = _mix(bucket_T * np.uint64(31) + row)
        yield bucket_T
