"""Importing this makes `from main_pc_code.agents.model_manager_agent import ModelManagerAgent` work where no such module is found: the
proxy is given then. A module that is found, in whatever way, is left alone.

It costs a finder at the end of `sys.meta_path`; pyzmq is imported only when somebody asks for the module.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Optional, Sequence

MODULE = "main_pc_code.agents.model_manager_agent"
PACKAGES = ("main_pc_code", "main_pc_code.agents")


class _Loader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Optional[ModuleType]:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == MODULE:
            from . import agent

            for name in ("MODEL_MANAGER_PORT", "ModelManagerAgent"):
                setattr(module, name, getattr(agent, name))


class Finder(importlib.abc.MetaPathFinder):
    """Stands last, so it is asked only for what nobody else has."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname != MODULE and fullname not in PACKAGES:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader(), is_package=fullname in PACKAGES)


def activate() -> None:
    """Puts the finder in place, once."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())


def deactivate() -> None:
    """Takes it away again; what was imported stays."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Finder)]


activate()
