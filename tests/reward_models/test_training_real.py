"""The real model learns from few pairs which past tense is right, of verbs it has not seen."""

from __future__ import annotations

import pytest

from reward_models.learned import load_learned
from reward_models.pairs import Answer, make_pairs, split_pairs
from reward_models.training import Training, held_out_figures, train_reward
from tasks.load import load_task
from tasks.types import Prompt

pytestmark = pytest.mark.slow


def test_a_few_pairs_tell_right_from_wrong(tmp_path):
    task = load_task("inflection")
    prompt, train = Prompt.of(task), {e.id: e for e in list(task.split("train"))[:200]}
    answers = [
        Answer(e.id, text, task.score(e, text).value)
        for e in train.values()
        for text in (e.answer, e.inputs["verb"], e.inputs["verb"] + "ed")
    ]
    pairs = make_pairs(
        answers, lambda a: prompt.messages(train[a.example_id].inputs), most=200, seed=0
    )
    learn, held_out = split_pairs(pairs, 0)
    card = train_reward(
        "smollm2-135m", learn, held_out, tmp_path / "rm",
        prompt=prompt, training=Training(batch=8), device="cpu",
    )  # fmt: skip
    assert held_out_figures(card).low > 0.5  # its whole interval is above a coin's
    reward = load_learned(tmp_path / "rm", prompt, train, device="cpu")
    ids, texts = [p.question for p in held_out], [p.chosen for p in held_out]
    together = reward([[]] * len(ids), texts, example_id=ids)
    alone = [reward([[]], [t], example_id=[i])[0] for t, i in zip(texts, ids, strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)
