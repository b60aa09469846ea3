"""The curves, by hand and by brute force."""

from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree

import numpy as np
import pytest

from reports.plot import Curve, svg
from reward_models.overoptimization import (
    Rollout,
    best_of_n_curve,
    best_of_n_kl,
    best_of_n_lines,
    picked,
    rl_curve,
    rl_line,
    sequence_kl,
)


def test_the_best_of_n_is_the_mean_over_all_subsets() -> None:
    rng = np.random.default_rng(0)
    for ties in (2, 50):  # with many ties, and with hardly any
        reward = rng.integers(0, ties, 7).astype(float)
        score = rng.random(7)
        for n in range(1, 8):
            tried = []
            for subset in itertools.combinations(range(7), n):
                best = max(reward[i] for i in subset)
                among = [score[i] for i in subset if reward[i] == best]
                tried.append((best, float(np.mean(among))))
            proxy, gold = picked(reward, score, n)
            assert proxy == pytest.approx(np.mean([t[0] for t in tried]))
            assert gold == pytest.approx(np.mean([t[1] for t in tried]))


def test_a_curve_by_hand() -> None:
    frame = best_of_n_curve([[1.0, 2.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]])
    assert frame["n"].tolist() == [1, 2]
    assert frame["proxy"].tolist() == pytest.approx([0.75, 1.0])
    assert frame["gold"].tolist() == pytest.approx([0.5, 0.75])
    assert frame["kl"].tolist() == pytest.approx([0.0, math.log(2) - 0.5])
    assert best_of_n_kl(64) == pytest.approx(4.1589 - 63 / 64, abs=1e-4)
    assert best_of_n_curve([], []).empty


def test_many_draws_do_not_overflow() -> None:
    rng = np.random.default_rng(1)
    reward = [rng.normal(size=1000).tolist() for _ in range(3)]
    frame = best_of_n_curve(reward, reward)
    assert frame["n"].tolist() == [2**i for i in range(10)] + [1000]
    assert frame["proxy"].is_monotonic_increasing
    assert frame["proxy"].iloc[-1] == pytest.approx(np.mean([max(r) for r in reward]))


def test_a_gamed_reward_is_past_its_peak_and_an_honest_one_is_not() -> None:
    """Reward = quality, but for a rare kind of answer that is worth nothing and paid most."""
    rng = np.random.default_rng(2)
    quality = rng.random((60, 64))
    hack = rng.random((60, 64)) < 0.05
    reward = np.where(hack, 2.0, quality)
    score = np.where(hack, 0.0, quality)
    gain, fall = best_of_n_lines(reward.tolist(), score.tolist())
    assert fall.level == "no" and gain.value < 0
    gain, fall = best_of_n_lines(quality.tolist(), quality.tolist())
    assert fall.level == "ok" and gain.value > 0.3


def test_answers_of_several_policies_to_one_example_are_no_further_examples() -> None:
    rng = np.random.default_rng(3)
    reward = rng.random((20, 4)).tolist()
    score = (np.array(reward) > 0.5).astype(float).tolist()
    ids = [f"e{i:02}" for i in range(20)]
    alone = best_of_n_lines(reward, score)
    twice = best_of_n_lines(reward * 2, score * 2, ids=ids * 2)
    for one, other in zip(alone, twice, strict=True):
        assert (other.n, other.value) == (one.n, pytest.approx(one.value))
        assert (other.low, other.high) == (pytest.approx(one.low), pytest.approx(one.high))
    columns = ["gold", "gold_low", "gold_high", "examples"]
    curves = best_of_n_curve(reward, score), best_of_n_curve(reward * 2, score * 2, ids=ids * 2)
    assert np.allclose(*(curve[columns] for curve in curves))


def test_sequence_kl_by_hand() -> None:
    k1, k3 = sequence_kl([-1.0, -0.5], [-1.5, -0.5])
    assert k1 == pytest.approx(0.5)
    assert k3 == pytest.approx(math.exp(-0.5) - 1 + 0.5)
    assert sequence_kl([], []) == (0.0, 0.0)


def test_estimates_are_right_on_average() -> None:
    """Two tokens drawn from a known policy; the chain rule gives KL of the sequence."""
    rng = np.random.default_rng(3)
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.3, 0.4])
    true = 2 * float((p * np.log(p / q)).sum())
    drawn = rng.choice(3, size=(20_000, 2), p=p)
    found = np.array([sequence_kl(np.log(p[row]), np.log(q[row])) for row in drawn])
    assert found.mean(axis=0) == pytest.approx([true, true], abs=0.03)
    assert (found[:, 1] >= 0).all()


def rollouts(gold: list[float], proxy: list[float], each: int = 64) -> list[Rollout]:
    rng = np.random.default_rng(4)
    return [
        Rollout(step, f"e{i}", paid, float(rng.random() < right), [-1.0], [-1.0 - step / 10])
        for step, (right, paid) in enumerate(zip(gold, proxy, strict=True), 1)
        for i in range(each)
    ]


def test_a_curve_along_rl() -> None:
    frame = rl_curve(rollouts([0.5] * 30, list(range(30))), dev=[(0, 0.1), (5, 0.2), (30, 0.3)])
    assert len(frame) == 12 and frame["step"].iloc[-1] == 30
    assert frame["rollouts"].sum() == 30 * 64
    assert frame["kl"].is_monotonic_increasing
    assert frame["kl"].iloc[0] == pytest.approx(np.mean([0.1, 0.2, 0.3]))
    assert frame["dev_score"].tolist()[0] == 0.1 and frame["dev_score"].iloc[-1] == 0.3
    assert (frame["gold_low"] <= frame["gold"]).all()


def test_a_score_that_falls_while_the_reward_rises_is_found_and_noise_is_not() -> None:
    rising = [i / 24 for i in range(24)]
    gamed = [0.7 - 0.5 * max(0, i - 8) / 16 for i in range(24)]
    [line] = rl_line(rl_curve(rollouts(gamed, rising)))
    assert line.level == "no" and "while the reward rose" in line.detail
    for level in ([0.5] * 24, rising):
        [line] = rl_line(rl_curve(rollouts(level, rising)))
        assert line.level == "ok"
    [line] = rl_line(rl_curve(rollouts(gamed, [-x for x in rising])))
    assert line.level == "ok"  # the reward fell as well: training went wrong, nothing was gamed
    assert rl_line(rl_curve(rollouts([0.5], [0.5]))) == []


def test_the_picture_is_plain_svg() -> None:
    evil = "</text><script>alert(1)</script> & more"
    text = svg(
        [
            Curve(evil, [0.0, 1.0, 2.0], [0.1, 0.4, 0.2], [0.0, 0.3, 0.1], [0.2, 0.5, 0.3]),
            Curve("reward", [0.0, 1.0, 2.0], [5.0, 6.0, 7.0], right=True),
        ],
        title=evil,
        x_label="KL",
    )
    tree = ElementTree.fromstring(text)
    tags = [element.tag.rpartition("}")[2] for element in tree.iter()]
    assert tags.count("polyline") == 2 and tags.count("polygon") == 1 and "script" not in tags
    assert evil in [element.text for element in tree.iter()]
    assert svg([Curve("one", [1.0], [1.0])], title="", x_label="")  # no width, no height
    with pytest.raises(ValueError, match="no point"):
        svg([], title="", x_label="")
