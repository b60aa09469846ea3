"""Kinds of wrong answers: clusters of failing answers that share what they are like.

On the discovery half of the examples the terms of each failing answer
(`evaluation.answer_features`) are weighed by TF-IDF, and average-linkage clustering by cosine
distance cuts them into as many clusters as the silhouette (Rousseeuw, 1987) says. Only terms that
failing answers have more often than chance take part, so that answers which are wrong each in their
own way stay outside, and where all are, no cluster is reported. A cluster is then told by a *rule*,
the one or two terms which say best who is in it: it has the answers for which the rule holds, which
anybody can check in the records. The held-out half confirms the rule: it must hold there more often
than chance, by Fisher's exact test after Holm over the clusters found. Several failing answers to
one example are not independent: in every test an example is one case, told by one of its failing
answers, which a hash picks.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

from evaluation.answer_features import asked_and_said, having, plainness, reference, terms
from evaluation.candidates import FDR
from evaluation.discovery import LEVEL, Half, in_discovery
from evaluation.exact import holm, upper_tail

MOST_ANSWERS = 1_500  # failing answers in the tree: its distances are as many squared
FEWEST = 5  # answers of a cluster in the discovery half
SMALLEST = 0.03  # of the failing answers of that half
MORE = 2.0  # times as often as by chance, else a term is no sign of anything
MOST_CLUSTERS = 12
STRUCTURE = 0.25  # a lower silhouette is "no substantial structure" (Kaufman and Rousseeuw, 1990)
CLEAR, WORDED = 0.5, 0.05  # F1 that a rule must reach, and that a plainer one may cost
SAME = 0.5  # shared answers of two clusters that are one
SHOWN = 3


@dataclass(frozen=True)
class Cluster:
    """Failing answers for which all terms of `rule` hold.

    `count` of all `failing` answers, `share` = count / failing, `chance` the share expected of
    unrelated answers. `others` are further terms that tell it from the other failing answers.
    `found` and `held` count failing answers in each half (n) and those in the cluster (failures).
    `failure` is the declared class that most of them have, `of_class` how many do. `members` are
    places in the frame given; `typical` the most representative of them, different inputs.
    """

    rule: tuple[str, ...]
    count: int
    failing: int
    share: float
    chance: float
    p_adjusted: float
    found: Half
    held: Half
    others: tuple[str, ...]
    failure: str
    of_class: int
    members: np.ndarray = field(repr=False)
    typical: tuple[int, ...] = field(repr=False)

    @property
    def name(self) -> str:
        return " and ".join(self.rule)


def clusters(answers: pd.DataFrame) -> list[Cluster]:
    """The confirmed clusters of the failing ones among `answers`, the largest first; often none.

    `answers` has the columns of `EvalRecord`. The order of its rows does not matter.
    """
    order = _shuffled(answers)
    read = ["example_id", "failure", "inputs", "gold", "answer"]
    failing = answers.loc[:, read].iloc[order]
    half_A = in_discovery(failing["example_id"])
    pairs_A = asked_and_said(failing)
    terms_A = terms(pairs_A)
    picked = [_one_each(failing, half) for half in (half_A, ~half_A)]
    found, held = (
        _Half([terms_A[i] for i in places], reference([pairs_A[i] for i in places]))
        for places in picked
    )
    if min(len(found.cases), len(held.cases)) < 2 * FEWEST:
        return []
    rules = _rules(found)
    p_held = [held.p(rule) for rule in rules]
    kept = [(rule, p) for rule, p in zip(rules, holm(p_held), strict=True) if p <= LEVEL]
    chance = [*found.chance, *held.chance]
    made = [_cluster(failing, terms_A, half_A, chance, rule, p) for rule, p in kept]
    made = [replace(c, members=order[c.members], typical=_at(order, c.typical)) for c in made]
    return sorted(made, key=lambda c: (-c.count, c.rule))


def rule_holds(rule: Sequence[str], answers: pd.DataFrame) -> np.ndarray:
    """Of which of `answers` all terms of a cluster's rule hold: a mask, in their order."""
    return np.array(having(rule, answers), dtype=bool)


def _holds(rule: Sequence[str], terms_A: Sequence[frozenset[str]]) -> np.ndarray:
    wanted = set(rule)
    return np.array([wanted <= found for found in terms_A], dtype=bool)


def _at(order: np.ndarray, places: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(order[i]) for i in places)


