//! The routing policy: what a preference means. A configured preference is a list of models, of which the first takes the request that
//! can; where none can, those of `fallback` follow. A preference without configuration means what the figures say ([`super::rank`]).
//!
//! ```text
//! models of the preference, in order ─▶ models of `fallback`, in order ─▶ refused, with what is wrong with each
//!                                        └ not configured: the best by figures, the built-in model left out
//! ```
//!
//! An empty list for `fallback` means that nobody steps in.

use std::collections::BTreeMap;

use mms_protocol::{ErrorCode, Refusal};

use super::rank::{Purpose, Room};
use super::task::{EMBEDDING, Task};
use super::{Candidate, Chosen, FALLBACK, Routing};

/// Preference → model names, in order.
pub type Policy = BTreeMap<String, Vec<String>>;

impl<'a> Routing<'a> {
    /// The model that a configured preference means.
    pub(crate) fn configured(
        &self,
        preference: &str,
        names: &[String],
        task: &Task,
        room: Room,
    ) -> Result<Chosen<'a>, Refusal> {
        let mut faults = Vec::new();
        if let Some((id, why)) = self.first_of(preference, names, task, room, &mut faults) {
            return Ok(Chosen::plain(id, why));
        }
        let mut wrong = faults.join("; ");
        // Vectors of another model would not go with those of this one.
        if preference != FALLBACK && task.needs != EMBEDDING {
            match self.policy.get(FALLBACK) {
                Some(names) => {
                    let mut more = Vec::new();
                    if let Some((id, why)) = self.first_of(FALLBACK, names, task, room, &mut more) {
                        return Ok(Chosen::plain(id, format!("{why}, as {wrong}")));
                    }
                    wrong = [wrong].into_iter().chain(more).collect::<Vec<_>>().join("; ");
                }
                None => {
                    let mut ranked = self.ranked(task, Purpose::of(preference), room);
                    ranked.retain(|ranked| !ranked.candidate.builtin);
                    if !ranked.is_empty() {
                        let mut chosen = Chosen::of(&ranked);
                        chosen.why = format!("{}, as {wrong}", chosen.why);
                        return Ok(chosen);
                    }
                }
            }
        }
        // The lifecycle knows best what is wrong with a model that is there.
        let known = names.iter().find_map(|name| self.candidate(name).ok().filter(|c| !c.usable));
        match known {
            Some(candidate) => Ok(Chosen::plain(candidate.id, format!("routing.{preference} names it"))),
            None => {
                let text = format!("no model for the preference '{preference}': {wrong}{}", self.known());
                Err(Refusal::new(ErrorCode::ModelNotFound, text).with("preference", preference).with("models", names))
            }
        }
    }

    /// The first of `names` that can take the request, and why it was that one; `faults` gets what is wrong with those before it.
    fn first_of(
        &self,
        preference: &str,
        names: &[String],
        task: &Task,
        room: Room,
        faults: &mut Vec<String>,
    ) -> Option<(&'a str, String)> {
        if names.is_empty() {
            faults.push(format!("routing.{preference} names no model"));
        }
        // What a context holds is a guess for prompts, so too small a one is better than none.
        let (mut able, mut small) = (None, None);
        for name in names {
            match self.candidate(name).and_then(|candidate| self.check(candidate, task, room).map(|()| candidate)) {
                Ok(candidate) if candidate.context < room.prompt.saturating_add(room.answer) => {
                    small = small.or(Some(candidate));
                }
                Ok(candidate) => {
                    able = Some(candidate);
                    break;
                }
                Err(why) => faults.push(format!("{name} {why}")),
            }
        }
        let id = able.or(small)?.id;
        let before = if faults.is_empty() { String::new() } else { format!(", as {}", faults.join("; ")) };
        Some((id, format!("routing.{preference} names {id}{before}")))
    }

    /// The model of a configured name, or what is wrong with the name.
    pub(crate) fn candidate(&self, name: &str) -> Result<&'a Candidate<'a>, String> {
        match self.find(name) {
            Ok(Some(id)) => self.candidates.iter().find(|c| c.id == id).ok_or_else(|| "is not known".to_owned()),
            Ok(None) => Err("is not known".to_owned()),
            Err(_) => Err("is the name of several models".to_owned()),
        }
    }

    /// Every model that generates computes embeddings, too, so who is to do that is left to the configuration.
    fn check(&self, candidate: &Candidate<'_>, task: &Task, room: Room) -> Result<(), String> {
        if !candidate.usable {
            Err("is broken or quarantined".to_owned())
        } else if task.needs != EMBEDDING && !candidate.has(&task.needs) {
            Err(format!("lacks the capability {}", task.needs))
        } else if candidate.estimated_mb > self.budget_mb {
            Err(format!("needs {:.0} MB of a budget of {:.0} MB", candidate.estimated_mb, self.budget_mb))
        } else if candidate.context < room.least {
            Err(format!("has a context of {} tokens", candidate.context))
        } else {
            Ok(())
        }
    }

    /// What is wrong with the configured policy while the catalogue is as it is, for a person.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (preference, names) in self.policy {
            for name in names {
                if let Err(why) = self.candidate(name) {
                    faults.push(format!("routing.{preference}: {name} {why}"));
                }
            }
        }
        faults
    }
}
