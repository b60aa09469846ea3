"""A local open-weight model: load it, ask it in batches, read its log-probabilities."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from lm.generation import decode
from lm.ledger import Ledger, Purpose, Stopwatch
from lm.memory import give_back
from lm.packed_forward import causal_lm
from lm.packed_weights import packed_weights
from lm.pictures import reads_pictures
from lm.prefix_cache import PrefixCache
from lm.ranks import local_rank, world
from lm.rendering import ChatEncoder, turn_end
from lm.scoring import completion_logprobs
from lm.source import resolve, weights_fingerprint
from lm.tool_calls import Syntax
from lm.types import Chat, Completion, Further, ModelError, PromptTooLong, Row, Sampling

ROWS_PER_FORWARD = 32
# a forward switches the model's attention, and all threads would see it
_one_at_a_time = threading.RLock()
# peft 0.21 asks by a name that transformers 5.23 is giving up
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated")
# bitsandbytes advises a kernel that `_keep_as_loaded` has no use for
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def pick_device(device: str = "auto") -> torch.device:
    """`auto` takes CUDA when there is one, of several processes each its own GPU.

    Raises ModelError for a device that is not there.
    """
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", local_rank()) if world() > 1 else torch.device("cuda")
    if device == "auto":
        return torch.device("cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device: {device!r} is not available here; write device: auto or cpu")
    try:
        return torch.device(device)
    except RuntimeError:
        raise ModelError(f"device: unknown device {device!r}; write auto, cpu or cuda") from None


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on CUDA and float32 elsewhere."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise ModelError(f"dtype: unknown dtype {dtype!r}; write auto, {', '.join(known)}")
    return known[dtype]


def load_model(
    source: str,
    *,
    adapter: Path | None = None,
    ledger: Ledger | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str | None = None,
) -> HFModel:
    """Load what `source` names (see `lm.source.resolve`), with a PEFT adapter when given.

    `quantization="nf4"` holds the linear layers in 4 bits (Dettmers et al., 2023, QLoRA,
    arXiv:2305.14314) with bitsandbytes. Raises ModelError when the model cannot be found or read.
    """
    folder = resolve(source)
    give_back()
    where = pick_device(device)
    transformers_logging.disable_progress_bar()
    kind = pick_dtype(dtype, where)
    fingerprint = weights_fingerprint(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=kind,
            use_safetensors=True,
            output_loading_info=True,
            **_quantized(quantization, kind, where),
        )
        model, found = loaded
        if found["missing_keys"]:  # transformers would fill them with random numbers
            raise ValueError(f"its weights lack {min(found['missing_keys'])}")
    except ModelError:
        raise
    except Exception as error:  # a foreign folder can fail in any way
        why = "it looks at pictures, and this works with texts only; name a text model"
        why = why if reads_pictures(folder) else first_line(error)
        raise ModelError(f"model: cannot load {source!r}: {why}") from error
    if quantization is not None:
        _keep_as_loaded(model)
        fingerprint = hashlib.sha256(f"{fingerprint}{quantization}".encode()).hexdigest()[:16]
    if adapter is not None:
        both = fingerprint + weights_fingerprint(adapter)
        fingerprint = hashlib.sha256(both.encode()).hexdigest()[:16]
        model = put_adapter(model, adapter)
    placed = model if quantization else model.to(where)
    return HFModel(placed, tokenizer, name=source, ledger=ledger, fingerprint=fingerprint)


def _quantized(quantization: str | None, dtype: torch.dtype, device: torch.device) -> Any:
    """What `from_pretrained` needs to hold the weights in 4 bits."""
    if quantization is None:
        return {}
    if quantization != "nf4":
        raise ModelError(f"quantization: unknown {quantization!r}; write nf4 or leave it out")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("quantization: nf4 needs bitsandbytes; pip install bitsandbytes")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def _keep_as_loaded(model: Any) -> None:
    """Have bitsandbytes leave the weights alone.

    Where a CPU has AVX512-BF16, the first forward in eval mode would round their scales to bf16
    for good, and the layers would pass no gradient on from then on.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = False


