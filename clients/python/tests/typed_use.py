"""Checked by mypy, not run: what a user writes has the types that it should have, and a mistake is one (an unneeded `type: ignore`
would be reported, too)."""

from typing import Dict, List, Optional

from mms_client import AsyncClient, Client, MmsError, Options


def blocking(client: Client) -> str:
    text: str = client.generate("Hello!", max_tokens=5, stop=["x"])["text"]
    cached: int = client.chat([{"role": "user", "content": "Hello!"}], model="m")["usage"]["cached_tokens"]
    options: Options = {"temperature": 0.5, "model_pref": "quality"}
    for piece in client.stream("Hello!", **options):
        text += piece
    with client.chat([{"role": "user", "content": "Hello!"}], stream=True) as stream:
        reason: Optional[str] = stream.finish_reason
    ids: List[str] = [model["model_id"] for model in client.list_models()["models"]]
    held: Dict[str, float] = client.get_memory_status()["loaded_model_instances"]
    client.generate("Hello!", max_token=5)  # type: ignore[call-arg]
    client.generate("Hello!", max_tokens="5")  # type: ignore[arg-type]
    client.load_model()  # type: ignore[call-arg]
    client.ping()["txet"]  # type: ignore[typeddict-item]
    return f"{text}{cached}{reason}{ids}{held}"


async def asynchronous(client: AsyncClient) -> str:
    text: str = (await client.generate("Hello!", seed=1))["text"]
    async for piece in await client.stream("Hello!"):
        text += piece
    try:
        text += (await client.chat([{"role": "user", "content": "Hello!"}]))["finish_reason"]
    except MmsError as error:
        text += error.code
    (await client.ping())["txet"]  # type: ignore[typeddict-item]
    return text
