//! Whom the server tells of itself: `[redis]`, `[nats]`, `[digital_twin]`. All of it is off until an address is given.

use std::time::Duration;

use mms_bus::{BusConfig, NatsConfig, RegistryConfig, TwinConfig};

use super::reader::{Reader, Section};
use super::sections::{DAY_S, seconds};
use super::value::{Integer, Maybe, NatsServers, Number, RedisUrl, Text};

pub(super) fn read(reader: &mut Reader<'_>) -> BusConfig {
    let (redis, service_registry) = read_redis(&mut reader.section("redis"));
    let nats = read_nats(&mut reader.section("nats"));
    BusConfig { redis, service_registry, nats, twin: read_twin(&mut reader.section("digital_twin")) }
}

/// Presence and the service's entry; the entry's own server when it is another one.
fn read_redis(section: &mut Section<'_, '_>) -> (Option<RegistryConfig>, Option<RegistryConfig>) {
    let url = section
        .key("url", "The Redis server for agent:ready:NAME and agent:shutdown:NAME.")
        .variable("REDIS_URL")
        .read(Maybe(RedisUrl), None);
    let registry_url = section
        .key("registry_url", "The Redis server for the service's entry. When not set: as url.")
        .variable("SERVICE_REGISTRY_REDIS_URL")
        .read(Maybe(RedisUrl), None);
    let prefix = section
        .key("registry_prefix", "What stands before this server's name in the key of the service's entry.")
        .variable("SERVICE_REGISTRY_PREFIX")
        .read(Text, "service_registry:".to_owned());
    let ttl = seconds(
        section
            .key("ttl_s", "How long an entry stays when this server does not write it anew, seconds.")
            .read(Integer(2..=DAY_S), 300),
    );
    let refresh = Duration::from_secs_f64(
        section
            .key(
                "refresh_s",
                "Time between two times that it does, seconds; also when a lost connection is noticed at the latest.",
            )
            .read(Number(0.1..=3600.0), 15.0),
    );
    let timeout = timeout(section, "Time for the connection, and for each answer, seconds.");
    if refresh >= ttl {
        section.mistake("redis.refresh_s must be less than redis.ttl_s, or entries expire between two refreshes");
    }
    let entries =
        |url, presence, service_prefix| RegistryConfig { url, presence, service_prefix, ttl, refresh, timeout };
    match (url, registry_url) {
        (Some(url), Some(other)) if other != url => {
            (Some(entries(url, true, None)), Some(entries(other, false, Some(prefix))))
        }
        (Some(url), _) => (Some(entries(url, true, Some(prefix))), None),
        (None, Some(other)) => (None, Some(entries(other, false, Some(prefix)))),
        (None, None) => (None, None),
    }
}

fn read_nats(section: &mut Section<'_, '_>) -> Option<NatsConfig> {
    let servers = section
        .key("servers", "The NATS servers of one cluster, with JetStream. In the environment also NATS_URL, which NATS_SERVERS beats.")
        .variable("NATS_SERVERS")
        .or_variable("NATS_URL")
        .read(Maybe(NatsServers), None);
    let all = servers.as_deref().unwrap_or_default();
    if all.iter().any(|server| !server.has_credentials_of(&all[0])) {
        section.mistake("nats.servers must all have the same user and password, or token: they are one cluster");
    }
    let config = NatsConfig {
        servers: servers.clone().unwrap_or_default(),
        max_waiting: section
            .key(
                "max_waiting",
                "Messages that may wait for each stream while it cannot be reached; then the oldest go.",
            )
            .read(Integer(1..=1_000_000u32), 10_000) as usize,
        max_waiting_bytes: (section.key("max_waiting_mb", "The same in MiB.").read(Integer(1..=1024u32), 16) as usize)
            << 20,
        timeout: timeout(section, "Time for the connection, and for each acknowledgement, seconds."),
    };
    servers.map(|_| config)
}

fn read_twin(section: &mut Section<'_, '_>) -> Option<TwinConfig> {
    let host =
        section.key("host", "Host of the SystemDigitalTwin.").variable("DIGITAL_TWIN_HOST").read(Maybe(Text), None);
    let config = TwinConfig {
        host: host.clone().unwrap_or_default(),
        port: section.key("port", "Its port.").variable("DIGITAL_TWIN_PORT").read(Integer(1..=u16::MAX), 7120),
        location: section.key("location", "Where this server says that it runs.").read(Text, "MainPC".to_owned()),
        refresh: seconds(
            section
                .key("refresh_s", "Time between two registrations, as a twin that was restarted knows nobody, seconds.")
                .read(Integer(1..=DAY_S), 300),
        ),
        timeout: timeout(section, "Time for the connection, and for the reply, seconds."),
    };
    host.map(|_| config)
}

fn timeout(section: &mut Section<'_, '_>, doc: &'static str) -> Duration {
    Duration::from_secs_f64(section.key("timeout_s", doc).read(Number(0.1..=60.0), 5.0))
}
