//! Tests of the parser: what it finds in good files, what it says of each kind of bad one, and that nothing makes it panic.

use proptest::prelude::*;

use super::builder::{Builder, Meta, TensorSpec};
use super::{GgufError, Header, PerLayer, Split};

fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::parse(bytes, bytes.len() as u64)
}

#[track_caller]
fn refused(builder: &Builder, expect: &str) {
    let error = parse(&builder.file()).expect_err("it should be refused").to_string();
    assert!(error.contains(expect), "{error}");
}

#[test]
fn a_small_llama() {
    let file = Builder::llama().file();
    let header = parse(&file).unwrap();
    assert_eq!(header.architecture.as_deref(), Some("llama"));
    assert_eq!(header.name.as_deref(), Some("Small One"));
    assert_eq!(header.quantization, "Q4_K_M");
    assert_eq!((header.parameters, header.tensor_count), (64 * 3 + 256 * 4 + 64, 3));
    assert_eq!((header.tensor_bytes, header.file_bytes), (768 + 576 + 256, file.len() as u64));
    assert_eq!((header.context_length, header.block_count, header.embedding_length), (Some(512), Some(2), Some(64)));
    assert_eq!((header.head_count, header.head_count_kv), (Some(PerLayer::All(4)), Some(PerLayer::All(2))));
    assert_eq!((header.vocab_size, header.version), (Some(3), 3));
    assert_eq!(header.chat_template.as_deref(), Some("{{ messages[0].content }}"));
    assert_eq!((header.split, header.key_length, header.sliding_window), (None, None, None));
}

#[test]
fn figures_for_each_layer_and_embedding_models() {
    let heads = Meta::List(5, vec![Meta::I32(2), Meta::I32(0)]);
    let header = parse(
        &Builder::llama()
            .key("llama.attention.head_count_kv", heads)
            .key("llama.attention.key_length", 32)
            .key("llama.attention.value_length", Meta::U16(48))
            .key("llama.attention.sliding_window", 1024)
            .key("llama.pooling_type", 1)
            .key("llama.attention.causal", Meta::Bool(0))
            .key("split.count", Meta::U16(3))
            .key("split.no", Meta::U16(2))
            .file(),
    )
    .unwrap();
    assert_eq!(header.head_count_kv, Some(PerLayer::Each(vec![2, 0])));
    assert_eq!((header.key_length, header.value_length, header.sliding_window), (Some(32), Some(48), Some(1024)));
    assert!(header.is_embedding() && header.is_encoder());
    let told = |key: &str, value: u32| parse(&Builder::llama().key(key, value).file()).unwrap();
    let last = told("llama.pooling_type", 3);
    assert!(last.is_embedding() && !last.is_encoder() && !last.is_ranking());
    let rank = told("llama.pooling_type", 4);
    assert!(rank.is_ranking() && !rank.is_embedding());
    assert!(Header { architecture: Some("nomic-bert".to_owned()), ..rank }.is_encoder());
    assert_eq!(header.split, Some(Split { no: 2, count: 3 }));
    assert!(!parse(&Builder::llama().file()).unwrap().is_embedding());
}

#[test]
fn quantization_falls_back_on_the_tensors() {
    let mut builder = Builder { version: 2, ..Builder::llama() };
    assert_eq!(parse(&builder.file()).unwrap().quantization, "Q4_K_M");
    builder = builder.without("general.file_type");
    assert_eq!(parse(&builder.file()).unwrap().quantization, "F32", "the type with the most bytes");
    builder = builder.tensor("big", &[512, 8], 14, 3360).key("general.file_type", 999);
    assert_eq!(parse(&builder.file()).unwrap().quantization, "Q6_K", "an unknown number is as good as none");
    assert_eq!(parse(&Builder::empty().file()).unwrap().quantization, "unknown");
}