def put_adapter(model: Any, adapter: Path) -> Any:
    """`model` wrapped with a PEFT adapter. Raises ModelError when the two do not fit."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    if not (adapter / "adapter_config.json").is_file():  # peft would ask the Hub for it
        raise ModelError(f"adapter: no adapter_config.json in {str(adapter)!r}; name a PEFT folder")
    try:
        adapted = PeftModel.from_pretrained(model, adapter)
        # False: with "auto" peft would ask the Hub about the base model's vocabulary
        placed = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
            odd = placed.keys() ^ set(file.keys())
        if odd:  # peft skips what has no place, and leaves what is not there as initialized
            raise ValueError(f"no counterpart for {min(odd)}")
        causal_lm(adapted)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"adapter: {str(adapter)!r} does not fit the model: {first_line(error)}"
        ) from error
    return adapted


class HFModel:
    """A causal LM of transformers (or peft's wrap of one) as a `LanguageModel`.

    Wraps a live model too: `HFModel(trainer.model, tokenizer, ...)` samples from the weights as
    they are at each call. `ends` are the tokens that end an answer.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        ledger: Ledger | None = None,
        fingerprint: str = "",
    ):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.ledger = ledger or Ledger()
        self._fingerprint = fingerprint
        self._encode = ChatEncoder(tokenizer)
        self.ends = _end_tokens(model, tokenizer)
        self._prefixes = PrefixCache()

    @property
    def device(self) -> torch.device:
        return self.model.device

    def fingerprint(self) -> str:
        """Of the weights as loaded; a live model that is being trained has none ("")."""
        return self._fingerprint

    def forget(self) -> None:
        """Drop the shared text kept between calls (see `LanguageModel.forget`)."""
        self._prefixes = PrefixCache()

    def encode(self, chat: Chat) -> list[int]:
        """Token ids of a chat, ready for the assistant to answer (see `lm.rendering`)."""
        return self._encode(chat)

    def encode_reply(self, text: str) -> list[int]:
        """Token ids of a reply, to stand behind `encode(chat)`; they end with the turn's end."""
        return [*self._encode.reply(text), turn_end(self.tokenizer, self.ends)]

    @property
    def window(self) -> int | None:
        """How many tokens a prompt and its answer may have, None where the model does not say."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """`sampling.n` completions for each chat, in the order of `chats`.

        Raises ModelError when a prompt leaves no room for `max_tokens` in the context window and
        BudgetExhausted when the ledger's cap is reached.
        """
        return self.complete([self.encode(chat) for chat in chats], sampling, purpose)

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        purpose: Purpose,
        further: Further | None = None,
    ) -> list[list[Completion]]:
        """As `generate`, of prompts as token ids. With `further` they are answers already counted
        in the ledger, and they fit the window with what they may still get."""
        if not prompts:
            return []
        if further is None:
            self.ledger.check(purpose)
            self._check_room(max(map(len, prompts)), sampling.max_tokens)
        self.model.eval()
        with Stopwatch() as watch, _one_at_a_time:
            rows = self._draw(prompts, sampling, further.limits if further else None)
        answers = [self._completion(row, prompts[row.prompt], sampling) for row in rows]
        self.ledger.add(
            purpose,
            completions=0 if further else len(rows),
            prompt_tokens=sum(further.unread if further else map(len, prompts)),
            completion_tokens=sum(len(row.tokens) for row in rows),
            seconds=watch.seconds,
            calls=0 if further else 1,
        )
        return [answers[i : i + sampling.n] for i in range(0, len(answers), sampling.n)]

    def results(self, results: Sequence[Mapping[str, Any]], newest: int) -> list[int]:
        """Token ids of what tools have answered, between the assistant's turn, whose last token is
        `newest`, and its next one."""
        ids = self._encode.results(results)
        closing = self._encode.closing
        end = next((place for place, i in enumerate(closing) if i in self.ends), None)
        return ids if end is None or newest not in self.ends else ids[end + 1 :]

    @property
    def syntax(self) -> Syntax:
        """How calls of tools are written."""
        return self._encode.tools.syntax

    def logprobs(
        self, chats: Sequence[Chat], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Log-probability in nats of each completion token after its chat, unwarped.

        Raises ModelError when a chat with its completion exceeds the context window.
        """
        prompts = [self.encode(chat) for chat in chats]
        for prompt, ids in zip(prompts, completions, strict=True):
            self._check_room(len(prompt), len(ids))
        self.model.eval()
        result: list[list[float]] = []
        for start in range(0, len(prompts), ROWS_PER_FORWARD):
            part = slice(start, start + ROWS_PER_FORWARD)
            with torch.no_grad(), _one_at_a_time, packed_weights(self.model):
                table = completion_logprobs(self.model, prompts[part], completions[part])[0]
            rows = zip(table.tolist(), completions[part], strict=True)
            result += [row[: len(ids)] for row, ids in rows]
        return result

    def _check_room(self, longest: int, max_tokens: int) -> None:
        if self.window is not None and longest + max_tokens > self.window:
            raise PromptTooLong(
                f"model: a prompt of {longest} tokens and max_tokens {max_tokens} exceed "
                f"the context window of {self.window}; use fewer demos, shorter inputs or fewer "
                "max_tokens"
            )

    def _draw(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        limits: Sequence[int] | None = None,
    ) -> list[Row]:
        """The answers as tokens, `sampling.n` rows for each prompt; another sampler's place.

        `limits` are how many tokens the rows of each prompt may have, if fewer than `max_tokens`.
        """
        finished = self._is_finished(sampling.stop, limits)
        return decode(self.model, prompts, sampling, finished, self._prefixes)

    def _is_finished(self, stop: tuple[str, ...], limits: Sequence[int] | None):
        def finished(row: Row) -> bool:
            if row.tokens[-1] in self.ends:
                return True
            if limits is not None and len(row.tokens) >= limits[row.prompt]:
                return True
            return bool(stop) and any(mark in self._text(row.tokens) for mark in stop)

        return finished

    def _text(self, tokens: Sequence[int]) -> str:
        return self._encode.text(tokens)

    def _completion(self, row: Row, prompt: Sequence[int], sampling: Sampling) -> Completion:
        ended = row.tokens[-1] in self.ends
        text = self._text(row.tokens[:-1] if ended else row.tokens)
        cuts = [text.index(mark) for mark in sampling.stop if mark in text]
        return Completion(
            text=text[: min(cuts)] if cuts else text,
            token_ids=tuple(row.tokens),
            logprobs=tuple(row.logprobs),
            finish_reason="stop" if ended or cuts else "length",
            prompt_tokens=len(prompt),
        )


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in [*ids, tokenizer.eos_token_id] if i is not None)


def first_line(error: BaseException) -> str:
    """What an error says in its first line, its kind in front."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
