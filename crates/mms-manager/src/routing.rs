//! Which model a request means: names, and the preferences of the routing policy. Plain functions of what is known at that moment;
//! the same question gets the same answer.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use mms_protocol::{ErrorCode, ModelChoice, Refusal};

use crate::catalogue::bare;

/// Preferences that mean something without a configured policy.
pub const DEFAULT_PREFERENCES: [&str; 3] = ["fast", "quality", "fallback"];

const TEXT_GENERATION: &str = "text_generation";
/// A capability, and the preference for a model that has it.
const EMBEDDING: &str = "embedding";
const NAMES_SHOWN: usize = 10;

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
    /// Epoch seconds of the last request.
    pub last_used: Option<f64>,
    /// Memory that loading is expected to take, MiB.
    pub estimated_mb: f64,
}

impl Candidate<'_> {
    fn embeds(&self) -> bool {
        self.capabilities.iter().any(|word| word == EMBEDDING)
    }

    fn generates(&self) -> bool {
        self.capabilities.iter().any(|word| word == TEXT_GENERATION)
    }
}

/// Everything that routing depends on.
#[derive(Debug, Clone, Copy)]
pub struct Routing<'a> {
    /// Preference → model name, as configured.
    pub policy: &'a BTreeMap<String, String>,
    /// The catalogue.
    pub candidates: &'a [Candidate<'a>],
    /// What models may take together, MiB.
    pub budget_mb: f64,
}

