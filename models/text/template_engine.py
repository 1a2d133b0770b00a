"""transformers' function that renders chat templates, for a process that needs nothing else of that package.

Importing transformers takes over half a second and 40 MB, nearly all of it for other things.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import version
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

_PACKAGE = "transformers"
_UTILS = f"{_PACKAGE}.utils"
_MODULE = f"{_UTILS}.chat_template_utils"


@cache
def render_function() -> Any:
    """Return `render_jinja_template`."""
    return import_module(_MODULE).render_jinja_template


def load_alone() -> None:
    """Load the function for `render_function` without the rest of its package, unless that is imported already.

    Call it while the process has one thread: for that time the package looks as if it were imported.
    """
    if _PACKAGE not in sys.modules:
        try:
            _load_module()
        except (ImportError, AttributeError):
            pass  # a version that needs more of its package
        finally:
            for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
                del sys.modules[name]
    render_function()


def _load_module() -> None:
    package = _empty(_PACKAGE, sys.path)
    package.__version__ = version(_PACKAGE)  # type: ignore[attr-defined]
    _empty(_UTILS, package.__path__)
    render_function()


def _empty(name: str, folders: Any) -> ModuleType:
    """Enter a package as imported, with its folder, but without running its code."""
    spec = PathFinder.find_spec(name, folders)
    if spec is None:
        raise ImportError(f"There is no package {name}.")
    sys.modules[name] = package = module_from_spec(spec)
    return package
