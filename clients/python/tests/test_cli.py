"""`python -m mms_client`."""

import json

from conftest import Fake, python


def test_ping_status_and_generate(suite):
    def run(*args):
        done = python("-m", "mms_client", *args, "--http", suite.http, MODEL_MANAGER_PORT=str(suite.port))
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"answers at {suite.main}" in run("ping")
    assert "models, loaded:" in run("status")
    text = run("generate", "Hello!", "--temperature", "0", "--max-tokens", "16")
    assert text.strip() and text == run("generate", "Hello!", "--temperature", "0", "--max-tokens", "16", "--stream")
    assert json.loads(run("generate", "Hello!", "--max-tokens", "2", "--json"))["tokens_generated"] <= 2
    assert json.loads(run("status", "--json"))["status"] == "success"


def test_exit_codes(suite):
    refused = python("-m", "mms_client", "generate", "Hello!", "--model", "nobody", "--endpoint", suite.main)
    assert refused.returncode == 1 and "error: Model not found: nobody" in refused.stderr and "model_not_found" in refused.stderr
    with Fake(lambda request, n: None) as fake:
        silent = python("-m", "mms_client", "ping", "--endpoint", f"127.0.0.1:{fake.port}", "--timeout", "2")
    assert silent.returncode == 1 and "no_reply" in silent.stderr
    for args in (["ping", "--endpoint", "nonsense"], ["ping", "--timeout", "0"], ["nonsense"], []):
        assert python("-m", "mms_client", *args).returncode == 2, args
