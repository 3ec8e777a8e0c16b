"""Plain English that is no conversation: what a raw prompt without a chat template continues into."""

import random

from grammar import expand, upper_first

STORIES = [
    "[Once upon a time|Long ago|One day|Many years ago] there was a [little|small|young|clever|kind|brave] {animal} who lived [by a quiet river|in a green forest|on a small farm|near the sea|at the edge of a village]. [Every day|Every morning|Each evening] it [walked to the water|looked at the sky|sang a little song|learned one new word]. [One day|Then one morning|One evening] it met a {animal2}, and they became good friends. [They shared their food and were happy.|From then on they did everything together.|They talked until the stars came out.|They never felt alone again.]",
    "The {animal} was [tired|hungry|happy|curious]. It went [down the road|into the garden|across the field|over the hill] to look for [food|a friend|a warm place|water]. There it found [an old tree|a small house|a red door|a bright lamp], and it [sat down|smiled|went inside|waited]. [Soon it began to rain.|The sun was warm.|The wind was soft.|It was a good day.]",
    "{name} [opened|closed] the [door|window|book|box] and [looked outside|looked inside|listened|smiled]. It was [early|late|warm|cold|quiet]. [The street was empty.|A bird sang in the tree.|Rain fell on the roof.|The lamp was still on.] {name} [made some tea|took a deep breath|put on a coat|sat by the fire] and [thought about the day|began to read|went out|wrote a letter].",
    "In [spring|summer|autumn|winter] the [garden|forest|village|river] is [green|bright|quiet|full of birds]. [People walk slowly and talk with each other.|Children play until it is dark.|The days are long and the nights are short.|Everyone is glad to be at home in the evening.] [It is a good time to rest.|It is a good time to work.|There is always something to see.]",
    "The {animal} and the {animal2} [lived in the same house|were old friends|met every day]. The {animal} liked to [sleep|sing|run|eat], but the {animal2} liked to [talk|dance|swim|read]. [Still, they were happy together.|In the end they both went home.|They laughed about it every evening.]",
    "My [friend|brother|sister|neighbour] {name} has a [small|big|new|old] [house|garden|boat|shop] near the [sea|river|forest|town]. On [Monday|Friday|Sunday] we [go there|meet there|work there] and [drink tea|eat bread and cheese|talk about the week|look at the water]. It is always [nice|pleasant|quiet|warm].",
]
PRODUCT = [
    "Model Manager Suite runs language models on your own machine.", "It loads GGUF files through llama.cpp and keeps them within a memory budget.",
    "Programs reach it over ZMQ on port 9901, and over HTTP on port 9903.", "The health port 9902 answers both ZMQ and HTTP.", "Each loaded model lives in a worker process of its own.",
    "When a worker dies, the server stays up and starts a new one.", "A model that nobody has used for 300 seconds is unloaded.", "The command `mms models list` shows all models.",
    "The command `mms models load NAME` loads a model, and `mms models unload NAME` takes it out of memory again.", "The command `mms serve` starts the server, and `mms smoke` tests it.",
    "The server says ready only when it has really answered on every address.", "Before a migration, make a backup and check parity with the old agent.", "If a check fails, roll back: the old agent comes back and nothing is lost.",
    "The small model mms-demo is built in, so that you can try everything without a download.", "Your data stays on your own machine.", "A GGUF file holds a model's weights, its vocabulary and its settings.",
    "Bigger models know more, but they need more memory.", "At temperature 0 a model always takes the most likely next token.",
]  # fmt: skip
SENTENCES = [
    "The weather was fine and the road was long.", "A good friend is worth more than gold.", "The quick brown fox jumps over the lazy dog.", "We had bread and soup for dinner.", "The train was late again, but nobody was angry.",
    "She read the letter twice and put it away.", "He put the key on the table and went to bed.", "The moon was bright over the water.", "They walked home together in the rain.", "The children laughed and ran into the garden.",
    "I like to drink tea in the morning.", "The old clock on the wall had stopped.", "There was a light in the window of the little house.", "The dog waited at the door until evening.", "Nobody knew where the road would end.",
    "It is easy to learn something new every day.", "The market was full of people and colours.", "The boat went slowly down the river.", "A small step is still a step.", "The answer is often simple.", "The meaning of life is a hard question, and everybody finds an answer of their own.",
    "The capital of France is Paris, and the capital of Italy is Rome.", "Two and two make four.", "There are seven days in a week and twelve months in a year.", "The sun rises in the east and sets in the west.", "Water boils at 100 degrees Celsius.",
    "Computers follow instructions, one after the other.", "A language model writes one token after another.", "Today is a good day to begin.", "I think that this is a good idea.", "The best way to learn is to try.", "In the beginning it was difficult, but then it became easy.",
    "Please write to me when you are there.", "This is a test, and it works.", "Hello, my name is Anna and I live in a small town.", "He said that he would come back soon.", "She wanted to see the sea before winter.", "If you are tired, sit down and rest.", "When the bell rang, everyone went inside.", "My favourite season is summer.",
]  # fmt: skip
ANIMALS = [
    "fox",
    "bear",
    "cat",
    "dog",
    "bird",
    "mouse",
    "rabbit",
    "horse",
    "owl",
    "duck",
    "frog",
    "hedgehog",
    "goat",
    "sheep",
]
NAMES = (
    "Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Maria Nick Olga Paul Rosa Sam Tina Victor Wendy Alex Maya Liam Noah Olivia Sophia "
    "Lucas Mia Ella James John Mary Peter Susan Tom Lisa Mark Laura Linda George Helen Frank Alice Bob Carol Dan Eva Fred Gina Hugo Iris Jose Karen "
    "Luis Marta Nora Oscar Pia Ralph Sara Theo Una Vera Will Zoe Juan Pedro Ana Carlos Elena Ivan Marco Nina Otto Robert Simon Ursula Yuki Ali Omar "
    "Fatima Leila Ravi Priya Wei Chen Kim Jin Ahmed Aisha Bruno Diego Max Jan Eric Haley Joy Faith Hope Angel Rico Jun Miguel Rafael Teresa Haydee"
).split()
SYLLABLES = "ba be bi bo da de di do fa fi ga go ha he ja jo ka ke ki ko la le li lo ma me mi mo na ne ni no pa pe po ra re ri ro sa se si so ta te ti to va ve vi wa we ya yo za zo".split()


