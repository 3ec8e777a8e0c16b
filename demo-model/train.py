"""Train mms-demo from nothing and write mms-demo.gguf: corpus, vocabulary, weights, scores, file.

    python train.py                      # the whole training
    python train.py --evaluate           # only score the file that is there

Runs on the processor with a fixed seed.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from tokenizers import Tokenizer

import corpus
import export
import score
import vocabulary
from model import Shape, forward, init

HERE = Path(__file__).resolve().parent
SEED = 2024
VOCABULARY = 2048
DOCUMENTS = 60000
SHORT, LONG = 128, 1024  # row lengths; long rows teach far positions
LONG_EVERY = 12  # one step in so many has long rows
STEP_TOKENS = 3072
LEARNING_RATE = 4e-3
# How much a token counts in the loss, by who wrote it.
WEIGHT = {"assistant": 1.0, "text": 0.5, "user": 0.1, "system": 0.02}
LEVEL = 10  # answers up to this many tokens have the full weight on each

Encoded = tuple[list[int], list[float]]  # tokens, and what each counts as a target


def encode(document: corpus.Document, tokenizer: Tokenizer, rng: np.random.Generator) -> Encoded:
    """Tokens of a document. A few begin without BOS or with two, since clients do both."""
    bos, end = tokenizer.token_to_id(vocabulary.BOS), tokenizer.token_to_id(vocabulary.END)
    tokens = [bos] * int(rng.choice([0, 1, 2], p=[0.04, 0.92, 0.04]))
    weights = [0.0] * len(tokens)
    for role, text in document:
        if role in vocabulary.ROLES:
            tokens.append(tokenizer.token_to_id(vocabulary.ROLES[role]))
            weights.append(0.0)
        ids = [*tokenizer.encode(text).ids, end]
        tokens += ids
        # A long answer counts more than a short one, but less so for each token.
        share = min(1.0, (LEVEL / len(ids)) ** 0.5) if role == "assistant" else 1.0
        weights += [WEIGHT[role] * share] * len(ids)
    return tokens, weights


def pack(documents: list[Encoded], length: int, rng: np.random.Generator, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `length` + 1 tokens holding whole documents, first fit over a window of open rows."""
    rows: list[Encoded] = []
    opened: list[Encoded] = []
    for tokens, weights in documents:
        tokens, weights = tokens[: length + 1], weights[: length + 1]
        row = next((row for row in opened if len(row[0]) + len(tokens) <= length + 1), None)
        if row is None:
            row = ([], [])
            opened.append(row)
            if len(opened) > 64:
                rows.append(opened.pop(0))
        row[0].extend(tokens)
        row[1].extend(weights)
    rows += opened
    order = rng.permutation(len(rows))
    packed = np.full((len(rows), length + 1), pad, np.int32)
    counts = np.zeros((len(rows), length + 1), np.float32)
    for at, index in enumerate(order):
        tokens, weights = rows[index]
        packed[at, : len(tokens)] = tokens
        counts[at, : len(tokens)] = weights
    return packed, counts


class Batches:
    """Endless batches of rows, in order, starting again at the end."""

    def __init__(self, packed: tuple[np.ndarray, np.ndarray], rows: int) -> None:
        self.packed, self.rows, self.at = packed, rows, 0

    def next(self) -> tuple[np.ndarray, np.ndarray]:
        total = len(self.packed[0])
        chosen = np.arange(self.at, self.at + self.rows) % total
        self.at = (self.at + self.rows) % total
        return self.packed[0][chosen], self.packed[1][chosen]


def is_block_matrix(name: str) -> bool:
    return name.startswith("blk.") and "norm" not in name


def train(
    shape: Shape,
    short: Batches,
    long: Batches,
    steps: int,
    note: Callable[[str], None],
    save: Callable[[int, dict], None],
) -> tuple[dict, float]:
    """Weights after `steps` steps and the loss on answers over the last fifty."""
    weights = init(shape, SEED)
    matrix = optax.contrib.MuonDimensionNumbers()
    schedule = optax.warmup_cosine_decay_schedule(0, LEARNING_RATE, min(40, steps // 5), steps, LEARNING_RATE / 50)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.contrib.muon(
            schedule,
            weight_decay=0.05,
            adam_b2=0.97,
            consistent_rms=0.2,
            muon_weight_dimension_numbers=lambda w: {name: matrix if is_block_matrix(name) else None for name in w},
        ),
    )
    state = optimizer.init(weights)

    def loss(weights: dict, tokens: jax.Array, counts: jax.Array) -> jax.Array:
        logits = forward(weights, tokens[:, :-1], shape)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        return jnp.sum(each * counts[:, 1:]) / jnp.sum(counts[:, 1:])

    @jax.jit
    def step(weights: dict, state: optax.OptState, tokens: jax.Array, counts: jax.Array) -> tuple:
        value, gradient = jax.value_and_grad(loss)(weights, tokens, counts)
        change, state = optimizer.update(gradient, state, weights)
        return optax.apply_updates(weights, change), state, value

    losses: list[float] = []
    begin = time.monotonic()
    for number in range(1, steps + 1):
        tokens, counts = (long if number % LONG_EVERY == 0 else short).next()
        weights, state, value = step(weights, state, tokens, counts)
        losses.append(float(value))
        if number % 50 == 0 or number == steps:
            note(f"step {number}/{steps}, loss {np.mean(losses[-50:]):.4f}, {time.monotonic() - begin:.0f} s")
        save(number, weights)
    return weights, float(np.mean(losses[-50:]))


