"""A learned reward reads the task's words or what was sent, and says the same in any company."""

from __future__ import annotations

import json
import shutil

import pytest

from lm.ledger import Ledger
from reward_models.card import CARD, Card, read_card
from reward_models.learned import check_learned, load_learned
from reward_models.load import check_reward, load_reward
from reward_models.types import RewardError
from tasks.types import Demo, Example, Prompt, Score
from tests.reward_models.vowels import PROMPT, vowel_pairs

EXAMPLES = {f"w{i}": Example(f"w{i}", {"word": f"word {i}"}, "aeiou") for i in range(8)}
TEXTS = ["aei", "bcd", "", "aeb", "a longer answer, of several words", "bcd", "iou", "k"]
IDS = list(EXAMPLES)


def right(example: Example, text: str) -> Score:
    return Score(1.0, True)


def sent(demos: int = 0) -> list:
    prompt = PROMPT.with_demos([Demo({"word": "x"}, "aei")] * demos)
    return [prompt.messages(example.inputs) for example in EXAMPLES.values()]


def copied(vowels, folder, **changes):
    """The reward model with another card."""
    shutil.copytree(vowels, folder)
    raw = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**raw, **changes}))
    return folder


@pytest.fixture(scope="module")
def reward(vowels):
    return load_learned(vowels, PROMPT, EXAMPLES, Ledger(), "cpu")


def test_it_prefers_what_it_learned_to_prefer(reward):
    values = reward(sent(), TEXTS, example_id=IDS)
    assert values[0] > values[1] and values[6] > values[7]


def test_any_order_and_company_give_the_same(reward):
    whole = reward(sent(), TEXTS, example_id=IDS)
    turned = reward(sent()[::-1], TEXTS[::-1], example_id=IDS[::-1])[::-1]
    alone = [reward([sent()[i]], [TEXTS[i]], example_id=[IDS[i]])[0] for i in range(8)]
    assert turned == pytest.approx(whole, abs=1e-5) and alone == pytest.approx(whole, abs=1e-5)
    assert reward(sent(), TEXTS, example_id=IDS) == whole  # and the same call the same bits


def test_strings_and_messages_are_one(reward):
    turns = [[{"role": "assistant", "content": text}] for text in TEXTS]
    assert reward(sent(), turns, example_id=IDS) == reward(sent(), TEXTS, example_id=IDS)


def test_demos_of_the_policy_do_not_matter_to_it(reward):
    bare = reward(sent(), TEXTS, example_id=IDS)
    assert reward(sent(demos=3), TEXTS, example_id=IDS) == bare


def test_with_reads_sent_they_do(vowels, tmp_path):
    folder = copied(vowels, tmp_path / "sent", reads="sent")
    reward = load_learned(folder, PROMPT, EXAMPLES, device="cpu")
    bare = reward(sent(), TEXTS, example_id=IDS)
    assert reward(sent(demos=3), TEXTS, example_id=IDS) != pytest.approx(bare, abs=1e-3)


def test_in_plain_trl_it_reads_prompts_as_given(vowels, reward):
    plain = load_learned(vowels, PROMPT, {}, device="cpu")
    assert plain(sent(), TEXTS) == reward(sent(), TEXTS, example_id=IDS)
    [text] = plain(["word 1"], ["aei"])
    [chat] = plain([[{"role": "user", "content": "word 1"}]], ["aei"])
    assert text == chat


def test_an_unknown_example_is_named(reward):
    with pytest.raises(RewardError, match="no example 'nobody'"):
        reward(sent()[:1], ["aei"], example_id=["nobody"])


def test_what_does_not_fit_the_window_has_no_reward(reward):
    values = reward(sent()[:2], ["aei", "x" * 3000], example_id=IDS[:2])
    assert values[1] is None and values[0] is not None


def test_nothing_asked_costs_nothing(reward):
    assert reward([], [], example_id=[]) == []


