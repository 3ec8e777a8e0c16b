//! `mms config`: check a file, show what holds, print the example.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::{ConfigAction, ServeFlags};
use crate::config::{self, Config, Environment, Mistakes, Origin};
use crate::exit::Failure;
use crate::output::{self, Output, table};

pub(super) fn run(action: &ConfigAction) -> Result<(), Failure> {
    match action {
        ConfigAction::Check { file, json } => check(file, Output::new(*json)),
        ConfigAction::Show { flags, json } => show(flags, Output::new(*json)),
        ConfigAction::Example => Ok(output::line(&config::example()?)?),
    }
}

/// The file alone: neither flags nor the environment of this shell.
fn check(path: &Path, output: Output) -> Result<(), Failure> {
    let read = config::read_file(path, Origin::Default)
        .and_then(|file| Config::read(&ServeFlags::default(), &Environment::default(), Some(&file)));
    let mistakes = match read {
        Ok(_) => Vec::new(),
        Err(Mistakes(mistakes)) => mistakes,
    };
    let json = json!({"file": path, "ok": mistakes.is_empty(), "mistakes": mistakes});
    if mistakes.is_empty() {
        return Ok(output.either(&json, || format!("{} is right", path.display()))?);
    }
    if output.is_json() {
        output::line(&format!("{json:#}"))?;
    }
    Err(Mistakes(mistakes).into())
}

fn show(flags: &ServeFlags, output: Output) -> Result<(), Failure> {
    let config = Config::load(flags)?;
    let routing = config.routing.iter().map(|(preference, models)| (preference.clone(), shown(models)));
    let services = config.services.iter().map(|(name, address)| (name.clone(), Value::from(address.shown())));
    let json = json!({
        "file": config.file,
        "settings": config.settings,
        "routing": routing.collect::<Map<_, _>>(),
        "services": services.collect::<Map<_, _>>(),
        "not_used": config.not_used,
    });
    Ok(output.either(&json, || {
        let mut rows: Vec<Vec<String>> = config
            .settings
            .iter()
            .map(|setting| {
                let value = if setting.value.is_null() { "(not set)".to_owned() } else { setting.value.to_string() };
                vec![format!("{}.{}", setting.section, setting.key), value, setting.origin.to_string()]
            })
            .collect();
        let file = config.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        for (preference, models) in &config.routing {
            rows.push(vec![format!("routing.{preference}"), shown(models).to_string(), file.clone()]);
        }
        for (name, address) in &config.services {
            rows.push(vec![format!("services.{name}"), format!("{:?}", address.shown()), file.clone()]);
        }
        table(&["SETTING", "VALUE", "FROM"], rows, &[])
    })?)
}

/// As a file would have it: one model is a text.
fn shown(models: &[String]) -> Value {
    match models {
        [one] => Value::from(one.as_str()),
        several => Value::from(several),
    }
}
