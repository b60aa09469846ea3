"""Inside the walls: run the program, then answer calls of its function until the checker is done.

Everything here lies within the program's reach. It can answer what it likes, but it is only ever
asked for values: what they are compared with is in another process.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from types import ModuleType

from wire import decode, encode, receive, send

TYPE_CHECKING = False  # without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

FORBIDDEN = (
    errno.EPERM,
    errno.EACCES,
    errno.EROFS,
    errno.ENOENT,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EAFNOSUPPORT,
    errno.ESRCH,
)
TOO_MUCH = (errno.EFBIG, errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EDQUOT)
NO_MEMORY = {"failure": "memory", "error": "MemoryError", "message": ""}
NESTED = {"opaque": "object nested too deeply"}


def serve(sources: list[str], name: str | None, requests: int, replies: int) -> None:
    """Execute the first of `sources` that is Python; where a function is named, then call it as
    often as asked.

    A reply is `{"value": …}`, or `{"failure": class, "error": type, "message": text}`.
    """
    me = os.getpid()
    if "random" in sources[0]:
        import random

        random.seed(0)
    module = ModuleType("__main__" if name is None else "answer")
    sys.modules[module.__name__] = module
    reply = _attempt(lambda: _load(sources, module, name))
    while os.getpid() == me:  # a process that the program has forked has nothing to say
        _tell(replies, reply)
        request = receive(requests)
        if request is None:
            return
        reply = _attempt(lambda request=request: _answer(module, name or "", request))


def _tell(replies: int, reply: Any) -> None:
    with suppress(BaseException):
        sys.stdout.flush()
    try:
        send(replies, reply)
    except RecursionError:
        send(replies, {"value": NESTED})
    except MemoryError:
        send(replies, NO_MEMORY)


def _load(sources: list[str], module: ModuleType, name: str | None) -> Any:
    code, failure = None, {}
    for source in sources:
        try:
            code = compile(source, "<answer>", "exec", dont_inherit=True)
            break
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            failure = failure or _describe(error, "syntax_error")
    if code is None:
        return failure
    exec(code, module.__dict__)
    if name is not None and not callable(module.__dict__.get(name)):
        return {"failure": "no_function", "error": "NameError", "message": f"no function {name}"}
    return {"value": None}


def _answer(module: ModuleType, name: str, request: Any) -> Any:
    arguments, named = map(decode, request)
    value = module.__dict__[name](*arguments, **named)
    try:
        return {"value": encode(value)}
    except RecursionError:
        return {"value": NESTED}


def _attempt(work: Any) -> Any:
    try:
        return work()
    except MemoryError:
        pass  # what holds the memory goes with the traceback
    except BaseException as error:
        return _describe(error, _classify(error))
    return NO_MEMORY


def _describe(error: BaseException, failure: str) -> Any:
    try:
        message = str(error)[:300]
    except BaseException:
        message = ""
    return {"failure": failure, "error": type(error).__name__, "message": message}


def _classify(error: BaseException) -> str:
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)):
        return "exited_early"
    if isinstance(error, RecursionError):
        return "too_deep"
    if number == errno.EAGAIN or "start new thread" in _describe(error, "")["message"]:
        return "too_many_processes"
    if number == errno.ENOMEM:
        return "memory"
    if number in TOO_MUCH:
        return "output_flood"
    if number in FORBIDDEN or type(error).__module__ == "socket":
        return "forbidden"
    cause = error.__cause__ or error.__context__
    if isinstance(error, OSError) and number is None and isinstance(cause, OSError):
        return _classify(cause)  # urllib and its like wrap what the system said
    return "raised"
