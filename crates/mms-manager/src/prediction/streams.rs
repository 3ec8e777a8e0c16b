//! What usually follows what: transitions between the models that are asked for one after the other, by anybody and by each client.

use std::collections::{BTreeMap, HashMap};

/// Clients whose last uses are remembered.
const MAX_CLIENTS: usize = 256;
/// Last one or two models, what followed of which is remembered.
const MAX_CONTEXTS: usize = 4096;
/// Followers that are remembered of each of them.
const MAX_FOLLOWERS: usize = 32;
/// Once so many followers were counted, all counts are halved: what is new soon counts more.
const MAX_COUNT: f64 = 64.0;
/// What followed one model counts as so many uses in what followed two.
const BACKOFF: f64 = 2.0;
/// The last model of one client, or of all.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    last: Option<u32>,
    before: Option<u32>,
    at: f64,
}

/// One or two models that were asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Context(Option<u32>, u32);

#[derive(Debug, Clone, Default)]
struct Followers {
    next: Vec<Follower>,
    at: f64,
}

#[derive(Debug, Clone, Copy)]
struct Follower {
    model: u32,
    count: f64,
    /// Mean time until it followed, seconds.
    gap: f64,
}

/// Transitions of one kind of streams.
#[derive(Debug, Clone, Default)]
struct Transitions(HashMap<Context, Followers>);

/// One stream of all uses, with the transitions in it.
#[derive(Debug, Clone, Default)]
pub(super) struct AllUses {
    stream: Option<Stream>,
    transitions: Transitions,
}

/// All streams.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams {
    pub(super) all: AllUses,
    clients: BTreeMap<String, Stream>,
    /// Of all clients together: they follow the same chains.
    of_clients: Transitions,
}

/// A model that may follow: how likely it is the one, and that it is still to come at all.
struct Due {
    model: u32,
    probability: f64,
    gap: f64,
}

/// Probabilities of followers, 1 or less together.
#[derive(Debug, Default)]
pub(super) struct Follows {
    of: BTreeMap<u32, f64>,
    mass: f64,
}

impl Follows {
    pub(super) fn of(&self, model: u32) -> f64 {
        self.of.get(&model).copied().unwrap_or(0.0)
    }

    /// All of them together.
    pub(super) fn mass(&self) -> f64 {
        self.mass
    }
}

impl Streams {
    pub(super) fn record(&mut self, at: f64, model: u32, client: Option<&str>) {
        if let Some(stream) = &self.all.stream {
            self.all.transitions.count(stream, at, model);
        }
        self.all.stream = Some(Stream::after(self.all.stream.as_ref(), at, model));
        let Some(client) = client else { return };
        let stream = self.clients.get(client);
        if let Some(stream) = stream {
            self.of_clients.count(stream, at, model);
        }
        let next = Stream::after(stream, at, model);
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(client) {
            let oldest = self.clients.iter().min_by(|a, b| a.1.at.total_cmp(&b.1.at)).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.clients.remove(&name));
        }
        self.clients.insert(client.to_owned(), next);
    }

    /// What the clients will ask for: of each the followers of its last models, and those first that are due soonest.
    pub(super) fn clients_follow(&self, now: f64) -> Follows {
        let mut of: BTreeMap<u32, f64> = BTreeMap::new();
        // That no client goes on.
        let mut nobody = 1.0;
        for stream in self.clients.values() {
            let due = self.of_clients.due(stream, now);
            nobody *= 1.0 - due.iter().map(|due| due.probability).sum::<f64>().min(1.0);
            for Due { model, probability, gap } in due {
                *of.entry(model).or_default() += probability / (gap + 1.0);
            }
        }
        let mass = 1.0 - nobody;
        let sum: f64 = of.values().sum();
        if sum <= 0.0 {
            return Follows::default();
        }
        of.values_mut().for_each(|rate| *rate *= mass / sum);
        Follows { of, mass }
    }
}

impl AllUses {
    pub(super) fn follows(&self, now: f64) -> Follows {
        let Some(stream) = &self.stream else { return Follows::default() };
        let of: BTreeMap<u32, f64> =
            self.transitions.due(stream, now).into_iter().map(|due| (due.model, due.probability)).collect();
        let mass = of.values().sum::<f64>().min(1.0);
        Follows { of, mass }
    }
}

impl Stream {
    fn after(stream: Option<&Self>, at: f64, model: u32) -> Self {
        Self { last: Some(model), before: stream.and_then(|stream| stream.last), at }
    }

    /// What is looked up for it: the last two models, and the last one.
    fn contexts(&self) -> (Option<Context>, Option<Context>) {
        let one = self.last.map(|last| Context(None, last));
        let two = self.last.zip(self.before).map(|(last, before)| Context(Some(before), last));
        (two, one)
    }
}

impl Transitions {
    fn count(&mut self, stream: &Stream, at: f64, model: u32) {
        let (two, one) = stream.contexts();
        for context in two.into_iter().chain(one) {
            if self.0.len() >= MAX_CONTEXTS && !self.0.contains_key(&context) {
                self.forget_some();
            }
            self.0.entry(context).or_default().add(at, model, at - stream.at);
        }
    }

    /// A quarter of them: those not met for the longest time.
    fn forget_some(&mut self) {
        let mut times: Vec<f64> = self.0.values().map(|followers| followers.at).collect();
        times.sort_by(f64::total_cmp);
        let until = times.get(times.len() / 4).copied().unwrap_or(f64::INFINITY);
        self.0.retain(|_, followers| followers.at > until);
    }

    /// What may follow, each with its probability, less what has passed in vain: `1 / (1 + (elapsed / (2 gap + 5 s))^2)`.
    fn due(&self, stream: &Stream, now: f64) -> Vec<Due> {
        let (two, one) = stream.contexts();
        let of = |context: Option<Context>| context.and_then(|context| self.0.get(&context));
        let elapsed = (now - stream.at).max(0.0);
        let mut due: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        if let Some(followers) = of(one) {
            let all = followers.total() + 1.0;
            due.extend(followers.next.iter().map(|next| (next.model, (next.count / all, next.gap))));
        }
        if let Some(followers) = of(two) {
            let all = followers.total() + BACKOFF;
            due.values_mut().for_each(|(probability, _)| *probability *= BACKOFF / all);
            for next in &followers.next {
                let (probability, gap) = due.entry(next.model).or_insert((0.0, next.gap));
                *probability += next.count / all;
                *gap = next.gap;
            }
        }
        let pending = |gap: f64| 1.0 / (1.0 + (elapsed / (2.0 * gap + 5.0)).powi(2));
        due.into_iter()
            .map(|(model, (probability, gap))| Due { model, probability: probability * pending(gap), gap })
            .collect()
    }
}

impl Followers {
    fn total(&self) -> f64 {
        self.next.iter().map(|next| next.count).sum()
    }

    fn add(&mut self, at: f64, model: u32, gap: f64) {
        self.at = at;
        match self.next.iter_mut().find(|next| next.model == model) {
            Some(next) => {
                next.count += 1.0;
                next.gap += (gap - next.gap) / next.count.min(8.0);
            }
            None => {
                if self.next.len() >= MAX_FOLLOWERS {
                    let rarest = self.next.iter().enumerate().min_by(|a, b| a.1.count.total_cmp(&b.1.count));
                    if let Some((rarest, _)) = rarest {
                        self.next.swap_remove(rarest);
                    }
                }
                self.next.push(Follower { model, count: 1.0, gap });
            }
        }
        if self.total() > MAX_COUNT {
            self.next.iter_mut().for_each(|next| next.count /= 2.0);
        }
    }
}
