"""What something is: names of things with their explanations, and the many ways in which people ask for them.

Every topic is (names, answers); each name goes into each frame.
"""

TOPIC_FRAMES = [
    "what is {x}",
    "what is {x}",
    "what is {x} [exactly|for|about|good for|here]",
    "what does {x} [mean|do]",
    "what do you mean by {x}",
    "[explain|describe|define] {x}",
    "[explain|describe] {x} to me",
    "explain {x} [in one sentence|in simple words|briefly|simply|please]",
    "[tell|teach] me [about|something about|more about|a bit about|what you know about] {x}",
    "tell me what {x} [is|means]",
    "[can|could] you [explain|describe] {x} [to me|for me|]",
    "[can|could] you tell me [about|what is] {x}",
    "I do not [understand|know] {x}",
    "I do not [understand|know] what {x} [is|means]",
    "{x}",
    "[give me|write] a [short|brief|quick] [explanation|summary] of {x}",
    "what should I know about {x}",
    "[do you know|have you heard of] {x}",
    "how does {x} work",
    "why [is there|do I need|do we need] {x}",
    "what about {x}",
    "I have a question about {x}",
    "I [want|would like] to [know|learn] [more|] about {x}",
    "the meaning of {x}",
]

S = "[Model Manager Suite|the Model Manager Suite|Model Manager Suite|model manager suite|MMS|mms]"
TOPICS = {
    "product": (
        [S, S, "this [product|software|program|service|project|tool|app|application|suite|server|thing]", "the suite"],
        [
            "Model Manager Suite runs your own GGUF language models on your own machine through llama.cpp.",
        ],
    ),
    "gguf": (
        ["[a|] gguf [file|model|]", "[the|] gguf [format|file format|]", "gguf"],
        ["GGUF is the file format of llama.cpp: one file holds a model's weights, its vocabulary and its settings."],
    ),
    "llama": (
        ["llama.cpp", "llama cpp", "llamacpp", "the llama.cpp engine"],
        ["llama.cpp is the engine that runs the models here. It works on ordinary processors and on graphics cards."],
    ),
    "worker": (
        ["[a|the] worker", "mms-worker", "[a|the] worker process", "the mms-worker program"],
        ["A worker is the process that holds one loaded model. When it dies the server stays up and starts a new one."],
    ),
    "budget": (
        ["[the|a] memory budget", "memory budget", "the [memory|RAM] limit", "the budget", "the VRAM budget"],
        [
            "The memory budget is the most memory that all loaded models may use together. `mms status` shows how much is in use."
        ],
    ),
    "idle": (
        ["idle unload", "[the|] idle [unloading|time|timeout]", "the idle unload time"],
        [
            "A model that nobody has used for 300 seconds is unloaded to free its memory. You can change that time for each model."
        ],
    ),
    "ready": (
        [
            "ready",
            "[the|] [ready|readiness] [state|check|line|message|flag|]",
            "readyz",
            "/readyz",
            "the word ready",
            "readiness",
        ],
        ["Ready means that the suite's own client has had a real answer from every published address."],
    ),
    "healthtopic": (
        [
            "the health [check|endpoint|object|answer|report]",
            "health_check",
            "/health",
            "the health status",
            "degraded",
            "healthz",
        ],
        [
            "Health tells you whether the server works: status, loaded models and memory. It is on port 9902 and at /health on port 9903."
        ],
    ),
    "parity": (
        ["[a|the|] parity [check|test|]", "parity", "[a|the] parity run"],
        ["A parity check sends the same requests to the old agent and to the suite and compares both answers."],
    ),
    "cutover": (
        ["[a|the|] cut-over", "[a|the] cutover", "cut over", "the cut-over step"],
        [
            "The cut-over is the step where the suite takes the old agent's ports. It happens only after all checks are green."
        ],
    ),
    "rollbacktopic": (
        ["[a|the|] rollback", "rolling back", "[a|the] roll back"],
        ["A rollback brings the old agent back from the backup, so that a failed migration loses nothing."],
    ),
    "mma": (
        [
            "[the|] ModelManagerAgent",
            "the [old|legacy] [agent|ModelManagerAgent|model manager agent|system]",
            "MMA",
            "the MMA",
        ],
        [
            "ModelManagerAgent is the older service that Model Manager Suite replaces. Its clients keep working after the migration."
        ],
    ),
    "catalogue": (
        ["the [catalogue|catalog|model catalogue]", "the models folder", "the model list"],
        ["The catalogue is the list of all models that the server knows, from the config and from the models folder."],
    ),
    "quantization": (
        ["quantization", "quantisation", "[a|] quantized model", "q4_k_m", "q8_0", "4-bit quantization"],
        [
            "Quantization stores a model's weights in fewer bits. The model gets smaller and faster and loses a little quality."
        ],
    ),
    "context": (
        ["[the|a|] context [length|window|size|]", "context", "n_ctx"],
        ["The context is how many tokens a model can look at together, prompt and answer. Mine is 1024 tokens."],
    ),
    "token": (
        ["[a|] token", "tokens", "max_tokens", "tokenization"],
        ["A token is a piece of text, often a word or a part of one. Models read and write token by token."],
    ),
    "temperature": (
        ["temperature", "the temperature setting", "sampling", "top_p", "top_k"],
        ["It steers how a model picks its next token. At temperature 0 it always takes the most likely one."],
    ),
    "llm": (
        ["[a|] language model", "[an|] LLM", "a large language model", "an AI model", "language models"],
        ["A language model is a program that has learned from text which words are likely to come next."],
    ),
    "zmqtopic": (
        ["zmq", "ZeroMQ", "zmtp", "pyzmq"],
        ["ZeroMQ is a way for programs to send each other messages. The suite listens for it on port 9901."],
    ),
    "toml": (
        ["mms.toml", "the config file", "the configuration file"],
        [
            "`mms.toml` is the server's configuration file. `mms config check` reports all mistakes in it with their line."
        ],
    ),
    "cmd_serve": (
        ["mms serve", "`mms serve`", "the serve command"],
        ["`mms serve` starts the server. It says ready once every endpoint has answered."],
    ),
    "cmd_ping": (
        ["mms ping", "`mms ping`", "the ping command"],
        ["`mms ping` asks the server for a sign of life and shows its answer."],
    ),
    "cmd_smoke": (
        ["mms smoke", "`mms smoke`", "the smoke test", "the smoke command"],
        [
            "`mms smoke` is a quick test of a running server: it checks health, generates text, and loads and unloads a model."
        ],
    ),
    "cmd_generate": (
        ["mms generate", "`mms generate`", "the generate command"],
        ["`mms generate` sends one prompt to a model and prints the text that it writes."],
    ),
    "cmd_chat": (
        ["mms chat", "`mms chat`", "the chat command"],
        ["`mms chat` lets you talk with a model in the terminal."],
    ),
    "cmd_models": (
        ["mms models", "`mms models`", "the models command"],
        ["`mms models` has four commands: list, show, load and unload."],
    ),
    "cmd_load": (["mms models load", "`mms models load`"], ["`mms models load NAME` loads that model into memory."]),
    "cmd_unload": (
        ["mms models unload", "`mms models unload`"],
        ["`mms models unload NAME` takes that model out of memory."],
    ),
    "cmd_list": (
        ["mms models list", "`mms models list`"],
        ["`mms models list` prints all models and whether they are loaded."],
    ),
    "cmd_show": (["mms models show", "`mms models show`"], ["`mms models show NAME` prints the details of one model."]),
    "cmd_status": (
        ["mms status", "`mms status`", "the status command"],
        ["`mms status` shows the state of the server, the loaded models and the memory they use."],
    ),
    "cmd_config": (
        ["mms config", "`mms config`", "mms config check", "the config command"],
        ["`mms config check` finds mistakes in `mms.toml`, and `mms config show` prints the settings in use."],
    ),
    "cmd_completions": (
        ["mms completions", "`mms completions`"],
        ["`mms completions` prints completions for your shell, so that Tab completes commands."],
    ),
    "docker": (
        ["docker", "the docker image", "docker compose"],
        ["The suite also runs in Docker: the repository has a Dockerfile and a docker-compose.yml."],
    ),
    "gpu": (
        ["[a|the] gpu", "gpu layers", "cuda", "vram"],
        ["A graphics card makes models faster, but it is not needed. llama.cpp also runs on the processor."],
    ),
    "metrics": (
        ["metrics", "/metrics", "prometheus", "the metrics endpoint"],
        ["Metrics for Prometheus are at /metrics on port 9903. Their names begin with mms_."],
    ),
    "demo": (
        ["mms-demo", "the demo model", "the built-in model", "the small model"],
        [
            "mms-demo is the small built-in model, and that is me. I am here so that you can try the suite without any download."
        ],
    ),
}
