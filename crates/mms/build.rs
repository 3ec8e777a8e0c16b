//! Puts the hash of the built-in model into the program, where it becomes part of the model's file name.

use sha2::{Digest, Sha256};

const MODEL: &str = "../../demo-model/mms-demo.gguf";

fn main() {
    println!("cargo::rerun-if-changed={MODEL}");
    match std::fs::read(MODEL) {
        Ok(model) => {
            let hash = Sha256::digest(&model);
            let short: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            println!("cargo::rustc-env=MMS_DEMO_HASH={short}");
        }
        Err(error) => println!("cargo::error=the built-in model {MODEL} cannot be read: {error}"),
    }
}
