//! Which model a request means: names, the preferences of the routing policy, and tasks. Plain functions of what is known at that
//! moment; the same question gets the same answer.

pub mod evidence;
mod policy;
mod rank;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use mms_protocol::select::Figures;
use mms_protocol::{ErrorCode, ModelChoice, Refusal};

use crate::catalogue::bare;
use evidence::{Speed, Trust};
pub use policy::Policy;
pub use rank::Room;
use rank::{Purpose, Ranked};
pub(crate) use task::task_name;
use task::{EMBEDDING, TEXT_GENERATION, Task, word_of};

/// Preferences that mean something without a configured policy.
pub const DEFAULT_PREFERENCES: [&str; 3] = ["fast", "quality", FALLBACK];
const FALLBACK: &str = "fallback";
const NAMES_SHOWN: usize = 10;
/// Models whose figures are told.
const FIGURES_SHOWN: usize = 10;

/// What routing looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate<'a> {
    /// Its name.
    pub id: &'a str,
    /// Other names for it.
    pub aliases: &'a [String],
    /// What it can do.
    pub capabilities: &'a [String],
    /// Ships with the program.
    pub builtin: bool,
    /// Neither broken nor quarantined.
    pub usable: bool,
    /// Resident and answering.
    pub ready: bool,
    /// A worker is loading it.
    pub loading: bool,
    /// Context of a sequence, tokens.
    pub context: u32,
    /// Epoch seconds of the last request.
    pub last_used: Option<f64>,
    /// Memory that loading is expected to take, MiB.
    pub estimated_mb: f64,
    /// How fast it answered.
    pub speed: Option<Speed>,
    /// How far evaluations trust it.
    pub trust: Option<Trust>,
}

impl Candidate<'_> {
    fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|word| word == capability)
    }

    fn latency_ms(&self) -> Option<f64> {
        self.speed?.latency_ms()
    }
}

/// Everything that routing depends on.
#[derive(Debug, Clone, Copy)]
pub struct Routing<'a> {
    /// What preferences are configured to mean.
    pub policy: &'a Policy,
    /// The catalogue.
    pub candidates: &'a [Candidate<'a>],
    /// What models may take together, MiB.
    pub budget_mb: f64,
}

/// A model that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen<'a> {
    /// Its id.
    pub id: &'a str,
    /// What decided, for a person.
    pub why: String,
    /// Models that were compared, best first.
    pub figures: Vec<Figures>,
}

impl<'a> Chosen<'a> {
    fn plain(id: &'a str, why: String) -> Self {
        Self { id, why, figures: Vec::new() }
    }

    /// The first of these, of which there is one at least.
    fn of(ranked: &[Ranked<'a>]) -> Self {
        Self {
            id: ranked.first().map_or("", |first| first.candidate.id),
            why: rank::reason(ranked),
            figures: ranked.iter().take(FIGURES_SHOWN).map(|ranked| ranked.figures.clone()).collect(),
        }
    }
}

impl<'a> Routing<'a> {
    /// The model of that name: its id, else an alias, else its id without the folders in front of it; then the same without regard
    /// to case and to a `.gguf` at the end. A name that so means several models is refused.
    pub fn resolve(&self, name: &str) -> Result<&'a str, Refusal> {
        self.find(name)?.ok_or_else(|| self.not_found(name))
    }

