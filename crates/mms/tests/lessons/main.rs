//! What users of model servers suffer from, one test for each kind of suffering, through the doors that users have. What stands in
//! `acceptance` and `cli` already (kills, ports, readiness, drains) is not repeated here.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../acceptance/asking.rs"]
mod asking;
mod catalogue;
mod disk;
mod dying;
#[expect(dead_code, reason = "this program uses a part of it")]
#[path = "../../../mms-manager/src/gguf/builder.rs"]
mod gguf;
mod headers;
mod leaving;
mod loads;
mod models;
#[expect(dead_code, reason = "this program uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod victims;
