"""Who wins, and who looks as if they might."""

from __future__ import annotations

from dataclasses import replace

from prompt_opt.board import Board
from tasks.types import Demo, Prompt

PROMPTS = [Prompt(f"Instruction {i}.") for i in range(6)]


def noted(board: Board, prompt: Prompt, scores: dict[str, float]) -> None:
    for name, value in scores.items():
        board.note(prompt, name, value)


def test_sums_do_not_depend_on_the_order_of_the_notes() -> None:
    names = [f"e{i}" for i in range(30)]
    values = [((i * 7919) % 97) / 97 for i in range(30)]
    scores = dict(zip(names, values, strict=True))
    forward, backward = Board(names), Board(names)
    noted(forward, PROMPTS[0], scores)
    noted(backward, PROMPTS[0], dict(reversed(scores.items())))
    assert forward.collect() == backward.collect()


def test_fewer_demos_break_a_tie_and_then_the_earlier_one() -> None:
    board = Board(["a", "b"])
    shown = replace(PROMPTS[0], demos=(Demo({"input": "x"}, "y"),))
    for prompt in (shown, PROMPTS[1], PROMPTS[2]):
        noted(board, prompt, {"a": 1.0, "b": 0.0})
        board.collect()
    best = board.best()
    assert best is not None and best.form == PROMPTS[1]


def test_dev_comes_before_train_and_many_answers_before_few() -> None:
    dev = [f"d{i}" for i in range(20)]
    board = Board(dev)
    noted(board, PROMPTS[0], {f"t{i}": 1.0 for i in range(16)})  # a teacher, on train
    noted(board, PROMPTS[1], {name: 0.0 for name in dev[:10]})
    noted(board, PROMPTS[2], {name: 0.6 for name in dev[:19]})
    noted(board, PROMPTS[3], {name: 0.65 for name in dev[:8]})
    noted(board, PROMPTS[4], {name: 1.0 for name in dev[:7]})  # too few
    assert board.promising(5) == [PROMPTS[2], PROMPTS[3], PROMPTS[1], PROMPTS[0]]
    noted(board, PROMPTS[2], {dev[19]: 0.6})
    assert PROMPTS[2] not in board.promising(5)
    assert [candidate.form for candidate in board.collect()] == [PROMPTS[2]]
