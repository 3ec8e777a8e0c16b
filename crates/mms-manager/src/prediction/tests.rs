//! Measured on generated traces.

use super::replay::{Outcome, Terms, replay};
use super::traces::{KINDS, generate};

#[test]
fn look() {
    for places in [1, 2, 3, 4] {
        for kind in KINDS {
            let mut line = String::new();
            let mut sums = [0.0; 4];
            for seed in 1..=4 {
                let trace = generate(kind, seed, 14);
                let terms = Terms { places, ..Terms::default() };
                let out: Vec<Outcome> = replay(&trace, &terms);
                for (s, o) in sums.iter_mut().zip(&out) {
                    *s += o.hit_rate;
                }
                line += &format!(
                    "{:.3}/{:.3}/{:.3}/{:.3}({}) ",
                    out[0].hit_rate,
                    out[1].hit_rate,
                    out[2].hit_rate,
                    out[3].hit_rate,
                    trace.len()
                );
            }
            println!("{places} {} ratio {:.2} {:.2} {line}", kind.as_str(), sums[0] / sums[2], sums[0] / sums[3]);
        }
    }
}
