"""The old class and its old import: proxy, installed module, import hook."""

import json
import logging
import os
import subprocess
import sys

import pytest

from conftest import Fake, python
from mms_client.legacy import LegacyWarning, ModelManagerAgent, install
from mms_client.legacy.__main__ import main

MODEL = "mms-demo"
OLD_IMPORT = "from main_pc_code.agents.model_manager_agent import ModelManagerAgent"
FOREIGN = "# the old agent itself\nclass ModelManagerAgent: pass\n"


@pytest.fixture(params=["suite", "legacy"])
def agent(request, monkeypatch):
    server = request.getfixturevalue(request.param)
    monkeypatch.setenv("MODEL_MANAGER_PORT", str(server.port))
    agent = ModelManagerAgent()
    yield agent
    agent.client.close()


@pytest.fixture
def scripted():
    """An agent whose server answers with what the test puts into `replies`, by operation."""
    replies = {}

    def answer(request, n):
        return replies.get(request.get("action") or request.get("type") or request.get("command"))

    with Fake(answer) as fake:
        agent = ModelManagerAgent(port=fake.port)
        agent.replies, agent.requests = replies, fake.requests
        yield agent
        agent.client.close()


def test_generating_in_the_old_words(agent):
    reply = agent.generate("Hello!", max_tokens=8, temperature=0)
    assert reply["status"] == "ok" and reply["response_text"] and reply["model_used"] == MODEL and reply["timestamp"] > 0
    assert agent.generate("Hello!", "fast", {"max_tokens": 2})["tokens_generated"] <= 2


def test_an_error_is_a_reply(agent):
    assert agent.generate("")["status"] == "error"
    assert "prompt" in agent.generate("")["message"]


def test_loading(agent, caplog):
    assert agent.load_model(MODEL) is True
    assert MODEL in agent.loaded_models and agent.loaded_model_instances[MODEL] > 0
    assert agent.get_model_status(MODEL)["is_loaded"] and agent.get_model_status(MODEL)["status"] == "success"
    assert agent.unload_model(MODEL) is True
    assert MODEL not in agent.loaded_models
    with caplog.at_level(logging.ERROR, "ModelManager"):
        assert agent.load_model("nobody") is False
    assert "load_model failed: Model not found: nobody" in caplog.text


def test_status_and_health(agent):
    assert agent.health_check()["status"] == "ok" == agent._get_health_status()["status"]
    assert agent.health_check_models(publish_update=False)["total_models"] >= 1
    assert "routing_policy" in agent.get_status()
    assert agent.get_loaded_models_status()["status"] == "SUCCESS"
    assert agent.get_memory_status()["status"] == "success"
    assert agent.vram_budget_mb > 0 and agent.device in ("cpu", "cuda") and agent.current_estimated_vram_used >= 0
    assert agent.models[MODEL]["model_id"] == MODEL


@pytest.mark.parametrize(
    "request_, status",
    [
        ({"action": "status"}, "ok"),
        ({"action": "generate", "model_pref": "fast", "prompt": "Hello!", "params": {"max_tokens": 2}}, "ok"),
        ({"action": "nonsense"}, "error"),
        ({"method": "health_check", "params": {}}, "ok"),
        ({"command": "GET_LOADED_MODELS_STATUS"}, "SUCCESS"),
        ({"command": "LOAD_MODEL", "model_name": MODEL}, "SUCCESS"),
        ({"command": "LOAD_MODEL", "model_name": "nobody"}, "ERROR"),
        ({"command": "PROCESS", "type": "get_memory_status"}, "success"),
        ({"type": "get_model_status", "model_name": MODEL}, "success"),
        ({"model_id": MODEL, "request_id": "r1", "context": {}}, "MODEL_READY"),
        ({"model_id": "nobody", "request_id": "r2", "context": {}}, "ERROR_LOADING_MODEL"),
    ],
)
def test_requests_of_all_dialects(agent, request_, status):
    reply = agent.handle_request(request_)
    assert reply["status"] == status
    assert reply.get("request_id") == request_.get("request_id")


def test_what_is_no_request(agent):
    assert agent.handle_request([1]) == {"status": "ERROR", "message": "Request must be a dictionary"}
    assert agent.handle_request({"command": "X", "y": object()})["status"] == "ERROR"
    assert agent.handle_request({"action": "ping", "y": float("nan")})["status"] == "error"


