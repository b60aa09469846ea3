"""The packed tree says exactly who sees whom, and attention over it is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

import lm.tree_attention
from lm.token_tree import shared_length, token_tree
from lm.tree_attention import attend, blocks

trees = st.builds(
    lambda start, rows: [start + row for row in rows],
    st.lists(st.integers(0, 2), max_size=40),
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=12),
)


def visible(tree):
    """(N, N): the ancestors of every token and itself, read off the rows."""
    table = np.zeros((len(tree), len(tree)), dtype=bool)
    for path in tree.paths:
        for i, token in enumerate(path):
            table[token, path[: i + 1]] = True
    return table


def covered(tree, parts):
    count = np.zeros((len(tree), len(tree)), dtype=int)
    for part in parts:
        block = count[part.first : part.last, part.start : part.stop]
        block += 1 if part.mask is None else part.mask.numpy()
    return count


@given(trees)
def test_rows_are_read_back_and_nothing_stands_twice(rows):
    tree = token_tree(rows)
    for row, path in zip(rows, tree.paths, strict=True):
        assert tree.tokens[path].tolist() == row
        assert tree.depth[path].tolist() == list(range(len(row)))
    assert len(tree) == len({tuple(row[: i + 1]) for row in rows for i in range(len(row))})
    queries, keys = np.arange(len(tree))[:, None], np.arange(len(tree))[None]
    assert ((keys <= queries) & (queries < tree.end) == visible(tree)).all()


@given(trees)
def test_without_the_first_token(rows):
    marked = [[7, *row] for row in rows]
    tree, plain = token_tree(marked).without([1] * len(rows)), token_tree(rows)
    assert tree.tokens.tolist() == plain.tokens.tolist()
    assert tree.end.tolist() == plain.end.tolist()
    assert [p.tolist() for p in tree.paths] == [p.tolist() for p in plain.paths]


@pytest.mark.parametrize(("small", "scores"), [(128, 1 << 19), (4, 64), (1, 1), (16, 1 << 19)])
@settings(max_examples=60, deadline=None)
@given(rows=trees)
def test_blocks_cover_what_is_visible_once(small, scores, rows):
    before = lm.tree_attention.SMALL, lm.tree_attention.SCORES
    lm.tree_attention.SMALL, lm.tree_attention.SCORES = small, scores
    try:
        tree = token_tree(rows)
        assert (covered(tree, blocks(tree)) == visible(tree)).all()
    finally:
        lm.tree_attention.SMALL, lm.tree_attention.SCORES = before


def _long_rows():
    draw = torch.Generator().manual_seed(0)
    start = torch.randint(0, 9, (200,), generator=draw).tolist()
    group = [start + torch.randint(0, 9, (150,), generator=draw).tolist() for _ in range(2)]
    ends = [torch.randint(0, 9, (i % 13 + 1,), generator=draw).tolist() for i in range(40)]
    return [group[i % 2] + end for i, end in enumerate(ends)] + [[1, 2, 3], start]


@pytest.mark.parametrize("kernel", ["cpu", "any"])
@pytest.mark.parametrize("heads", [(6, 2), (4, 4), (4, 1)])
def test_attention_and_its_gradient_equal_a_dense_mask(monkeypatch, kernel, heads):
    monkeypatch.setattr(lm.tree_attention, "_on_cpu", lambda tensor: kernel == "cpu")
    tree = token_tree(_long_rows())
    parts = blocks(tree)
    assert any(part.mask is None for part in parts) and len(parts) > 4
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(n, len(tree), 16, requires_grad=True) for n in (heads[0], heads[1], heads[1])
    )
    above = torch.randn(heads[0], len(tree), 16)
    out, lse = attend(query, key, value, parts, 0.3)
    ours = torch.autograd.grad(out, (query, key, value), above)
    mask = torch.from_numpy(visible(tree))
    repeat = heads[0] // heads[1]
    dense = scaled_dot_product_attention(
        query[None],
        key[None].repeat_interleave(repeat, 1),
        value[None].repeat_interleave(repeat, 1),
        attn_mask=mask,
        scale=0.3,
    )[0]
    theirs = torch.autograd.grad(dense, (query, key, value), above)
    torch.testing.assert_close(out, dense, atol=1e-5, rtol=0)
    scores = (query @ key.repeat_interleave(repeat, 0).mT * 0.3).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(lse, scores.logsumexp(-1), atol=1e-4, rtol=0)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


@given(st.lists(st.integers(0, 1), max_size=9), st.lists(st.integers(0, 1), max_size=9))
def test_shared_length(a, b):
    length = shared_length(a, tuple(b))
    assert a[:length] == b[:length]
    assert length == min(len(a), len(b)) or a[length] != b[length]
