//! Configuration as users meet it: precedence, mistakes with their places, the example file.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use mms_manager::Budget;
use mms_protocol::Profile;

use super::{Config, ConfigFile, Environment, Mistakes, Origin, example};
use crate::cli::ServeFlags;

const EXAMPLE: &str = include_str!("../../../../mms.example.toml");

fn read(flags: &ServeFlags, variables: &[(&str, &str)], text: &str) -> Result<Config, Mistakes> {
    let environment: Environment = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let file = ConfigFile::new("mms.toml", text.to_owned());
    Config::read(flags, &environment, Some(&file))
}

fn right(text: &str) -> Config {
    read(&ServeFlags::default(), &[], text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The mistakes of a file, one line each.
fn mistakes(text: &str) -> Vec<String> {
    let Mistakes(mistakes) = read(&ServeFlags::default(), &[], text).expect_err("a mistake");
    mistakes.iter().map(ToString::to_string).collect()
}

/// Checks that the only mistake of `text` is `expected`.
#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(mistakes(text), [expected]);
}

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let config = right("");
    assert_eq!(config.server.bind, IpAddr::from([127, 0, 0, 1]));
    assert_eq!((config.server.port, config.server.health_port, config.server.http_port), (9901, 9902, 9903));
    assert_eq!(config.server.profile, Profile::Suite);
    assert_eq!(config.server.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.memory, mms_manager::MemoryConfig::default());
    assert_eq!(config.limits, mms_manager::Limits::default());
    assert_eq!(config.engine.settings, mms_protocol::worker::EngineSettings::default());
    assert_eq!(config.models.idle_unload, Some(Duration::from_secs(300)));
    assert_eq!(config.store_path(), std::path::Path::new("data/model_evaluation.db"));
    assert_eq!(format!("{:?}", config.wire), format!("{:?}", mms_gateway::WireLimits::default()));
    assert!(config.settings.iter().all(|setting| setting.origin == Origin::Default));
}

#[test]
fn flags_beat_the_environment_beats_the_file_beats_the_default() {
    let file = "[server]\nport = 1\nhealth_port = 2\nbind = \"::1\"\n";
    let flags = ServeFlags { port: Some("21".to_owned()), ..ServeFlags::default() };
    let config = read(&flags, &[("AGENT_PORT", "11"), ("HEALTH_PORT", "12")], file).unwrap();
    assert_eq!((config.server.port, config.server.health_port, config.server.http_port), (21, 12, 13));
    assert_eq!(config.server.bind, "::1".parse::<IpAddr>().unwrap());
    let origin = |key: &str| {
        let setting = config.settings.iter().find(|setting| setting.section == "server" && setting.key == key);
        setting.unwrap().origin.to_string()
    };
    assert_eq!(origin("port"), "flag --port");
    assert_eq!(origin("health_port"), "environment HEALTH_PORT");
    assert_eq!(origin("bind"), "mms.toml:4:8");
    assert_eq!(origin("http_port"), "default");
}

#[test]
fn every_variable_of_the_contract_is_heard() {
    let variables = [
        ("AGENT_NAME", "Other"),
        ("AGENT_PORT", "5570"),
        ("HEALTH_PORT", "6570"),
        ("HTTP_PORT", "80"),
        ("BIND_ADDRESS", "0.0.0.0"),
        ("LOG_LEVEL", "WARNING"),
        ("MODELS_DIR", "/a:/b"),
        ("DATA_DIR", "/d"),
        ("LLM_CONFIG_PATH", "/old/llm_config.yaml"),
    ];
    let config = read(&ServeFlags::default(), &variables, "").unwrap();
    assert_eq!(config.server.agent_name, "Other");
    assert_eq!((config.server.port, config.server.health_port, config.server.http_port), (5570, 6570, 80));
    assert_eq!(config.server.bind, IpAddr::from([0, 0, 0, 0]));
    assert_eq!(config.log.level, super::LogLevel::Warning);
    assert_eq!(config.models.folders, [std::path::Path::new("/a"), std::path::Path::new("/b")]);
    assert_eq!(config.store_path(), std::path::Path::new("/d/model_evaluation.db"));
    assert_eq!(config.not_used, ["LLM_CONFIG_PATH"], "what is set and not used is told");
}

