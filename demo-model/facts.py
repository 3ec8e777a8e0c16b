"""Short facts and small sums: each function makes one random question with its true answer."""

import random

from grammar import expand, upper_first

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
]  # fmt: skip
SEASONS = ["spring", "summer", "autumn", "winter"]
ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
]
WORDS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]  # fmt: skip
COLOURS = {
    "the sky": "blue", "the grass": "green", "grass": "green", "a banana": "yellow", "snow": "white", "blood": "red",
    "coal": "black", "the sun": "yellow", "a lemon": "yellow", "a strawberry": "red", "a tomato": "red", "milk": "white",
    "the sea": "blue", "a leaf": "green", "a carrot": "orange", "an orange": "orange", "chocolate": "brown",
    "a frog": "green", "an elephant": "grey", "a polar bear": "white", "the night": "black", "a cucumber": "green",
    "wood": "brown", "a swan": "white", "a raven": "black", "a plum": "purple", "a cherry": "red", "salt": "white",
    "a fire engine": "red", "a flamingo": "pink",
}  # fmt: skip
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "England": "London",
    "Portugal": "Lisbon", "Austria": "Vienna", "Greece": "Athens", "Poland": "Warsaw", "Norway": "Oslo",
    "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Ireland": "Dublin", "Japan": "Tokyo",
    "China": "Beijing", "Russia": "Moscow", "Egypt": "Cairo", "Canada": "Ottawa", "Australia": "Canberra",
    "the United States": "Washington", "the Philippines": "Manila", "India": "New Delhi", "Hungary": "Budapest",
    "Belgium": "Brussels", "the Netherlands": "Amsterdam", "Switzerland": "Bern", "Turkey": "Ankara",
}  # fmt: skip
OPPOSITES = [
    ("hot", "cold"), ("big", "small"), ("up", "down"), ("left", "right"), ("day", "night"), ("good", "bad"),
    ("old", "young"), ("fast", "slow"), ("black", "white"), ("happy", "sad"), ("open", "closed"), ("high", "low"),
    ("long", "short"), ("wet", "dry"), ("full", "empty"), ("light", "dark"), ("early", "late"), ("rich", "poor"),
    ("hard", "soft"), ("loud", "quiet"), ("true", "false"), ("start", "end"), ("yes", "no"), ("inside", "outside"),
]  # fmt: skip
SOUNDS = {
    "cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack", "sheep": "baa", "pig": "oink", "rooster": "cock-a-doodle-doo",
    "horse": "neigh", "bee": "buzz", "lion": "roar", "frog": "croak", "snake": "hiss", "owl": "hoot", "mouse": "squeak",
}  # fmt: skip
LEGS = {
    "dog": 4,
    "cat": 4,
    "spider": 8,
    "bird": 2,
    "horse": 4,
    "insect": 6,
    "cow": 4,
    "fish": 0,
    "ant": 6,
    "chair": 4,
    "snake": 0,
    "chicken": 2,
    "octopus": 8,
}
COUNTS = [
    ("days", "a week", "7"), ("months", "a year", "12"), ("hours", "a day", "24"), ("minutes", "an hour", "60"),
    ("seconds", "a minute", "60"), ("days", "a year", "365"), ("weeks", "a year", "52"), ("seasons", "a year", "4"),
    ("letters", "the English alphabet", "26"), ("centimetres", "a metre", "100"), ("metres", "a kilometre", "1000"),
    ("grams", "a kilogram", "1000"), ("cents", "a euro", "100"), ("things", "a dozen", "12"), ("years", "a century", "100"),
    ("years", "a decade", "10"), ("planets", "the solar system", "8"), ("days", "a weekend", "2"),
    ("players", "a football team", "11"), ("strings", "a guitar", "6"), ("colours", "the rainbow", "7"),
]  # fmt: skip
SINGLE = [
    ("[is|does] the sun [hot|shine]", "Yes, the sun is very hot and gives us light."),
    ("what do we breathe", "We breathe air."), ("what do [bees|the bees] make", "Bees make honey."),
    ("what do cows give", "Cows give milk."), ("where does the sun [rise|come up]", "The sun rises in the east."),
    ("where does the sun [set|go down]", "The sun sets in the west."), ("what do [plants|flowers|trees] need [to grow|to live|]", "Plants need light, water and air."),
    ("[at what|at which|what] temperature does water boil", "Water boils at 100 degrees Celsius."),
    ("[at what|at which|what] temperature does water freeze", "Water freezes at 0 degrees Celsius."),
    ("when does water boil", "Water boils at 100 degrees Celsius."), ("when does water freeze", "Water freezes at 0 degrees Celsius."),
    ("[what is|which is] the biggest planet", "The biggest planet of our solar system is Jupiter."),
    ("[what is|which is|what] planet [do we live on|are we on|is ours]", "We live on the planet Earth."),
    ("what is ice [made of|]", "Ice is frozen water."), ("what is [bread|flour] made of", "It is made from grain."), ("what is cheese made of", "Cheese is made from milk."),
    ("what is [wine|raisins] made of", "It is made from grapes."), ("what do fish [live in|need]", "Fish live in water."), ("what [shape|form] is [the earth|a ball|the moon]", "It is round like a ball."),
    ("how many sides [does|has] a triangle [have|]", "A triangle has 3 sides."), ("how many sides [does|has] a square [have|]", "A square has 4 sides."),
    ("how many [wheels|tyres] [does|has] a car [have|]", "A car has 4 wheels."), ("how many wheels [does|has] a [bicycle|bike] [have|]", "A bicycle has 2 wheels."),
    ("how many fingers [do I have|does a hand have|are on a hand|has a hand]", "A hand has 5 fingers."), ("how many eyes [do people have|do I have|does a person have]", "People have 2 eyes."),
    ("what is [H2O|h2o]", "H2O is water."), ("[what is|name] the [first|1st] letter of the alphabet", "The first letter of the alphabet is A."), ("[what is|name] the last letter of the alphabet", "The last letter of the alphabet is Z."),
    ("[name|what are|list|tell me] the days of the week", "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday."),
    ("[name|what are|list|tell me] the [four|] seasons", "Spring, summer, autumn and winter."),
    ("[name|what are|list|tell me] the months [of the year|]", "January, February, March, April, May, June, July, August, September, October, November and December."),
    ("[name|what are|list|tell me] the colours of the rainbow", "Red, orange, yellow, green, blue, indigo and violet."), ("[name|tell me|list|give me] [three|some|a few] [colours|colors]", "Red, green and blue."),
    ("[name|tell me|list|give me] [three|some|a few] animals", "A dog, a cat and a horse."), ("[name|tell me|list|give me] [three|some|a few] fruits", "An apple, a banana and a cherry."), ("[name|tell me] a [colour|color]", "Blue is a colour."), ("[name|tell me] an animal", "A fox is an animal."), ("[name|tell me] a fruit", "An apple is a fruit."),
    ("[say|recite|tell me|what is] the [alphabet|abc]", "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z."), ("which day comes [first|first in the week]", "The week begins with Monday."), ("which days are the weekend", "The weekend is Saturday and Sunday."),
    ("what is the [coldest|cold] season", "The coldest season is winter."), ("what is the [warmest|hottest] season", "The warmest season is summer."), ("[what|which] animal [barks|says woof]", "A dog barks."), ("[what|which] animal [meows|purrs|says meow]", "A cat meows."), ("[what|which] animal gives [us|] milk", "A cow gives milk."),
]  # fmt: skip


