//! `cargo xtask random-model`: language models of a usual shape with random weights, for measuring, and a small encoder for tests. They load, tokenize and answer as
//! others do, and what they say means nothing. Blocks of quantized weights are written as they are, so a gigabyte takes seconds.

mod blocks;
mod encoder;
mod header;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use blocks::{Kind, Random};
use header::Header;

use crate::run::{root, target_dir};

/// Tokens of each vocabulary; those that the built-in model lacks are made up.
const VOCABULARY: u64 = 32_000;
/// Context that the header states unless told otherwise, tokens; the encoder's.
const CONTEXT: u32 = 16_384;
const ENCODER_CONTEXT: u32 = 512;
/// Seed of the weights unless told otherwise.
const SEED: u64 = 1;
/// Values in the file begin at multiples of this.
const ALIGNMENT: u64 = 32;

/// Which model, and where to.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shape
    #[arg(long)]
    size: Size,
    /// The file to write [default: below target/bench/models]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Context that the header states, tokens [default: 16384, of the encoder 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(512..=1 << 20))]
    context: Option<u32>,
    /// The same seed gives the same file
    #[arg(long, default_value_t = SEED)]
    seed: u64,
}

/// The models that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Size {
    /// About 130 million weights, Q8_0
    #[value(name = "130m")]
    Small,
    /// About 1.1 billion weights, Q4_K_M
    #[value(name = "1.1b")]
    Large,
    /// A small BERT, Q8_0, which only gives embeddings
    #[value(name = "encoder")]
    Encoder,
}

impl Size {
    /// As in the command line and in file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "130m",
            Self::Large => "1.1b",
            Self::Encoder => "encoder",
        }
    }

    /// `None`: it is no Llama.
    fn shape(self) -> Option<Shape> {
        let shape = match self {
            Self::Small => {
                Shape { width: 768, layers: 12, heads: 12, kv_heads: 12, hidden: 2048, mixture: Mixture::Q8_0 }
            }
            Self::Large => {
                Shape { width: 2048, layers: 22, heads: 32, kv_heads: 4, hidden: 5632, mixture: Mixture::Q4_K_M }
            }
            Self::Encoder => return None,
        };
        Some(shape)
    }
}

/// Which kind of block each tensor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "the names that GGUF files go by")]
enum Mixture {
    Q8_0,
    Q4_K_M,
}

/// A Llama.
#[derive(Debug, Clone, Copy)]
struct Shape {
    width: u64,
    layers: u64,
    heads: u64,
    kv_heads: u64,
    hidden: u64,
    mixture: Mixture,
}

/// One matrix or vector of the file.
struct Tensor {
    name: String,
    columns: u64,
    rows: u64,
    kind: Kind,
    /// Rows at its beginning that are zero.
    silent: u64,
}

impl Tensor {
    fn bytes(&self) -> u64 {
        self.kind.row_bytes(self.columns) * self.rows
    }

    fn padded_bytes(&self) -> u64 {
        self.bytes().next_multiple_of(ALIGNMENT)
    }
}

impl Shape {
    /// All tensors in the order of the file. `silent` tokens are never the likeliest: their row of the output matrix is zero.
    fn tensors(&self, silent: u64) -> Vec<Tensor> {
        let (width, kv) = (self.width, self.width / self.heads * self.kv_heads);
        let tensor = |name: String, columns, rows, kind| Tensor { name, columns, rows, kind, silent: 0 };
        let mut all = vec![
            tensor("token_embd.weight".to_owned(), width, VOCABULARY, self.usual()),
            Tensor { silent, ..tensor("output.weight".to_owned(), width, VOCABULARY, self.finer()) },
            tensor("output_norm.weight".to_owned(), width, 1, Kind::One),
        ];
        for layer in 0..self.layers {
            let better = if self.has_more_bits(layer) { self.finer() } else { self.usual() };
            for (name, columns, rows, kind) in [
                ("attn_norm", width, 1, Kind::One),
                ("attn_q", width, width, self.usual()),
                ("attn_k", width, kv, self.usual()),
                ("attn_v", width, kv, better),
                ("attn_output", width, width, self.usual()),
                ("ffn_norm", width, 1, Kind::One),
                ("ffn_gate", width, self.hidden, self.usual()),
                ("ffn_up", width, self.hidden, self.usual()),
                ("ffn_down", self.hidden, width, better),
            ] {
                all.push(tensor(format!("blk.{layer}.{name}.weight"), columns, rows, kind));
            }
        }
        all
    }

    fn usual(&self) -> Kind {
        match self.mixture {
            Mixture::Q8_0 => Kind::Q8_0,
            Mixture::Q4_K_M => Kind::Q4_K,
        }
    }

    fn finer(&self) -> Kind {
        match self.mixture {
            Mixture::Q8_0 => Kind::Q8_0,
            Mixture::Q4_K_M => Kind::Q6_K,
        }
    }