#[test]
fn all_mistakes_are_told_together_in_the_order_of_the_file() {
    let text = "\
[server]
port = 70000
bnid = \"127.0.0.1\"
profile = 'modern'

[memory]
budget = \"150%\"

[modles]
folders = []
";
    assert_eq!(
        mistakes(text),
        [
            "mms.toml:2:8: server.port must be an integer from 0 to 65535, got 70000",
            "mms.toml:3:1: unknown key server.bnid; did you mean bind?",
            "mms.toml:4:11: server.profile must be one of \"suite\", \"legacy\", got 'modern'",
            "mms.toml:7:10: memory.budget must be a share such as \"80%\" (up to 100%) or an amount such as \"6000 MB\", got \"150%\"",
            "mms.toml:9:2: unknown section modles; did you mean [models]?",
        ]
    );
}

#[test]
fn mistakes_of_flags_and_variables_are_told_with_those_of_the_file() {
    let flags = ServeFlags { port: Some("many".to_owned()), ..ServeFlags::default() };
    let Mistakes(found) = read(&flags, &[("HEALTH_PORT", "-1")], "[log]\nlevel = 3\n").expect_err("three mistakes");
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("mms.toml:2:9: log.level must be one of"), "{found:?}");
    assert_eq!(found[1], "environment HEALTH_PORT: server.health_port must be an integer from 0 to 65535, got \"-1\"");
    assert_eq!(found[2], "flag --port: server.port must be an integer from 0 to 65535, got \"many\"");
}

#[test]
fn a_key_in_the_wrong_place_is_sent_to_the_right_one() {
    check("[models]\nbudget = \"1 GB\"\n", "mms.toml:2:1: unknown key models.budget; budget belongs into [memory]");
    check("queue_per_model = 5\n", "mms.toml:1:1: unknown key queue_per_model; queue_per_model belongs into [limits]");
}

#[test]
fn syntax_is_checked_too() {
    let found = mistakes("[server]\nport = = 1\n[log]\nlevle = \"info\"\n");
    assert!(found[0].starts_with("mms.toml:2:8: "), "{found:?}");
    assert!(found.iter().any(|line| line.contains("unknown key log.levle; did you mean level?")), "{found:?}");
    assert!(mistakes("[server]\nport = 1\nport = 2\n")[0].starts_with("mms.toml:3:1: "));
}

#[test]
fn tables_must_be_tables() {
    check("server = 5\n", "mms.toml:1:10: server must be a table, written [server], got 5");
    check("[model]\nid = \"x\"\n", "mms.toml:1:1: model must be tables, each written [[model]], got [model]");
}

#[test]
fn ports_must_differ() {
    check(
        "[server]\nport = 5000\nhttp_port = 5000\n",
        "mms.toml:3:13: server.http_port is 5000, and so is server.port; each needs a port of its own",
    );
    assert_eq!(right("[server]\nport = 0\nhealth_port = 0\n").server.http_port, 0, "0 stays any free port");
}

#[test]
fn models_have_settings_of_their_own() {
    let config = right(
        "[engine]\nslots = 8\n[[model]]\nid = \"a\"\npath = \"a.gguf\"\naliases = [\"x\"]\nslots = 2\npriority = \"high\"\nidle_unload_s = 0\n[[model]]\nid = \"b\"\n",
    );
    let [a, b] = config.entries.as_slice() else { panic!("two models: {:?}", config.entries) };
    assert_eq!((a.id.as_str(), a.aliases.as_slice(), a.idle_unload_s), ("a", ["x".to_owned()].as_slice(), Some(0)));
    assert_eq!(a.settings(&config.engine.settings).slots, 2);
    assert_eq!(b.settings(&config.engine.settings).slots, 8);
    assert_eq!((b.path.as_deref(), b.idle_unload_s), (None, None));
}

