"""The whole training corpus of mms-demo, made from hand-written English with a fixed seed.

`build(seed, size)` returns documents. A document is a list of (role, text); the role `text` is plain prose. Run this
file to look at some of them.
"""

import random
import re
import string
import sys

import facts
from decline import DECLINE
from grammar import expand, humanize, upper_first
from howto import HOWTO, HOWTO_FRAMES
from prose import SENTENCES, name, passage, system_prompt
from talk import TALK
from topics import TOPIC_FRAMES, TOPICS

Turn = tuple[str, str]
Document = list[Turn]
Pair = tuple[str, str]
MILLIONS = "3"  # parameters, as the model tells it; train.py checks it against the real figure

STATEMENTS = ("I ", "I'm", "my ", "we ", "this is", "help", "explain", "tell", "show", "teach", "give", "write")
# Weight of each kind of question in the corpus.
KINDS = {"talk": 36, "howto": 20, "topic": 12, "decline": 12, "sum": 25, "fact": 12, "count": 1, "echo": 2, "name": 1.5}
# What nearly everybody says or asks first.
CORE = frozenset(
    "hello test there how_are_you thanks bye who name abilities whatfor private port_zmq port_health port_http ready_when python openai serve migrate chat".split()
)


def normal(text: str) -> str:
    """Text without case, punctuation and extra spaces: two questions that agree in this are the same question."""
    return " ".join(re.sub(r"[^\w\s+*/-]", "", text.lower()).split())


def end_mark(text: str) -> str:
    return "." if text.startswith(STATEMENTS) else "?"


def junk(rng: random.Random) -> str:
    """What comes out of a cat on the keyboard."""
    letters = "asdfghjklqwertyuiopzxcvbnm" if rng.random() < 0.7 else string.printable[:94]
    return "".join(rng.choice(letters) for _ in range(rng.randint(3, 10)))


def breadth(templates: list[str]) -> list[float]:
    """A template with many alternatives stands for many sentences and deserves more samples, within reason."""
    return [(1 + template.count("|")) ** 0.5 for template in templates]


def one_of(templates: list[str], rng: random.Random) -> str:
    return expand(rng.choices(templates, breadth(templates))[0], rng)


def intent_of(intents: dict[str, tuple], rng: random.Random, core: frozenset[str] = frozenset()) -> tuple:
    """An intent, those with more phrasings and those in `core` more often."""
    weights = [sum(breadth(value[0])) ** 0.5 * (2.5 if key in core else 1) for key, value in intents.items()]
    return rng.choices(list(intents.values()), weights)[0]


def small_talk(rng: random.Random) -> Pair:
    questions, answers, end = intent_of(TALK, rng, CORE)
    return humanize(one_of(questions, rng), rng, end=end), rng.choice(answers).format(millions=MILLIONS)


def how_to(rng: random.Random) -> Pair:
    actions, answers = intent_of(HOWTO, rng, CORE)
    question = expand(rng.choice(HOWTO_FRAMES), rng, x=one_of(actions, rng))
    return humanize(question, rng, end=end_mark(question)), rng.choice(answers)


def topic(rng: random.Random) -> Pair:
    names, answers = rng.choice(list(TOPICS.values()))
    question = expand(rng.choice(TOPIC_FRAMES), rng, x=expand(rng.choice(names), rng))
    return humanize(question, rng, end=end_mark(question)), rng.choice(answers)


def refusal(rng: random.Random) -> Pair:
    kind = rng.choices(list(DECLINE), [4, 3, 2, 4, 1, 7, 2])[0]
    questions, answers, end = DECLINE[kind]
    template = rng.choices(questions, breadth(questions))[0]
    if kind == "gibberish":
        return expand(rng.choice(questions).replace("{junk}", "\0"), rng).replace("\0", junk(rng)), answers[0]
    return humanize(expand(template, rng), rng, end=end), rng.choice(answers)


def small_sum(rng: random.Random) -> Pair:
    question, answer = facts.small_sum(rng)
    bare = not any(c.isalpha() for c in question)
    return humanize(question, rng, end="" if bare else "?"), answer


def fact(rng: random.Random) -> Pair:
    question, answer = facts.fact(rng)
    return humanize(question, rng), answer


def count(rng: random.Random) -> Pair:
    question, answer = facts.counting(rng)
    return humanize(question, rng, end="."), answer


def echo(rng: random.Random) -> Pair:
    """Say what you are told to say."""
    words = [
        rng.choice(facts.WORDS + list(facts.COLOURS.values()) + facts.DAYS + rng.choice(SENTENCES)[:-1].lower().split())
        for _ in range(rng.randint(1, 4))
    ]
    said = " ".join(words) if rng.random() < 0.7 else name(rng)
    question = expand(
        "[say|repeat|repeat after me:|echo|please say|say the [word|words]|write the [word|words]|just say|repeat the [word|words]|answer with|reply with] {w}",
        rng,
        w=said,
    )
    return question + rng.choice(["", ".", "!"]), upper_first(said) + "."


