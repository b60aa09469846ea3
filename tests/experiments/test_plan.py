"""Arms that begin alike share their stages; keys change with all that a result depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.plan import describe, make_plan
from experiments.spec import load_spec, parse_spec

BASE: dict[str, Any] = {
    "name": "plan",
    "task": "inflection",
    "model": "tiny-random",
    "arms": {
        "zero-shot": [],
        "prompt": ["bootstrap"],
        "grpo": ["grpo"],
        "prompt+grpo": ["bootstrap", "grpo"],
    },
}


def plan(tmp_path: Path, world: str = "w", **changes: Any):
    return make_plan(parse_spec({**BASE, **changes}, "test"), world, tmp_path)


def keys(tmp_path: Path, **changes: Any) -> list[str]:
    return [stage.key for stage in plan(tmp_path, **changes).stages]


def test_common_beginnings_are_computed_once(tmp_path: Path) -> None:
    made = plan(tmp_path)
    by_arm = {arm.name: arm.stages for arm in made.arms}
    assert len(made.stages) == 3
    assert by_arm["prompt"][0] is by_arm["prompt+grpo"][0]
    assert by_arm["prompt"][0].arms == ("prompt", "prompt+grpo")
    assert by_arm["grpo"][0].key != by_arm["prompt+grpo"][1].key  # another policy to start from


def test_parents_come_first(tmp_path: Path) -> None:
    seen: set[str] = set()
    for stage in plan(tmp_path, seeds=[0, 1]).stages:
        assert stage.parent is None or stage.parent.key in seen
        seen.add(stage.key)
    assert len(seen) == 6


def test_inline_options_make_another_stage(tmp_path: Path) -> None:
    arms = {"a": ["grpo"], "b": [{"grpo": {"steps": 3}}], "c": [{"grpo": {"steps": 25}}]}
    made = plan(tmp_path, arms=arms)
    a, b, c = (arm.stages[0].key for arm in made.arms)
    assert a == c != b  # 25 is the default: the same work under either spelling


def test_a_method_under_another_name_is_the_same_work(tmp_path: Path) -> None:
    methods = {"short": {"method": "grpo", "steps": 25}}
    made = plan(tmp_path, methods=methods, arms={"a": ["grpo"], "b": ["short"]})
    assert len(made.stages) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"world": "another task or other weights"},
        {"methods": {"grpo": {"steps": 3}, "bootstrap": {"candidates": 1}}},
        {"seeds": [1]},
        {"splits": {"train": 9}},
        {"sampling": {"max_tokens": 9}},
    ],
)
def test_keys_depend_on_what_results_depend_on(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert not set(keys(tmp_path)) & set(keys(tmp_path, **changes))


def test_a_stage_does_not_depend_on_test_or_name(tmp_path: Path) -> None:
    assert keys(tmp_path) == keys(tmp_path, splits={"test": 5}, name="other")


def test_a_reward_file_counts_by_its_content(tmp_path: Path) -> None:
    reward = tmp_path / "mine.py"
    methods = {"grpo": {"reward": "mine.py:fn"}}
    arms = {"a": ["grpo"]}
    reward.write_text("def fn(): return 1")
    before = keys(tmp_path, methods=methods, arms=arms)
    assert before == keys(tmp_path, methods=methods, arms=arms)
    reward.write_text("def fn(): return 2")
    assert before != keys(tmp_path, methods=methods, arms=arms)


def _grpo(reward: Any) -> dict[str, Any]:
    return {"methods": {"grpo": {"reward": reward}}, "arms": {"a": ["grpo"]}}


def test_all_a_reward_names_counts_by_its_content(tmp_path: Path) -> None:
    """Code, rubric, schema, the folder of a reward model, a local judge: each moves the key."""
    from lm.tiny import write_tiny_model

    for name, content in (
        ("mine.py", "x = 1"),
        ("polite.md", "Be polite."),
        ("s.jsonschema", "{}"),
    ):
        (tmp_path / name).write_text(content)
    for name in ("learned", "judge"):
        write_tiny_model(tmp_path / name)
    (tmp_path / "learned/tasklift.json").write_text("{}")
    reward = {
        "parts": [
            "mine.py:fn",
            "learned",
            {"format": "json", "json_schema": "s.jsonschema"},
            {"judge": {"model": "judge", "rubric": "polite.md"}},
        ],
    }
    seen = [keys(tmp_path, **_grpo(reward))]
    for name in ("mine.py", "polite.md", "s.jsonschema", "learned/tasklift.json"):
        (tmp_path / name).write_text("{ }")
        seen.append(keys(tmp_path, **_grpo(reward)))
    for name in ("learned", "judge"):
        write_tiny_model(tmp_path / name, seed=1)
        seen.append(keys(tmp_path, **_grpo(reward)))
    assert len({tuple(found) for found in seen}) == 7
    assert keys(tmp_path, **_grpo(reward)) == seen[-1]


def test_a_judge_at_an_address_counts_by_its_name(tmp_path: Path) -> None:
    judge = {"model": "big", "endpoint": "http://localhost:1", "rubric": "Is it polite?"}
    first = keys(tmp_path, **_grpo({"judge": judge}))
    assert first == keys(tmp_path, **_grpo({"judge": judge}))
    assert first != keys(tmp_path, **_grpo({"judge": {**judge, "model": "small"}}))


@pytest.mark.parametrize(
    ("reward", "times"),
    [
        ("task", 1),
        ({"parts": ["task", {"judge": {"model": "m", "rubric": "r"}}]}, 2),
        ({"judge": {"model": "m", "rubric": "r", "mode": "pairwise"}}, 8),
        ({"judge": {"model": "m", "rubric": "r", "mode": "pairwise", "opponents": 2}}, 5),
    ],
)
def test_what_a_judge_is_asked_is_foreseen(reward: Any, times: int) -> None:
    from rl.config import GRPOConfig

    config = GRPOConfig(steps=3, prompts_per_step=2, group_size=8, reward=reward)
    assert config.expected_rollouts() == 3 * 2 * 8 * times


def test_description_counts_what_is_left(tmp_path: Path) -> None:
    spec = parse_spec(BASE, "test")
    made = make_plan(spec, "w", tmp_path)
    everything = list(describe(spec, made, set()))
    nothing = list(describe(spec, made, {stage.key for stage in made.stages}))
    assert "(baseline)" in "".join(everything)
    assert "about 0 rollouts" in nothing[-1] and "about 0 rollouts" not in everything[-1]


def test_a_resolved_spec_reads_back_as_itself() -> None:
    spec = parse_spec(BASE, "test")
    assert parse_spec(spec.model_dump(mode="json"), "again") == spec


def test_every_example_spec_parses(root: Path) -> None:
    found = [path for path in root.glob("examples/*/*.yaml") if "arms:" in path.read_text()]
    assert len(found) >= 3
    for path in found:
        assert load_spec(path).arms


def test_overrides_reach_nested_keys(root: Path) -> None:
    path = root / "examples/inflection/spec.yaml"
    spec = load_spec(path, ["methods.grpo.steps=3", "model=tiny-random", "seeds=[4, 5]"])
    assert spec.seeds == [4, 5] and spec.model.source == "tiny-random"
    assert {step.config["steps"] for chain in spec.arms.values() for step in chain
            if step.kind == "grpo"} == {3}  # fmt: skip
    assert load_spec(path, ["model.device=cpu"]).model.source == "smollm2-135m"