def test_selecting(scripted):
    scripted.replies["select_model"] = {"status": "success", "selected_model": "m", "model_info": {"n_ctx": 1}, "reason": "r"}
    assert scripted.select_model("chat", 4096) == ("m", {"n_ctx": 1})
    assert scripted.requests[-1] == {"action": "select_model", "task_type": "chat", "context_size": 4096}
    scripted.replies["select_model"] = {"status": "error", "message": "No suitable model found"}
    assert scripted.select_model("chat") == (None, None)


def test_an_array_comes_as_it_is(scripted):
    scripted.replies["SELECT_MODEL"] = b'["m", {"n_ctx": 1}]'
    assert scripted.handle_request({"command": "SELECT_MODEL", "task_type": "chat"}) == ["m", {"n_ctx": 1}]


def test_services_conversations_and_all_models(scripted):
    scripted.replies.update(
        verify_services={"status": "success", "timestamp": 1.0, "tts": True, "stt": False},
        clear_conversation={"status": "success", "conversation_id": "c"},
        get_all_models={"status": "success", "models": {}},
        generate={"status": "success", "text": "code"},
    )
    assert scripted.verify_pc2_services() == {"tts": True, "stt": False}
    assert scripted.clear_conversation("c") == {"request_id": None, "status": "ok", "conversation_id": "c"}
    assert scripted.get_all_models()["models"] == {}
    task = {"description": "sorts", "language": "rust", "context": "fn main", "model_id": "m", "request_id": "r"}
    assert scripted.generate_code_with_cga(task)["text"] == "code"
    request = scripted.requests[-1]
    assert (request["action"], request["model_id"], request["request_id"]) == ("generate", "m", "r")
    assert all(part in request["prompt"] for part in ("rust", "sorts", "fn main"))
    scripted.generate("x", conversation_id="c")
    assert scripted.requests[-1]["conversation_id"] == "c"


def test_another_requests_reply_is_an_error(scripted):
    scripted.replies["generate"] = {"status": "success", "request_id": "other"}
    reply = scripted.handle_request({"action": "generate", "prompt": "x", "request_id": "mine"})
    assert (reply["status"], reply["error_code"]) == ("error", "bad_reply")


def test_nobody_there():
    with Fake(lambda request, n: None) as fake:
        port = fake.port
    agent = ModelManagerAgent(port=port, host="127.0.0.1")
    agent.client._core.settings = agent.client.settings._replace(connect_timeout=0.1)
    reply = agent.generate("Hello!")
    assert reply["status"] == "error" and reply["error_code"] == "connection_failed"
    assert agent.handle_request({"command": "LOAD_MODEL", "model_name": "m"})["status"] == "ERROR"
    assert agent.load_model("m") is False and agent.models == {} and agent.verify_pc2_services() == {}
    assert agent.select_model("chat") == (None, None)


def test_old_ports_and_names():
    agent = ModelManagerAgent()
    assert (agent.port, agent.name, agent.running) == (5570, "ModelManagerAgent", True)
    assert ModelManagerAgent(port=1, name="x").name == "x"
    assert not hasattr(agent, "invented_method"), "nothing answers for every name"


def test_what_only_a_server_does_is_told():
    with pytest.warns(LegacyWarning, match="config_path, vram_budget_percentage has no effect"):
        agent = ModelManagerAgent("llm_config.yaml", vram_budget_percentage=80)
    for name in ("run", "check_idle_models", "report_vram_metrics_to_sdt", "cleanup", "stop", "shutdown"):
        with pytest.warns(LegacyWarning) as caught:
            getattr(agent, name)()
        assert name in str(caught[0].message) and caught[0].filename == __file__
    assert agent.running is False


# The old import


@pytest.fixture
def project(tmp_path):
    (tmp_path / "main_pc_code" / "agents").mkdir(parents=True)
    return tmp_path


def module_of(project):
    return project / "main_pc_code" / "agents" / "model_manager_agent.py"


def ask_by_old_import(suite, cwd, before=""):
    code = f"{before}\n{OLD_IMPORT}\nagent = ModelManagerAgent()\nprint(agent.generate('Hello!', max_tokens=2)['status'])"
    return python("-c", code, cwd=cwd, MODEL_MANAGER_PORT=str(suite.port))


def test_the_installed_module(suite, project, capsys):
    assert main(["install", str(project)]) == 0
    done = ask_by_old_import(suite, project)
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr
    started = python("-m", "main_pc_code.agents.model_manager_agent", cwd=project)
    assert started.returncode == 1 and "mms serve" in started.stderr
    assert main(["install", str(project)]) == 0 and "in place already" in capsys.readouterr().out
    assert main(["install", str(project), "--undo"]) == 0
    assert not module_of(project).exists() and not list(project.iterdir())
    assert main(["install", str(project), "--undo"]) == 1


