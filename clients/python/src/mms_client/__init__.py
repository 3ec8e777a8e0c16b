"""Client of the Model Manager Suite.

>>> from mms_client import Client
>>> with Client() as mms:
...     print(mms.generate("Hello!")["text"])

`Client` blocks, `AsyncClient` is for asyncio; errors are `MmsError`, one class for each code. `mms_client.legacy` keeps the old import of
`ModelManagerAgent` working.

Names are imported when they are first used, so that `import mms_client.legacy.activate`, which may run at the start of every Python
program of an environment, costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .aio_stream import AsyncTokenStream
    from .client import Client
    from .errors import (
        BadReply,
        Cancelled,
        ClientClosed,
        ConnectionFailed,
        ConnectionLost,
        ContextExceeded,
        InsufficientMemory,
        Internal,
        InvalidArgument,
        InvalidJson,
        InvalidRequest,
        LoadFailed,
        MissingArgument,
        MmsError,
        ModelBroken,
        ModelError,
        ModelNotFound,
        NoReply,
        NotReady,
        Quarantined,
        QueueFull,
        RequestError,
        ShuttingDown,
        StoreUnavailable,
        Timeout,
        TooLarge,
        UnknownOperation,
        Unreachable,
        WorkerDied,
    )
    from .options import Message, Options, TextOptions
    from .stream import TokenStream

__all__ = [
    "AsyncClient",
    "AsyncTokenStream",
    "BadReply",
    "Cancelled",
    "Client",
    "ClientClosed",
    "ConnectionFailed",
    "ConnectionLost",
    "ContextExceeded",
    "InsufficientMemory",
    "Internal",
    "InvalidArgument",
    "InvalidJson",
    "InvalidRequest",
    "LoadFailed",
    "Message",
    "MissingArgument",
    "MmsError",
    "ModelBroken",
    "ModelError",
    "ModelNotFound",
    "NoReply",
    "NotReady",
    "Options",
    "Quarantined",
    "QueueFull",
    "RequestError",
    "ShuttingDown",
    "StoreUnavailable",
    "TextOptions",
    "Timeout",
    "TokenStream",
    "TooLarge",
    "UnknownOperation",
    "Unreachable",
    "WorkerDied",
    "__version__",
]

if not TYPE_CHECKING:
    _WHERE = {
        "AsyncClient": "aio",
        "AsyncTokenStream": "aio_stream",
        "Client": "client",
        "TokenStream": "stream",
        "Message": "options",
        "Options": "options",
        "TextOptions": "options",
    }

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_WHERE.get(name, 'errors')}"), name)