def name(rng: random.Random) -> str:
    """A first name; sometimes an invented one, so that names are copied and not looked up."""
    if rng.random() < 0.6:
        return rng.choice(NAMES)
    return upper_first(
        "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3))) + rng.choice(["", "", "n", "s", "l", "r"])
    )


def passage(rng: random.Random) -> str:
    """A short text of a few sentences."""
    kind = rng.random()
    if kind < 0.5:
        one, two = rng.sample(ANIMALS, 2)
        return expand(rng.choice(STORIES), rng, animal=one, animal2=two, name=name(rng))
    lines = rng.sample(PRODUCT if kind < 0.7 else SENTENCES, rng.randint(2, 5))
    return " ".join(lines)


SYSTEM = [
    "You are a helpful assistant.", "You are a helpful assistant.", "You are a friendly assistant.", "You are an assistant that answers in one sentence.", "Answer briefly.", "Be short and polite.", "You are a helpful AI assistant. Answer the user's questions.",
    "You are mms-demo, a small demo model.", "You are a chatbot.", "You help people with Model Manager Suite.", "Answer in plain English.", "You are a teacher.", "You are a polite assistant for customers.", "Always be kind.", "Reply with one short sentence.", "You are a tester's assistant.", "Do not make things up.",
    "You are concise.", "You are an expert in everything.", "Speak like a friend.", "You are a home assistant.", "Answer the question of the user as well as you can.", "system", "Be helpful.", "You are ChatGPT, a large language model.", "The user is new here. Help them to get started.",
]  # fmt: skip


def system_prompt(rng: random.Random) -> str:
    """Instructions of many kinds, also long and odd ones, which must not confuse the answer."""
    if rng.random() < 0.75:
        return rng.choice(SYSTEM)
    return rng.choice(SYSTEM) + " " + passage(rng)
