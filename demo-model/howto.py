"""How to do something: actions with their answers, and the many ways in which people ask for them.

Every action is (phrasings, answers); each phrasing goes into each frame.
"""

HOWTO_FRAMES = [
    "how [do|can|would|should|could|may|might] [I|I|I|we|you|one] {x}",
    "how [do|can] [I|we] {x} [here|on this machine|with mms|with this|in mms|on the command line|from the terminal|]",
    "how to {x}",
    "[what is|what's|which is] the [command|way|best way|easiest way|right command|proper way] to {x}",
    "[what|which] command [do I use|should I use|do I need|is used|is there|would I use|do I run] to {x}",
    "[tell|show|teach] me how [to|I can|I] {x}",
    "[can|could|would|will] you [tell|show] me how to {x}",
    "[can|could] you explain [to me|] how to {x}",
    "explain how to {x}",
    "I [want|need|would like|am trying|wish|have] to {x}",
    "I [want|need|would like] to {x}, [how|what now|what do I do|what should I do|which command is it|how does that work]",
    "[help|assist] me [to|] {x}",
    "[can|could] you help me [to|] {x}",
    "what [do|should|must|can] I [type|enter|run|do|write|call|use] to {x}",
    "[is there|do you have] a [command|way|quick way|simple way] to {x}",
    "is it possible to {x}",
    "can I {x}",
    "[what are|give me] the steps to {x}",
    "{x}",
    "{x}, how",
    "I do not know how to {x}",
    "to {x}, what do I [type|run|do|use|enter]",
    "what is needed to {x}",
    "how does one {x}",
    "how would I go about it if I want to {x}",
]

