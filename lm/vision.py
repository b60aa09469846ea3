"""A vision-language model of transformers: pictures and text in, text out.

The plain way: transformers' own processor and `generate`, one chat at a time, its answers together;
no text is shared between chats and nothing is trained. Draws are those of `lm.sampler`, row by row
the same as everywhere.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging as transformers_logging

from lm.hf import HFModel, first_line, pick_device, pick_dtype
from lm.ledger import Ledger, Purpose, Stopwatch
from lm.pictures import parts_of, pictures_of, reads_pictures
from lm.slow_path import ROWS_AT_ONCE, sample
from lm.source import resolve, weights_fingerprint
from lm.types import Chat, Completion, ModelError, Row, Sampling


def load_vision_model(
    source: str, *, ledger: Ledger | None = None, device: str = "auto", dtype: str = "auto"
) -> VisionModel:
    """Load the vision-language model that `source` names (see `lm.source.resolve`).

    Raises ModelError when it cannot be found or read, reads text only, or Pillow is missing.
    """
    folder = resolve(source)
    if not reads_pictures(folder):
        raise ModelError(f"model: {source!r} reads text only; name a vision-language model")
    _need_pillow()
    where = pick_device(device)
    transformers_logging.disable_progress_bar()
    try:
        processor = AutoProcessor.from_pretrained(folder)
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=pick_dtype(dtype, where), use_safetensors=True, output_loading_info=True
        )
        model, found = loaded
        if found["missing_keys"]:  # transformers would fill them with random numbers
            raise ValueError(f"its weights lack {min(found['missing_keys'])}")
    except ModelError:
        raise
    except Exception as error:  # a foreign folder can fail in any way
        raise ModelError(f"model: cannot load {source!r}: {first_line(error)}") from error
    fingerprint = weights_fingerprint(folder)
    placed = model.to(where)
    return VisionModel(placed, processor, name=source, ledger=ledger, fingerprint=fingerprint)


class VisionModel(HFModel):
    """As `HFModel`, of chats whose contents may be parts; `processor` is transformers' own."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        name: str,
        ledger: Ledger | None = None,
        fingerprint: str = "",
    ):
        tokenizer = processor.tokenizer
        super().__init__(model, tokenizer, name=name, ledger=ledger, fingerprint=fingerprint)
        self.processor = processor
        control = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        control.append(str(getattr(processor, "image_token", "<image>")))
        self._control = re.compile(
            "|".join(f"(?<={re.escape(c[0])})(?={re.escape(c[1:])})" for c in control if len(c) > 1)
        )

    def encode(self, chat: Chat) -> list[int]:
        return self._inputs(chat)["input_ids"][0].tolist()

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        if not chats:
            return []
        self.ledger.check(purpose)
        found: list[list[Completion]] = []
        with Stopwatch() as watch:
            for place, chat in enumerate(chats):
                inputs = self._inputs(chat)
                prompt = inputs["input_ids"][0].tolist()
                self._check_room(len(prompt), sampling.max_tokens)
                numbers = range(place * sampling.n, (place + 1) * sampling.n)
                rows = [Row(sampling.row(number), place) for number in numbers]
                self._sample(inputs, rows, sampling)
                found.append([self._completion(row, prompt, sampling) for row in rows])
        flat = [completion for row in found for completion in row]
        self.ledger.add(
            purpose,
            completions=len(flat),
            prompt_tokens=sum(row[0].prompt_tokens for row in found),
            completion_tokens=sum(len(c.token_ids) for c in flat),
            seconds=watch.seconds,
        )
        return found

    def logprobs(
        self, chats: Sequence[Chat], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        return [self._logprobs(c, ids) for c, ids in zip(chats, completions, strict=True)]

    def _logprobs(self, chat: Chat, ids: Sequence[int]) -> list[float]:
        inputs = self._inputs(chat)
        before = inputs["input_ids"].shape[1]
        self._check_room(before, len(ids))
        more = torch.tensor([list(ids)], device=self.device)
        for name, value in inputs.items():
            if value.shape == (1, before):  # what else runs along the tokens marks pictures
                inputs[name] = torch.cat([value, _behind(name, more).to(value.dtype)], dim=1)
        with torch.no_grad():
            logits = self.model(**inputs).logits[0, before - 1 : -1].float()
        return logits.log_softmax(-1).gather(1, more.T)[:, 0].tolist()

    def _sample(
        self, inputs: Mapping[str, Tensor], rows: Sequence[Row], sampling: Sampling
    ) -> None:
        finished = self._is_finished(sampling.stop, None)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            repeated = {name: torch.cat([value] * len(some)) for name, value in inputs.items()}
            sample(self.model, repeated, some, sampling, finished)

    def _inputs(self, chat: Chat) -> dict[str, Tensor]:
        """What the processor makes of a chat, for one row."""
        pictures = [_opened(picture.png) for picture in pictures_of(chat)]
        try:
            text = self._rendered([self._message(message) for message in chat])
            made = self.processor(text=[text], images=pictures or None, return_tensors="pt")
        except Exception as error:  # a template or a processor can fail in any way
            raise ModelError(f"model: its processor fails: {first_line(error)}") from error
        kind = self.model.dtype
        cast = {n: v.to(kind) if v.is_floating_point() else v for n, v in made.items()}
        return {name: value.to(self.device) for name, value in cast.items()}

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """As parts. A control token in a text is torn by a space, so that it can neither end the
        turn nor stand for a picture."""
        parts = [
            {"type": "text", "text": self._control.sub(" ", part["text"])}
            if part["type"] == "text"
            else {"type": "image"}
            for part in parts_of(message["content"])
        ]
        return {"role": message["role"], "content": parts}

    def _rendered(self, messages: list[dict[str, Any]]) -> str:
        """By the chat template; a system message that it refuses stands in front of the first."""
        try:
            return self.processor.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except Exception:
            if messages[0]["role"] != "system" or len(messages) == 1:
                raise
            both = [*messages[0]["content"], {"type": "text", "text": "\n\n"}]
            first = {**messages[1], "content": [*both, *messages[1]["content"]]}
            return self._rendered([first, *messages[2:]])


def _behind(name: str, ids: Tensor) -> Tensor:
    if name == "input_ids":
        return ids
    return torch.ones_like(ids) if name == "attention_mask" else torch.zeros_like(ids)


def _need_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise ModelError("model: pictures need Pillow; pip install 'tasklift[images]'") from None


def _opened(png: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB")
