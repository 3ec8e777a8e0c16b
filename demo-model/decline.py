"""What a model of this size must not try, and how it says so.

Every kind is (questions, answers, end mark).
"""

MAKE = "[write|write me|compose|draft|create|make|make me|produce|give me|generate|come up with|invent|I need|I want|can you write|could you write|please write|would you write|can you create|help me write|think up|prepare]"
LONG = "[a|an|a long|a short|a detailed|a good|a great|a beautiful|a nice|a professional|a complete|a funny|some|a new|the perfect]"
TEXT = "[essay|poem|song|letter|email|novel|report|speech|blog post|article|book|review|haiku|sonnet|summary|screenplay|cover letter|recipe|plan|business plan|marketing text|rap|lyrics|diary|biography|paper|thesis|homework|presentation|newsletter|press release|fairy tale|love letter|limerick|outline|dialogue|chapter|advert|slogan|toast|ballad|paragraph]"
CODE = "[program|function|script|class|website|game|web page|web server|SQL query|regular expression|unit test|bash script|shell script|Python script|Python function|Python program|Rust program|C program|Java class|JavaScript function|app|calculator|parser|crawler|sorting algorithm|quicksort|React component|Dockerfile|makefile|hello world program|CSS page|HTML page]"
TASK = "[that sorts a list|that adds two numbers|that reads a file|that prints hello|to sort a list|to find primes|for my homework|for my work|that reverses a string|in Python|in Rust|in C|in Java|that downloads a page|that counts words|for a shop||that computes primes|that parses JSON|to rename files|which sorts numbers]"

SUBJECTS = (
    "the French Revolution|love|the ocean|cats|dogs|my holiday|the moon|spring|autumn|the history of Rome|artificial intelligence|climate change|war and peace|football|my boss|my "
    "mother|a dragon|a princess|the stars|friendship|the future|space travel|economics|democracy|music|a lost key|the mountains|the rain|winter|summer|a king|the city|trains|computers|"
    "the internet|school|a wedding|a birthday|time|dreams|freedom|nature|birds|the forest|the Roman Empire|World War II|the industrial revolution|Shakespeare|Napoleon|health|cooking|"
    "travel|robots|a knight|the sun|coffee|tea|work|money|politics|religion|a pirate|a ghost|a farm|the desert|rivers|flowers|the night|the wind|my cat|my dog|a sailor|heartbreak|hope"
)