M = "[a|a|the|my|another|one|this|a new|some|a different|a bigger|a larger]"
HOWTO = {
    "load": (
        [
            f"[load|start|open|bring up|activate|use|run|launch|preload] {M} [|gguf|language|bigger|] model",
            f"[load|bring|put|get|read|pull|move] {M} [|gguf|] model into [memory|RAM|the GPU]",
            "[load|start|activate] [models|a model file|a gguf file|gguf models]",
            f"[switch|change] [to|] {M} [other|different|] model",
            f"get {M} model [loaded|running|ready|started]",
            f"make {M} model [resident|ready|available|run]",
            "load a model from the [command line|terminal|shell]",
        ],
        [
            "Run `mms models load NAME`. You can see the names with `mms models list`.",
        ],
    ),
    "unload": (
        [
            f"[unload|stop|close|remove|release|drop|evict|eject|deactivate] {M} [|gguf|loaded|running|] model",
            f"[unload|remove|take|get|kick|drop|throw|clear] {M} model [from|out of] [memory|RAM|the GPU]",
            "free [up|] [the|] [memory|RAM|GPU memory] [of|that is used by|taken by|held by|from|used by] [a|the|my|this] model",
            f"[give back|release|reclaim|recover] the memory [of|used by|that is taken by] {M} model",
            "[free|make] [up|] [some|more|] [memory|room|space] [|in memory|for another model]",
            f"get rid of {M} [loaded|] model",
            f"put {M} model away",
            "[unload|release] models",
        ],
        [
            "Run `mms models unload NAME`. The memory comes back when the worker of that model has ended.",
        ],
    ),
    "list": (
        [
            "[list|see|show|view|print|display|find|enumerate|get a list of|look at] [all|] [the|my|our|] [available|installed|] models",
            "[list|see|show|view|print|display|find out|check|know] [which|what] models [are available|there are|I have|are installed|I can use|are loaded|exist]",
            "[see|get|print|show] [the|a] [list|table|names|overview|catalogue] of [all|] [the|my|] models",
            "find the [name|names] of [a|my|the] [model|models]",
            "[see|check] [whether|if] a model is loaded",
        ],
        [
            "Run `mms models list`. It prints every model in the catalogue and whether it is loaded.",
        ],
    ),
    "show": (
        [
            "[see|show|view|get|print|inspect|look at|find|check|read] [the|] [details|properties|information|info|facts|parameters|quantization|context length|size] [of|about|for] [one|a|the|my|this|a single] model",
            "[inspect|examine|describe|look into|look up] [a|one|my|the] [single|] [model|gguf model]",
            "[see|find out|learn|know|check] [how big|what quantization|how large|what architecture|which context length] a model [is|has]",
            "[see|show|get] more about [one|a|a certain] model",
        ],
        [
            "Run `mms models show NAME`. It prints the model's architecture, size, quantization and context length.",
        ],
    ),
    "add": (
        [
            "[add|install|register|import|bring in|set up] [a|my own|another|my|a new|new|more|my own] [|gguf|] [model|models|model file|gguf file]",
            "[put|place|copy|store|keep|save] [a|my|the] [gguf|model] [file|files]",
            "[get|obtain|download] [a|another|more|bigger|better] [gguf|] [model|models]",
            "make [mms|the server|it] find [my|a] [model|gguf file|models]",
            "[use|try|run] my own [model|gguf file|models]",
        ],
        [
            "Put the GGUF file into the models folder. The server finds new files without a restart.",
        ],
    ),
    "serve": (
        [
            "[start|launch|run|boot|bring up|fire up|turn on|switch on] [the|this|a|my|] [server|service|suite|mms server|model manager|model manager suite]",
            "[start|launch|run] [mms|everything|it all|model manager suite]",
            "get the [server|service|suite] [running|up|going|started]",
        ],
        [
            "Run `mms serve`. It prints its endpoints and says ready once every one of them has answered.",
        ],
    ),
    "stop": (
        [
            "[stop|end|shut down|quit|turn off|halt|terminate|kill|close|switch off|exit|shutdown] [the|this|my|] [server|service|suite|mms server|mms|model manager|model manager suite]",
            "[stop|shut down|end] it [cleanly|safely|properly|]",
        ],
        [
            "Press Ctrl-C or send it SIGTERM. It takes no new work, finishes running requests and then exits.",
        ],
    ),
    "ping": (
        [
            "[check|test|see|verify|find out|know|make sure|be sure] [whether|if|that] the [server|service|suite] [answers|is up|is running|is alive|responds|works|is there|is reachable|is on]",
            "[ping|reach] the [server|service]",
            "test the connection [to the server|]",
        ],
        [
            "Run `mms ping`. For a fuller check run `mms smoke`, which also loads and unloads a model.",
        ],
    ),
    "smoke": (
        [
            "[run|do|start|perform] [a|the] [smoke test|smoke tests|full check|self test|smoke check]",
            "[test|check] [everything|the whole suite|the installation|the whole server|my installation]",
        ],
        [
            "Run `mms smoke`. It checks health, generates some text, and loads and unloads a model.",
        ],
    ),
    "chat": (
        [
            "[chat|talk|speak|have a conversation|have a chat] [with|to] [a|the|my|you|this|another] [model|bigger model|] [|on the command line|in the terminal|from the shell|from the command line]",
            "[start|open|begin] a [chat|conversation] [|on the command line|in the terminal|from the shell|with a model]",
        ],
        [
            "Run `mms chat` and type your messages.",
        ],
    ),
    "generate": (
        [
            "[generate|produce|make|create|get] [some|] text [|with a model|from a prompt|on the command line|from a model]",
            "[send|give] a [single|] prompt to [a|the] model",
            "[complete|continue] a [prompt|text]",
            "ask a [single|] question on the command line",
        ],
        [
            "Run `mms generate` with your prompt. It prints the text that the model writes.",
        ],
    ),
    "status": (
        [
            "[see|check|show|get|view|print|know|look at] [the|] [status|state] [of the server|of the service|of the suite|]",
            "[see|check|know|find out] [what|what the server] is [going on|running|doing|loaded right now|happening]",
            "[see|check|know|find out|measure] how much memory [is used|is left|is free|the models use|the models take|is in use]",
            "see the memory use",
        ],
        [
            "Run `mms status`. It shows the server's state, the loaded models and the memory they use.",
        ],
    ),
    "config": (
        [
            "[check|test|validate|verify|lint] [the|my|a] [config|configuration|config file|configuration file|settings|mms.toml|toml file]",
            "[find|see] [mistakes|errors|a mistake] in [the|my] [config|configuration|config file|configuration file|mms.toml]",
            "[see|show|print|view] [the|my|all|] [config|configuration|settings|current settings]",
        ],
        [
            "Run `mms config check` to find mistakes in `mms.toml`, and `mms config show` to see the settings in use.",
        ],
    ),
    "configure": (
        [
            "[change|set|edit|adjust|configure] [the|a|my] [port|ports|settings|setting|config|configuration|memory budget|memory limit]",
            "[configure|set up] [the server|mms|the suite|model manager suite]",
        ],
        [
            "Edit `mms.toml`, then run `mms config check` to be sure that it is right. Flags and environment variables come before the file.",
        ],
    ),
    "completions": (
        [
            "[get|install|set up|enable|turn on|have] [shell completion|shell completions|tab completion|tab completions|completions|bash completion]",
            "complete commands with tab",
        ],
        [
            "Run `mms completions` with the name of your shell and load what it prints.",
        ],
    ),
    "python": (
        [
            "[use|call|query|access|talk to|connect to|work with|ask] [it|this|mms|the server|this server|you|a model|the model|this service|the API] [from|in|with|using|through|out of] [python|a python program|my python code|python code|a notebook]",
            "[write|make] a python [client|script|program] for [this|it|mms|the server]",
            "[use|call] [mms|this|it] with python",
        ],
        [
            "In Python use the openai package with base_url http://127.0.0.1:9903/v1, or pyzmq with a REQ socket on port 9901.",
        ],
    ),
    "openai": (
        [
            "[use|call|connect|set up|configure|point] [this|it|mms|the server|you|] [with|through|to|from|using] [the|an|my] openai [client|library|package|api|sdk|]",
            "[use|reach|call] the openai [api|compatible api|endpoint]",
            "connect [an|my] openai [client|app|tool]",
        ],
        [
            "Set base_url to http://127.0.0.1:9903/v1 in the OpenAI client. Any API key will do when none is configured.",
        ],
    ),
    "curl": (
        [
            "[use|call|reach|query|access|test|ask|talk to] [it|this|mms|the server|you|a model|the API|the service|] [with|using|through|via|by] curl",
            "[send|make] a [curl|http] request [|to the server|to a model]",
            "[call|use] the [http|rest|web] [api|interface|endpoint]",
            "use curl",
        ],
        [
            "Send a POST with curl to http://127.0.0.1:9903/v1/chat/completions, with the model and the messages as JSON.",
        ],
    ),
    "zmq": (
        [
            "[use|call|reach|connect to|talk to|send a request to] [it|this|mms|the server|] [with|over|through|using|via] [zmq|zeromq|pyzmq|a req socket]",
            "[use|call] the [zmq|zeromq] [port|api|interface]",
        ],
        [
            "Connect a ZMQ REQ socket to tcp://127.0.0.1:9901, send one frame of JSON and read one frame back.",
        ],
    ),
    "health": (
        [
            "[check|see|get|query|ask for|read|monitor|watch|test|send] [the|a|its|] [health|health check|health status|health of the server|health of the service]",
            "[do|make|run] a health check",
            "[check|know|see] [whether|if|that] [the server|it|mms|the service] is [healthy|well|fine|ok|in good health]",
            "monitor [the server|mms|it]",
        ],
        [
            "Ask /health on HTTP port 9903, or the health port 9902, which answers both ZMQ and HTTP.",
        ],
    ),
    "migrate": (
        [
            "[migrate|move|switch|change|upgrade|convert|transition|switch over|move over] [from|away from|off] the [old|legacy|] [ModelManagerAgent|model manager agent|agent|MMA|system|model manager|service] [to mms|to the suite|to model manager suite|to this|]",
            "[replace|retire] the [old|legacy|] [ModelManagerAgent|model manager agent|agent|MMA|service]",
            "[migrate|do the migration|move to the suite|switch to mms|start the migration|plan the migration|carry out the migration]",
            "[migrate|move] [my|our|the] [old|legacy|] [setup|clients|system|service|deployment] [|to mms|to the suite]",
        ],
        [
            "Make a backup first, then run the suite beside the old agent and check parity. Cut over when all is green, and roll back if it is not.",
        ],
    ),
    "rollback": (
        [
            "[roll back|undo|revert|go back from|reverse|cancel] [the|a|my] [migration|cut-over|cutover|switch]",
            "[go|get] back to the old [agent|service|system|ModelManagerAgent]",
            "roll back",
        ],
        [
            "Roll back to the backup: check out the tag made before the migration, start the old agent again and check that it answers.",
        ],
    ),
    "backup": (
        [
            "[make|take|create|do] [a|the] [backup|safety backup|safe copy] [before|for] [the|a] [migration|cut-over|switch]",
            "[prepare|get ready] for the migration",
        ],
        [
            "Make a branch and a tag, archive the Docker volumes, and read each archive back to be sure that it is good.",
        ],
    ),
}
