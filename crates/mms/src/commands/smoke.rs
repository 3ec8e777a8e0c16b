//! `mms smoke`: what the two smoke scripts of the old suite did (connect, `ping` and `health_check` in the method dialect, a short
//! `generate`, `GET /health` on the HTTP port), and load and unload besides. A check that fails does not stop the others, unless
//! nobody is there at all.

use std::time::{Duration, Instant};

use mms_client::{Client, ClientError};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::ask::{PATIENT, QUICK, Server, args, number, text};
use super::models::is_loaded;
use crate::cli::SmokeArgs;
use crate::exit::Failure;
use crate::output;

/// What the old script asked.
const PROMPT: &str = "Hello, this is a test";
const MAX_TOKENS: u32 = 10;

/// One check and what came of it.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    ms: f64,
}

struct Smoke {
    json: bool,
    checks: Vec<Check>,
}

impl Smoke {
    /// Notes, and for a person prints, what a check gave.
    fn note<T>(
        &mut self,
        name: &'static str,
        took: Duration,
        outcome: Result<(T, String), String>,
    ) -> Result<Option<T>, Failure> {
        let (ok, value, detail) = match outcome {
            Ok((value, detail)) => (true, Some(value), detail),
            Err(why) => (false, None, why),
        };
        let check = Check { name, ok, detail, ms: took.as_secs_f64() * 1e3 };
        if !self.json {
            let word = if ok { "ok" } else { "FAILED" };
            output::line(&format!("{word:6}  {name:14}  {:8.1} ms  {}", check.ms, check.detail))?;
        }
        self.checks.push(check);
        Ok(value)
    }
}

pub(super) async fn run(command: &SmokeArgs) -> Result<(), Failure> {
    let server = Server::of(&command.target)?;
    let mut smoke = Smoke { json: server.output.is_json(), checks: Vec::new() };
    let begun = Instant::now();
    let mut client = server.connect(QUICK).await?;
    smoke.note("connect", begun.elapsed(), Ok(((), server.endpoints.main.clone())))?;
    quick_checks(&mut smoke, &mut client).await?;
    let model = match &command.model {
        Some(model) => Ok(model.clone()),
        None => first_model(&mut client).await,
    };
    let mut patient = server.connect(PATIENT).await?;
    model_checks(&mut smoke, &mut patient, model).await?;
    http_check(&mut smoke, &server).await?;
    let failed = smoke.checks.iter().filter(|check| !check.ok).count();
    let all = smoke.checks.len();
    if smoke.json {
        output::line(&format!("{:#}", json!({"ok": failed == 0, "checks": smoke.checks})))?;
    } else if failed == 0 {
        output::line(&format!("all {all} checks passed"))?;
    }
    if failed == 0 { Ok(()) } else { Err(Failure::Checks { failed, all }) }
}

async fn quick_checks(smoke: &mut Smoke, client: &mut Client) -> Result<(), Failure> {
    let begun = Instant::now();
    let reply = client.call_method("ping", Map::new()).await;
    let outcome = told(reply).map(|reply| ((), format!("{} {}", text(&reply, "agent"), text(&reply, "version"))));
    smoke.note("ping", begun.elapsed(), outcome)?;

    let begun = Instant::now();
    let reply = client.call_method("health_check", Map::new()).await;
    let outcome = told(reply).and_then(|reply| {
        let detail = format!("{}, {} models", text(&reply, "status"), number(&reply, "total_models"));
        match text(&reply, "status") {
            "healthy" | "degraded" | "ok" => Ok(((), detail)),
            _ => Err(detail),
        }
    });
    smoke.note("health_check", begun.elapsed(), outcome)?;
    Ok(())
}

/// Load, generate, unload; a model that was resident before is so afterwards.
async fn model_checks(smoke: &mut Smoke, client: &mut Client, model: Result<String, String>) -> Result<(), Failure> {
    let before = match &model {
        Ok(model) => is_loaded(client, model).await.map_err(|error| error.to_string()),
        Err(why) => Err(why.clone()),
    };
    let named = |model: &Result<String, String>| model.clone().map(|model| args([("model", model.into())]));

    let begun = Instant::now();
    let outcome = match named(&model) {
        Ok(args) => told(client.call_method("load_model", args).await),
        Err(why) => Err(why),
    };
    let outcome = outcome.map(|reply| ((), format!("{}, {} MB", text(&reply, "message"), number(&reply, "vram_mb"))));
    smoke.note("load_model", begun.elapsed(), outcome)?;

    let begun = Instant::now();
    let request = args([("prompt", PROMPT.into()), ("max_tokens", MAX_TOKENS.into())]);
    let outcome = told(client.call_method("generate", request).await).and_then(|reply| {
        let tokens = number(&reply, "tokens_generated");
        let detail = format!("{:?}, {tokens} tokens by {}", text(&reply, "text"), text(&reply, "model_id"));
        let bounded = (1.0..=f64::from(MAX_TOKENS)).contains(&tokens);
        if bounded { Ok(((), detail)) } else { Err(detail) }
    });
    smoke.note("generate", begun.elapsed(), outcome)?;

    let begun = Instant::now();
    let outcome = match named(&model) {
        Ok(args) => told(client.call_method("unload_model", args).await),
        Err(why) => Err(why),
    };
    let outcome = outcome.map(|reply| ((), text(&reply, "message").to_owned()));
    smoke.note("unload_model", begun.elapsed(), outcome)?;

    if let (Ok(true), Ok(args)) = (before, named(&model)) {
        let begun = Instant::now();
        let outcome = told(client.call_method("load_model", args).await);
        let outcome = outcome.map(|_| ((), "resident again, as it was before".to_owned()));
        smoke.note("restore", begun.elapsed(), outcome)?;
    }
    Ok(())
}

async fn http_check(smoke: &mut Smoke, server: &Server) -> Result<(), Failure> {
    let begun = Instant::now();
    let reply = server.http(QUICK)?.get("/health").await;
    let outcome = match reply {
        Ok(reply) => {
            let json = reply.json().unwrap_or_default();
            let word = json.get("status").and_then(Value::as_str).unwrap_or("no health object");
            let detail = format!("{}/health: {} {word}", server.endpoints.http, reply.status);
            if reply.status == 200 { Ok(((), detail)) } else { Err(detail) }
        }
        Err(error) => Err(error.to_string()),
    };
    smoke.note("http_health", begun.elapsed(), outcome)?;
    Ok(())
}

/// The built-in model, else the first that is not broken.
async fn first_model(client: &mut Client) -> Result<String, String> {
    let reply = told(client.call("list_models", Map::new()).await)?;
    let models: Vec<_> =
        reply.get("models").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).collect();
    let builtin = models.iter().find(|model| model.get("builtin") == Some(&json!(true)));
    let usable = models.iter().find(|model| text(model, "status") != "broken");
    let model = builtin.or(usable).ok_or("the server has no model that could be loaded")?;
    Ok(text(model, "model_id").to_owned())
}

fn told(reply: Result<Map<String, Value>, ClientError>) -> Result<Map<String, Value>, String> {
    reply.map_err(|error| error.to_string())
}
