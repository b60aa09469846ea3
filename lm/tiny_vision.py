"""A tiny random vision-language model, for tests and dry runs: LLaVA's plan, two layers each.

A CLIP of 16 patches in front of the tiny Llama (lm/tiny.py). It has never seen anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lm.tiny import SPECIAL, byte_tokenizer

PICTURE = "<image>"
SIDE, PATCH = 32, 8  # pixels
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_vision_model(folder: Path, seed: int = 0) -> Path:
    """Write model and processor to `folder` in the Hugging Face layout; returns `folder`."""
    import torch
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = byte_tokenizer([*SPECIAL, PICTURE])
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    seeing = CLIPVisionConfig(**shape, num_attention_heads=4, image_size=SIDE, patch_size=PATCH)
    writing = LlamaConfig(
        **shape,
        vocab_size=len(tokenizer),
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.3,  # as the tiny model's
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    )
    config: Any = LlavaConfig(
        vision_config=seeing,
        text_config=writing,
        image_token_index=tokenizer.convert_tokens_to_ids(PICTURE),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.save_pretrained(folder)
    looking = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    LlavaProcessor(
        image_processor=looking,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        image_token=PICTURE,
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return folder
