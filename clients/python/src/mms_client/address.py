"""Where the server is: arguments beat the environment (`MODEL_MANAGER_HOST`, `MODEL_MANAGER_PORT`, `HTTP_PORT`), which beats the
defaults, by the same rules as the client commands of `mms`."""

from __future__ import annotations

import os
from typing import Mapping, NamedTuple, Optional
from urllib.parse import urlsplit

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9901
HTTP_OFFSET = 2  # from the main port to the HTTP port in the default layout: 9901, 9902, 9903


class Address(NamedTuple):
    """The main port as `tcp://host:port`, and the HTTP port as `http://host:port`."""

    main: str
    http: str


def find(
    endpoint: Optional[str] = None,
    host: Optional[str] = None,
    port: Optional[int] = None,
    http: Optional[str] = None,
    *,
    default_port: int = DEFAULT_PORT,
    environment: Optional[Mapping[str, str]] = None,
) -> Address:
    """Raises ValueError for what is no address, naming the variable where it came out of the environment."""
    env = os.environ if environment is None else environment
    if endpoint is not None and (host is not None or port is not None):
        raise ValueError("give endpoint, or host and port, not both")
    if endpoint is not None:
        main = endpoint if "://" in endpoint else f"tcp://{endpoint}"
    else:
        main = _main_of(host or env.get("MODEL_MANAGER_HOST"), port, env, default_port)
    main_host, main_port = _split(main)
    if http is not None:
        return Address(main, _http_url(http))
    named = None
    if endpoint is None and port is None and env.get("HTTP_PORT"):
        named = _port("HTTP_PORT", env["HTTP_PORT"])
    return Address(main, f"http://{_bracketed(main_host)}:{named or min(main_port + HTTP_OFFSET, 65535)}")


def _main_of(host: Optional[str], port: Optional[int], env: Mapping[str, str], default_port: int) -> str:
    if port is None and env.get("MODEL_MANAGER_PORT"):
        text = env["MODEL_MANAGER_PORT"]
        if text.startswith("tcp://"):
            # A Kubernetes service named model-manager puts an address here. A host of ours still counts.
            found_host, port = _split(text)
            host = host or found_host
        else:
            port = _port("MODEL_MANAGER_PORT", text)
    return f"tcp://{_bracketed(host or DEFAULT_HOST)}:{default_port if port is None else _port('port', str(port))}"


def _port(name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise ValueError(f"{name} must be a port from 1 to 65535, got {text!r}")


def _split(endpoint: str) -> tuple[str, int]:
    scheme, _, rest = endpoint.partition("://")
    host, colon, port = rest.rpartition(":")
    if scheme != "tcp" or not colon or not host:
        raise ValueError(f"an endpoint looks like tcp://host:port, got {endpoint!r}")
    return host, _port(f"the port of {endpoint!r}", port)


def _http_url(http: str) -> str:
    url = http if "://" in http else f"http://{http}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"http must be a URL such as http://127.0.0.1:9903, got {http!r}")
    _ = parts.port  # refuses what is no port
    return url.rstrip("/")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