#[test]
fn mistakes_of_models_have_the_place_of_their_model() {
    let found = mistakes("[[model]]\nid = \"a\"\n[[model]]\npath = \"b\"\nslots = 65\nprioritty = \"low\"\n");
    assert_eq!(
        found,
        [
            "mms.toml:3:1: model.id is missing or wrong: give the model a name",
            "mms.toml:5:9: model.slots must be an integer from 1 to 64, got 65",
            "mms.toml:6:1: unknown key model.prioritty; did you mean priority?",
        ]
    );
    check(
        "[engine]\nbatch_size = 256\nubatch_size = 256\n[[model]]\nid = \"a\"\nbatch_size = 128\n",
        "mms.toml:4:1: ubatch_size (256) must not be larger than batch_size (128)",
    );
}

#[test]
fn routing_takes_any_preference_but_only_names() {
    let config = right("[routing]\nfast = \"mms-demo\"\n\"my own\" = [\"b\", \"a\"]\nfallback = []\n");
    let names = |preference: &str| config.routing[preference].join(" ");
    assert_eq!((names("fast").as_str(), names("my own").as_str(), names("fallback").as_str()), ("mms-demo", "b a", ""));
    for wrong in ["3", "\"\"", "[3]", "[\"a\", \"\"]", "{}"] {
        let must_be = "the id of a model, or an array of such in order of preference";
        check(
            &format!("[routing]\nfast = {wrong}\n"),
            &format!("mms.toml:2:8: routing.fast must be {must_be}, got {wrong}"),
        );
    }
}

#[test]
fn services_have_addresses_and_names_that_replies_leave_free() {
    let config = right("[services]\ntutor = \"tcp://host:5650\"\nmemory = \"http://host/health\"\n");
    let found: Vec<_> = config.services.iter().map(|(name, address)| format!("{name} {}", address.shown())).collect();
    assert_eq!(found, ["memory http://host/health", "tutor tcp://host:5650"]);
    check(
        "[services]\nstatus = \"tcp://host:5650\"\n",
        "mms.toml:1:1: services.status: a service cannot have this name, as replies have a key of it; choose another",
    );
    for wrong in ["\"host\"", "\"https://u:hidden@host\"", "7"] {
        let told = mistakes(&format!("[services]\nx = {wrong}\n"));
        assert!(
            told[0].starts_with("mms.toml:2:5: services.x must be tcp://HOST:PORT (ZeroMQ) or http://"),
            "{told:?}"
        );
        assert!(!told[0].contains("hidden"), "{told:?}");
    }
}

#[test]
fn budgets_are_shares_or_amounts() {
    for (text, budget) in [
        ("80%", Budget::Percent(80.0)),
        ("12.5 %", Budget::Percent(12.5)),
        ("6000 MB", Budget::Mb(6000)),
        ("6000MiB", Budget::Mb(6000)),
        ("1.5 GB", Budget::Mb(1536)),
    ] {
        assert_eq!(right(&format!("[memory]\nbudget = \"{text}\"\n")).memory.budget, budget, "{text}");
    }
    for text in ["", "0%", "101%", "-5 MB", "6000", "lots"] {
        assert_eq!(mistakes(&format!("[memory]\nbudget = \"{text}\"\n")).len(), 1, "{text}");
    }
}

#[test]
fn the_example_file_is_the_one_that_the_program_prints() {
    assert_eq!(EXAMPLE, example().unwrap(), "write it anew: mms config example > mms.example.toml");
}

#[test]
fn the_example_file_is_right_and_equals_the_defaults() {
    let (example, default) = (right(EXAMPLE), right(""));
    for (shown, default) in example.settings.iter().zip(&default.settings) {
        assert_eq!((shown.key, &shown.value), (default.key, &default.default));
    }
    assert_eq!(example.settings.len(), default.settings.len());
}