def _shuffled(answers: pd.DataFrame) -> np.ndarray:
    """Places of the failing answers, in an order that has nothing to do with what they are.

    It does not depend on the order of the rows; answers to one example stay together.
    """
    places = np.flatnonzero(~answers["correct"].to_numpy(bool))
    failing = (answers[name].iloc[places] for name in ("example_id", "sample", "answer"))
    ids, samples, texts = (column.tolist() for column in failing)
    hashes = [hashlib.sha256(str(i).encode()).hexdigest() for i in ids]
    keys = list(zip(hashes, samples, texts, strict=True))
    return places[sorted(range(len(keys)), key=keys.__getitem__)]


@dataclass(frozen=True, eq=False)
class _Half:
    """The terms of one failing answer to each example of a half.

    One, for of several guesses one is sooner the usual wrong answer than the single gold answer
    that stands for chance. `chance` are the terms that each would have by chance.
    """

    cases: list[frozenset[str]]
    chance: list[frozenset[str]]

    def p(self, rule: Sequence[str]) -> float:
        k, n = sum(set(rule) <= case for case in self.cases), len(self.cases)
        return float(upper_tail(k, n, k + _least(rule, self.chance), 2 * n))


def _one_each(failing: pd.DataFrame, half_A: np.ndarray) -> list[int]:
    """The place of one answer to each example of the half, by a hash: none is favoured."""
    ids, answers = failing["example_id"].tolist(), failing["answer"].tolist()
    first: dict[str, tuple[str, int]] = {}
    for place in np.flatnonzero(half_A).tolist():
        example = str(ids[place])
        key = hashlib.sha256(f"{example}/{answers[place]}".encode()).hexdigest()
        first[example] = min(first.get(example, (key, place)), (key, place))
    return [place for _, place in first.values()]


def _least(rule: Sequence[str], chance: Sequence[frozenset[str]]) -> int:
    """How often a rule holds by chance at most: as often as its rarest term."""
    return min(sum(term in found for found in chance) for term in rule)


def _rules(found: _Half) -> list[tuple[str, ...]]:
    """A rule for each cluster of the discovery half, the largest first."""
    real = found.cases[:MOST_ANSWERS]
    least = max(FEWEST, int(np.ceil(SMALLEST * len(real))))
    vocabulary = _telling(found.cases, found.chance, least)
    if not vocabulary:
        return []
    has_AT = np.array([[term in row for term in vocabulary] for row in real], dtype=bool)
    some_A = has_AT.any(1)
    label_A = np.full(len(real), -1)
    label_A[some_A] = _cut(_weighed(has_AT[some_A]))
    rules: list[tuple[str, ...]] = []
    masks: list[np.ndarray] = []
    for label, size in Counter(label_A[label_A >= 0].tolist()).most_common():
        rule = _told(label_A == label, has_AT, vocabulary) if size >= least else ()
        if not rule:
            continue
        mask = _all(has_AT[:, [vocabulary.index(term) for term in rule]])
        if mask.sum() >= least and not any(_overlap(mask, other) > SAME for other in masks):
            rules.append(rule)
            masks.append(mask)
    return rules


def _telling(
    real: Sequence[frozenset[str]], chance: Sequence[frozenset[str]], least: int
) -> list[str]:
    """The terms that failing answers have more often than chance, most frequent first."""
    count = Counter(term for row in real for term in row)
    by_chance = Counter(term for row in chance for term in row)
    common = [term for term, k in sorted(count.items(), key=lambda x: (-x[1], x[0])) if k >= least]
    if not common:
        return []
    k_T = np.array([count[term] for term in common])
    chance_T = np.array([by_chance[term] for term in common])
    n, n_chance = len(real), len(chance)
    p_T = upper_tail(k_T, n, k_T + chance_T, n + n_chance)
    adjusted_T = stats.false_discovery_control(p_T, method="bh")
    more_T = k_T / n >= MORE * chance_T / n_chance
    return [t for t, q, more in zip(common, adjusted_T, more_T, strict=True) if more and q <= FDR]


def _weighed(has_AT: np.ndarray) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfTransformer

    return TfidfTransformer().fit_transform(has_AT.astype(float)).toarray()


def _cut(weight_AT: np.ndarray) -> np.ndarray:
    """A label for each answer: the cut of the tree with the highest silhouette, or one cluster."""
    from sklearn.metrics import silhouette_score

    different = len(np.unique(weight_AT.round(9), axis=0))
    one_A = np.zeros(len(weight_AT), dtype=int)
    if different < 2:
        return one_A
    near = np.clip(pdist(weight_AT, "cosine"), 0, None)
    tree, distance = linkage(near, "average"), squareform(near)
    best, best_A = STRUCTURE, one_A
    for k in range(2, min(MOST_CLUSTERS, different, len(weight_AT) - 1) + 1):
        label_A = fcluster(tree, k, "maxclust")
        if len(set(label_A)) < 2:
            continue
        score = float(silhouette_score(distance, label_A, metric="precomputed"))
        if score > best + 1e-9:
            best, best_A = score, label_A
    return best_A


