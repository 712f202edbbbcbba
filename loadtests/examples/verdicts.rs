//! How often the regression verdicts are right, by made-up runs: of one version against itself,
//! of one that is 10 % slower, and both again on a machine that does as it likes. Prints the
//! rates, as JSON, for `cargo xtask bench load`.

use loadtests::bench::VerdictRates;
use loadtests::regression::{Noise, Settings, Simulation, simulate};

fn main() -> serde_json::Result<()> {
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
    let rates = |simulation| simulate(&simulation, &Settings::default());
    let counted = VerdictRates {
        same: rates(calm),
        slower: rates(slower(calm)),
        same_but_rough: rates(rough),
        slower_but_rough: rates(slower(rough)),
    };
    println!("{}", serde_json::to_string(&counted)?);
    Ok(())
}