    /// The model that is to generate; `chat`: what it is given is a chat.
    pub fn choose(&self, choice: &ModelChoice, chat: bool, room: Room) -> Result<Chosen<'a>, Refusal> {
        match choice {
            ModelChoice::Named(name) => self.named(name),
            ModelChoice::Preference(preference) => self.prefer(preference, &Task::generation(chat), room),
        }
    }

    /// The model that is to compute embeddings.
    pub fn choose_embedder(&self, choice: &ModelChoice) -> Result<Chosen<'a>, Refusal> {
        let task = Task::of(EMBEDDING);
        match choice {
            ModelChoice::Named(name) => self.resolve(name).map(|id| Chosen::plain(id, by_name())),
            ModelChoice::Preference(preference) => match (self.policy.get(preference), self.find(preference)?) {
                (Some(names), _) => self.configured(preference, names, &task, Room::default()),
                (None, Some(id)) => Ok(Chosen::plain(id, by_name())),
                (None, None) if preference == EMBEDDING => self.embedder(),
                (None, None) => Err(self.not_found(preference)),
            },
        }
    }

    /// The best model for a kind of task, and that kind as it is called here. A preference of that name goes first.
    pub fn select(&self, task_type: &str, room: Room) -> Result<(String, Chosen<'a>), Refusal> {
        let task = Task::of(task_type);
        let asked = [task_type.trim(), task.name.as_str()];
        let policy = self.policy.iter().find(|(preference, _)| asked.iter().any(|a| word_of(a) == word_of(preference)));
        let purpose = Purpose::of(&task.name);
        let plain = Task::generation(true);
        let means = if purpose == Purpose::Balanced && task.name != FALLBACK { &task } else { &plain };
        if let Some((preference, names)) = policy {
            let chosen =
                self.configured(preference, names, means, room).map_err(|refusal| none_suitable(&refusal.message))?;
            return Ok((task.name, chosen));
        }
        let ranked = self.ranked(means, purpose, room);
        if ranked.is_empty() {
            return Err(self.nothing_for(means, room));
        }
        let mut chosen = Chosen::of(&ranked);
        if means.unlisted {
            chosen.why = format!(
                "'{}' is no task that is known, so a model that generates text does it; {}",
                task.name, chosen.why
            );
        }
        Ok((task.name, chosen))
    }

    fn nothing_for(&self, task: &Task, room: Room) -> Refusal {
        let able = || self.candidates.iter().filter(|c| c.has(&task.needs));
        let text = if able().next().is_none() {
            format!("no model has the capability {}", task.needs)
        } else if room.least > 0 && able().all(|c| c.context < room.least) {
            let most = able().map(|c| c.context).max().unwrap_or_default();
            format!("no context holds {} tokens; the largest has {most}", room.least)
        } else {
            format!(
                "of the models with the capability {} none is usable, fits into {:.0} MB and holds {} tokens",
                task.needs, self.budget_mb, room.least
            )
        };
        none_suitable(&format!("{text}{}", self.known()))
    }

    fn embedder(&self) -> Result<Chosen<'a>, Refusal> {
        let ranked = self.ranked(&Task::of(EMBEDDING), Purpose::Fast, Room::default());
        if ranked.is_empty() {
            let text = format!("no model has the capability {EMBEDDING}{}", self.known());
            return Err(Refusal::new(ErrorCode::ModelNotFound, text).with("preference", EMBEDDING));
        }
        Ok(Chosen::of(&ranked))
    }

    /// Every preference and the model that it means now: the configured ones, and the defaults where they lead to a model.
    pub fn effective(&self) -> BTreeMap<String, String> {
        let chat = Task::generation(true);
        let defaults = DEFAULT_PREFERENCES.iter().filter_map(|&preference| {
            Some((preference.to_owned(), self.by_default(preference, &chat, Room::default())?.id.to_owned()))
        });
        let embedding = self.embedder().ok().map(|chosen| (EMBEDDING.to_owned(), chosen.id.to_owned()));
        let configured = self.policy.iter().filter(|(_, names)| !names.is_empty()).map(|(preference, names)| {
            let task = if word_of(preference) == EMBEDDING { Task::of(EMBEDDING) } else { chat.clone() };
            let chosen = self.configured(preference, names, &task, Room::default());
            (preference.clone(), chosen.map_or_else(|_| names[0].clone(), |chosen| chosen.id.to_owned()))
        });
        defaults.chain(embedding).chain(configured).collect()
    }

    fn prefer(&self, preference: &str, task: &Task, room: Room) -> Result<Chosen<'a>, Refusal> {
        if let Some(names) = self.policy.get(preference) {
            return self.configured(preference, names, task, room);
        }
        if self.find(preference)?.is_some() {
            return self.named(preference);
        }
        if let Some(chosen) = self.by_default(preference, task, room) {
            return Ok(chosen);
        }
        if DEFAULT_PREFERENCES.contains(&preference) {
            let text = format!("no model can generate for the preference '{preference}'{}", self.known());
            return Err(Refusal::new(ErrorCode::ModelNotFound, text).with("preference", preference));
        }
        let mut words: Vec<&str> = self.policy.keys().map(String::as_str).collect();
        words.extend(DEFAULT_PREFERENCES.iter().filter(|&&word| !self.policy.contains_key(word)));
        let text = format!(
            "model_pref '{preference}' is neither a routing policy ({}) nor a model{}",
            words.join(", "),
            self.known()
        );
        Err(Refusal::new(ErrorCode::ModelNotFound, text).with("preference", preference).with("policies", words))
    }

    /// What a preference means that is not configured.
    fn by_default(&self, preference: &str, task: &Task, room: Room) -> Option<Chosen<'a>> {
        if !DEFAULT_PREFERENCES.contains(&preference) {
            return None;
        }
        if preference == FALLBACK
            && let Some(builtin) = self.candidates.iter().find(|c| c.builtin && c.usable && c.has(&task.needs))
        {
            return Some(Chosen::plain(builtin.id, "the built-in model, as no fallback is configured".to_owned()));
        }
        let purpose = if preference == FALLBACK { Purpose::Fast } else { Purpose::of(preference) };
        let ranked = self.ranked(task, purpose, room);
        (!ranked.is_empty()).then(|| Chosen::of(&ranked))
    }

    fn named(&self, name: &str) -> Result<Chosen<'a>, Refusal> {
        let id = self.resolve(name)?;
        match self.candidates.iter().find(|c| c.id == id) {
            // What a broken file can do is not known; the lifecycle says what is wrong with it.
            Some(candidate) if candidate.has(TEXT_GENERATION) || !candidate.usable => Ok(Chosen::plain(id, by_name())),
            _ => {
                let text = format!("{id} cannot generate text; choose a model with the capability {TEXT_GENERATION}");
                Err(Refusal::new(ErrorCode::InvalidArgument, text).with("model_id", id))
            }
        }
    }

    fn find(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let folded = fold(name);
        let alike: [&dyn Fn(&Candidate<'a>) -> bool; 4] = [
            &|c| bare(c.id) == name,
            &|c| fold(c.id) == folded,
            &|c| c.aliases.iter().any(|alias| fold(alias) == folded),
            &|c| fold(bare(c.id)) == folded,
        ];
        let exact = self.candidates.iter().find(|c| c.id == name);
        // An alias of two models belongs to the first of them; the catalogue has a warning about it.
        let exact = exact.or_else(|| self.candidates.iter().find(|c| c.aliases.iter().any(|alias| alias == name)));
        if let Some(found) = exact {
            return Ok(Some(found.id));
        }
        for test in alike {
            let found: Vec<&str> = self.candidates.iter().filter(|c| test(c)).map(|c| c.id).collect();
            match found.as_slice() {
                [] => {}
                [only] => return Ok(Some(only)),
                several => return Err(ambiguous(name, several)),
            }
        }
        Ok(None)
    }

    fn not_found(&self, name: &str) -> Refusal {
        let shown: String = name.chars().take(80).collect();
        let known: Vec<&str> = self.candidates.iter().take(NAMES_SHOWN).map(|c| c.id).collect();
        Refusal::new(ErrorCode::ModelNotFound, format!("Model not found: {shown}{}", self.known()))
            .with("model_id", shown)
            .with("known_models", known)
    }

    fn known(&self) -> String {
        if self.candidates.is_empty() {
            return "; no model is known".to_owned();
        }
        let shown: Vec<&str> = self.candidates.iter().take(NAMES_SHOWN).map(|c| c.id).collect();
        let more = match self.candidates.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("; known: {}{more}", shown.join(", "))
    }
}

fn by_name() -> String {
    "the request names it".to_owned()
}

fn none_suitable(why: &str) -> Refusal {
    Refusal::new(ErrorCode::ModelNotFound, format!("No suitable model found: {why}"))
}

fn ambiguous(name: &str, ids: &[&str]) -> Refusal {
    let text =
        format!("the name {name} means {} models: {}; use the whole id of one of them", ids.len(), ids.join(", "));
    Refusal::new(ErrorCode::InvalidArgument, text).with("model_id", name).with("candidates", ids)
}

/// A name without what does not tell models apart.
fn fold(name: &str) -> String {
    let name = name.to_lowercase();
    name.strip_suffix(".gguf").map(str::to_owned).unwrap_or(name)
}
