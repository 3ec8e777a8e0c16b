"""Where the client looks for the server."""

import pytest

from mms_client import Client
from mms_client.address import find


@pytest.mark.parametrize(
    "given, environment, main, http",
    [
        ({}, {}, "tcp://127.0.0.1:9901", "http://127.0.0.1:9903"),
        ({}, {"MODEL_MANAGER_PORT": "5570", "MODEL_MANAGER_HOST": "box"}, "tcp://box:5570", "http://box:5572"),
        ({}, {"MODEL_MANAGER_PORT": "5570", "HTTP_PORT": "6571"}, "tcp://127.0.0.1:5570", "http://127.0.0.1:6571"),
        ({}, {"MODEL_MANAGER_PORT": "tcp://10.0.0.7:9901"}, "tcp://10.0.0.7:9901", "http://10.0.0.7:9903"),
        ({}, {"MODEL_MANAGER_PORT": "tcp://10.0.0.7:9901", "MODEL_MANAGER_HOST": "a"}, "tcp://a:9901", "http://a:9903"),
        ({"port": 1}, {"MODEL_MANAGER_PORT": "2", "HTTP_PORT": "3"}, "tcp://127.0.0.1:1", "http://127.0.0.1:3"),
        ({"host": "b", "port": 7}, {"MODEL_MANAGER_HOST": "a"}, "tcp://b:7", "http://b:9"),
        ({"endpoint": "c:7211"}, {"MODEL_MANAGER_PORT": "1", "HTTP_PORT": "2"}, "tcp://c:7211", "http://c:7213"),
        ({"endpoint": "tcp://[::1]:1"}, {}, "tcp://[::1]:1", "http://[::1]:3"),
        ({"host": "::1"}, {}, "tcp://[::1]:9901", "http://[::1]:9903"),
        ({"http": "https://x:1/base/"}, {}, "tcp://127.0.0.1:9901", "https://x:1/base"),
        ({"http": "x:1"}, {}, "tcp://127.0.0.1:9901", "http://x:1"),
        ({}, {"MODEL_MANAGER_PORT": "", "MODEL_MANAGER_HOST": ""}, "tcp://127.0.0.1:9901", "http://127.0.0.1:9903"),
    ],
)
def test_arguments_beat_the_environment_which_beats_the_defaults(given, environment, main, http):
    assert tuple(find(**given, environment=environment)) == (main, http)


@pytest.mark.parametrize(
    "given, environment, message",
    [
        ({}, {"MODEL_MANAGER_PORT": "many"}, "MODEL_MANAGER_PORT must be a port from 1 to 65535, got 'many'"),
        ({}, {"MODEL_MANAGER_PORT": "65536"}, "MODEL_MANAGER_PORT must be a port"),
        ({}, {"HTTP_PORT": "0"}, "HTTP_PORT must be a port"),
        ({"port": -1}, {}, "port must be a port"),
        ({"endpoint": "http://x:1"}, {}, "an endpoint looks like tcp://host:port"),
        ({"endpoint": "x"}, {}, "an endpoint looks like tcp://host:port"),
        ({"endpoint": "x:y"}, {}, "must be a port"),
        ({"endpoint": "x:1", "port": 2}, {}, "not both"),
        ({"http": "ftp://x"}, {}, "http must be a URL"),
        ({"http": "http://x:99999"}, {}, "out of range"),
    ],
)
def test_what_is_no_address_is_told(given, environment, message):
    with pytest.raises(ValueError, match=message):
        find(**given, environment=environment)


def test_the_environment_names_the_server(suite, monkeypatch):
    monkeypatch.setenv("MODEL_MANAGER_HOST", "localhost")
    monkeypatch.setenv("MODEL_MANAGER_PORT", str(suite.port))
    with Client() as client:
        assert client.ping()["agent"] == "ModelManagerSuite"
        assert client.settings.endpoint == f"tcp://localhost:{suite.port}"


@pytest.mark.parametrize("settings", [{"timeout": 0}, {"work_timeout": -1}, {"connect_timeout": float("inf")}, {"retries": -1}])
def test_settings_that_make_no_sense(settings):
    with pytest.raises(ValueError):
        Client(**settings)
