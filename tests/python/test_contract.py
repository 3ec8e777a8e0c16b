"""Every case of `contract/`, sent by pyzmq as old clients send it."""

import json
from pathlib import Path

import pytest

from matching import mismatches

CONTRACT = Path(__file__).resolve().parents[2] / "contract"
FILES = sorted(path.relative_to(CONTRACT).as_posix() for path in CONTRACT.glob("*/*.json"))


def frames(case: dict) -> list[bytes]:
    if "request" in case:
        return [json.dumps(case["request"]).encode()]
    if "raw" in case:
        return [case["raw"].encode()]
    if "hex" in case:
        return [bytes.fromhex(case["hex"])]
    return [frame.encode() for frame in case["frames"]]


def test_the_contract_has_cases():
    assert len(FILES) >= 14, FILES


@pytest.mark.parametrize("file", FILES)
def test_contract(file, request):
    server = request.getfixturevalue(file.split("/")[0])
    cases = json.loads((CONTRACT / file).read_text(encoding="utf-8"))
    wrong = []
    with server.socket() as socket:
        for case in cases:
            socket.send_multipart(frames(case))
            reply = socket.recv_multipart()
            assert len(reply) == 1, f"{case['name']}: {len(reply)} frames"
            value = json.loads(reply[0])
            found = mismatches(case["reply"], value)
            if found:
                wrong.append(f"{case['name']}: {'; '.join(found)}\n    got {json.dumps(value)[:600]}")
    assert not wrong, f"{len(wrong)} of {len(cases)} cases:\n" + "\n".join(wrong)
    server.answers()
