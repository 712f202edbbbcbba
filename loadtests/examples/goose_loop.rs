//! Goose's own loop: users send the next request when they have the response, and Goose counts.
//! Prints the counts as JSON. `cargo xtask bench load` compares the engine with it.

use std::error::Error;
use std::iter::repeat_n;

use goose::config::GooseConfiguration;
use goose::prelude::*;
use loadtests::bench::GooseLoop;
use loadtests::closed::Muted;

const USAGE: &str = "usage: goose_loop URL USERS SECONDS PER_SECOND_AT_MOST (0 is no limit)";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, users, seconds, at_most] = &arguments[..] else {
        return Err(USAGE.into());
    };
    let counts = attack(url, users, seconds, at_most).await?;
    println!("{}", serde_json::to_string(&counts)?);
    Ok(())
}

/// Sends requests of `users` to `url`, together `at_most` times a second.
async fn attack(
    url: &str,
    users: &str,
    seconds: &str,
    at_most: &str,
) -> Result<GooseLoop, Box<dyn Error>> {
    let _muted = Muted::begin()?;
    let mut options = vec!["--host", url, "--users", users, "--increase-rate", users];
    options.extend(["--run-time", seconds, "--no-print-metrics", "--quiet"]);
    options.extend(["--no-telnet", "--no-websocket"]);
    if at_most != "0" {
        options.extend(["--throttle-requests", at_most]);
    }
    let requests = Transaction::new(std::sync::Arc::new(|user| Box::pin(request(user))));
    let configuration = GooseConfiguration::parse_args_default(&options)?;
    let metrics = GooseAttack::initialize_with_config(configuration)?
        .register_scenario(Scenario::new("hello").register_transaction(requests))
        .execute()
        .await?;
    let requests = metrics.requests.values();
    let times = requests
        .clone()
        .flat_map(|request| &request.raw_data.times_us);
    Ok(GooseLoop {
        seconds: metrics.duration as f64,
        failed: requests.map(|request| request.fail_count as u64).sum(),
        latency: times
            .flat_map(|(micros, count)| repeat_n(*micros, *count))
            .collect(),
    })
}

async fn request(user: &mut GooseUser) -> TransactionResult {
    let answer = user.get("").await?;
    if let Ok(answer) = answer.response {
        // Goose leaves the body unread. A connection with an unread body cannot be kept alive.
        let _ = answer.bytes().await;
    }
    Ok(())
}
