//! How often the regression verdicts are right.

use loadtests::bench::VerdictRates;
use loadtests::regression::{Noise, Settings, Simulation, simulate};

/// By made-up runs: of one version against itself, of one that is 10 % slower, and both again
/// on a machine that does as it likes.
pub fn counted() -> VerdictRates {
    let settings = Settings::default();
    let calm = Simulation::default();
    let rough = Simulation {
        noise: Noise {
            run: 0.05,
            block: 0.1,
            ..calm.noise
        },
        ..calm
    };
    let slower = |simulation: Simulation| Simulation {
        slower: 1.1,
        ..simulation
    };
    let rates = |simulation| simulate(&simulation, &settings);
    VerdictRates {
        same: rates(calm),
        slower: rates(slower(calm)),
        same_but_rough: rates(rough),
        slower_but_rough: rates(slower(rough)),
    }
}
