"""Writing the trained weights and the vocabulary as one GGUF file, and reading them back to prove it."""

import json
import os
from pathlib import Path

import gguf
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

import vocabulary
from model import Shape, forward

Q8 = gguf.GGMLQuantizationType.Q8_0


def write(path: Path, weights: dict[str, np.ndarray], shape: Shape, tokenizer: Tokenizer) -> None:
    """Write beside the target and rename, so that nobody ever sees half a file."""
    temporary = path.with_suffix(".gguf.part")
    writer = gguf.GGUFWriter(temporary, "llama")
    writer.add_name("mms-demo")
    writer.add_description("Small demo model of Model Manager Suite: short conversations in plain English.")
    writer.add_license("MIT OR Apache-2.0")
    writer.add_size_label(f"{sum(w.size for w in weights.values()) / 1e6:.1f}M")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocab)

    tokens = [tokenizer.id_to_token(i) for i in range(shape.vocab)]
    control = set(vocabulary.CONTROL)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in control else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(merge) if isinstance(merge, list) else merge for merge in merges])
    writer.add_bos_token_id(tokenizer.token_to_id(vocabulary.BOS))
    writer.add_eos_token_id(tokenizer.token_to_id(vocabulary.END))
    writer.add_eot_token_id(tokenizer.token_to_id(vocabulary.END))
    writer.add_pad_token_id(tokenizer.token_to_id(vocabulary.PAD))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(vocabulary.CHAT_TEMPLATE)

    for name, value in weights.items():
        value = np.asarray(value, np.float32)
        if value.ndim == 1:
            writer.add_tensor(name, value)
        else:
            writer.add_tensor(name, gguf.quants.quantize(value, Q8), raw_dtype=Q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(temporary, path)


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """All tensors of the file, dequantized."""
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def verify(path: Path, weights: dict[str, np.ndarray], shape: Shape, sample: np.ndarray) -> float:
    """The largest difference between the file's logits and the trained ones, in units of their spread."""
    stored = {name: jnp.asarray(value) for name, value in read_weights(path).items()}
    assert stored.keys() == weights.keys(), "the file holds other tensors than the model"
    ours, theirs = (np.asarray(forward(w, sample[None, :], shape)) for w in (weights, stored))
    return float(np.abs(ours - theirs).max() / ours.std())