def fact(rng: random.Random) -> tuple[str, str]:
    """A question about everyday things."""
    kind = rng.choices(
        ["day", "month", "season", "colour", "capital", "opposite", "sound", "legs", "count", "letter", "single"],
        [12, 6, 2, 9, 9, 8, 4, 3, 8, 4, 14],
    )[0]
    if kind in ("day", "month", "season"):
        names = {"day": DAYS, "month": MONTHS, "season": SEASONS}[kind]
        at = rng.randrange(len(names))
        if rng.random() < 0.2 and kind != "season":
            order = rng.randrange(len(names))
            whole = "week" if kind == "day" else "year"
            return (
                expand(
                    f"[what is|which is|name|tell me] the {{o}} {kind} [of the {whole}|in the {whole}|]",
                    rng,
                    o=ORDINALS[order],
                ),
                f"The {ORDINALS[order]} {kind} of the {whole} is {names[order]}.",
            )
        after = rng.random() < 0.65
        if after:
            question = expand(
                f"[[what|which] [{kind}|] [comes|is] after {{n}}|[what|which] {kind} comes after {{n}}|[what|which] is the {kind} [after|following] {{n}}|[what|which] [{kind}|] comes next after {{n}}|what is the next {kind} after {{n}}|the {kind} after {{n}}|after {{n}} comes [which {kind}|what]|tell me the {kind} after {{n}}|{{n}} is followed by which {kind}]",
                rng,
                n=names[at],
            )
            return question, f"{upper_first(names[(at + 1) % len(names)])} comes after {names[at]}."
        question = expand(
            f"[[what|which] [{kind}|] [comes|is] before {{n}}|[what|which] is the {kind} before {{n}}|the {kind} before {{n}}|tell me the {kind} before {{n}}|[what|which] {kind} precedes {{n}}]",
            rng,
            n=names[at],
        )
        return question, f"{upper_first(names[at - 1])} comes before {names[at]}."
    if kind == "colour":
        thing, colour = rng.choice(list(COLOURS.items()))
        question = expand(
            "[what [colour|color] is {t}|which [colour|color] [is|has] {t}|what is the [colour|color] of {t}|do you know [what|which] [colour|color] {t} [is|has]|tell me the [colour|color] of {t}|what [colour|color] does {t} have|[colour|color] of {t}|is {t} [blue|green|red|yellow|black]]",
            rng,
            t=thing,
        )
        return question, f"{upper_first(thing)} is {colour}."
    if kind == "capital":
        country, city = rng.choice(list(CAPITALS.items()))
        question = expand(
            "[what is the capital of {c}|which city is the capital of {c}|[name|tell me] the capital of {c}|capital of {c}|what is the capital city of {c}|do you know the capital of {c}|the capital of {c} is|[what|which] capital does {c} have]",
            rng,
            c=country,
        )
        return question, f"The capital of {country} is {city}."
    if kind == "opposite":
        pair = rng.choice(OPPOSITES)
        word, other = pair if rng.random() < 0.5 else pair[::-1]
        question = expand(
            "[what is the opposite of {w}|opposite of {w}|[tell me|name] the opposite of {w}|what is the contrary of {w}|{w} is the opposite of what|which word is the opposite of {w}]",
            rng,
            w=word,
        )
        return question, f"The opposite of {word} is {other}."
    if kind == "sound":
        animal, sound = rng.choice(list(SOUNDS.items()))
        return expand(
            "[what does [a|the] {a} say|what sound does [a|the] {a} make|how does [a|the] {a} [sound|go]|which sound does [a|the] {a} make|what noise does [a|the] {a} make]",
            rng,
            a=animal,
        ), f"{'An' if animal[0] in 'aeio' else 'A'} {animal} says {sound}."
    if kind == "legs":
        animal, legs = rng.choice(list(LEGS.items()))
        article = "an" if animal[0] in "aeio" else "a"
        name = "arms" if animal == "octopus" else "legs"
        return expand(
            f"[how many {name} does {article} {{a}} have|how many {name} has {article} {{a}}|number of {name} of {article} {{a}}|how many {name} do {{a}}s have|tell me how many {name} {article} {{a}} has]",
            rng,
            a=animal,
        ).replace("fishs", "fish"), f"{upper_first(article)} {animal} has {legs or 'no'} {name}."
    if kind == "count":
        part, whole, number = rng.choice(COUNTS)
        verb = "make" if whole == "a dozen" else "are in"
        return expand(
            f"[how many {part} [are|are there] in {{w}}|how many {part} does {{w}} have|how many {part} has {{w}}|[tell me|do you know] how many {part} are in {{w}}|{{w}} has how many {part}|number of {part} in {{w}}|how many {part} make [up|] {{w}}]",
            rng,
            w=whole,
        ), f"There are {number} {part} in {whole}." if verb == "are in" else f"A dozen is {number}."
    if kind == "letter":
        at = rng.randrange(25)
        letter, following = chr(65 + at), chr(66 + at)
        if rng.random() < 0.7:
            return expand(
                "[[which|what] letter [comes after|follows|is after] {l}|what comes after {l} in the alphabet|the letter after {l}]",
                rng,
                l=letter,
            ), f"The letter after {letter} is {following}."
        return expand(
            "[[which|what] letter [comes|is] before {l}|the letter before {l}|what comes before {l} in the alphabet]",
            rng,
            l=following,
        ), f"The letter before {following} is {letter}."
    question, answer = rng.choice(SINGLE)
    return expand(question, rng), answer


