"""A chat becomes token ids, and what stands inside a message stays text.

A user's text, or a demo, may contain `<|im_end|>`. Tokenizers turn that into the control token, so
the text could end its own turn and speak as somebody else. Here every control token inside a
message is torn after its first character before the text is tokenized: it reads the same and
controls nothing. Texts without control tokens get exactly the ids `apply_chat_template` gives.

A chat whose first message has the role `tools` (its content: JSON of their schemas) offers tools.
A template with a place for them shows them its own way; else they stand in the system message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from functools import cached_property
from itertools import groupby
from typing import Any

from lm.pictures import refuse_pictures
from lm.tool_calls import CLOSE, OPEN, in_system, quoted, read_calls, told, written
from lm.tool_template import ToolTemplate
from lm.types import Chat, ModelError

TEAR = "\ufdd0"  # a Unicode noncharacter, set aside for a program's own use
# stand for a reply, and what a tool says then, where a template is asked what it writes behind them
_REPLY, _RESULT = "tasklift reply", "tasklift result"


class ChatEncoder:
    """Token ids of chats, ready for the assistant to answer, by a tokenizer's chat template.

    A base model without a template gets the messages separated by blank lines; a template that
    refuses a system message gets it in front of the first turn. Raises ModelError for an empty
    chat and a template that fails.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        names = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        any_name = "|".join(re.escape(name) for name in names if len(name) > 1)
        # in some vocabularies what frames a call is a control token, and still to be read
        self._frames = {
            i: t.content
            for i, t in tokenizer.added_tokens_decoder.items()
            if t.special and "tool_call" in t.content
        }
        # looks ahead, so that of two overlapping names both are torn
        self._control = re.compile(f"(?=(?:{any_name}))(.)") if any_name else None
        framed = "|".join(re.escape(name) for name in (OPEN, CLOSE) if name in names)
        self._calls = re.compile(f"({framed})") if framed else None

    def __call__(self, chat: Chat) -> list[int]:
        if not chat:
            raise ModelError("model: a chat has no messages; give it at least one")
        return self._ids(self._text(chat, answer_follows=True))

    def conversation(self, chat: Chat, reply: str, steps: bool = False) -> list[list[int]]:
        """Token ids of a chat with the reply to it, up to whatever the template writes last.

        In one piece; with `steps` a piece for each line of the reply that has text, the chat in
        front of the first and the end behind the last. Joined, pieces read as the whole does, but
        no token spans two of them.
        """
        text = self._text([*chat, {"role": "assistant", "content": reply}], answer_follows=False)
        if not steps:
            return [self._ids(text)]
        said = self._own(reply)
        said = said if said in text else said.strip()  # some templates strip
        if not said or said not in text:
            return [self._ids(text)]
        before, _, behind = text.rpartition(said)
        lines = _with_blank_lines(re.split(r"(?<=\n)", said))
        pieces = [before + lines[0], *lines[1:]]
        pieces[-1] += behind
        return [self._ids(piece, opens=not number) for number, piece in enumerate(pieces)]

    def _text(self, chat: Chat, *, answer_follows: bool) -> str:
        refuse_pictures(chat, "it")
        schemas = None
        if chat[0]["role"] == "tools":
            chat = written(chat, self.tools.syntax, self.tools.takes_results)
            native = self.tools.shows_tools
            schemas = json.loads(chat[0]["content"]) if native else None
            chat = chat[1:] if native else in_system(chat)
        messages = [
            {**m, "content": (self._own if m["role"] == "assistant" else self._torn)(m["content"])}
            for m in chat
        ]
        if self._tokenizer.chat_template is None:
            return "".join(message["content"] + "\n\n" for message in messages)
        return _rendered(self._tokenizer, messages, answer_follows, schemas)[0]

    def _ids(self, text: str, *, opens: bool = True) -> list[int]:
        plain = self._tokenizer.chat_template is None  # a template writes the opening token itself
        ids: list[int] = []
        for number, piece in enumerate(text.split(TEAR)):
            first = plain and opens and number == 0
            ids += self._tokenizer(piece, add_special_tokens=first)["input_ids"]
        return ids

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say, without control tokens."""
        if self._frames.keys().isdisjoint(tokens):
            return self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        parts = groupby(tokens, self._frames.get)
        return "".join(frame or self.text(list(some)) for frame, some in parts)

    @cached_property
    def tools(self) -> ToolTemplate:
        """What the chat template does with tools."""
        return ToolTemplate.of(self._tokenizer)

    def results(self, results: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids from the end of the assistant's turn to where it speaks again, with what tools
        have answered (`content`) in between, as the template writes it."""
        return self._plain_ids(self._behind_reply(results))

    @cached_property
    def closing(self) -> list[int]:
        """The first of the token ids that `results` gives: those in front of the next message's
        text, whatever that is."""
        return self._plain_ids(self._behind_reply([{"content": _RESULT}]).partition(_RESULT)[0])

    def _behind_reply(self, results: Sequence[Mapping[str, Any]]) -> str:
        turns: list[dict[str, str]] = [{"role": "user", "content": "a"}]
        turns.append({"role": "assistant", "content": _REPLY})
        if self.tools.takes_results:
            turns += [{"role": "tool", "content": quoted(r["content"])} for r in results]
        else:
            turns.append({"role": "user", "content": told(results)})
        return self._text(turns, answer_follows=True).partition(_REPLY)[2]

    def reply(self, text: str) -> list[int]:
        """Token ids of a reply, to stand behind those of its chat; without the end of the turn.
        Where calls are framed by control tokens, those of calls that can be read are."""
        return self._plain_ids(self._own(text))

    def _plain_ids(self, text: str) -> list[int]:
        pieces = text.split(TEAR)
        return [
            i for p in pieces for i in self._tokenizer(p, add_special_tokens=False)["input_ids"]
        ]

    def _own(self, text: str) -> str:
        """What the assistant says: torn, but for the frames of its calls."""
        if self._calls is None or not read_calls(text, "hermes").calls:
            return self._torn(text)
        parts = self._calls.split(text)
        return "".join(p if p in (OPEN, CLOSE) else self._torn(p) for p in parts)

    def _torn(self, text: str) -> str:
        return self._control.sub(rf"\1{TEAR}", text) if self._control else text