impl<'a> Routing<'a> {
    /// The model of that name: its id, else an alias, else its id without the folders in front of it; then the same without regard
    /// to case and to a `.gguf` at the end. A name that so means several models is refused.
    pub fn resolve(&self, name: &str) -> Result<&'a str, Refusal> {
        self.find(name)?.ok_or_else(|| self.not_found(name))
    }

    /// The model that is to generate.
    pub fn choose(&self, choice: &ModelChoice) -> Result<&'a str, Refusal> {
        match choice {
            ModelChoice::Named(name) => self.resolve(name).and_then(|id| self.must_generate(id)),
            ModelChoice::Preference(preference) => self.prefer(preference),
        }
    }

    /// The model that is to compute embeddings.
    pub fn choose_embedder(&self, choice: &ModelChoice) -> Result<&'a str, Refusal> {
        match choice {
            ModelChoice::Named(name) => self.resolve(name),
            ModelChoice::Preference(preference) if self.policy.contains_key(preference) => self.configured(preference),
            ModelChoice::Preference(preference) => match self.find(preference)? {
                Some(id) => Ok(id),
                None if preference == EMBEDDING => self.embedder(),
                None => Err(self.not_found(preference)),
            },
        }
    }

    /// The resident one used last, else the smallest that fits.
    fn embedder(&self) -> Result<&'a str, Refusal> {
        let embedding = || self.candidates.iter().filter(|c| c.usable && c.embeds());
        let resident = embedding().filter(|c| c.ready).max_by(|a, b| latest(a, b));
        let smallest = || embedding().filter(|c| c.estimated_mb <= self.budget_mb).min_by(|a, b| smaller(a, b));
        resident.or_else(smallest).map(|candidate| candidate.id).ok_or_else(|| {
            let text = format!("no model has the capability {EMBEDDING}{}", self.known());
            Refusal::new(ErrorCode::ModelNotFound, text).with("preference", EMBEDDING)
        })
    }

    /// Every preference and the model that it means now: the configured ones, and the defaults where they lead to a model.
    pub fn effective(&self) -> BTreeMap<String, String> {
        let defaults = DEFAULT_PREFERENCES
            .iter()
            .filter_map(|&preference| Some((preference.to_owned(), self.by_default(preference)?.to_owned())));
        let embedding = self.embedder().ok().map(|id| (EMBEDDING.to_owned(), id.to_owned()));
        defaults.chain(embedding).chain(self.policy.clone()).collect()
    }

    fn prefer(&self, preference: &str) -> Result<&'a str, Refusal> {
        if self.policy.contains_key(preference) {
            return self.must_generate(self.configured(preference)?);
        }
        if let Some(id) = self.find(preference)? {
            return self.must_generate(id);
        }
        if let Some(id) = self.by_default(preference) {
            return Ok(id);
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

    /// The model that the policy has for `preference`.
    fn configured(&self, preference: &str) -> Result<&'a str, Refusal> {
        let name = self.policy.get(preference).map_or(preference, String::as_str);
        self.find(name)?.ok_or_else(|| {
            let mut refusal = self.not_found(name);
            refusal.message.push_str(&format!(" (the routing policy names it for '{preference}')"));
            refusal
        })
    }

    fn by_default(&self, preference: &str) -> Option<&'a str> {
        let fits = |c: &&Candidate<'a>| c.estimated_mb <= self.budget_mb;
        let generating = || self.candidates.iter().filter(|c| c.usable && c.generates());
        let builtin = || generating().find(|c| c.builtin);
        let chosen = match preference {
            "fast" => {
                let resident = generating().filter(|c| !c.builtin && c.ready).max_by(|a, b| latest(a, b));
                let smallest = || generating().filter(|c| !c.builtin).filter(fits).min_by(|a, b| smaller(a, b));
                resident.or_else(smallest).or_else(builtin)
            }
            "quality" => {
                let largest = generating().filter(|c| !c.builtin).filter(fits).max_by(|a, b| larger(a, b));
                largest.or_else(builtin)
            }
            "fallback" => builtin(),
            _ => None,
        };
        chosen.map(|candidate| candidate.id)
    }

    fn must_generate(&self, id: &'a str) -> Result<&'a str, Refusal> {
        match self.candidates.iter().find(|c| c.id == id) {
            // What a broken file can do is not known; the lifecycle says what is wrong with it.
            Some(candidate) if candidate.generates() || !candidate.usable => Ok(id),
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

fn ambiguous(name: &str, ids: &[&str]) -> Refusal {
    let text =
        format!("the name {name} means {} models: {}; use the whole id of one of them", ids.len(), ids.join(", "));
    Refusal::new(ErrorCode::InvalidArgument, text).with("model_id", name).with("candidates", ids)
}

fn fold(name: &str) -> String {
    let name = name.to_lowercase();
    name.strip_suffix(".gguf").map(str::to_owned).unwrap_or(name)
}

// Ties go to the name that comes first.

fn smaller(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    a.estimated_mb.total_cmp(&b.estimated_mb).then_with(|| a.id.cmp(b.id))
}

fn larger(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    a.estimated_mb.total_cmp(&b.estimated_mb).then_with(|| b.id.cmp(a.id))
}

fn latest(a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let at = |c: &Candidate<'_>| c.last_used.unwrap_or(f64::NEG_INFINITY);
    at(a).total_cmp(&at(b)).then_with(|| b.id.cmp(a.id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mms_protocol::{ErrorCode, ModelChoice, Refusal};

    use super::{Candidate, Routing};

    struct World {
        capabilities: Vec<String>,
        aliases: Vec<String>,
        policy: BTreeMap<String, String>,
    }

    impl World {
        fn new(policy: &[(&str, &str)]) -> Self {
            Self {
                capabilities: vec!["text_generation".to_owned()],
                aliases: vec!["Tiny".to_owned()],
                policy: policy.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
            }
        }

        fn model<'a>(&'a self, id: &'a str, estimated_mb: f64) -> Candidate<'a> {
            Candidate {
                id,
                aliases: &[],
                capabilities: &self.capabilities,
                builtin: false,
                usable: true,
                ready: false,
                last_used: None,
                estimated_mb,
            }
        }

        /// `mms-demo` (built in), `embed` (cannot generate), `Small-1B`, `mid`, `huge` (over the budget of 1000).
        fn models(&self) -> Vec<Candidate<'_>> {
            vec![
                Candidate { builtin: true, ..self.model("mms-demo", 20.0) },
                Candidate { capabilities: &[], ..self.model("embed", 10.0) },
                Candidate { aliases: &self.aliases, ..self.model("Small-1B", 100.0) },
                self.model("mid", 500.0),
                self.model("huge", 5000.0),
            ]
        }

        fn prefer(&self, candidates: &[Candidate<'_>], preference: &str) -> Result<String, Refusal> {
            let routing = Routing { policy: &self.policy, candidates, budget_mb: 1000.0 };
            routing.choose(&ModelChoice::Preference(preference.to_owned())).map(str::to_owned)
        }

        fn named(&self, candidates: &[Candidate<'_>], name: &str) -> Result<String, Refusal> {
            let routing = Routing { policy: &self.policy, candidates, budget_mb: 1000.0 };
            routing.choose(&ModelChoice::Named(name.to_owned())).map(str::to_owned)
        }
    }

    #[test]
    fn names() {
        let world = World::new(&[]);
        let models = world.models();
        for name in ["Small-1B", "small-1b", "SMALL-1B.GGUF", "Small-1B.gguf", "Tiny", "tiny"] {
            assert_eq!(world.named(&models, name).unwrap(), "Small-1B", "{name}");
        }
        let refusal = world.named(&models, "nobody").unwrap_err();
        assert_eq!(refusal.code, ErrorCode::ModelNotFound);
        assert_eq!(refusal.message, "Model not found: nobody; known: mms-demo, embed, Small-1B, mid, huge");
        assert_eq!(refusal.details["known_models"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn an_exact_name_beats_one_that_differs_in_case() {
        let world = World::new(&[]);
        let models = [world.model("Phi", 1.0), world.model("phi", 2.0), world.model("phi.gguf", 3.0)];
        assert_eq!(world.named(&models, "phi").unwrap(), "phi");
        assert_eq!(world.named(&models, "phi.gguf").unwrap(), "phi.gguf");
        let refusal = world.named(&models, "PHI").unwrap_err();
        assert_eq!(refusal.message, "the name PHI means 3 models: Phi, phi, phi.gguf; use the whole id of one of them");
    }

    #[test]
    fn a_name_without_folders_will_do_while_it_means_one_model() {
        let world = World::new(&[("code", "coder")]);
        let mut models = vec![world.model("a/coder", 1.0), world.model("deep/er/talker", 2.0), world.model("m", 3.0)];
        assert_eq!(world.named(&models, "coder").unwrap(), "a/coder");
        assert_eq!(world.named(&models, "Talker.gguf").unwrap(), "deep/er/talker");
        assert_eq!(world.prefer(&models, "code").unwrap(), "a/coder");
        models.push(world.model("b/coder", 4.0));
        let refusal = world.named(&models, "coder").unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidArgument);
        assert_eq!(refusal.message, "the name coder means 2 models: a/coder, b/coder; use the whole id of one of them");
        assert_eq!(refusal.details["candidates"], serde_json::json!(["a/coder", "b/coder"]));
        assert_eq!(world.prefer(&models, "coder").unwrap_err().code, ErrorCode::InvalidArgument);
        assert_eq!(world.prefer(&models, "code").unwrap_err().code, ErrorCode::InvalidArgument);
        assert_eq!(world.named(&models, "b/coder").unwrap(), "b/coder");
        models.push(world.model("b/m", 5.0));
        assert_eq!(world.named(&models, "m").unwrap(), "m", "a whole id is never ambiguous");
    }

    #[test]
    fn only_the_first_ten_names_are_listed() {
        let world = World::new(&[]);
        let ids: Vec<String> = (0..13).map(|n| format!("m{n:02}")).collect();
        let models: Vec<_> = ids.iter().map(|id| world.model(id, 1.0)).collect();
        let refusal = world.named(&models, "x").unwrap_err();
        assert!(refusal.message.ends_with("m09 and 3 more"), "{}", refusal.message);
        let nothing = world.named(&[], "x").unwrap_err();
        assert_eq!(nothing.message, "Model not found: x; no model is known");
    }

    #[test]
    fn fast_takes_the_resident_model_used_last_then_the_smallest_that_fits_then_the_built_in() {
        let world = World::new(&[]);
        let mut models = world.models();
        assert_eq!(world.prefer(&models, "fast").unwrap(), "Small-1B");
        models[0].ready = true;
        assert_eq!(world.prefer(&models, "fast").unwrap(), "Small-1B", "a resident built-in model does not count");
        models[3].ready = true;
        assert_eq!(world.prefer(&models, "fast").unwrap(), "mid");
        (models[2].ready, models[2].last_used) = (true, Some(7.0));
        assert_eq!(world.prefer(&models, "fast").unwrap(), "Small-1B");
        for model in &mut models[1..] {
            model.usable = false;
        }
        assert_eq!(world.prefer(&models, "fast").unwrap(), "mms-demo");
    }

    #[test]
    fn quality_takes_the_largest_that_fits_and_fallback_the_built_in() {
        let world = World::new(&[]);
        let models = world.models();
        assert_eq!(world.prefer(&models, "quality").unwrap(), "mid");
        assert_eq!(world.prefer(&models[..2], "quality").unwrap(), "mms-demo");
        assert_eq!(world.prefer(&models, "fallback").unwrap(), "mms-demo");
        let refusal = world.prefer(&models[1..2], "fallback").unwrap_err();
        assert_eq!(refusal.message, "no model can generate for the preference 'fallback'; known: embed");
    }

    #[test]
    fn a_configured_policy_beats_the_defaults_and_a_model_name_stands_for_itself() {
        let world = World::new(&[("fast", "huge"), ("code", "MID"), ("lost", "gone"), ("bad", "embed")]);
        let models = world.models();
        assert_eq!(world.prefer(&models, "fast").unwrap(), "huge");
        assert_eq!(world.prefer(&models, "code").unwrap(), "mid");
        assert_eq!(world.prefer(&models, "Mid").unwrap(), "mid");
        let lost = world.prefer(&models, "lost").unwrap_err();
        assert!(lost.message.starts_with("Model not found: gone;"), "{}", lost.message);
        assert!(lost.message.ends_with("(the routing policy names it for 'lost')"), "{}", lost.message);
        assert_eq!(world.prefer(&models, "bad").unwrap_err().code, ErrorCode::InvalidArgument);
    }

    #[test]
    fn embeddings_come_from_who_has_them_and_from_whom_the_caller_names() {
        let world = World::new(&[("search", "mid")]);
        let embeds = ["embedding".to_owned()];
        let mut models = world.models();
        let choose = |models: &[Candidate<'_>], choice| {
            let routing = Routing { policy: &world.policy, candidates: models, budget_mb: 1000.0 };
            routing.choose_embedder(&choice).map(str::to_owned)
        };
        let prefer = |word: &str| ModelChoice::Preference(word.to_owned());
        let none = choose(&models, prefer("embedding")).unwrap_err();
        assert!(none.message.starts_with("no model has the capability embedding; known: "), "{}", none.message);
        models[1].capabilities = &embeds;
        models[3].capabilities = &embeds;
        assert_eq!(choose(&models, prefer("embedding")).unwrap(), "embed", "the smallest");
        models[3].ready = true;
        assert_eq!(choose(&models, prefer("embedding")).unwrap(), "mid", "the resident one");
        assert_eq!(choose(&models, prefer("search")).unwrap(), "mid");
        for named in [prefer("Small-1B"), ModelChoice::Named("small-1b".to_owned())] {
            assert_eq!(choose(&models, named).unwrap(), "Small-1B", "its worker knows whether it can");
        }
        assert_eq!(choose(&models, prefer("quality")).unwrap_err().code, ErrorCode::ModelNotFound);
        assert_eq!(world.prefer(&models, "embedding").unwrap_err().code, ErrorCode::ModelNotFound);
    }

    #[test]
    fn an_unknown_preference_is_refused_with_what_there_is() {
        let world = World::new(&[("code", "mid")]);
        let refusal = world.prefer(&world.models(), "cheap").unwrap_err();
        assert_eq!(refusal.code, ErrorCode::ModelNotFound);
        assert_eq!(
            refusal.message,
            "model_pref 'cheap' is neither a routing policy (code, fast, quality, fallback) nor a model; known: mms-demo, \
             embed, Small-1B, mid, huge"
        );
    }

    #[test]
    fn the_effective_policy_shows_configured_and_default_preferences() {
        let world = World::new(&[("fast", "huge"), ("code", "mid")]);
        let models = world.models();
        let routing = Routing { policy: &world.policy, candidates: &models, budget_mb: 1000.0 };
        let shown: Vec<_> = routing.effective().into_iter().collect();
        let expected = [("code", "mid"), ("fallback", "mms-demo"), ("fast", "huge"), ("quality", "mid")];
        assert_eq!(shown, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_cannot_generate_is_refused_but_a_broken_model_is_left_to_the_lifecycle() {
        let world = World::new(&[]);
        let mut models = world.models();
        let refusal = world.named(&models, "embed").unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidArgument);
        models[1].usable = false;
        assert_eq!(world.named(&models, "embed").unwrap(), "embed");
    }
}