ASK_SUM = [
    "what is {e}", "what is {e}", "how much is {e}", "{e}", "{e}", "{e} =", "what does {e} [make|give|equal|come to]", "[calculate|compute|add up|solve|do|evaluate|figure out] {e}", "[tell|give] me {e}",
    "[can|could] you [calculate|compute|work out|tell me|add|solve|do] {e}", "what do you get for {e}", "{e} is [what|how much]", "{e} equals [what|]", "[what|how much] is the [result|answer] of {e}", "do you know [what|how much] {e} is", "what [are|makes] {e}",
    "[calculate|compute|work out|tell me|find] [what|how much] {e} is", "I need [to know|the result of] {e}", "what would {e} be", "sum: {e}", "[math|maths] question: {e}", "is {e} hard for you",
]  # fmt: skip
ASK_ADD = [
    "add {a} and {b}", "add {a} to {b}", "what is the sum of {a} and {b}", "[if|when] [I|you|we] add {b} to {a}, what [do I get|is it|is the result|comes out]", "what [is it|comes out] [if|when] [I|you|we] add {a} and {b}", "the sum of {a} and {b}", "{a} and {b} [together|make what|make how much]",
    "I have {a} [apples|euros|books|eggs|coins|cats] and get {b} more, how many [do I have|are there|are they|is that]", "[Anna|Tom|Ben|Lisa|a boy|a girl] has {a} [apples|euros|books|eggs|coins] and gets {b} more. How many [is that|are there now|in all]", "how much do {a} and {b} make [together|]", "count {a} and {b} together", "{b} more than {a} is", "what is {b} more than {a}", "increase {a} by {b}", "{a} increased by {b}", "put {a} and {b} together",
]  # fmt: skip
ASK_SUBTRACT = [
    "subtract {b} from {a}", "[take|take away] {b} from {a}", "take {b} off {a}", "what is {a} take away {b}", "what is the difference between {a} and {b}", "[if|when] [I|you|we] [take|subtract|remove] {b} from {a}, what [do I get|is left|remains|is it]", "what do [I|you|we] get [if|when] [I|you|we] [subtract|take] {b} from {a}", "what [is left|remains] [if|when] [I|you] take {b} [away from|from|off] {a}", "{a} take away {b}", "deduct {b} from {a}",
    "I have {a} [apples|euros|books|eggs|coins] and [give away|eat|lose|sell|spend] {b}, how many [are left|do I have|remain]", "[Anna|Tom|Ben|Lisa] has {a} [apples|euros|books|eggs] and [loses|gives away|sells] {b}. How many are left", "how much is left of {a} without {b}", "{a} less {b}", "decrease {a} by {b}", "{a} reduced by {b}", "remove {b} from {a}", "{b} less than {a} is",
]  # fmt: skip
ASK_TIMES = [
    "multiply {a} by {b}",
    "multiply {a} and {b}",
    "what is the product of {a} and {b}",
    "what is {a} multiplied by {b}",
    "{a} multiplied by {b}",
    "what do I get when I multiply {a} and {b}",
]
TOO_BIG = "That is too big for a small demo model. I only do sums with numbers up to 20."