def test_what_it_reads_is_counted_and_is_no_rollout(vowels):
    ledger = Ledger()
    reward = load_learned(vowels, PROMPT, EXAMPLES, ledger, "cpu")
    reward(sent(), TEXTS, example_id=IDS)
    used = ledger.usage["reward"]
    assert used.calls == 1 and used.prompt_tokens > 8 * 40 and used.seconds > 0
    assert ledger.rollouts == 0 and ledger.tokens == used.prompt_tokens


def test_lines_are_scored_one_by_one(vowels, tmp_path):
    folder = copied(vowels, tmp_path / "steps", steps="min")
    reward = load_learned(folder, PROMPT, EXAMPLES, device="cpu")
    [each] = reward.step_scores(sent()[:1], ["aei\nbcd\nio"], example_id=IDS[:1])
    assert len(each) == 3
    assert reward(sent()[:1], ["aei\nbcd\nio"], example_id=IDS[:1]) == [min(each)]


def test_a_spec_names_the_folder(vowels, reward):
    facts = {"score": right, "prompt": PROMPT, "examples": EXAMPLES}
    check_reward(str(vowels), **facts)
    loaded = load_reward(str(vowels), **facts)
    assert loaded(sent(), TEXTS, example_id=IDS) == reward(sent(), TEXTS, example_id=IDS)


def test_a_model_for_another_task_is_refused(vowels):
    other = Prompt("Add.", ("a", "b"))
    with pytest.raises(RewardError, match="trained for a task with inputs word, this one has a, b"):
        check_learned(vowels, other)


@pytest.mark.parametrize(
    "changes", [{"reads": "all"}, {"steps": "max"}, {"prompt": None}, {"center": "x"}, {"told": 1}]
)
def test_a_damaged_card_is_one_line(vowels, tmp_path, changes):
    folder = copied(vowels, tmp_path / "damaged", **changes)
    with pytest.raises(RewardError, match=r"tasklift\.json: is damaged") as caught:
        check_learned(folder, PROMPT)
    assert "\n" not in str(caught.value)


def test_a_folder_of_others_has_an_empty_card(vowels, tmp_path):
    folder = copied(vowels, tmp_path / "others")
    (folder / CARD).unlink()
    assert read_card(folder) == Card()
    reward = load_learned(folder, PROMPT, EXAMPLES, device="cpu")
    values = reward([p.chat for p in vowel_pairs(0, 2)], ["aei", "bcd"], example_id=IDS[:2])
    assert values[0] > values[1]


def test_a_card_reads_back_what_it_wrote(tmp_path):
    card = Card("task", PROMPT, "mean", 0.25, {"base": "tiny"})
    (tmp_path / CARD).write_text(card.to_json())
    assert read_card(tmp_path) == card


def test_trl_takes_the_folder_as_a_reward_model(vowels, tmp_path, tiny):
    """TRL's own use of a model folder as a reward gives what ours gives, the zero apart."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    ours = load_learned(vowels, PROMPT, {}, device="cpu")
    seen: list[tuple[list, list]] = []

    def learned(prompts, completions, **columns):
        values = ours(prompts, completions, **columns)
        seen.append((completions, values))
        return values

    trainer = GRPOTrainer(
        model=str(tiny),
        reward_funcs=[str(vowels), learned],
        args=GRPOConfig(
            output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=4, bf16=False,
            num_generations=4, max_completion_length=6, use_cpu=True, report_to="none",
        ),
        train_dataset=Dataset.from_list([{"prompt": chat} for chat in sent()]),
    )  # fmt: skip
    trainer.train()
    logged = trainer.state.log_history[0]
    [theirs] = [v for k, v in logged.items() if k.endswith("vowels/mean")]
    ours_mean = sum(seen[0][1]) / len(seen[0][1]) + ours.card.center
    assert theirs == pytest.approx(ours_mean, abs=1e-3)