def _told(inside_A: np.ndarray, has_AT: np.ndarray, vocabulary: Sequence[str]) -> tuple[str, ...]:
    """The rule with the highest F1 for who is inside, () if none is clear.

    Of terms that are about as good the plainest counts, relations first; two terms only where they
    are better by more than that.
    """
    f1_T = _f1(has_AT, inside_A)
    best = [int(t) for t in np.flatnonzero(f1_T >= f1_T.max() - WORDED)]
    single = min(best, key=lambda t: (plainness(vocabulary[t]), -f1_T[t], vocabulary[t]))
    top = np.argsort(-f1_T, kind="stable")[:10]
    pairs = {(int(a), int(b)): has_AT[:, a] & has_AT[:, b] for a, b in combinations(top, 2)}
    scores = {pair: float(_f1(mask[:, None], inside_A)[0]) for pair, mask in pairs.items()}
    pair = max(scores, key=lambda x: scores[x]) if scores else None
    if pair is not None and scores[pair] > f1_T.max() + WORDED and scores[pair] >= CLEAR:
        return tuple(sorted((vocabulary[t] for t in pair), key=plainness))
    return (vocabulary[single],) if f1_T[single] >= CLEAR else ()


def _f1(has_AT: np.ndarray, inside_A: np.ndarray) -> np.ndarray:
    return 2 * has_AT[inside_A].sum(0) / (has_AT.sum(0) + inside_A.sum())


def _all(holds_AT: np.ndarray) -> np.ndarray:
    return np.asarray(holds_AT.all(axis=1))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, min(a.sum(), b.sum())))


def _cluster(
    failing: pd.DataFrame,
    terms_A: Sequence[frozenset[str]],
    half_A: np.ndarray,
    chance: Sequence[frozenset[str]],
    rule: tuple[str, ...],
    p: float,
) -> Cluster:
    inside_A = _holds(rule, terms_A)
    classes = Counter(failing.loc[inside_A, "failure"].fillna("unclassified").tolist())
    failure, of_class = min(classes.items(), key=lambda item: (-item[1], item[0]))
    others = _others(terms_A, inside_A, rule)
    return Cluster(
        rule=rule,
        count=int(inside_A.sum()),
        failing=len(failing),
        share=float(inside_A.mean()),
        chance=_least(rule, chance) / len(chance),
        p_adjusted=p,
        found=Half(int(half_A.sum()), int((inside_A & half_A).sum())),
        held=Half(int((~half_A).sum()), int((inside_A & ~half_A).sum())),
        others=tuple(others[:SHOWN]),
        failure=str(failure),
        of_class=of_class,
        members=np.flatnonzero(inside_A),
        typical=tuple(_typical(terms_A, inside_A, failing["inputs"].tolist(), others)),
    )


def _others(
    terms_A: Sequence[frozenset[str]], inside_A: np.ndarray, rule: tuple[str, ...]
) -> list[str]:
    """Terms that most of the cluster has and few others have, the most telling first."""
    inside = Counter(t for row, i in zip(terms_A, inside_A, strict=True) if i for t in row)
    outside = Counter(t for row, i in zip(terms_A, inside_A, strict=True) if not i for t in row)
    n_in, n_out = int(inside_A.sum()), max(1, int((~inside_A).sum()))
    gain = {t: k / n_in - outside[t] / n_out for t, k in inside.items() if 4 * k >= n_in}
    return [t for t in sorted(gain, key=lambda t: (-gain[t], t)) if t not in rule and gain[t] > 0.2]


def _typical(
    terms_A: Sequence[frozenset[str]],
    inside_A: np.ndarray,
    inputs: Sequence[str],
    others: Sequence[str],
) -> list[int]:
    """The members with most of the terms that tell the cluster, of different inputs."""
    telling = set(others)
    members = np.flatnonzero(inside_A).tolist()
    ranked = sorted(members, key=lambda i: -len(terms_A[i] & telling))  # ties: in no telling order
    seen: dict[str, int] = {}
    for i in ranked:
        seen.setdefault(inputs[i], i)
    return list(seen.values())[:SHOWN]