    /// The layers whose values and last matrix are kept finer in a Q4_K_M file: the first and last eighth, and each third between.
    fn has_more_bits(&self, layer: u64) -> bool {
        let eighth = self.layers / 8;
        layer < eighth || layer >= 7 * self.layers / 8 || (layer - eighth) % 3 == 2
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let begun = Instant::now();
    let out = args.out.clone().unwrap_or_else(|| usual_path(args.size));
    let bytes = write(args.size, args.context, args.seed, &out)?;
    println!("{}: {} MB in {:.1} s", out.display(), bytes / 1_000_000, begun.elapsed().as_secs_f64());
    Ok(())
}

/// Writes the model that the command writes when nothing else is said.
pub(crate) fn make(size: Size, path: &Path) -> Result<()> {
    write(size, None, SEED, path).map(drop)
}

/// Where the model is when nobody says otherwise.
fn usual_path(size: Size) -> PathBuf {
    target_dir().join("bench/models").join(format!("random-{}.gguf", size.name()))
}

/// Writes beside the file and renames, so that nobody ever sees half a file; its length.
fn write(size: Size, context: Option<u32>, seed: u64, path: &Path) -> Result<u64> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    }
    let demo = root().join("demo-model/mms-demo.gguf");
    let demo = std::fs::read(&demo).with_context(|| format!("could not read {}", demo.display()))?;
    let part = path.with_extension("gguf.part");
    let file = File::create(&part).with_context(|| format!("could not make {}", part.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written =
        model(&demo, size, context, seed, &mut out).with_context(|| format!("could not write {}", part.display()))?;
    out.into_inner().context("could not write the last bytes")?.sync_all().context("could not write to the disk")?;
    std::fs::rename(&part, path).with_context(|| format!("could not rename to {}", path.display()))?;
    Ok(written)
}

/// The whole file; its length. `demo` is the built-in model, whose tokenizer and template the new one gets.
fn model(demo: &[u8], size: Size, context: Option<u32>, seed: u64, out: &mut impl Write) -> Result<u64> {
    let Some(shape) = size.shape() else {
        return encoder::encoder(context.unwrap_or(ENCODER_CONTEXT), seed, out);
    };
    let context = context.unwrap_or(CONTEXT);
    let vocabulary = header::vocabulary(demo, VOCABULARY)?;
    let tensors = shape.tensors(vocabulary.real);
    let mut header = Header::default();
    header.text("general.architecture", "llama");
    header.text("general.name", &format!("random-{}", size.name()));
    header.text("general.description", "Random weights, for measuring. What it says means nothing.");
    header.u32(
        "general.file_type",
        match shape.mixture {
            Mixture::Q8_0 => 7,
            Mixture::Q4_K_M => 15,
        },
    );
    header.u32("general.quantization_version", 2);
    let number = |value: u64| u32::try_from(value).context("too large a shape");
    for (key, value) in [
        ("llama.context_length", context),
        ("llama.embedding_length", number(shape.width)?),
        ("llama.block_count", number(shape.layers)?),
        ("llama.feed_forward_length", number(shape.hidden)?),
        ("llama.attention.head_count", number(shape.heads)?),
        ("llama.attention.head_count_kv", number(shape.kv_heads)?),
        ("llama.rope.dimension_count", number(shape.width / shape.heads)?),
        ("llama.vocab_size", number(VOCABULARY)?),
    ] {
        header.u32(key, value);
    }
    header.f32("llama.rope.freq_base", 10_000.0);
    header.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    header.raw(vocabulary.pairs, &vocabulary.bytes);
    finish(&mut header, &tensors, seed, out)
}

/// Writes a file with such a head; its length.
fn finish(header: &mut Header, tensors: &[Tensor], seed: u64, out: &mut impl Write) -> Result<u64> {
    let mut offset = 0;
    for tensor in tensors {
        header.tensor(&tensor.name, tensor.columns, (tensor.rows > 1).then_some(tensor.rows), tensor.kind, offset);
        offset += tensor.padded_bytes();
    }
    let mut written = header.write(out)?;
    let mut random = Random::new(seed);
    for tensor in tensors {
        let mut row = Vec::new();
        for index in 0..tensor.rows {
            row.clear();
            if index < tensor.silent {
                row.resize(usize::try_from(tensor.kind.row_bytes(tensor.columns))?, 0);
            } else {
                tensor.kind.fill(tensor.columns, &mut random, &mut row);
            }
            out.write_all(&row)?;
        }
        let padding = tensor.padded_bytes() - tensor.bytes();
        out.write_all(&[0; ALIGNMENT as usize][..usize::try_from(padding)?])?;
        written += tensor.padded_bytes();
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_their_names_say() {
        for (size, millions) in [(Size::Small, 120..=145), (Size::Large, 1000..=1200)] {
            let tensors = size.shape().expect("a Llama").tensors(0);
            let weights: u64 = tensors.iter().map(|tensor| tensor.columns * tensor.rows).sum();
            assert!(millions.contains(&(weights / 1_000_000)), "{size:?}: {weights}");
            assert!(tensors.iter().all(|tensor| tensor.columns % 256 == 0), "whole blocks only");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_rows() {
        let row = |seed| {
            let mut row = Vec::new();
            Kind::Q4_K.fill(512, &mut Random::new(seed), &mut row);
            row
        };
        assert_eq!(row(1), row(1));
        assert_ne!(row(1), row(2));
    }
}
