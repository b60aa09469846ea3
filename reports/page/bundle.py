"""The scripts and the style of the page, and the policy that lets a browser run nothing else.

Vega comes from vl-convert, which carries it; bundling takes some seconds, so it is kept in the
user's cache folder, by version. Every script and the style are named in the page's
Content-Security-Policy by their SHA-256: what a model wrote could not run even if it got past the
escaping. Vega's expressions are interpreted (`ast`), since compiling them would need unsafe-eval.
"""

from __future__ import annotations

import base64
import hashlib
import os
from functools import lru_cache
from importlib import resources

from lm.source import cache_folder

SCRIPTS = ("text.js", "state.js", "charts.js", "prompts.js", "answers.js", "browser.js", "main.js")
STYLE = "style.css"


@lru_cache(maxsize=1)
def vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script that sets `vegaEmbed`."""
    import vl_convert

    version = vl_convert.__version__  # type: ignore[attr-defined]
    kept = cache_folder() / f"vega-of-vl-convert-{version}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except OSError:
        pass
    script = in_html(vl_convert.javascript_bundle())  # type: ignore[call-arg]
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_name(f".{kept.name}.{os.getpid()}")
        draft.write_text(script, encoding="utf-8")
        os.replace(draft, kept)
    except OSError:
        pass  # it is made again next time
    return script


@lru_cache(maxsize=1)
def own() -> str:
    """Our own scripts as one, in a scope of their own."""
    parts = "\n".join(read(name) for name in SCRIPTS)
    return in_html(f'(() => {{\n"use strict";\n{parts}\n}})();\n')


@lru_cache(maxsize=1)
def style() -> str:
    return read(STYLE)


def read(name: str) -> str:
    """A file of this package."""
    return resources.files("reports.page").joinpath(name).read_text(encoding="utf-8")


def in_html(script: str) -> str:
    """The same script, without what would end or change an HTML script element."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def policy(scripts: tuple[str, ...], styles: tuple[str, ...]) -> str:
    """The Content-Security-Policy: these very scripts and styles, data: images, no more."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {' '.join(map(_hash, styles))}",
            *("img-src data:", "base-uri 'none'", "form-action 'none'"),
        ]
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
