//! Who this server is, as registries are told.

use mms_protocol::time::iso_offset;
use serde_json::{Value, json};

/// Kind of this agent in registries.
const AGENT_TYPE: &str = "ModelManagerSuite";
/// What it can do.
const CAPABILITIES: [&str; 1] = ["model_inference"];

/// Name and addresses of this server.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Its name.
    pub agent: String,
    /// Name or address under which others reach it.
    pub host: String,
    /// Main port.
    pub port: u16,
    /// Health port.
    pub health_port: u16,
    /// Epoch seconds of its start.
    pub started: f64,
}

impl Identity {
    /// Value of `agent:ready:<AgentName>`.
    pub(crate) fn ready(&self, now: f64) -> Value {
        json!({
            "status": "ready",
            "timestamp": iso_offset(now),
            "port": self.port,
            "details": {
                "initialized_at": iso_offset(self.started),
                "uptime": (now - self.started).max(0.0),
                "port": self.port,
                "health_check_port": self.health_port,
            },
        })
    }

    /// Value of `agent:shutdown:<AgentName>`.
    pub(crate) fn shutdown(reason: &str, now: f64) -> Value {
        json!({"reason": reason, "timestamp": iso_offset(now)})
    }

    /// Value of `service_registry:<AgentName>`.
    pub(crate) fn service(&self, now: f64) -> Value {
        let mut service = self.registration();
        service["last_seen"] = iso_offset(now).into();
        service
    }

    /// The request that registers it with a SystemDigitalTwin.
    pub(crate) fn twin_request(&self, location: &str, request_id: &str, now: f64) -> Value {
        json!({
            "action": "register_agent",
            "agent_name": self.agent,
            "status": "HEALTHY",
            "location": location,
            "registration_data": self.registration(),
            "source_agent": self.agent,
            "request_id": request_id,
            "timestamp": iso_offset(now),
        })
    }

    fn registration(&self) -> Value {
        json!({
            "agent_id": self.agent,
            "agent_type": AGENT_TYPE,
            "host": self.host,
            "port": self.port,
            "health_check_port": self.health_port,
            "capabilities": CAPABILITIES,
            "dependencies": [],
            "metadata": {"start_time": iso_offset(self.started)},
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Identity;

    fn identity() -> Identity {
        Identity { agent: "A".to_owned(), host: "box".to_owned(), port: 5570, health_port: 6570, started: 100.5 }
    }

    #[test]
    fn the_values_have_the_shapes_that_others_read() {
        assert_eq!(
            identity().ready(102.0),
            json!({
                "status": "ready", "timestamp": "1970-01-01T00:01:42.000000+00:00", "port": 5570,
                "details": {
                    "initialized_at": "1970-01-01T00:01:40.500000+00:00", "uptime": 1.5, "port": 5570, "health_check_port": 6570,
                },
            })
        );
        assert_eq!(
            Identity::shutdown("SIGTERM", 102.0),
            json!({"reason": "SIGTERM", "timestamp": "1970-01-01T00:01:42.000000+00:00"})
        );
        let registration = json!({
            "agent_id": "A", "agent_type": "ModelManagerSuite", "host": "box", "port": 5570, "health_check_port": 6570,
            "capabilities": ["model_inference"], "dependencies": [],
            "metadata": {"start_time": "1970-01-01T00:01:40.500000+00:00"},
        });
        let mut service = registration.clone();
        service["last_seen"] = json!("1970-01-01T00:01:42.000000+00:00");
        assert_eq!(identity().service(102.0), service);
        assert_eq!(
            identity().twin_request("MainPC", "r", 102.0),
            json!({
                "action": "register_agent", "agent_name": "A", "status": "HEALTHY", "location": "MainPC",
                "registration_data": registration, "source_agent": "A", "request_id": "r",
                "timestamp": "1970-01-01T00:01:42.000000+00:00",
            })
        );
    }
}
