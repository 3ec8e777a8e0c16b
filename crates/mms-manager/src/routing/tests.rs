//! Names, policies and figures as requests meet them.

use mms_protocol::{ErrorCode, ModelChoice, Refusal};

use super::evidence::{Answered, Evidence};
use super::{Candidate, Policy, Room, Routing};

struct World {
    capabilities: Vec<String>,
    aliases: Vec<String>,
    policy: Policy,
}

impl World {
    fn new(policy: &[(&str, &str)]) -> Self {
        Self {
            capabilities: vec!["text_generation".to_owned()],
            aliases: vec!["Tiny".to_owned()],
            policy: policy
                .iter()
                .map(|&(key, names)| (key.to_owned(), names.split_whitespace().map(str::to_owned).collect()))
                .collect(),
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
            loading: false,
            context: 4096,
            last_used: None,
            estimated_mb,
            speed: None,
            trust: None,
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

    fn routing<'a>(&'a self, candidates: &'a [Candidate<'a>]) -> Routing<'a> {
        Routing { policy: &self.policy, candidates, budget_mb: 1000.0 }
    }

    /// Id and reason.
    fn chosen(&self, candidates: &[Candidate<'_>], preference: &str) -> Result<(String, String), Refusal> {
        let choice = ModelChoice::Preference(preference.to_owned());
        let chosen = self.routing(candidates).choose(&choice, false, Room::default())?;
        Ok((chosen.id.to_owned(), chosen.why))
    }

    fn select(&self, candidates: &[Candidate<'_>], task: &str, context: u32) -> Result<String, Refusal> {
        self.routing(candidates).select(task, Room::at_least(context)).map(|(_, chosen)| chosen.id.to_owned())
    }

    fn prefer(&self, candidates: &[Candidate<'_>], preference: &str) -> Result<String, Refusal> {
        let routing = Routing { policy: &self.policy, candidates, budget_mb: 1000.0 };
        routing.choose(&ModelChoice::Preference(preference.to_owned()), false, Room::default()).map(|c| c.id.to_owned())
    }

    fn named(&self, candidates: &[Candidate<'_>], name: &str) -> Result<String, Refusal> {
        let routing = Routing { policy: &self.policy, candidates, budget_mb: 1000.0 };
        routing.choose(&ModelChoice::Named(name.to_owned()), false, Room::default()).map(|c| c.id.to_owned())
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
    let (id, why) = world.chosen(&models, "code").unwrap();
    assert_eq!(id, "a/coder", "the smallest: which one the policy means is not known");
    assert!(why.ends_with(", as coder is the name of several models"), "{why}");
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
fn quality_takes_the_largest_that_fits_and_fallback_the_built_in_then_the_smallest() {
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
    let world = World::new(&[("fast", "mid"), ("code", "MID"), ("quality", "gone Tiny mid")]);
    let models = world.models();
    assert_eq!(world.prefer(&models, "fast").unwrap(), "mid");
    assert_eq!(world.prefer(&models, "code").unwrap(), "mid");
    assert_eq!(world.prefer(&models, "Mid").unwrap(), "mid");
    let chosen = world.chosen(&models, "quality").unwrap();
    assert_eq!(
        (chosen.0.as_str(), chosen.1.as_str()),
        ("Small-1B", "routing.quality names Small-1B, as gone is not known")
    );
}

#[test]
fn whom_the_policy_names_and_who_cannot_is_stood_in_for() {
    let world = World::new(&[("fast", "gone embed huge"), ("fallback", "lost mid")]);
    let mut models = world.models();
    let (id, why) = world.chosen(&models, "fast").unwrap();
    assert_eq!(id, "mid");
    assert_eq!(
        why,
        "routing.fallback names mid, as lost is not known, as gone is not known; embed lacks the capability text_generation; \
         huge needs 5000 MB of a budget of 1000 MB"
    );
    models[3].usable = false;
    let refusal = world.chosen(&models, "fast").unwrap_err();
    assert_eq!(refusal.code, ErrorCode::ModelNotFound);
    assert!(refusal.message.contains("lost is not known; mid is broken or quarantined"), "{}", refusal.message);
    let refusal = world.chosen(&models, "fallback").map_err(|refusal| refusal.message);
    assert_eq!(refusal.unwrap().0, "mid", "its own fault is for the lifecycle to tell");
}

#[test]
fn without_a_configured_fallback_the_figures_say_who_steps_in_but_the_built_in_model_never_does() {
    let world = World::new(&[("fast", "gone")]);
    let models = world.models();
    let (id, why) = world.chosen(&models, "fast").unwrap();
    assert_eq!(id, "Small-1B");
    assert!(why.starts_with("best of 2 suitable models: Small-1B 0.25 = in memory 0.00"), "{why}");
    assert!(why.ends_with(", as gone is not known"), "{why}");
    let refusal = world.chosen(&models[..2], "fast").unwrap_err();
    assert_eq!(refusal.message, "no model for the preference 'fast': gone is not known; known: mms-demo, embed");
}

#[test]
fn an_empty_fallback_lets_nobody_step_in() {
    let world = World::new(&[("fast", "gone"), ("fallback", "")]);
    let refusal = world.chosen(&world.models(), "fast").unwrap_err();
    assert!(
        refusal
            .message
            .starts_with("no model for the preference 'fast': gone is not known; routing.fallback names no model;"),
        "{}",
        refusal.message
    );
}

#[test]
fn a_quarantined_model_is_stood_in_for_and_takes_its_place_again() {
    let world = World::new(&[("code", "mid Tiny")]);
    let mut models = world.models();
    models[3].usable = false;
    assert_eq!(world.prefer(&models, "code").unwrap(), "Small-1B");
    models[3].usable = true;
    assert_eq!(world.prefer(&models, "code").unwrap(), "mid");
    assert_eq!(world.routing(&models).faults(), Vec::<String>::new());
    let lost = World::new(&[("code", "gone mid")]);
    assert_eq!(lost.routing(&models).faults(), ["routing.code: gone is not known"]);
}

#[test]
fn embeddings_come_from_who_has_them_and_from_whom_the_caller_names() {
    let world = World::new(&[("search", "mid")]);
    let embeds = ["embedding".to_owned()];
    let mut models = world.models();
    let choose = |models: &[Candidate<'_>], choice| {
        let routing = Routing { policy: &world.policy, candidates: models, budget_mb: 1000.0 };
        routing.choose_embedder(&choice).map(|c| c.id.to_owned())
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
    let world = World::new(&[("fast", "huge"), ("code", "mid"), ("lost", "gone huge"), ("fallback", "Tiny")]);
    let models = world.models();
    let shown: Vec<_> = world.routing(&models).effective().into_iter().collect();
    let expected =
        [("code", "mid"), ("fallback", "Small-1B"), ("fast", "Small-1B"), ("lost", "Small-1B"), ("quality", "mid")];
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

/// Speed: the same for every token.
fn speed(ms_per_token: f64) -> Option<super::Speed> {
    let evidence = Evidence::default();
    let ms = 100.0 * ms_per_token;
    evidence.answered("m", &Answered { prompt_tokens: 100, prompt_ms: ms, tokens: 100, predicted_ms: ms });
    evidence.known().speed("m")
}

fn trust(score: f64, evaluations: usize) -> Option<super::Trust> {
    super::Trust::of(&vec![score; evaluations])
}

#[test]
fn without_evidence_a_task_gets_the_smallest_model_that_is_no_toy() {
    let world = World::new(&[]);
    let models = world.models();
    for task in ["text-generation", "chat", "reasoning", "haiku"] {
        assert_eq!(world.select(&models, task, 0).unwrap(), "Small-1B", "{task}");
    }
    assert_eq!(world.select(&models[..2], "chat", 0).unwrap(), "mms-demo", "better than none");
    let (task, chosen) = world.routing(&models).select("Haiku", Room::default()).unwrap();
    assert_eq!(task, "haiku");
    assert!(
        chosen.why.starts_with("'haiku' is no task that is known, so a model that generates text does it;"),
        "{}",
        chosen.why
    );
}

#[test]
fn what_is_in_memory_goes_before_latency_and_that_before_trust() {
    let world = World::new(&[]);
    let mut models = world.models();
    models[3].ready = true;
    assert_eq!(world.select(&models, "chat", 0).unwrap(), "mid");
    models[2].ready = true;
    (models[2].speed, models[3].speed) = (speed(10.0), speed(20.0));
    assert_eq!(world.select(&models, "chat", 0).unwrap(), "Small-1B", "the faster one");
    (models[2].trust, models[3].trust) = (trust(0.5, 10), trust(0.9, 10));
    assert_eq!(world.select(&models, "chat", 0).unwrap(), "Small-1B", "twice as fast, a little less trusted");
    (models[2].trust, models[3].trust) = (trust(0.1, 10), trust(1.0, 10));
    assert_eq!(world.select(&models, "chat", 0).unwrap(), "mid", "fast, but not to be trusted");
    assert_eq!(world.prefer(&models, "fast").unwrap(), "Small-1B");
}

#[test]
fn evidence_of_both_kinds_outweighs_what_is_in_memory() {
    let world = World::new(&[]);
    let mut models = world.models();
    models[3].ready = true;
    (models[2].speed, models[3].speed) = (speed(1.0), speed(10.0));
    assert_eq!(world.select(&models, "chat", 0).unwrap(), "mid", "speed alone is not worth a load");
    (models[2].trust, models[3].trust) = (trust(1.0, 10), trust(0.0, 10));
    assert_eq!(world.select(&models, "chat", 0).unwrap(), "Small-1B");
}

#[test]
fn quality_goes_by_trust_where_there_is_some() {
    let world = World::new(&[]);
    let mut models = world.models();
    models[2].trust = trust(0.95, 10);
    assert_eq!(world.prefer(&models, "quality").unwrap(), "Small-1B");
    let (_, why) = world.chosen(&models, "quality").unwrap();
    assert_eq!(
        why,
        "best of 2 suitable models: Small-1B 0.65 = in memory 0.00 + trust 0.61 (0.95 in 10 evaluations) + size 0.04; \
         next: mid 0.55 = in memory 0.00 + trust 0.35 (no evaluation) + size 0.20"
    );
}

#[test]
fn the_figures_of_a_choice_are_told_with_their_sources() {
    let world = World::new(&[]);
    let mut models = world.models();
    (models[2].ready, models[2].speed, models[2].trust) = (true, speed(2.0), trust(0.75, 4));
    models[3].loading = true;
    let (_, chosen) = world.routing(&models).select("chat", Room::default()).unwrap();
    assert_eq!(
        chosen.why,
        "best of 2 suitable models: Small-1B 0.90 = in memory 0.40 + latency 0.30 (600 ms in 1 requests) + trust 0.20 \
         (0.75 in 4 evaluations); next: mid 0.50 = in memory 0.20 + latency 0.15 (not measured yet) + trust 0.15 (no evaluation)"
    );
    let [first, second] = chosen.figures.as_slice() else { panic!("{:?}", chosen.figures) };
    assert_eq!((first.score, first.resident, first.latency_ms, first.requests), (0.9, 1.0, Some(600.0), 1));
    assert_eq!((first.trust_score, first.evaluations), (Some(0.75), 4));
    assert_eq!((second.score, second.resident, second.latency_ms, second.trust_score), (0.5, 0.5, None, None));
}

#[test]
fn capability_goes_before_every_figure() {
    let world = World::new(&[]);
    let coder = ["text_generation".to_owned(), "code_generation".to_owned()];
    let mut models = world.models();
    models[3].capabilities = &coder;
    (models[2].ready, models[2].speed, models[2].trust) = (true, speed(1.0), trust(1.0, 10));
    assert_eq!(world.select(&models, "Code Generation", 0).unwrap(), "mid");
    assert_eq!(world.select(&models, "chat", 0).unwrap(), "Small-1B");
    for task in ["embedding", "vision", "speech-to-text"] {
        let refusal = world.select(&models, task, 0).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::ModelNotFound);
        assert!(
            refusal.message.starts_with("No suitable model found: no model has the capability "),
            "{}",
            refusal.message
        );
    }
}

#[test]
fn a_context_that_a_task_names_must_be_there() {
    let world = World::new(&[]);
    let mut models = world.models();
    models[3].context = 32_768;
    models[2].ready = true;
    assert_eq!(world.select(&models, "chat", 4096).unwrap(), "Small-1B");
    assert_eq!(world.select(&models, "chat", 4097).unwrap(), "mid");
    let refusal = world.select(&models, "chat", 40_000).unwrap_err();
    assert!(
        refusal.message.starts_with("No suitable model found: no context holds 40000 tokens; the largest has 32768"),
        "{}",
        refusal.message
    );
    models[3].usable = false;
    let refusal = world.select(&models, "chat", 8000).unwrap_err();
    assert!(refusal.message.contains("none is usable, fits into 1000 MB and holds 8000 tokens"), "{}", refusal.message);
}

#[test]
fn a_long_prompt_goes_where_it_probably_has_room() {
    let world = World::new(&[("code", "Tiny mid")]);
    let mut models = world.models();
    (models[2].ready, models[3].context) = (true, 32_768);
    let choose = |preference: &str, prompt, answer| {
        let choice = ModelChoice::Preference(preference.to_owned());
        let room = Room { least: 0, prompt, answer };
        world.routing(&models).choose(&choice, true, room).map(|chosen| chosen.id.to_owned()).unwrap()
    };
    for preference in ["fast", "code"] {
        assert_eq!(choose(preference, 1000, 1000), "Small-1B");
        assert_eq!(choose(preference, 4000, 1000), "mid");
    }
    assert_eq!(choose("fast", 1000, 1 << 20), "Small-1B", "no context holds that answer, every one the prompt");
    assert_eq!(choose("fast", 100_000, 10), "mid", "the largest there is");
}

#[test]
fn a_preference_that_has_the_name_of_a_task_decides_it() {
    let world = World::new(&[("code-generation", "mid"), ("summaries", "gone"), ("fallback", "")]);
    let models = world.models();
    for task in ["code", "code_generation", "Code-Generation"] {
        assert_eq!(world.select(&models, task, 0).unwrap(), "mid", "{task}");
    }
    assert_eq!(world.select(&models, "quality", 0).unwrap(), "mid", "preferences are tasks, too");
    let refusal = world.select(&models, "summaries", 0).unwrap_err();
    assert!(refusal.message.starts_with("No suitable model found: no model for the preference"), "{}", refusal.message);
}

#[test]
fn nobody_steps_in_for_a_model_of_embeddings() {
    let world = World::new(&[("embedding", "gone"), ("fallback", "mid")]);
    let models = world.models();
    let choice = ModelChoice::Preference("embedding".to_owned());
    let refusal = world.routing(&models).choose_embedder(&choice).unwrap_err();
    assert!(
        refusal.message.starts_with("no model for the preference 'embedding': gone is not known;"),
        "{}",
        refusal.message
    );
}
