//! `cargo xtask tidy`: rules of the house that no compiler checks. Crate edges are those of ARCHITECTURE.md; a new edge is an
//! edit here and there in the same commit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{cargo, root};

/// Crate → the crates of ours that it may use.
const EDGES: &[(&str, &[&str])] = &[
    ("mms-protocol", &[]),
    ("mms-zmtp", &[]),
    ("mms-client", &["mms-zmtp", "mms-protocol"]),
    ("mms-engine", &["mms-protocol"]),
    ("mms-manager", &["mms-protocol"]),
    ("mms-store", &["mms-protocol"]),
    ("mms-bus", &["mms-zmtp", "mms-protocol"]),
    ("mms-gateway", &["mms-zmtp", "mms-manager", "mms-store", "mms-protocol"]),
    ("mms-doctor", &["mms-zmtp", "mms-client", "mms-protocol"]),
    ("mms-migrate", &["mms-doctor", "mms-zmtp", "mms-client", "mms-protocol"]),
    (
        "mms",
        &[
            "mms-gateway",
            "mms-client",
            "mms-zmtp",
            "mms-manager",
            "mms-store",
            "mms-bus",
            "mms-doctor",
            "mms-migrate",
            "mms-protocol",
        ],
    ),
    ("xtask", &[]),
];

/// Further edges that only tests may use.
const TEST_EDGES: &[(&str, &[&str])] = &[("mms-gateway", &["mms-client"])];

/// Libraries that only one crate may touch.
const RESERVED: &[(&str, &str)] =
    &[("llama-cpp-2", "mms-engine"), ("llama-cpp-sys-2", "mms-engine"), ("rusqlite", "mms-store")];

/// Longest file, tests not counted.
const MAX_LINES: usize = 500;

/// What must not be left behind in Rust sources. Written in two halves, so that this file passes its own check.
const LEFTOVERS: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("dbg", "!("),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("#[ig", "nore"),
    concat!("#[al", "low("),
    concat!("#![al", "low("),
];

/// Folders below the root that hold our Rust sources.
const SOURCES: &[&str] = &["crates", "xtask", "bench"];

pub(crate) fn tidy() -> Result<()> {
    let mut faults = Vec::new();
    edges(&mut faults)?;
    let mut files = Vec::new();
    for folder in SOURCES {
        rust_files(&root().join(folder), &mut files)?;
    }
    for file in &files {
        let text = std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
        source(&file.strip_prefix(root()).unwrap_or(file).display().to_string(), &text, &mut faults);
    }
    for fault in &faults {
        eprintln!("tidy: {fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults in {} files", faults.len(), files.len());
    }
    println!("tidy: {} files, crate edges as in ARCHITECTURE.md", files.len());
    Ok(())
}

fn edges(faults: &mut Vec<String>) -> Result<()> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("could not start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let in_tests: BTreeMap<&str, &[&str]> = TEST_EDGES.iter().copied().collect();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let folder =
            Path::new(package["manifest_path"].as_str().unwrap_or_default()).parent().and_then(Path::file_name);
        if folder.is_none_or(|folder| folder != name) {
            faults.push(format!("{name}: its folder must have the crate's name"));
        }
        let Some(may_use) = allowed.get(name) else {
            faults.push(format!("{name}: a new crate; add it to EDGES in xtask/src/tidy.rs and to ARCHITECTURE.md"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().unwrap_or_default();
            let test_only = dependency["kind"] == "dev" && in_tests.get(name).is_some_and(|list| list.contains(&other));
            if allowed.contains_key(other) && !may_use.contains(&other) && !test_only {
                faults.push(format!("{name} must not use {other}"));
            }
            if let Some((library, owner)) = RESERVED.iter().find(|(library, owner)| *library == other && *owner != name)
            {
                faults.push(format!("{name} must not use {library}: only {owner} does"));
            }
        }
    }
    Ok(())
}

fn source(name: &str, text: &str, faults: &mut Vec<String>) {
    if !text.starts_with("//!") {
        faults.push(format!("{name}: opens without a `//!` paragraph"));
    }
    let length = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    if length > MAX_LINES {
        faults.push(format!("{name}: {length} lines without tests, more than {MAX_LINES}: it is two things"));
    }
    for (number, line) in text.lines().enumerate() {
        for leftover in LEFTOVERS.iter().filter(|leftover| line.contains(*leftover)) {
            faults.push(format!("{name}:{}: `{leftover}`", number + 1));
        }
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                rust_files(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        source("x.rs", text, &mut faults);
        faults
    }

    #[test]
    fn a_clean_file_has_no_faults() {
        assert_eq!(faults_of("//! What it is for.\nfn main() {}\n"), Vec::<String>::new());
    }

    #[test]
    fn each_rule_is_reported_with_its_place() {
        let faults = faults_of(&format!("fn main() {{\n    {}\"later\");\n}}\n", LEFTOVERS[0]));
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("without a `//!`"), "{faults:?}");
        assert!(faults[1].starts_with("x.rs:2:"), "{faults:?}");
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let long = "//! Long.\n".to_owned() + &"// line\n".repeat(MAX_LINES);
        assert_eq!(faults_of(&long).len(), 1);
        let tested = "//! Short.\n#[cfg(test)]\n".to_owned() + &"// line\n".repeat(MAX_LINES);
        assert_eq!(faults_of(&tested).len(), 0);
    }

    #[test]
    fn every_edge_leads_to_a_crate_of_the_table() {
        let known: Vec<&str> = EDGES.iter().map(|(name, _)| *name).collect();
        for (name, uses) in EDGES.iter().chain(TEST_EDGES) {
            assert!(known.contains(name), "{name}");
            assert!(uses.iter().all(|other| known.contains(other) && other != name), "{name}: {uses:?}");
        }
    }
}
