"""Which programs are nothing but one prompt: those it can be proven of, by reading their source.

A program that runs is no proof: it may ask otherwise the next time. So a module counts as bare when
it is a `dspy.Predict` or `dspy.ChainOfThought`, or its `forward` is one line that hands its own
arguments to one, and when a `Prompt` can say all that the signature says. Every other program is
taken for one of several steps, which is never wrong, only less at home here.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import replace
from typing import Any

import dspy

from prompt_opt.adapter import REASONING
from tasks.types import Demo, Prompt, Style


def bare_prompt(module: dspy.Module, frame: Prompt) -> Prompt | None:
    """The prompt that says what `module` asks, with the fields of `frame`; None in any doubt."""
    core: Any = module if _is_predictor(module) else _handed_to(module, frame)
    if core is None or len(module.predictors()) != 1:
        return None
    style: Style = "cot" if type(core) is dspy.ChainOfThought else "direct"
    predict: Any = core.predict if style == "cot" else core
    outputs = [REASONING, frame.output] if style == "cot" else [frame.output]
    fields = predict.signature.fields
    if sorted(fields) != sorted([*frame.inputs, *outputs]) or predict.config or predict.fields:
        return None
    if list(predict.signature.output_fields) != outputs or not all(map(_is_plain, fields.items())):
        return None
    prompt = replace(frame, instruction=predict.signature.instructions, style=style)
    demos = [_demo(prompt, dict(demo), outputs) for demo in predict.demos]
    return None if None in demos else prompt.with_demos([demo for demo in demos if demo])


def _is_predictor(module: Any) -> bool:
    return type(module) in (dspy.Predict, dspy.ChainOfThought)


def _is_plain(field: tuple[str, Any]) -> bool:
    """Text, and without a description: a `Prompt` has no place for one."""
    name, info = field
    desc = (info.json_schema_extra or {}).get("desc")
    return info.annotation is str and info.is_required() and desc == f"${{{name}}}"


def _demo(prompt: Prompt, demo: dict[str, Any], outputs: list[str]) -> Demo | None:
    wanted = [demo.get(name) for name in (*prompt.inputs, *outputs)]
    if not all(isinstance(value, str) for value in wanted):
        return None
    inputs = {name: demo[name] for name in prompt.inputs}
    return Demo(inputs, demo[prompt.output], demo[REASONING] if REASONING in outputs else "")


def _handed_to(module: dspy.Module, frame: Prompt) -> Any:
    """The predictor that `forward` hands its arguments to, if that is all the module does."""
    kind: Any = type(module)
    own = any(name in vars(module) for name in ("forward", "__call__"))
    if own or kind.__call__ is not dspy.Module.__call__ or not hasattr(kind, "forward"):
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind.forward)))
    except (OSError, TypeError, SyntaxError):
        return None
    name = _attribute_called(tree.body[0], set(frame.inputs))
    core = vars(module).get(name or "")
    return core if _is_predictor(core) else None


def _attribute_called(forward: ast.stmt, inputs: set[str]) -> str | None:
    """`x` of `def forward(self, a, b): return self.x(a=a, b=b)`, or with **kwargs."""
    if not isinstance(forward, ast.FunctionDef) or forward.decorator_list:
        return None
    body = forward.body[1:] if ast.get_docstring(forward) is not None else forward.body
    call = body[0].value if len(body) == 1 and isinstance(body[0], ast.Return) else None
    target = call.func if isinstance(call, ast.Call) and not call.args else None
    args = forward.args
    names = {arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)} - {"self"}
    if not isinstance(call, ast.Call) or not isinstance(target, ast.Attribute) or args.vararg:
        return None
    handed = {(word.arg, ast.unparse(word.value)) for word in call.keywords}
    if args.kwarg is not None:
        whole = not names and handed == {(None, args.kwarg.arg)}
    else:
        whole = names == inputs and handed == {(name, name) for name in names}
    return target.attr if whole and ast.unparse(target.value) == "self" else None