#[test]
fn a_long_vocabulary_is_counted_but_not_kept() {
    let tokens = (0..130_000).map(|n| Meta::from(format!("token {n}").as_str())).collect();
    let builder = Builder::llama().key("tokenizer.ggml.tokens", Meta::List(8, tokens));
    assert_eq!(parse(&builder.file()).unwrap().vocab_size, Some(130_000));
}

#[test]
fn other_files_are_named_by_their_first_bytes() {
    let check = |bytes: &[u8], expect: &str| assert_eq!(parse(bytes).unwrap_err().to_string(), expect);
    check(b"", "the file is empty");
    check(b"PK\x03\x04rest", "not a GGUF file: it begins with \"PK..\" (50 4b 03 04)");
    check(b"<!", "not a GGUF file: it begins with \"<!\" (3c 21)");
    check(b"GG", "the header is cut off: the file ends at byte 2, inside the magic number");
    check(b"GGUF\x03", "the header is cut off: the file ends at byte 5, inside the version");
    check(b"GGUF\x01\0\0\0", "GGUF version 1 is not supported, only versions 2 and 3");
    check(b"GGUF\x09\0\0\0", "GGUF version 9 is not supported, only versions 2 and 3");
    check(b"GGUF\0\0\0\x03", "a big-endian GGUF file; only little-endian ones are supported");
}

#[test]
fn a_cut_off_file_says_so_wherever_it_was_cut() {
    let builder = Builder::llama();
    let (file, header) = (builder.file(), builder.header());
    for length in 1..file.len() {
        let error = parse(&file[..length]).expect_err("cut off");
        assert!(error.is_incomplete(), "{length}: {error}");
        match error {
            GgufError::HeaderTruncated { at, .. } => assert_eq!(at, length as u64),
            GgufError::TensorsTruncated { needs, has } => {
                assert_eq!((needs, has), (file.len() as u64, length as u64));
                assert!(length >= header.len());
            }
            other => panic!("{length}: {other}"),
        }
    }
    let error = parse(&file[..file.len() - 1]).unwrap_err().to_string();
    let (needs, has) = (file.len(), file.len() - 1);
    assert_eq!(error, format!("half-copied: its tensors need {needs} bytes, the file has {has}"));
}

#[test]
fn counts_that_no_file_can_hold() {
    for count in [1 << 21, 1 << 40, u64::MAX] {
        refused(&Builder { key_count: Some(count), ..Builder::llama() }, "impossible count");
        refused(&Builder { tensor_count: Some(count), ..Builder::llama() }, "impossible count");
        let mut list = 8_u32.to_le_bytes().to_vec();
        list.extend(count.to_le_bytes());
        refused(&Builder::llama().key("tokenizer.ggml.tokens", Meta::Raw(9, list.clone())), "impossible count");
        refused(&Builder::llama().key("some.other.list", Meta::Raw(9, list)), "impossible count");
        refused(&Builder::llama().key("general.name", Meta::Raw(8, count.to_le_bytes().to_vec())), "bytes long");
        let skipped = Builder::llama().key("some.text", Meta::Raw(8, count.to_le_bytes().to_vec()));
        refused(&skipped, "the header is cut off");
    }
}

