"""Puts a module of a few lines where the old agent's was, and takes it away again. Nothing that is not ours is lost: it is refused, or
with `force` kept beside as `.mma.bak`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Optional

PLACE = Path("main_pc_code", "agents", "model_manager_agent.py")
BACKUP = ".mma.bak"
MARK = "# Written by mms-client"
PTH = "mms_client_legacy.pth"
PTH_LINE = "import mms_client.legacy.activate\n"

SHIM = f'''{MARK} (python -m mms_client.legacy install). Taken away again by the same with --undo.
"""ModelManagerAgent, as a client of the Model Manager Suite that serves in its place."""

from mms_client.legacy import MODEL_MANAGER_PORT, ModelManagerAgent

__all__ = ["MODEL_MANAGER_PORT", "ModelManagerAgent"]

if __name__ == "__main__":
    raise SystemExit("this is only a client: the models are served by mms, start that instead (mms serve --profile legacy)")
'''


class Refused(Exception):
    """Not done, and why."""


def install(folder: Path, *, force: bool = False) -> str:
    """Writes the module below `folder`; says what was done."""
    target = folder / PLACE
    if not folder.is_dir():
        raise Refused(f"{folder} is no folder")
    kept = ""
    if _exists(target):
        if _is_ours(target):
            if target.read_text(encoding="utf-8") == SHIM:
                return f"{target} is in place already"
        elif not force:
            raise Refused(f"{target} is not ours: --force replaces it and keeps it as {target.name}{BACKUP}")
        else:
            backup = _backup(target)
            if _exists(backup):
                raise Refused(f"{backup} exists already: move it away first, so that nothing is lost")
            shutil.copy2(target, backup, follow_symlinks=False)
            kept = f", the old one is kept as {backup.name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    _replace(target, SHIM)
    return f"{target} written{kept}"


def undo(folder: Path) -> str:
    """Brings the old module back, or takes ours away; says what was done."""
    target = folder / PLACE
    backup = _backup(target)
    if _exists(target) and not _is_ours(target):
        raise Refused(f"{target} is not ours: nothing to undo")
    if _exists(backup):
        os.replace(backup, target)
        return f"{target} is the old one again"
    if not _exists(target):
        raise Refused(f"there is no {target}: nothing to undo")
    target.unlink()
    _drop_empty(target.parent, folder)
    return f"{target} removed"


def install_pth(site: Optional[Path] = None) -> str:
    """Makes every Python program of this environment import `mms_client.legacy.activate` at its start."""
    target = _site(site) / PTH
    _replace(target, PTH_LINE)
    return f"{target} written"


def undo_pth(site: Optional[Path] = None) -> str:
    """Takes that away again."""
    target = _site(site) / PTH
    if not target.exists():
        raise Refused(f"there is no {target}: nothing to undo")
    target.unlink()
    return f"{target} removed"


def _site(site: Optional[Path]) -> Path:
    if site is not None:
        return site
    import sysconfig

    return Path(sysconfig.get_path("purelib"))


def _backup(target: Path) -> Path:
    return target.with_name(target.name + BACKUP)


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(MARK.encode())


def _replace(target: Path, text: str) -> None:
    """Whole or not at all, whatever happens meanwhile."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def _drop_empty(folder: Path, end: Path) -> None:
    """Removes the folders in which nothing is left."""
    while folder != end:
        caches = folder / "__pycache__"
        if caches.is_dir():
            for cached in caches.glob(f"{PLACE.stem}.*.pyc"):
                cached.unlink()
            if not any(caches.iterdir()):
                caches.rmdir()
        if any(folder.iterdir()):
            return
        folder.rmdir()
        folder = folder.parent
