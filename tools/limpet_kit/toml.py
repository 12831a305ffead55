"""TOML on every Python that the kit runs on: the standard library's has it from 3.11."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

_module = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

Malformed: type[ValueError] = _module.TOMLDecodeError


def string(text: str) -> str:
    """A text as a value; TOML knows no escaped half of a pair, as JSON writes them."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def loads(text: str) -> dict[str, Any]:
    """The text's values; raises `Malformed`."""
    return dict(_module.loads(text))
