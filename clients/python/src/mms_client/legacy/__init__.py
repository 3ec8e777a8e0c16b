"""The old class `ModelManagerAgent`, as a thin proxy to a running suite, and two ways of keeping its old import working:

* `python -m mms_client.legacy install DIR` puts a module of a few lines where the old one was;
* `import mms_client.legacy.activate` makes the import work where there is no such module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agent import MODEL_MANAGER_PORT, LegacyWarning, ModelManagerAgent

__all__ = ["MODEL_MANAGER_PORT", "LegacyWarning", "ModelManagerAgent"]

if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import agent

        return getattr(agent, name)
