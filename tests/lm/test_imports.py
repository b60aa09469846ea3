"""The command line answers at once: importing `lm` and its torch-free files loads no torch."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import lm, lm.endpoint, lm.gguf_file, lm.ledger, lm.scripted, lm.source, lm.staging, lm.tiny
import lm.types, lm.wheel
heavy = {"torch", "transformers", "peft", "numpy", "huggingface_hub", "gguf"}
print(sorted(heavy & set(sys.modules)))
"""


def test_no_heavy_import():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