def my_name(rng: random.Random) -> Pair:
    who = name(rng)
    question = expand(
        "[[hi, |hello, |hey, |]my name is {w}|[hi, |hello, |hey, |]I am {w}|[hi, |hello, |]I'm {w}|[call me|you can call me|people call me] {w}|[hello|hi], {w} here]",
        rng,
        w=who,
    )
    return upper_first(question) + rng.choice(["", ".", "!", ""]), f"Nice to meet you, {who}! How can I help you?"


MAKERS = {
    "talk": small_talk,
    "howto": how_to,
    "topic": topic,
    "decline": refusal,
    "sum": small_sum,
    "fact": fact,
    "count": count,
    "echo": echo,
    "name": my_name,
}


def pair(rng: random.Random) -> Pair:
    return MAKERS[rng.choices(list(KINDS), list(KINDS.values()))[0]](rng)


def follow_up(rng: random.Random) -> list[Pair]:
    """Two or three turns of which the later ones need the earlier ones."""
    kind = rng.random()
    if kind < 0.3:
        first = my_name(rng)
        who = first[1].split("you, ")[1].split("!")[0]
        ask = expand(
            "[what is my name|what's my name|do you know my name|who am I|do you remember my name|say my name|tell me my name|can you tell me my name|how am I called]",
            rng,
        )
        return [first, *([pair(rng)] if rng.random() < 0.4 else []), (humanize(ask, rng), f"Your name is {who}.")]
    if kind < 0.65:
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        turns = [
            (humanize(expand("[what is |how much is |]{a} [+|plus] {b}", rng, a=a, b=b), rng), f"{a} + {b} = {a + b}.")
        ]
        total = a + b
        for _ in range(rng.randint(1, 2)):
            c = rng.randint(1, 10)
            if total >= c and (total + c > 20 or rng.random() < 0.5):
                turns.append(
                    (
                        humanize(expand("[and |now |then |][minus|take away|subtract|less|- ] {c}", rng, c=c), rng),
                        f"{total} - {c} = {total - c}.",
                    )
                )
                total -= c
            else:
                turns.append(
                    (
                        humanize(expand("[and |now |then |][plus|add|+ ] {c}[| more| to that]", rng, c=c), rng),
                        f"{total} + {c} = {total + c}.",
                    )
                )
                total += c
        return turns
    ways = {
        "load": "[loading|load it|load one|load it again|to load one|loading one]",
        "unload": "[unloading|unload it|unload it again|to unload it|unloading it|get rid of it|unload one|remove it]",
        "list": "[listing them|list them|see them all|list all of them|to list them|see all of them]",
        "show": "[show one|see details|show its details|see more about it]",
    }
    first, second = rng.sample(list(ways), 2)
    actions, answers = HOWTO[first]
    question = expand(rng.choice(HOWTO_FRAMES), rng, x=expand(rng.choice(actions), rng))
    turns = [(humanize(question, rng, end=end_mark(question)), answers[0])]
    turns.append(
        (
            humanize(
                expand(
                    "[and |and how do I |how about |what about |and what about |now how do I |how do I |and how to |can I also ]"
                    + ways[second],
                    rng,
                ),
                rng,
                lead=0.05,
            ),
            HOWTO[second][1][0],
        )
    )
    if rng.random() < 0.4:
        turns.append((humanize(one_of(TALK["thanks"][0], rng), rng, end="!"), TALK["thanks"][1][0]))
    return turns


def conversation(rng: random.Random) -> Document:
    roll = rng.random()
    if roll < 0.68:
        turns = [pair(rng)]
    elif roll < 0.82:
        turns = [pair(rng) for _ in range(rng.randint(2, 3))]
    elif roll < 0.845:
        turns = [pair(rng) for _ in range(rng.randint(4, 12))]
    else:
        turns = follow_up(rng)
        if rng.random() < 0.3:
            turns.insert(0, pair(rng))
    document = [("system", system_prompt(rng))] if rng.random() < 0.25 else []
    for question, answer in turns:
        document += [("user", question), ("assistant", answer)]
    return document


def text(rng: random.Random) -> str:
    """Prose, or a question with its answer as they would stand in a text."""
    return passage(rng) if rng.random() < 0.75 else rng.choice([" ", "\n"]).join(pair(rng))


def holds(document: Document, questions: frozenset[str]) -> bool:
    """Whether one of the questions, given in normal form, stands anywhere in the document."""
    return any(question in text for text in (normal(text) for _, text in document) for question in questions)


def build(seed: int, size: int, hold_out: frozenset[str] = frozenset()) -> list[Document]:
    """`size` documents, none of which holds a question of `hold_out`."""
    rng = random.Random(seed)
    documents: list[Document] = []
    while len(documents) < size:
        document: Document = [("text", text(rng))] if rng.random() < 0.07 else conversation(rng)
        if not holds(document, hold_out):
            documents.append(document)
    return documents


if __name__ == "__main__":
    for sample in build(int(sys.argv[1]) if len(sys.argv) > 1 else 1, 60):
        print("\n".join(f"{role:>9}: {text}" for role, text in sample), end="\n\n")