#[test]
fn the_example_file_has_every_key_and_each_works_when_uncommented() {
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = right(&uncommented);
    assert_eq!(config.entries.len(), 1);
    assert!(!config.routing.is_empty());
    for setting in &config.settings {
        let name = format!("{}.{}", setting.section, setting.key);
        assert!(matches!(setting.origin, Origin::File { .. }), "{name} is missing in the example");
        assert!(!setting.doc.is_empty(), "{name} says nothing");
    }
    let sections: BTreeSet<_> = config.settings.iter().map(|setting| setting.section.as_str()).collect();
    assert_eq!(sections.len(), 14, "{sections:?}");
}

#[test]
fn the_bus_is_off_until_it_has_addresses() {
    let config = right("");
    assert!(config.bus == mms_bus::BusConfig::default(), "{:?}", config.bus);
    let variables = [
        ("REDIS_URL", "redis://:hidden@redis_language:6379/0"),
        ("SERVICE_REGISTRY_REDIS_URL", "redis://:hidden@redis_language:6379/0"),
        ("SERVICE_REGISTRY_PREFIX", "agents/"),
        ("DIGITAL_TWIN_HOST", "twin"),
        ("DIGITAL_TWIN_PORT", "7121"),
    ];
    let config = read(&ServeFlags::default(), &variables, "").unwrap();
    let redis = config.bus.redis.unwrap();
    assert_eq!((redis.presence, redis.service_prefix.as_deref()), (true, Some("agents/")));
    assert_eq!(config.bus.service_registry, None, "the same server");
    let twin = config.bus.twin.unwrap();
    assert_eq!((twin.host.as_str(), twin.port), ("twin", 7121));
    let shown = serde_json::to_string(&config.settings).unwrap();
    assert!(shown.contains("redis://***@redis_language:6379/0") && !shown.contains("hidden"), "{shown}");

    let servers = |variables: &[(&str, &str)]| {
        let config = read(&ServeFlags::default(), variables, "").unwrap();
        let servers = config.bus.nats.unwrap().servers;
        servers.iter().map(|server| server.shown().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(servers(&[("NATS_URL", "nats://u:hidden@a:1")]), ["nats://***@a:1"]);
    assert_eq!(servers(&[("NATS_URL", "nats://a:1"), ("NATS_SERVERS", "nats://b:2, c:3")]), ["nats://b:2", "c:3"]);

    let one = [("SERVICE_REGISTRY_REDIS_URL", "redis://other")];
    let config = read(&ServeFlags::default(), &one, "").unwrap();
    assert!(config.bus.redis.is_none() && !config.bus.service_registry.unwrap().presence);
}

#[test]
fn no_mistake_shows_a_password() {
    for text in [
        "redis = \"redis://:hidden@x\"\n",
        "[redis]\nurl = \"http://:hidden@x\"\n",
        "[redis]\nurl = \"rediss://:hidden@x\"\n",
        "[redis]\nurl = [\"hidden\"]\n",
        "[nats]\nservers = [\"http://:hidden@x\"]\n",
        "[nats]\nservers = \"nats://u:hidden@x, nope://y\"\n",
        "[redis]\nttl_s = \"redis://:hidden@x\"\n",
        "[server]\nport = \"redis://:hidden@x\"\n",
    ] {
        let told = mistakes(text).join("\n");
        assert!(told.contains("not shown") && !told.contains("hidden"), "{told}");
    }
    let Mistakes(told) = read(&ServeFlags::default(), &[("REDIS_URL", "http://:hidden@x")], "").expect_err("a mistake");
    assert!(
        told[0].message.contains("rediss:// (TLS) is not supported") && !told[0].message.contains("hidden"),
        "{told:?}"
    );
    check(
        "[nats]\nservers = [\"nats://a:b@c\", \"nats://d\"]\n",
        "mms.toml:1:1: nats.servers must all have the same user and password, or token: they are one cluster",
    );
    check(
        "[redis]\nrefresh_s = 300\n",
        "mms.toml:1:1: redis.refresh_s must be less than redis.ttl_s, or entries expire between two refreshes",
    );
}
