//! Whether a peer is alive: when to ask, and when to give it up. Decides only; time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::Heartbeat;

#[derive(Debug)]
pub(crate) struct Pulse {
    heartbeat: Option<Heartbeat>,
    /// The longest silence that the peer announced for itself with its last PING.
    ttl: Option<Duration>,
    heard: Instant,
    asked: Option<Instant>,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    Nothing,
    Ping,
    Dead,
}

impl Pulse {
    pub(crate) fn new(heartbeat: Option<Heartbeat>, now: Instant) -> Self {
        Self { heartbeat, ttl: None, heard: now, asked: None }
    }

    /// Something came from the peer.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    pub(crate) fn announce(&mut self, ttl: Duration) {
        self.ttl = Some(ttl);
    }

    /// When [`Pulse::beat`] wants to be called next.
    pub(crate) fn due(&self) -> Option<Instant> {
        let beat = self.heartbeat.map(|beat| match self.asked {
            Some(asked) => asked + beat.timeout,
            None => self.heard + beat.interval,
        });
        let ttl = self.ttl.map(|ttl| self.heard + ttl);
        [beat, ttl].into_iter().flatten().min()
    }

    pub(crate) fn beat(&mut self, now: Instant) -> Beat {
        if self.due().is_none_or(|due| now < due) {
            return Beat::Nothing;
        }
        let over_ttl = self.ttl.is_some_and(|ttl| now >= self.heard + ttl);
        if over_ttl || self.asked.is_some() {
            return Beat::Dead;
        }
        self.asked = Some(now);
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Heartbeat = Heartbeat { interval: Duration::from_secs(10), timeout: Duration::from_secs(3) };

    #[test]
    fn asks_after_silence_then_gives_up() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut pulse = Pulse::new(Some(BEAT), start);
        assert_eq!(pulse.beat(at(9)), Beat::Nothing);
        assert_eq!(pulse.beat(at(10)), Beat::Ping);
        assert_eq!(pulse.beat(at(12)), Beat::Nothing);
        assert_eq!(pulse.beat(at(13)), Beat::Dead);
    }

    #[test]
    fn any_traffic_is_a_sign_of_life() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut pulse = Pulse::new(Some(BEAT), start);
        assert_eq!(pulse.beat(at(10)), Beat::Ping);
        pulse.hear(at(11));
        assert_eq!(pulse.beat(at(13)), Beat::Nothing);
        assert_eq!(pulse.due(), Some(at(21)));
    }

    #[test]
    fn an_announced_ttl_holds_without_heartbeats_of_our_own() {
        let start = Instant::now();
        let mut pulse = Pulse::new(None, start);
        assert_eq!(pulse.due(), None);
        pulse.announce(Duration::from_secs(2));
        assert_eq!(pulse.beat(start + Duration::from_secs(2)), Beat::Dead);
    }
}
