//! Model files that come, go, are replaced or cut short while the manager runs.

use std::fs::{self, File};

use mms_manager::GenerateEvent;
use mms_protocol::view::ModelState;
use mms_protocol::{ErrorCode, Event};

use crate::harness::{Setup, ask, demo_model, endless, first_text, rest};

#[tokio::test]
async fn a_new_file_is_a_new_model() {
    let rig = Setup::new().start().await;
    fs::copy(demo_model(), rig.models.path().join("new.part")).unwrap();
    fs::rename(rig.models.path().join("new.part"), rig.models.path().join("new.gguf")).unwrap();
    rig.until("the new model", |rig| rig.manager.model("new").is_ok()).await;
    rig.until_state("new", ModelState::AvailableNotLoaded).await;
    assert!(rig.generate(ask("new", "hello", 4)).await.is_ok());
    rig.finish().await;
}

#[tokio::test]
async fn a_deleted_file_takes_its_resident_model_along_after_the_work_under_way() {
    let mut rig = Setup::new().start().await;
    let mut running = rig.stream(endless("demo")).await;
    first_text(&mut running).await;
    fs::remove_file(rig.models.path().join("demo.gguf")).unwrap();
    let (_, last) = rest(&mut running).await;
    assert!(matches!(last, GenerateEvent::Finished(_)), "{last:?}");
    let gone = rig.event("unloaded", |event| matches!(event, Event::ModelUnloaded { .. })).await;
    assert_eq!(gone, Event::ModelUnloaded { model_id: "demo".to_owned(), reason: "removed" });
    rig.until("the end of the model", |rig| rig.manager.model("demo").is_err()).await;
    assert_eq!(rig.generate(ask("demo", "hello", 4)).await.unwrap_err().code, ErrorCode::ModelNotFound);
    rig.finish().await;
}

#[tokio::test]
async fn a_replaced_file_is_loaded_afresh() {
    let mut rig = Setup::new().start().await;
    rig.load("demo").await.unwrap();
    let first = rig.pid("demo").unwrap();
    fs::copy(demo_model(), rig.models.path().join("next.part")).unwrap();
    fs::rename(rig.models.path().join("next.part"), rig.models.path().join("demo.gguf")).unwrap();
    let gone = rig.event("unloaded", |event| matches!(event, Event::ModelUnloaded { .. })).await;
    assert_eq!(gone, Event::ModelUnloaded { model_id: "demo".to_owned(), reason: "replaced" });
    assert!(rig.generate(ask("demo", "hello", 4)).await.is_ok());
    assert_ne!(rig.pid("demo").unwrap(), first);
    rig.finish().await;
}

#[tokio::test]
async fn a_truncated_file_is_broken_and_whole_again_later() {
    let rig = Setup::new().start().await;
    let path = rig.models.path().join("demo.gguf");
    let whole = fs::read(&path).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(whole.len() as u64 / 2).unwrap();
    rig.until_state("demo", ModelState::Broken).await;
    let refusal = rig.generate(ask("demo", "hello", 4)).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::ModelBroken);
    fs::write(rig.models.path().join("again.part"), &whole).unwrap();
    fs::rename(rig.models.path().join("again.part"), &path).unwrap();
    rig.until_state("demo", ModelState::AvailableNotLoaded).await;
    assert!(rig.generate(ask("demo", "hello", 4)).await.is_ok());
    rig.finish().await;
}

#[tokio::test]
async fn a_file_truncated_under_a_resident_model_does_no_harm_to_others() {
    let rig = Setup::new().copy("other.gguf").start().await;
    rig.load("demo").await.unwrap();
    rig.load("other").await.unwrap();
    let file = File::options().write(true).open(rig.models.path().join("demo.gguf")).unwrap();
    file.set_len(4096).unwrap();
    // Nobody goes on writing to it.
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3600)).unwrap();
    rig.until_state("demo", ModelState::Broken).await;
    assert_eq!(rig.generate(ask("demo", "hello", 4)).await.unwrap_err().code, ErrorCode::ModelBroken);
    assert!(rig.generate(ask("other", "hello", 4)).await.is_ok());
    rig.finish().await;
}

#[tokio::test]
async fn a_file_that_is_touched_or_written_to_leaves_its_resident_model_alone() {
    let rig = Setup::new().start().await;
    rig.load("demo").await.unwrap();
    let (path, pid) = (rig.models.path().join("demo.gguf"), rig.pid("demo").unwrap());
    let file = File::options().write(true).open(&path).unwrap();
    // The marker file is found by the same look or a later one than the change before it.
    for (round, seconds) in [(1, 10), (2, 7200)] {
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(seconds)).unwrap();
        let marker = format!("marker{round}");
        fs::copy(demo_model(), rig.models.path().join(format!("{marker}.gguf"))).unwrap();
        rig.until("the next look", |rig| rig.manager.model(&marker).is_ok()).await;
        assert!(rig.generate(ask("demo", "hello", 4)).await.is_ok());
        assert_eq!(rig.pid("demo").unwrap(), pid);
    }
    // One that is not whole while it is written to, and then is as it was.
    let whole = fs::read(&path).unwrap();
    file.set_len(whole.len() as u64 - 1).unwrap();
    fs::copy(demo_model(), rig.models.path().join("marker3.gguf")).unwrap();
    rig.until("the next look", |rig| rig.manager.model("marker3").is_ok()).await;
    assert!(rig.generate(ask("demo", "hello", 4)).await.is_ok());
    std::os::unix::fs::FileExt::write_all_at(&file, &whole[whole.len() - 1..], whole.len() as u64 - 1).unwrap();
    fs::copy(demo_model(), rig.models.path().join("marker4.gguf")).unwrap();
    rig.until("the next look", |rig| rig.manager.model("marker4").is_ok()).await;
    assert!(rig.generate(ask("demo", "hello", 4)).await.is_ok());
    assert_eq!(rig.pid("demo").unwrap(), pid);
    rig.finish().await;
}
