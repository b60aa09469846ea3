"""One run in several processes, as `torchrun` and `accelerate launch` start them.

All processes do the same things in the same order; each has a rank from 0 on. Where they must not
differ one decides for all, where they share work their parts are put together again, and only the
first writes. In a single process every function here does the obvious thing without torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from lm.types import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
PATIENCE = timedelta(days=30)  # the first may optimize prompts for hours while the others wait
SECONDS_TO_SPEAK = 20  # on a busy machine one process is that far behind another
BUCKET = 1 << 24  # entries of gradients exchanged at a time

_store: Any = None


def world() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def rank() -> int:
    """Which of them this one is, from 0 on."""
    return int(os.environ["RANK"]) if world() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def local_rank() -> int:
    """Which of the processes on this machine this one is: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0")) if world() > 1 else 0


@contextmanager
def joined() -> Iterator[None]:
    """While it lasts, the processes can talk to each other.

    A process that dies takes the others with it: the launcher ends them, and so does the closed
    connection. Raises ModelError for a launcher that splits a model among processes.
    """
    global _store
    for name in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":
            raise ModelError(
                f"launcher: {name} is not supported, each process holds the whole model; write "
                "accelerate launch --multi_gpu"
            )
    if world() == 1:
        yield
        return
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local_rank())
    _store, me, count = next(rendezvous("env://"))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=_store,
        rank=me,
        world_size=count,
        timeout=PATIENCE,
    )
    yield  # after an error the others are not waited for
    distributed.destroy_process_group()


def is_first_to_fail() -> bool:
    """True for the process that is to say what went wrong: the first one that asks.

    Others fail only because that one did; before they are joined all fail alike.
    """
    return is_first() if _store is None else _store.add("failures", 1) == 1


def let_the_first_speak() -> None:
    """Of processes that fail alike before they are joined, the others wait for the first to say
    why and to go: a launcher ends all as soon as one has failed."""
    if world() > 1 and _store is None and not is_first():
        time.sleep(SECONDS_TO_SPEAK)


def barrier() -> None:
    """Wait until all processes are here."""
    if world() > 1:
        gathered(None)  # on the CPU, whatever the devices


def gathered(item: T) -> list[T]:
    """What each process has brought, in the order of ranks. Items are pickled."""
    if world() == 1:
        return [item]
    from torch import distributed

    items: list[Any] = [None] * world()
    distributed.all_gather_object(items, item)
    return items


def from_first(make: Callable[[], T]) -> T:
    """What `make()` gives the first process; the others do not call it."""
    if world() == 1:
        return make()
    return gathered(make() if is_first() else None)[0]  # type: ignore[return-value]


def own_part(count: int) -> slice:
    """Which of `count` items are this process's: an equal share, in the order of ranks."""
    return slice(count * rank() // world(), count * (rank() + 1) // world())


def shared(items: Sequence[T], work: Callable[[Sequence[T]], Sequence[Any]]) -> list[Any]:
    """`work` of all items, each process having done its part of them."""
    return [result for results in gathered(work(items[own_part(len(items))])) for result in results]


def summed(tensor: Tensor) -> Tensor:
    """The sum of the processes' tensors, of one shape."""
    if world() == 1:
        return tensor
    from torch import distributed

    total = tensor.clone()
    distributed.all_reduce(total)
    return total


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Set each gradient to its mean over the processes; one that only some have counts as 0 in
    the others. The same bits in all of them."""
    if world() == 1:
        return
    import torch

    weights = [weight for weight in parameters if weight.requires_grad]
    if not weights:
        return
    device = weights[0].device
    found = summed(torch.tensor([w.grad is not None for w in weights], device=device).float())
    used = [weight for weight, count in zip(weights, found.tolist(), strict=True) if count]
    for weight in used:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    for bucket in _buckets(used):
        flat = torch.cat([weight.grad.flatten().float() for weight in bucket])  # type: ignore[union-attr]
        mean = summed(flat) / world()
        for weight, piece in zip(bucket, mean.split([w.numel() for w in bucket]), strict=True):
            weight.grad.copy_(piece.view_as(weight))  # type: ignore[union-attr]


def _buckets(weights: Sequence[Any]) -> Iterator[list[Any]]:
    bucket: list[Any] = []
    for weight in weights:
        bucket.append(weight)
        if sum(each.numel() for each in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket
