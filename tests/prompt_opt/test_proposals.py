"""Proposals of a small model: what it is asked, what is dropped, and DSPy's own way beside it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dspy.teleprompt import MIPROv2

from lm.types import Chat
from prompt_opt.adapter import PlainPredict
from prompt_opt.config_search import COPROConfig, GEPAConfig, MIPROConfig, SIMBAConfig
from prompt_opt.copro import COPRO
from prompt_opt.gepa import GEPA
from prompt_opt.proposals import PlainReflection
from tests.prompt_opt.stage import TASK, TRAIN, Stage

SMALL = {"dev_examples": 10, "train_examples": 16}


def asks(stage: Stage) -> list[str]:
    """The user's words of each request for a proposal."""
    chats = [json.loads(line)[:-1] for line in stage.model.asked]
    return [chat[-1]["content"] for chat in chats if "Write" in chat[-1]["content"]]


def test_a_request_is_short_and_shows_examples_of_train(tmp_path: Path) -> None:
    stage = Stage(tmp_path, lambda chat, _: "Use capital letters for it.")
    stage.run(COPRO(COPROConfig(**SMALL, breadth=4, depth=1)))
    assert asks(stage)
    for ask in asks(stage):
        assert len(ask) < 600 and "Task description: Shout." in ask
        lines = ask.split("Examples:\n")[1].split("\n\n")[0].splitlines()
        known = {f"{e.inputs['word']} → {e.answer}" for e in TRAIN}
        assert len(lines) == 5 and set(lines) <= known


@pytest.mark.parametrize("reply", ["", "Sure! Here you go.", "Shout.", "<|im_end|> x y z"])
def test_what_is_no_instruction_never_costs_a_rollout(tmp_path: Path, reply: str) -> None:
    stage = Stage(tmp_path, lambda chat, _: reply if "Write" in chat[-1]["content"] else "what?")
    stage.run(COPRO(COPROConfig(**SMALL, breadth=6, depth=2)))
    tried = [row["prompt"]["instruction"] for row in stage.candidates]
    assert reply not in tried[1:] and len(set(tried)) == len(tried)
    assert len(tried) >= 8  # the menu has filled their places
    assert stage.ledger.usage["proposal"].completions > 0
    assert stage.ledger.usage["metric"].completions == 10 * len(tried)


def test_gepa_shows_what_went_wrong_and_the_tasks_feedback(tmp_path: Path) -> None:
    stage = Stage(tmp_path, lambda chat, _: "Think of capital letters first.")
    stage.run(GEPA(GEPAConfig(**SMALL, metric_calls=60)))
    told = [ask for ask in asks(stage) if "What was answered so far:" in ask]
    assert told and all("So it is." in ask for ask in told)
    assert stage.ledger.usage["reflection"].completions == len(asks(stage))


def test_gepa_asks_the_model_for_every_second_instruction_and_drops_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def listen(self: PlainReflection, **asked: Any) -> dict[str, str]:
        given.extend((found := propose(self, **asked)).values())
        return found

    propose = PlainReflection.__call__
    monkeypatch.setattr(PlainReflection, "__call__", listen)
    stage = Stage(tmp_path, lambda chat, draw: f"Think of way {draw % 9973} to shout it.")
    stage.run(GEPA(GEPAConfig(**SMALL, metric_calls=60)))
    own = [text for text in given if text.startswith("Think of way")]
    assert given[0] == own[0] and len(own) == len(asks(stage)) == (len(given) + 1) // 2
    assert len(given) > 3 and len(set(own)) == len(own)


def test_in_dspys_own_way_its_own_words_are_sent(tmp_path: Path) -> None:
    def follows(chat: Chat, draw: int) -> str:
        if "proposed_instruction" not in chat[0]["content"]:
            return "what?"
        return (
            f"[[ ## proposed_instruction ## ]]\nUse capitals {draw % 97}, please.\n\n"
            "[[ ## proposed_prefix_for_output_field ## ]]\nLoud:\n\n[[ ## completed ## ]]"
        )

    stage = Stage(tmp_path, follows, max_tokens=400)
    stage.run(COPRO(COPROConfig(**SMALL, breadth=4, depth=1, proposals="dspy")))
    tried = [row["prompt"]["instruction"] for row in stage.candidates]
    assert tried[0] == TASK.instruction and len(tried) == 4
    assert all(text.startswith("Use capitals ") for text in tried[1:])
    assert any("instruction optimizer" in line for line in stage.model.asked)


def test_a_proposer_that_cannot_follow_dspy_ends_the_search_not_the_run(tmp_path: Path) -> None:
    stage = Stage(tmp_path, lambda chat, _: "what?")
    best = stage.run(COPRO(COPROConfig(**SMALL, breadth=4, depth=1, proposals="dspy")))
    assert best == TASK
    ended = json.loads((tmp_path / "search.json").read_text())["ended"]
    assert "proposals: plain" in ended


def test_long_inputs_are_shown_in_brief(tmp_path: Path) -> None:
    long = [
        replace(e, inputs={"word": f"w{i} " + "und so weiter " * 300}) for i, e in enumerate(TRAIN)
    ]
    stage = Stage(tmp_path, lambda chat, _: "Use capital letters for it.", train=long)
    stage.run(COPRO(COPROConfig(**SMALL, breadth=4, depth=1)))
    assert asks(stage) and max(map(len, asks(stage))) < 5 * 400


def test_auto_is_what_dspy_makes_of_it() -> None:
    search = MIPROv2(metric=None, auto="light", prompt_model=1, task_model=1)  # type: ignore[reportArgumentType]
    program = PlainPredict(TASK)
    for effort in ("light", "medium", "heavy"):
        for few_shot in (True, False):
            search.auto, search.rng = effort, random.Random(0)
            trials, _, _, instructions, sets = search._set_hyperparams_from_run_mode(
                program, None, True, not few_shot, list(range(9)), None, None
            )
            demos = {} if few_shot else {"max_bootstrapped_demos": 0, "max_labeled_demos": 0}
            config = MIPROConfig.model_validate({"auto": effort, **demos})
            assert config.sets() == (sets, instructions, trials)


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ({}, True),
        ({"reflection": "other-model"}, True),
        ({"reflection": {"endpoint": "http://localhost:1/v1", "model": "m"}}, False),
        ({"proposals": "dspy"}, False),
        ({"reflection": {"endpoint": "http://x/v1", "model": "m"}, "proposals": "plain"}, True),
    ],
)
def test_who_is_asked_plainly(raw: dict, plain: bool) -> None:
    assert COPROConfig.model_validate(raw).plain() == plain


@pytest.mark.parametrize(
    ("config", "raw", "why"),
    [
        (MIPROConfig, {"trials": 5}, "write both"),
        (MIPROConfig, {"auto": "light", "candidates": 4, "trials": 5}, "one or the other"),
        (MIPROConfig, {"auto": None}, "write both"),
        (MIPROConfig, {"max_bootstrapped_demos": 0}, "needs max_labeled_demos: 0"),
        (GEPAConfig, {"auto": "light", "metric_calls": 5}, "one of the two"),
        (SIMBAConfig, {"batch_size": 65}, "more than train_examples 64"),
        (COPROConfig, {"reflection": {"model": "m", "key_env": "KEY"}}, "write endpoint"),
    ],
)
def test_contradictions_are_told(config: type, raw: dict, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        config.model_validate(raw)
