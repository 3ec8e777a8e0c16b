"""Random sentences from small templates, and the noise of real typing.

Templates: `[a|b|c]` picks one alternative, which may be empty or hold templates again; `{name}` is filled from the
given slots.
"""

import random
import re
import string

INNERMOST = re.compile(r"\[([^\[\]]*)\]")
SPACES = re.compile(r" {2,}")


def expand(template: str, rng: random.Random, **slots: object) -> str:
    """One sentence of the template, spaces tidied."""
    while found := INNERMOST.search(template):
        choice = rng.choice(found.group(1).split("|"))
        template = template[: found.start()] + choice + template[found.end() :]
    if slots:
        template = template.format(**slots)
    text = SPACES.sub(" ", template).strip()
    return re.sub(r" ([?!.,])", r"\1", text)


def upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


CONTRACTIONS = [
    ("what is", "what's"), ("how is", "how's"), ("where is", "where's"), ("who is", "who's"), ("I would", "I'd"),
    ("do not", "don't"), ("can not", "can't"), ("cannot", "can't"), ("that is", "that's"), ("I am", "I'm"),
    ("it is", "it's"), ("I have", "I've"), ("does not", "doesn't"), ("let us", "let's"), ("there is", "there's"),
]  # fmt: skip
LEADS = [
    "please, ", "hey, ", "hi, ", "hello, ", "ok, ", "okay, ", "so, ", "and ", "well, ", "quick question: ", "sorry, ",
    "excuse me, ", "one question: ", "hi there, ", "also, ", "alright, ", "now ", "just wondering, ", "hmm, ", "um, ",
    "tell me, ", "question: ", "hello! ", "hi! ", "thanks. ", "thank you. ", "great, ", "cool. ", "say, ", "I wonder, ",
]  # fmt: skip
TAILS = [" please", ", please", " today", " exactly", " again", " now", " thanks", ", thanks", " pls", " here"]


def typo(text: str, rng: random.Random) -> str:
    """One slip of the fingers in a longer word without digits."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not places:
        return text
    at = rng.choice(places)
    word = words[at]
    i = rng.randrange(1, len(word) - 1)
    words[at] = rng.choice(
        [
            word[:i] + word[i + 1 :],
            word[:i] + word[i + 1] + word[i] + word[i + 2 :],
            word[:i] + word[i] + word[i:],
            word[:i] + rng.choice(string.ascii_lowercase) + word[i + 1 :],
        ]
    )
    return " ".join(words)


def humanize(text: str, rng: random.Random, lead: float = 0.15, end: str = "?") -> str:
    """The sentence as somebody might type it: contractions, politeness, casing, end mark, a typo now and then.

    `end` is the mark that belongs at the end unless the text brings its own.
    """
    own_end = text[-1] in ".!?"
    if own_end:
        text, end = text[:-1], text[-1]
    if rng.random() < 0.4:
        for full, short in CONTRACTIONS:
            text = re.sub(rf"\b{full}\b", short, text, flags=re.IGNORECASE)
    if rng.random() < 0.05:
        text = text.replace("'", "")
    if rng.random() < 0.06:
        text = typo(text, rng)
    if rng.random() < lead:
        text = rng.choice(LEADS) + text
    if rng.random() < lead * 0.7:
        text += rng.choice(TAILS)
    case = rng.random()
    if case < 0.72:
        text = upper_first(text)
    elif case < 0.95:
        text = text.lower()
    elif case < 0.97:
        text = text.upper()
    mark = rng.random()
    if mark < 0.72:
        text += end
    elif mark < 0.94:
        text += ""
    elif mark < 0.97:
        text += " " + end
    else:
        text += rng.choice(["??", "!", "...", "?!", "."])
    return text
