//! `mms config`: check a file, show what holds, print the example, make a file of the old suite's.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::{ConfigAction, ServeFlags};
use crate::config::{self, Config, ConfigFile, Environment, Mistakes, Origin};
use crate::draft::Draft;
use crate::exit::Failure;
use crate::import;
use crate::output::{self, Output, table};

pub(super) fn run(action: &ConfigAction) -> Result<(), Failure> {
    match action {
        ConfigAction::Check { file, json } => check(file, Output::new(*json)),
        ConfigAction::Show { flags, json } => show(flags, Output::new(*json)),
        ConfigAction::Import { file, output, force, json } => {
            import(file, output.as_deref(), *force, Output::new(*json))
        }
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

/// The new file is checked before it is written: what comes out of it is a configuration without mistakes.
fn import(file: &Path, target: Option<&Path>, force: bool, output: Output) -> Result<(), Failure> {
    let report = import::read(file, &Origin::Default)?;
    let checked = ConfigFile::new(file, report.toml.clone());
    Config::read(&ServeFlags::default(), &Environment::default(), Some(&checked))?;
    if let Some(target) = target {
        let mut draft = Draft::new(target, force)?;
        draft.write_all(report.toml.as_bytes())?;
        draft.keep()?;
    }
    if output.is_json() {
        let mut json = report.to_json();
        json["output"] = json!(target);
        return Ok(output::line(&format!("{json:#}"))?);
    }
    match target {
        Some(target) => Ok(output::line(&format!("{}; written to {}", report.shown(), target.display()))?),
        None => {
            eprintln!("{}", report.shown());
            Ok(output::line(&report.toml)?)
        }
    }
}

/// As a file would have it: one model is a text.
fn shown(models: &[String]) -> Value {
    match models {
        [one] => Value::from(one.as_str()),
        several => Value::from(several),
    }
}
