"""Questions about the product that have a wording of their own: ports, models, memory, trouble, migration.

Every intent is (questions, answers, end mark).
"""

PRODUCT = {
    "private": (
        [
            "does [my|our|any|the] [data|text|input|information|prompt] [leave|get out of|go out of] [this|my|the] [machine|computer|house|network|server|building]",
            "[is|are] [my|our|the] [data|prompts|conversations|messages|texts|questions] [private|safe|secure|sent anywhere|stored elsewhere|kept private|shared|sent to the internet|sent to the cloud]",
            "[do|does] [you|it|this|mms|the server] [send|upload|share|leak] [my|our|any|] [data|prompts|text|messages] [to the internet|to the cloud|anywhere|to anyone|to somebody|]",
            "[do|does] [you|it|this|mms] [need|use|require|run without|work without] [the|an|] [internet|internet connection|cloud|network]",
            "who can [see|read] [my|our] [data|messages|prompts|conversations]",
            "where does my data go",
            "[is|are] [this|it|you|mms|everything] [local|private|offline|secure|safe]",
            "what about [privacy|my privacy|data protection|security]",
            "can [I|this|it|you] [work|run|be used] [offline|without internet|locally]",
            "are you online",
            "do you run in the cloud",
            "where do you run",
        ],
        ["Everything runs on your own machine, so your data stays there."],
        "?",
    ),
    "cost": (
        [
            "[how much does|what does] [it|this|mms|the suite|model manager suite] cost",
            "is [it|this|mms|the suite|model manager suite] [free|open source|free of charge]",
            "do I [have|need] to pay [for this|]",
            "what is the [price|license|licence]",
            "[which|what] [license|licence] [does it have|is it under|is it]",
        ],
        ["It is free software, under the MIT or the Apache 2.0 licence, as you like."],
        "?",
    ),
    "whatfor": (
        [
            "what does [mms|this|it|the suite|model manager suite|this software|this server|this program|the server] do",
            "what [is|are] [mms|this|it|the suite|model manager suite|this software|this server] [for|good for|used for]",
            "why [would|should] I use [mms|this|it|the suite|model manager suite|this software]",
            "who [is|uses] [mms|this|the suite] [for|]",
            "what can I do with [mms|this|it|the suite|this software|this product|this server|this program|model manager suite]",
            "what is the [purpose|point|use] of [mms|this software|the suite|model manager suite|this program]",
            "[sum up|summarize|summarise|describe] [this software|this product|this program|mms|the suite] [in one line|in one sentence|briefly|shortly|in a few words]",
            "what [software|program|product|server] is this",
            "which [software|program|product|server] is this",
            "in one [line|sentence], what is [this|mms|this software|this product|this program]",
        ],
        ["Model Manager Suite runs your own GGUF language models on your own machine through llama.cpp."],
        "?",
    ),
    "standfor": (
        [
            "what does mms [stand for|mean]",
            "mms [stands for what|means what]",
            "what is mms short for",
            "what do the letters [mms|MMS] mean",
            "[is mms short for something|what is the long name of mms]",
            "[what is|tell me] the [full|long] name of mms",
        ],
        ["MMS stands for Model Manager Suite."],
        "?",
    ),
    "commands": (
        [
            "[what|which] commands [are there|do you have|can I use|exist|does mms have|are available|does it have]",
            "[list|show|tell|give] me [all|the|all the] [mms|] commands",
            "[list|show] [all|the|] commands",
            "what can [mms|the command line|the mms command] do",
            "how do I use [mms|the command line|the mms command]",
            "[I am lost|where do I start|how do I start|how do I begin|how do I get started|what now|what should I do first|what next|getting started]",
        ],
        [
            "The commands are `mms serve`, `ping`, `smoke`, `generate`, `chat`, `models`, `status` and `config`. Each one explains itself with `--help`."
        ],
        "?",
    ),
    "ports": (
        [
            "[what|which] ports [are used|do you use|does it use|does mms use|are there|are open|does the server use|do I need]",
            "[tell|show|list] me [the|all] ports",
            "what are the [ports|endpoints|addresses]",
            "[list|show|name] [the|all] [ports|endpoints|addresses]",
            "[on|at] which [address|port|ports] [does it listen|does the server listen|does mms listen|do you listen|are you]",
            "where does the server listen",
            "what is the [address|url] of the server",
        ],
        ["ZMQ is on port 9901, health on 9902 and HTTP on 9903, all on your own machine."],
        "?",
    ),
    "port_zmq": (
        [
            "[which|what] port [does|is] [zmq|zeromq|the main service|pyzmq] [use|on|for|]",
            "[what|which] is the [zmq|zeromq|main] port",
            "the [zmq|main|zeromq] port",
            "[which|what] port [do|should|must|can|will|does] [I|my|a|the|we|our] [zmq|zeromq|pyzmq|REQ] [client|clients|socket|code] [use|connect to|talk to|need|take]",
            "[which|what] port is [for|used by|used for|taken by] [zmq|zeromq|REQ sockets]",
            "where is [zmq|zeromq|the main port]",
            "[on|at] [what|which] port [is|do I find|can I reach] [zmq|zeromq|the main service]",
            "zmq port",
            "main port number",
            "port of the zmq [server|service|api|]",
        ],
        ["ZMQ is on port 9901."],
        "?",
    ),
    "port_health": (
        [
            "[what|which] is the health port",
            "[which|what] port [is|does] [health|the health check|the health service] [on|use|for|]",
            "the health port",
            "where is [the health port|health|the health check|the health endpoint]",
            "[on|at] [what|which] port [is|do I find|can I reach|do I ask for] [health|the health check]",
            "health port",
            "[which|what] port is [for|used for] [health|health checks|monitoring]",
            "where [do|can|should] [I|we|my monitor] [ask for|get|find|query|direct|point] [a|the|] health [check|checks|status|information|requests]",
            "port of the health [check|service|]",
            "[what|which] port [do|should|can] I [use|ask|query] for health [checks|]",
        ],
        ["Health is on port 9902, for ZMQ and HTTP alike. HTTP port 9903 has /health too."],
        "?",
    ),
    "port_http": (
        [
            "[which|what] port [does|is] [http|the web api|the openai api|the http api|the rest api] [use|on|for|]",
            "[what|which] is the [http|web|openai|rest|api] port",
            "the [http|web|openai|rest] port",
            "[which|what] port [do|should|must|can|will|does] [I|my|a|the|we|our] [http|web|rest|openai|browser|curl] [client|clients|app|code|request|requests|tool] [use|connect to|need|go to|call]",
            "[which|what] port is [for|used by|used for] [http|the web|openai|curl|the browser]",
            "where is [http|the http api|the web api|the openai api]",
            "[on|at] [what|which] port [is|do I find|can I reach] [http|the openai api|the web api|the API]",
            "http port",
            "port of the [http|openai|web] [server|service|api|]",
            "what is the [url|address] of the [api|openai api|http api]",
            "what is the [base url|base_url|api url]",
            "[which|what] [url|address] do I use for [http|openai|the api]",
        ],
        ["HTTP is on port 9903, with the OpenAI API at http://127.0.0.1:9903/v1."],
        "?",
    ),
    "where_models": (
        [
            "where [do|should|can|must] I [put|place|copy|store|keep|save|drop] [my|the|a|new|] [gguf|model|] [file|files|models|model]",
            "where [are|do] [the|my|] [models|gguf files|model files] [stored|kept|go|live|belong|looked for|]",
            "[in|into|to] which [folder|directory|place] do [the|my|] [models|gguf files|model files] [go|belong|live]",
            "where is the models folder",
            "which folder [is|holds] the models [in|]",
            "where does [mms|the server|it] look for [models|gguf files|model files]",
            "where do the models come from",
        ],
        ["Put GGUF files into the models folder, which `mms config show` names. New files appear without a restart."],
        "?",
    ),
    "idle_when": (
        [
            "when [are|is|does|do] [idle|unused|] [models|a model|the model|a model that is idle] [unloaded|get unloaded|removed|be unloaded|unloads]",
            "[after|in] [how long|how many seconds|what time|how many minutes] [is|are] [a|an idle|idle|unused|the] [model|models] [unloaded|removed|dropped]",
            "how long does [a|an idle|the] model stay [loaded|in memory|resident|]",
            "do idle models get unloaded",
            "are [idle|unused] models unloaded [automatically|]",
            "what happens to [idle|unused] models",
            "what happens when [a model is idle|nobody uses a model|a model is not used]",
            "when does a model leave memory",
            "will [my|the|a] model stay [loaded|in memory] [forever|]",
        ],
        ["A model that nobody has used for 300 seconds is unloaded. You can change that time for each model."],
        "?",
    ),
    "full": (
        [
            "what [happens|if|do I do|should I do] [when|if|] [the|my|] memory [is|gets|runs] [full|short|low|out|not enough]",
            "[what if|what happens if|what happens when] [there is not enough memory|a model does not fit|a model is too big|the model is too large|I run out of memory|there is no room|memory runs out]",
            "[I am|we are] out of memory",
            "[a|my|the] model [does not fit|is too big|is too large|needs too much memory]",
            "how many models can [I load|run at once|be loaded|I run|I have] [at the same time|at once|]",
            "can I load [two|three|several|many|more than one] models [at once|at the same time|]",
        ],
        [
            "Models share one memory budget, and you can load as many as fit. Unload an idle one to make room for another."
        ],
        "?",
    ),
    "bigger": (
        [
            "[where|how] [do|can] I [get|find] [a|] [bigger|better|larger|smarter|good|real] [model|models|gguf model]",
            "[which|what] model [should I|do you recommend|is best|is better|should we|can you recommend] [use|load|take|get|]",
            "[recommend|suggest] [me|] a [model|better model|bigger model|good model]",
            "[is there|do you know|I want|I need] a [better|bigger|smarter|larger] model",
            "what is a bigger gguf model",
        ],
        [
            "Take a GGUF model that fits your memory, put it into the models folder and load it with `mms models load NAME`."
        ],
        "?",
    ),
    "requirements": (
        [
            "what [hardware|computer|machine] do I need",
            "do I need a [gpu|graphics card|big computer|fast computer]",
            "[does|will|can] [it|this|mms] [run|work] [on a laptop|without a gpu|on a cpu|on my computer|on linux|on a raspberry pi|with a gpu|on my gpu]",
            "how much [memory|ram] do I need",
            "what are the requirements",
            "does it need a gpu",
            "can it use [my|a|the] [gpu|graphics card]",
        ],
        [
            "A usual computer will do, and a graphics card is used if there is one. The memory must hold the model that you load."
        ],
        "?",
    ),
    "ready_when": (
        [
            "when is [the server|it|mms|the suite|the service] ready",
            "how do I know [that|when|if] [the server|it|mms|the suite] is ready",
            "what does [it mean|it mean when the server says|ready] [that the server is ready|ready|mean|say]",
            "is the server ready",
            "what does ready mean [here|for the server|exactly|]",
            "what does [the server mean by|the word] ready [mean|]",
            "when does the server say ready",
            "why is the server not ready",
            "[the server is|it is|mms is] not ready",
            "ready means what",
            "what does not ready mean",
        ],
        ["Ready means that the suite's own client has had a real answer from every published address."],
        "?",
    ),
    "trouble": (
        [
            "[it|mms|the server|something|this] [does not|doesn't|will not] [work|answer|start|respond|run]",
            "[it|mms|the server|something] is [broken|down|not working|not answering|stuck|dead|slow]",
            "I [get|have|got|see] [an error|a problem|an error message|no answer|a timeout|errors]",
            "[what if|what do I do if|what do I do when] [the server does not answer|it does not work|nothing works|there is an error|the server is down|I get an error]",
            "why [does it|does the server|doesn't it|is it] [not|] [work|answer|fail|slow]",
            "[there is|I have] a problem",
            "can you fix [it|this|my server]",
            "how do I [debug|find the cause|find the problem|fix it|troubleshoot]",
        ],
        ["Run `mms ping` first, then `mms status`. Their messages say what is wrong and what to try."],
        "?",
    ),
    "port_used": (
        [
            "[the|a|my] port is [in use|taken|used|already in use|occupied|busy|blocked]",
            "[what if|what happens if|what happens when] [a|the] port is [in use|taken|already used|busy]",
            "[address|port] already in use",
            "another [program|process] uses [my|the] port",
        ],
        [
            "Then the server does not start and names the port and the process that holds it. Ports never change silently."
        ],
        "?",
    ),
    "mig_fail": (
        [
            "what [if|happens if|happens when] the [migration|cut-over|switch|migration step] [fails|goes wrong|breaks|does not work|stops]",
            "[can|could] the migration [fail|break something|go wrong]",
            "is the migration [safe|dangerous|risky|reversible]",
            "[can I|is it possible to|could I] [undo|revert|go back from] the migration",
            "[what if|suppose] something goes wrong [with|in|during] the migration",
            "the migration [failed|went wrong|broke|did not work|is broken]",
            "will I lose data [in|during] the migration",
        ],
        ["Then you roll back: the old agent comes back from the backup, and nothing is lost."],
        "?",
    ),
    "mig_clients": (
        [
            "[do|must|will] [my|the|our|old] clients [need to|have to|need a|keep|still|] [change|work|working|run] [after the migration|with mms|]",
            "will [my|the|our] [old|existing|] [clients|programs|scripts] [still|keep] [work|working] [after the migration|with the suite|]",
            "does [mms|the suite] [understand|answer|support] [old|my old|the old|legacy] [clients|requests]",
        ],
        ["Old clients keep working: the suite answers the same requests on the same ports."],
        "?",
    ),
    "mig_why": (
        [
            "why [should I|should we|must I|do I have to|] migrate",
            "why [replace|leave] the old [agent|ModelManagerAgent|system]",
            "what is [better|new|different] [in|about|with] [the suite|mms|the new one]",
            "what is the difference between [the old agent|ModelManagerAgent|the old one] and [mms|the suite|the new one]",
        ],
        [
            "The old agent could stop answering without a word. The suite says ready only when it really answers, and a broken model never takes it down."
        ],
        "?",
    ),
    "mig_steps": (
        [
            "[what|which] are the [steps|phases|stages] of [the|a] migration",
            "[list|name|show] [me|] the [migration|] steps [of the migration|]",
            "what [comes|is|do I do] first [in|for|when] [the migration|a migration|migrating|I migrate]",
            "[describe|explain] the migration",
            "how does the migration work",
            "how long does the migration take",
            "what happens [in|during] the migration",
        ],
        [
            "Backup, run the suite beside the old agent, check parity, cut over, clean up. At each step you can roll back."
        ],
        "?",
    ),
}