def number(value: int, rng: random.Random, words: bool) -> str:
    return WORDS[value] if words and 0 <= value <= 20 else str(value)


def sum_pair(rng: random.Random) -> tuple[int, int]:
    """Two operands up to 20, the smaller ones more often."""
    limit = 10 if rng.random() < 0.4 else 20
    return rng.randint(0, limit), rng.randint(0, limit)


def small_sum(rng: random.Random) -> tuple[str, str]:
    """A sum in one of many phrasings; the answer repeats it in digits."""
    roll = rng.random()
    words = rng.random() < 0.2
    if roll < 0.07:
        a, b = rng.randint(21, 10 ** rng.randint(2, 5)), rng.randint(2, 10 ** rng.randint(1, 5))
        if rng.random() < 0.5:
            a, b = b, a
        return expand(
            rng.choice(ASK_SUM), rng, e=f"{a} {rng.choice(['+', '-', 'plus', 'times', '*', 'minus', '/'])} {b}"
        ), TOO_BIG
    if roll < 0.10:
        a, b, c = (rng.randint(1, 10) for _ in range(3))
        sign = rng.choice([" + ", "+", " plus "])
        return expand(
            rng.choice(ASK_SUM), rng, e=sign.join(number(n, rng, words) for n in (a, b, c))
        ), f"{a} + {b} + {c} = {a + b + c}."
    if roll < 0.17:
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        an, bn = number(a, rng, words), number(b, rng, words)
        if rng.random() < 0.2:
            return expand(rng.choice(ASK_TIMES), rng, a=an, b=bn), f"{a} x {b} = {a * b}."
        return expand(
            rng.choice(ASK_SUM), rng, e=an + rng.choice([" times ", " x ", "*", " * ", "x", " times "]) + bn
        ), f"{a} x {b} = {a * b}."
    if roll < 0.19:
        b, result = rng.randint(1, 10), rng.randint(1, 10)
        a = b * result
        return expand(
            rng.choice(ASK_SUM),
            rng,
            e=number(a, rng, words) + rng.choice([" divided by ", " / ", "/", " : "]) + number(b, rng, words),
        ), f"{a} / {b} = {result}."
    a, b = sum_pair(rng)
    if roll < 0.58:
        an, bn = number(a, rng, words), number(b, rng, words)
        if rng.random() < 0.3:
            question = expand(rng.choice(ASK_ADD), rng, a=an, b=bn)
            if question.startswith(("add", "Add")) and " to " in question:
                a, b = b, a
        else:
            question = expand(
                rng.choice(ASK_SUM), rng, e=an + rng.choice([" + ", "+", " plus ", " plus ", " + ", " and "]) + bn
            )
        return question, f"{a} + {b} = {a + b}."
    if a < b and rng.random() < 0.85:
        a, b = b, a
    an, bn = number(a, rng, words), number(b, rng, words)
    if rng.random() < 0.3 and a >= b:
        question = expand(rng.choice(ASK_SUBTRACT), rng, a=an, b=bn)
    else:
        question = expand(
            rng.choice(ASK_SUM), rng, e=an + rng.choice([" - ", "-", " minus ", " minus ", " - ", " less "]) + bn
        )
    return question, f"{a} - {b} = {a - b}."


def counting(rng: random.Random) -> tuple[str, str]:
    """Counting up or down; the long ones are there for people who want to see a long answer arrive."""
    if rng.random() < 0.15:
        top = rng.choice([3, 5, 10, 20])
        return expand(
            "[count [down|backwards] from {n}|count from {n} [down|] to [1|one]|countdown from {n}]", rng, n=top
        ), ", ".join(str(n) for n in range(top, 0, -1)) + "."
    first = 1 if rng.random() < 0.8 else rng.randint(2, 12)
    last = first + rng.choices([2, 4, 9, 19, 49, 99, rng.randint(1, 30)], [12, 20, 30, 15, 3, 3, 15])[0]
    shown = number(last, rng, rng.random() < 0.4)
    begin = "" if first == 1 and rng.random() < 0.5 else f" from {number(first, rng, rng.random() < 0.3)}"
    return expand(
        "[count{f} to {n}|[can|could] you count{f} to {n}|[say|list|write|name|give me|print] the numbers{f} to {n}|count up{f} to {n}|please count{f} to {n}|[count|tell me|write down] all numbers{f} to {n}]",
        rng,
        f=begin,
        n=shown,
    ), ", ".join(str(n) for n in range(first, last + 1)) + "."