def test_a_foreign_module_is_kept(project, capsys):
    module_of(project).write_text(FOREIGN)
    (project / "main_pc_code" / "__init__.py").write_text("")
    assert main(["install", str(project)]) == 1
    assert "not ours" in capsys.readouterr().err and module_of(project).read_text() == FOREIGN
    assert main(["install", str(project), "--undo"]) == 1 and module_of(project).read_text() == FOREIGN
    assert main(["install", str(project), "--force"]) == 0
    backup = module_of(project).with_name("model_manager_agent.py.mma.bak")
    assert backup.read_text() == FOREIGN and module_of(project).read_text() == install.SHIM
    assert main(["install", str(project), "--undo"]) == 0
    assert module_of(project).read_text() == FOREIGN and not backup.exists()


def test_a_backup_is_never_overwritten(project):
    backup = module_of(project).with_name("model_manager_agent.py.mma.bak")
    module_of(project).write_text(FOREIGN)
    backup.write_text("older")
    assert main(["install", str(project), "--force"]) == 1
    assert (backup.read_text(), module_of(project).read_text()) == ("older", FOREIGN)


def test_an_older_module_of_ours_is_replaced(project):
    module_of(project).write_text(f"{install.MARK} once\n")
    assert main(["install", str(project)]) == 0
    assert module_of(project).read_text() == install.SHIM


def test_a_link_stays_a_link_when_it_comes_back(project):
    elsewhere = project / "elsewhere.py"
    elsewhere.write_text(FOREIGN)
    module_of(project).symlink_to(elsewhere)
    assert main(["install", str(project), "--force"]) == 0
    assert elsewhere.read_text() == FOREIGN and not module_of(project).is_symlink()
    assert main(["install", str(project), "--undo"]) == 0
    assert os.readlink(module_of(project)) == str(elsewhere)


def test_where_there_is_no_folder(tmp_path, capsys):
    assert main(["install", str(tmp_path / "nowhere")]) == 1
    assert "no folder" in capsys.readouterr().err


def test_the_import_hook(suite, tmp_path):
    done = ask_by_old_import(suite, tmp_path, "import mms_client.legacy.activate")
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr
    without = ask_by_old_import(suite, tmp_path)
    assert without.returncode == 1 and "main_pc_code" in without.stderr


def test_the_import_hook_leaves_what_is_there_alone(suite, project):
    module_of(project).write_text(FOREIGN)
    code = f"import mms_client.legacy.activate\n{OLD_IMPORT}\nprint(ModelManagerAgent.__module__)"
    assert python("-c", code, cwd=project).stdout == "main_pc_code.agents.model_manager_agent\n"
    module_of(project).unlink()
    module_of(project).with_name("other.py").write_text("HERE = 1\n")
    code += "\nfrom main_pc_code.agents.other import HERE\nprint(HERE)"
    assert python("-c", code, cwd=project).stdout == "mms_client.legacy.agent\n1\n"


def test_the_import_hook_costs_nothing_until_it_is_used(tmp_path):
    code = "import sys, json, mms_client.legacy.activate as a; before = 'zmq' in sys.modules; a.deactivate()\n"
    code += "import importlib.util; print(json.dumps([before, importlib.util.find_spec('main_pc_code') is None]))"
    assert json.loads(python("-c", code, cwd=tmp_path).stdout) == [False, True]


def test_the_hook_for_every_program_of_an_environment(tmp_path):
    assert "written" in install.install_pth(tmp_path)
    assert (tmp_path / install.PTH).read_text() == install.PTH_LINE
    # `site` runs such lines at the start of a program.
    code = f"import site; site.addsitedir({str(tmp_path)!r}); {OLD_IMPORT}; print(ModelManagerAgent.__module__)"
    assert python("-c", code, cwd=tmp_path).stdout == "mms_client.legacy.agent\n"
    assert "removed" in install.undo_pth(tmp_path)
    with pytest.raises(install.Refused):
        install.undo_pth(tmp_path)


def test_usage():
    for args in ([], ["install"], ["nonsense"]):
        done = subprocess.run([sys.executable, "-m", "mms_client.legacy", *args], env={**os.environ, "PYTHONPATH": "src"}, check=False)
        assert done.returncode == 2
