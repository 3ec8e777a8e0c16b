//! Measured on generated traces.

use super::replay::{Terms, Outcome, replay, Room};
use super::traces::{KINDS, generate};

#[test]
fn look() {
    for places in [1, 2, 3, 4] {
    for kind in KINDS {
        let mut line = String::new();
        let mut sums = [0.0; 3];
        for seed in 1..=6 {
            let trace = generate(kind, seed, 14);
            let terms = Terms{room: Room::Places(places), ..Terms::default()};
            let out: Vec<Outcome> = replay(&trace, &terms);
            for (s,o) in sums.iter_mut().zip(&out) { *s += o.hit_rate; }
            line += &format!("{:.3}/{:.3}/{:.3}({}) ", out[0].hit_rate, out[1].hit_rate, out[2].hit_rate, trace.len());
            if seed == 1 && places == 3 {
                let mut p = super::Predictor::new(super::PredictorSettings::default());
                for u in &trace { p.record(super::Moment::utc(u.time), &u.model, u.client.as_deref()); }
                println!("{:?} {:.2?} {:?}", super::EXPERTS, p.weights(), out);
            }
        }
        println!("{places} {} ratio {:.2} {:.2} {line}", kind.as_str(), sums[0]/sums[1], sums[0]/sums[2]);
    }}
}