#[test]
fn bad_values_name_their_key() {
    let with = |key: &str, value: Meta| Builder::llama().key(key, value);
    refused(&with("llama.block_count", Meta::I32(-1)), "key llama.block_count has an impossible value: negative");
    refused(&with("llama.block_count", Meta::U64(1 << 40)), "too large");
    refused(&with("llama.block_count", "two".into()), "not a whole number");
    refused(&with("llama.attention.causal", Meta::Bool(7)), "7 is neither true nor false");
    let heads = Meta::List(5, vec![Meta::I32(2), Meta::I32(-2)]);
    refused(&with("llama.attention.head_count_kv", heads), "in the list");
    refused(&with("general.alignment", 24.into()), "24 is not a power of two");
    refused(&with("general.name", Meta::Text(vec![0xff, 0xfe])), "general.name is not UTF-8");
    refused(&with("tokenizer.ggml.tokens", 3.into()), "not a list of texts");
    refused(&with("general.odd", Meta::Raw(77, vec![0; 8])), "key general.odd has the unknown value type 77");
    refused(&with(&"k".repeat(2000), 1.into()), "a metadata key is 2000 bytes long, at most 1024 are accepted");
    let template = Meta::Text(vec![b'x'; (1 << 20) + 1]);
    refused(&with("tokenizer.chat_template", template), "tokenizer.chat_template is 1048577 bytes long");
    let mut twice = Builder::llama();
    twice.keys.push(("general.name".to_owned(), "again".into()));
    refused(&twice, "key general.name stands in the header twice");
    let nested = (0..9).fold(Meta::U8(1), |inner, depth| Meta::List(if depth == 0 { 0 } else { 9 }, vec![inner]));
    refused(&with("general.deep", nested), "key general.deep has arrays nested deeper than 4 levels");
}

#[test]
fn bad_tensors_name_themselves() {
    let tensor = |dimensions: &[u64], kind, offset| {
        let mut builder = Builder::llama();
        let dimensions = dimensions.to_vec();
        builder.tensors.push(TensorSpec { name: "bad".to_owned(), dimensions, kind, offset, bytes: 0 });
        builder
    };
    refused(
        &tensor(&[1, 1, 1, 1, 1], 0, None),
        "tensor bad has impossible dimensions: 5 of them, at most 4 are possible",
    );
    refused(&tensor(&[4, 0], 0, None), "one of them is 0");
    refused(&tensor(&[1 << 40, 1 << 40], 0, None), "their product is larger than any file");
    refused(&tensor(&[1 << 62], 28, None), "it is larger than any file");
    refused(&tensor(&[100], 12, None), "rows of 100 are not whole blocks of 256 (Q4_K)");
    refused(&tensor(&[4], 4, None), "tensor bad has the unknown type 4; the file may be newer than this program");
    refused(&tensor(&[4], 0, Some(7)), "tensor bad lies at an impossible offset: 7 is not a multiple of 32");
    refused(&tensor(&[8], 0, Some(u64::MAX - 31)), "beyond the end of any file");
    refused(&tensor(&[8], 0, Some(1 << 50)), "half-copied: its tensors need");
}

#[test]
fn only_files_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Header::read(folder.path()), Err(GgufError::NotAFile));
    let error = Header::read(&folder.path().join("none.gguf")).unwrap_err();
    assert!(matches!(error, GgufError::Io { kind: std::io::ErrorKind::NotFound, .. }), "{error}");
    let path = folder.path().join("a.gguf");
    std::fs::write(&path, Builder::llama().file()).unwrap();
    assert_eq!(Header::read(&path).unwrap().vocab_size, Some(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(parse(&bytes).is_err());
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(bytes);
        // Almost any rubbish is refused; an empty header followed by rubbish is a valid file.
        if let Ok(header) = parse(&file) {
            prop_assert_eq!(header.file_bytes, file.len() as u64);
        }
    }

    #[test]
    fn no_change_of_a_good_file_makes_it_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        words in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u64>()), 0..2),
        said_length in proptest::option::of(any::<u64>()),
    ) {
        let mut file = Builder::llama().file();
        let header_bytes = Builder::llama().header().len();
        for (at, byte) in changes {
            file[at.index(header_bytes)] = byte;
        }
        for (at, word) in words {
            let at = at.index(header_bytes - 8);
            file[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        if let Ok(header) = parse(&file) {
            prop_assert!(header.tensor_bytes <= u64::MAX / 2);
            prop_assert!(header.chat_template.is_none_or(|template| template.len() <= file.len()));
        }
        // A length that is not the true one: the source ends earlier or later than the parser was told.
        if let Some(length) = said_length
            && let Err(error) = Header::parse(file.as_slice(), length)
        {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