def turn_end(tokenizer: Any, ends: Set[int]) -> int:
    """The token of `ends` that the chat template writes behind a reply, else the tokenizer's own.

    Raises ModelError when there is none.
    """
    found: list[int] = []
    with suppress(Exception):  # a template can fail in any way
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _REPLY}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        behind = text.rpartition(_REPLY)[2]
        found = [i for i in tokenizer(behind, add_special_tokens=False)["input_ids"] if i in ends]
    end = found[0] if found else tokenizer.eos_token_id
    if end is None:
        raise ModelError("model: its tokenizer names no token that ends a turn; set eos_token")
    return end


def sendable(tokenizer: Any, chat: Chat) -> list[dict[str, str]]:
    """`chat` as `ChatEncoder` puts it before the template: with a system message or without."""
    does = ToolTemplate.of(tokenizer)
    chat = written(chat, does.syntax, does.takes_results)
    messages = chat[1:] if offered(tokenizer, chat) else in_system(chat)
    return messages if tokenizer.chat_template is None else _rendered(tokenizer, messages)[1]


def offered(tokenizer: Any, chat: Chat) -> list[dict[str, Any]]:
    """The schemas of the tools in `chat`, as far as the template has a place of its own for them:
    elsewhere they are in a message (`sendable`)."""
    shows = chat[0]["role"] == "tools" and ToolTemplate.of(tokenizer).shows_tools
    return json.loads(chat[0]["content"]) if shows else []


def write_template(tokenizer: Any) -> None:
    """Give a tokenizer without a chat template the one that says what `ChatEncoder` does."""
    if tokenizer.chat_template is None:
        first = tokenizer("")["input_ids"]
        opening = "{{ bos_token }}" if first and first[0] == tokenizer.bos_token_id else ""
        turns = "{% for message in messages %}{{ message['content'] + '\\n\\n' }}{% endfor %}"
        tokenizer.chat_template = opening + turns


def _with_blank_lines(lines: list[str]) -> list[str]:
    """Lines that have text, each with the blank ones behind it; at least one line."""
    kept: list[str] = []
    for line in lines:
        if kept and (not line.strip() or not kept[-1].strip()):
            kept[-1] += line
        else:
            kept.append(line)
    return kept


def _rendered(
    tokenizer: Any,
    messages: list[dict[str, str]],
    answer_follows: bool = True,
    tools: Any = None,
) -> tuple[str, list[dict[str, str]]]:
    """The text of a chat, and its messages as the template took them."""
    try:
        text = tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=answer_follows
        )
        return text, messages
    except Exception as error:  # a template can fail in any way
        if messages[0]["role"] == "system" and len(messages) > 1:
            both = f"{messages[0]['content']}\n\n{messages[1]['content']}"
            merged = [{**messages[1], "content": both}, *messages[2:]]
            return _rendered(tokenizer, merged, answer_follows, tools)
        line = (str(error).splitlines() or [""])[0]
        raise ModelError(f"model: its chat template fails: {line}") from error