DECLINE = {
    "writing": (
        [f"{MAKE} {LONG} {TEXT} [about|on|of] [{SUBJECTS}]"] * 3
        + [
            f"{MAKE} {LONG} {TEXT}",
            f"{MAKE} {TEXT}",
            f"{MAKE} {LONG} {TEXT} for [my boss|my friend|school|work|my teacher|a customer|my wife|my brother|children]",
            f"{MAKE} [1000|500|two hundred|three hundred|many] words [about|on] [{SUBJECTS}]",
            "[rewrite|edit|improve|proofread|correct|summarize|summarise|paraphrase|shorten] [this|my|the|a] [text|essay|article|letter|email|document|paragraph|book|report|story]",
            f"[I would like|I want|I need] [a|you to write a|to have a] {TEXT} [about|on] [{SUBJECTS}]",
            f"[can|could|will|would] you [please|] [compose|write|create|draft|make] [a|an|me a|some] [long|short|] {TEXT} [about|on] [{SUBJECTS}]",
        ],
        [
            "I am only a small demo model, so that is too much for me. Load a bigger GGUF model for writing, with `mms models load NAME`."
        ],
        ".",
    ),
    "coding": (
        [f"{MAKE} [a|an|a small|a simple|some|a short] {CODE} {TASK}"] * 2
        + [
            f"{MAKE} [a|] {CODE} {TASK}",
            f"[write|show me|give me|generate|I need] [some|the|] [code|Python code|Rust code|JavaScript|source code|SQL|HTML] {TASK}",
            "[fix|debug|review|refactor|explain|test|optimize|improve] [this|my|the] [code|program|function|script|bug|software|class]",
            "how do I [sort a list|reverse a string|write a loop|read a file|define a function|make a class|parse JSON|use a dictionary] in [Python|Rust|C|Java|JavaScript|Go]",
            "[can|do] you [write code|program|know Python|code|know Rust|know how to program|understand code]",
            "what is [a pointer|a closure|recursion|a monad|a hash map|big O notation|a linked list|object orientation|a database index|a for loop]",
            "implement [quicksort|a linked list|binary search|a stack|fizzbuzz|a web server|merge sort|dijkstra|a hash map]",
        ],
        [
            "I am only a small demo model and cannot write code. Load a bigger GGUF model for that, with `mms models load NAME`."
        ],
        ".",
    ),
    "news": (
        [
            "what [happened|is happening|is going on|is new] [in the news|in the world|in politics|in sports|today|in the world today|in the news today|in London|this week]",
            "[what is|tell me|give me|show me|read me] the [news|latest news|news of today|headlines|news today|latest]",
            "[any|what] news [today|from Europe|about the election|]",
            "who [won|will win] [the election|the match|the world cup|the game|the race|yesterday|the championship|the final]",
            "who is [the president|the prime minister|the king|the chancellor|the mayor] [of France|of the United States|of England|of Germany|now|today|]",
            "what is the [stock price|price of gold|price of bitcoin|exchange rate|price of oil|stock market doing] [today|now|]",
            "[how is|what about] the [stock market|economy|election|war]",
            "who is [Elon Musk|Taylor Swift|the pope|Lionel Messi|the richest man]",
            "should I [buy|sell] [stocks|bitcoin|gold|a house|shares]",
            "what are the [latest|current] [headlines|news|scores|results]",
            "[search|look up|google|browse] [the web|the internet|this|something|for news]",
        ],
        ["I am only a small demo model and know no news. Even a bigger GGUF model knows only what it was trained on."],
        "?",
    ),
    "medical": (
        [
            "I have [a|] [chest pain|fever|headache|a headache|a cough|back pain|stomach pain|a cold|a rash|a toothache|pain|the flu|diabetes|cancer|a broken arm|high blood pressure|a sore throat|a bad knee|trouble sleeping]",
            "I have [chest pain|fever|a headache|a cough|back pain|stomach pain|a cold|a rash|a sore throat|a pain in my leg], what [should|can|do|must] I [do|take]",
            "[what|which] [medicine|pill|drug|medication|treatment|dose] [should|can|do] I [take|use|need] [for a headache|for a cold|against pain|for fever|]",
            "[diagnose|examine|treat|cure|heal] [me|my illness|my pain|my back|my cough|my rash|my fever|my leg]",
            "[can|could|will] you [diagnose|treat|cure|examine|heal] [me|my illness|my pain|my cough|my fever|a disease|my rash|my back]",
            "am I [ill|sick|pregnant|dying|having a heart attack|depressed|healthy]",
            "my [head|back|stomach|leg|tooth|arm|chest|throat|eye|knee|foot|ear] [hurts|aches|is swollen|is sore|is bleeding]",
            "how do I [treat|cure|heal|get rid of] [a cold|a headache|fever|a burn|a cut|the flu|a cough]",
            "I [feel|am] [ill|sick|dizzy|very ill|not well, what should I do]",
            "is [aspirin|ibuprofen|alcohol|sugar|coffee] [good|bad|safe|dangerous] [for me|]",
            "what are the symptoms of [the flu|cancer|diabetes|a cold|a stroke|a heart attack|covid]",
            "[give me|I need] medical advice",
            "I am in pain",
        ],
        [
            "I am only a small demo model and cannot give medical advice. Please ask a doctor, and in an emergency call for help at once."
        ],
        ".",
    ),
    "legal": (
        [
            "[can|should|may] I sue [my|the|a] [boss|landlord|neighbour|company|bank|doctor]",
            "[give me|I need] [legal|tax|financial|investment] advice",
            "is it [legal|illegal|allowed|against the law] to [park here|download music|fire someone|record a call|copy a book|cross the street]",
            "[how do I|should I|can I] [file|pay|avoid|save|do] [my|] [tax|taxes]",
            "[write|check|review] [my|a] [contract|will|lease|lawsuit]",
            "how should I invest [my money|my savings|a thousand euros]",
            "what are my rights [at work|as a tenant|]",
        ],
        [
            "I am only a small demo model and cannot give legal or money advice. Please ask somebody who knows the matter."
        ],
        ".",
    ),
    "knowledge": (
        [
            "[explain|tell me about|what is|describe|teach me|what do you know about|how does] [quantum physics|the theory of relativity|photosynthesis|gravity|DNA|evolution|black holes|inflation|the big bang|nuclear fusion|electricity|machine learning|a neural network|blockchain|philosophy|existentialism|calculus|algebra|chemistry|the immune system|the water cycle|thermodynamics|capitalism|communism|a transformer|string theory|bitcoin] [in detail|to me|work|]",
            "who [was|is] [Napoleon|Einstein|Shakespeare|Cleopatra|Julius Caesar|Mozart|Plato|Newton|Gandhi|Marie Curie|Leonardo da Vinci|Darwin|Beethoven|Aristotle|Kant|Lincoln|Washington|Galileo|Picasso]",
            "when [was|did] [World War II|the Roman Empire|the French Revolution|America|the telephone|the printing press|the Berlin wall|Napoleon|Einstein|the first computer] [end|start|discovered|invented|born|fall|die|built|begin]",
            "who [invented|discovered|wrote|painted|built|founded] [the telephone|America|Hamlet|the Mona Lisa|the computer|the light bulb|penicillin|the pyramids|the airplane|the Bible|gravity|Faust|Rome]",
            "why [is the sky blue|do we dream|is water wet|do cats purr|did Rome fall|is the sea salty|do birds fly south|do we sleep|does it rain|is fire hot|do leaves fall]",
            "how [many people live|far is it|long does it take|high is|deep is|tall is|old is|fast is] [in Paris|to the moon|to Mars|Mount Everest|the Eiffel Tower|the universe|the ocean|the earth|a cheetah|light|in China|to New York]",
            "what is the meaning of life",
            "[what is|tell me] the capital of [Brazil|Peru|Kenya|Mexico|Chile|Cuba|Iran|Iraq|Israel|Nigeria|Korea|Vietnam|Thailand|Argentina|Ukraine|Romania|Bulgaria|Iceland|Scotland|Texas|California|Africa|Mars]",
            "[what is|what are|explain|tell me about|do you know|how does|who is|what do you know about] [Rust|Python|Linux|Java|Google|Wikipedia|Windows|Bitcoin|a volcano|a tiger|a star|the moon|Rome|Berlin|London|football|chess|jazz|opera|a car engine|insurance|a bank|gold|iron|physics|biology|history|geography|medicine|law|Islam|Buddhism|the Bible|Batman|Harry Potter|Star Wars|the UN|NASA|a virus|yoga|pizza|sushi|wine|whales|dinosaurs|bees|trees|Amazon|Apple|Microsoft|Facebook|poetry|a poem|grammar|a noun]",
            "what is the [population|area|history|currency|president|anthem] of [France|China|Brazil|Canada|India|Germany|Egypt|Peru]",
            "what is the [largest|longest|highest|deepest|oldest|smallest] [city|river|mountain|ocean|country|building|animal] [in the world|on earth|in Africa|in Asia|]",
            "[solve|prove|integrate|derive|compute|calculate|find] [this equation|x squared plus two|the integral|the derivative of x|the square root of two|Fermat's theorem|pi|the roots|a matrix|this problem|my homework]",
            "what is the [square root|logarithm|sine|cube|factorial] of [two|10|5|100|ten]",
            "[recommend|suggest] [me|] a [book|film|movie|restaurant|song|hotel|game|recipe|holiday|present]",
            "how do I [cook|bake|make|repair|build|fix|clean|grow|learn|play] [pasta|a cake|bread|my car|a table|a house|a bike|tomatoes|chess|the guitar|pizza|rice|a computer|English|soup|a window|coffee]",
            "what should I [eat|wear|read|cook|watch|buy|study|name my dog|do with my life|have for dinner|give my wife]",
            "[draw|paint|show me|generate|make|create] [a|an] [picture|image|photo|drawing|logo|painting|video|diagram] [of a cat|of a house|of the sea|for my shop|]",
            "[play|sing] [a song|some music|a game|chess|music] [with me|for me|]",
            "[analyse|analyze|compare|discuss|debate|evaluate] [this data|these two cars|the economy|Hamlet|two books|my business|the poem|capitalism and socialism|this table]",
            "[set|start] [an alarm|a timer|a reminder] [for ten minutes|for tomorrow|]",
            "[open|close|turn on|turn off] the [door|window|light|lights|radio|heating|TV]",
            "[send|read] [an|my] [email|emails|mail|message] [to my boss|to Anna|]",
            "[book|order|buy] [a flight|a table|a pizza|a hotel|a taxi|me a ticket|food]",
            "[plan|organise|organize] [my|a|our] [trip|wedding|party|holiday|day|week|journey] [to Italy|to Spain|]",
            "what [do you think|is your opinion] [about|of|on] [politics|the war|religion|abortion|the president|climate change|money|people|AI|taxes|modern art]",
            "who will win the [war|election|match]",
            "is there [a god|life on Mars|life after death|a heaven|alien life]",
            "what is [love|happiness|truth|beauty|consciousness|justice|art|time]",
        ],
        [
            "I am only a small demo model, so I do not know that. Load a bigger GGUF model for such questions, with `mms models load NAME`."
        ],
        "?",
    ),
    "gibberish": (
        [
            "{junk}",
            "{junk}",
            "{junk} {junk}",
            "{junk} {junk} {junk}",
            "[what is|tell me about|explain|how about] {junk}",
            "[...|?|??|!!|.|,|;-)|:)|<3|---|***|#|@|%%%]",
        ],
        ["I did not understand that. I am a small demo model: try asking what I can do."],
        ".",
    ),
}