def answers(weights: dict, shape: Shape, tokenizer: Tokenizer, questions: list[str], limit: int = 80) -> dict[str, str]:
    """The most likely answer to each question, all questions side by side."""
    end = tokenizer.token_to_id(vocabulary.END)
    prompts = [
        tokenizer.encode(f"{vocabulary.BOS}<|user|>{question}{vocabulary.END}<|assistant|>").ids
        for question in questions
    ]
    start = np.array([len(p) for p in prompts])
    length = int(start.max()) + limit
    buffer = np.full((len(prompts), length), end, np.int32)
    for row, prompt in zip(buffer, prompts, strict=True):
        row[: len(prompt)] = prompt
    every = np.arange(len(prompts))

    @jax.jit
    def following(weights: dict, tokens: jax.Array, at: jax.Array) -> jax.Array:
        return jnp.argmax(forward(weights, tokens, shape)[every, at - 1], axis=-1)

    at, running = start.copy(), np.ones(len(prompts), bool)
    for _ in range(limit):
        chosen = np.asarray(following(weights, buffer, at))
        buffer[every[running], at[running]] = chosen[running]
        at += running
        running &= chosen != end
        if not running.any():
            break
    texts = [tokenizer.decode(row[b:e].tolist()).strip() for row, b, e in zip(buffer, start, at, strict=True)]
    return dict(zip(questions, texts, strict=True))


def evaluate(weights: dict, shape: Shape, tokenizer: Tokenizer, note: Callable[[str], None]) -> dict:
    questions = [entry["question"] for name in score.LISTS for entry in score.load(name)]
    known = answers(weights, shape, tokenizer, questions)
    return score.score(known.__getitem__, note)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=1200)
    arguments.add_argument("--out", type=Path, default=HERE / "mms-demo.gguf")
    arguments.add_argument("--evaluate", action="store_true", help="only score the file at --out")
    arguments.add_argument("--save-every", type=int, default=0, help="also write --out after every so many steps")
    options = arguments.parse_args()
    begin = time.monotonic()

    def note(text: str) -> None:
        print(text, flush=True)

    hold_out = frozenset(corpus.normal(entry["question"]) for entry in score.load("paraphrases"))
    documents = corpus.build(SEED, DOCUMENTS, hold_out)
    assert not any(corpus.holds(document, hold_out) for document in documents), "a paraphrase is in the corpus"
    asked = {corpus.normal(text) for document in documents for role, text in document if role == "user"}
    tokenizer = vocabulary.train((text for document in documents for _, text in document), VOCABULARY)
    shape = Shape(vocab=tokenizer.get_vocab_size())

    if options.evaluate:
        stored = {name: jnp.asarray(value) for name, value in export.read_weights(options.out).items()}
        evaluate(stored, shape, tokenizer, note)
        return

    rng = np.random.default_rng(SEED)
    encoded = [encode(document, tokenizer, rng) for document in documents]
    pad = tokenizer.token_to_id(vocabulary.PAD)
    fit = [e for e in encoded if len(e[0]) <= SHORT + 1]
    far = [e for e in encoded if len(e[0]) > SHORT + 1] + fit[::LONG_EVERY]
    far = [far[i] for i in rng.permutation(len(far))]
    short = Batches(pack(fit, SHORT, rng, pad), STEP_TOKENS // SHORT)
    long = Batches(pack(far, LONG, rng, pad), STEP_TOKENS // LONG)
    parameters = sum(w.size for w in init(shape, SEED).values())
    assert f"{parameters / 1e6:.0f}" == corpus.MILLIONS, (
        f"the corpus must say {parameters / 1e6:.1f} million parameters"
    )
    characters = sum(len(text) for document in documents for _, text in document)
    note(
        f"{len(documents)} documents, {characters} characters, {sum(len(t) for t, _ in encoded)} tokens, "
        f"{len(asked)} different questions, vocabulary {shape.vocab}, {parameters} parameters, "
        f"{len(short.packed[0])} short rows, {len(long.packed[0])} long rows, {os.cpu_count()} processors"
    )

    def save(step: int, weights: dict) -> None:
        if options.save_every and step % options.save_every == 0:
            export.write(options.out, weights, shape, tokenizer)

    weights, final = train(shape, short, long, options.steps, note, save)
    export.write(options.out, weights, shape, tokenizer)
    note(
        f"file against trained weights: logits differ by {export.verify(options.out, weights, shape, long.packed[0][0][:600]):.4f} spreads"
    )
    result = evaluate(weights, shape, tokenizer, note)
    figures = {
        "documents": len(documents), "characters": characters, "different_questions": len(asked), "parameters": parameters,
        "steps": options.steps, "seconds": round(time.monotonic() - begin), "loss": round(final, 4), "bytes": options.out.stat().st_size,
        **{name: f"{result[name]['passed']}/{result[name]['total']}" for name in score.LISTS},
    }  # fmt: skip
    note(json.dumps(figures))


if __name__ == "__main__":
    main()
