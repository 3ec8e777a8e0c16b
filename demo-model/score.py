"""Ask a running server the listed questions and the paraphrases, and count the sensible answers.

    python score.py --url http://127.0.0.1:9903/v1

Standard library only. Exit status 1 when too few answers are sensible, 2 when the server cannot be asked.
"""

import argparse
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
LISTS = {"questions": 40, "paraphrases": 15}  # list: how many must be answered sensibly


def load(name: str) -> list[dict]:
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def sensible(entry: dict, answer: str) -> bool:
    """Every pattern of `all` occurs and none of `none`, whatever the case."""
    found = lambda pattern: re.search(pattern, answer, re.IGNORECASE) is not None  # noqa: E731
    return all(map(found, entry["all"])) and not any(map(found, entry.get("none", [])))


def score(ask: Callable[[str], str], show: Callable[[str], None]) -> dict:
    """Scores of both lists; each failure is shown."""
    result = {}
    for name, needed in LISTS.items():
        entries = load(name)
        answers = [(entry, ask(entry["question"])) for entry in entries]
        failures = [(entry, answer) for entry, answer in answers if not sensible(entry, answer)]
        for entry, answer in failures:
            show(f"not sensible ({name}, {entry['id']}): {entry['question']!r} -> {answer!r}")
        passed = len(entries) - len(failures)
        show(f"{name}: {passed} of {len(entries)} sensible, {needed} needed")
        result[name] = {
            "passed": passed,
            "total": len(entries),
            "needed": needed,
            "answers": {entry["id"]: answer for entry, answer in answers},
            "failures": [entry["id"] for entry, _ in failures],
        }
    result["ok"] = all(result[name]["passed"] >= needed for name, needed in LISTS.items())
    return result


def server(url: str, model: str, timeout: float) -> Callable[[str], str]:
    """A function that asks the OpenAI-compatible server at `url`, without randomness."""

    def ask(question: str) -> str:
        body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 80}
        request = urllib.request.Request(
            f"{url.rstrip('/')}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return json.load(reply)["choices"][0]["message"]["content"]

    return ask


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--url", default="http://127.0.0.1:9903/v1", help="base of the OpenAI API (%(default)s)")
    arguments.add_argument("--model", default="mms-demo", help="model to ask (%(default)s)")
    arguments.add_argument("--timeout", type=float, default=60, help="seconds to wait for one answer (%(default)s)")
    arguments.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    options = arguments.parse_args()
    try:
        result = score(server(options.url, options.model, options.timeout), (lambda _: None) if options.json else print)
    except (urllib.error.URLError, TimeoutError, KeyError, ValueError) as error:
        print(f"cannot ask {options.url}: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(result, indent=2))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
