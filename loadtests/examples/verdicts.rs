//! Measures how often the regression verdicts are right, by simulated runs: of a version compared
//! with itself, of a version that is 10 % slower, and of both on a noisy machine. Prints the rates
//! as JSON, for `cargo xtask bench load`.

use loadtests::bench::VerdictRates;
use loadtests::regression::{Settings, Simulation, simulate};

fn main() -> serde_json::Result<()> {
    let calm = Simulation::default();
    let mut rough = calm;
    rough.noise.run = 0.05;
    rough.noise.block = 0.1;
    let slower = |simulation: Simulation| Simulation {
        slower: 1.1,
        ..simulation
    };
    let rates = |simulation| simulate(&simulation, &Settings::default());
    let measured = VerdictRates {
        same: rates(calm),
        slower: rates(slower(calm)),
        same_but_rough: rates(rough),
        slower_but_rough: rates(slower(rough)),
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
