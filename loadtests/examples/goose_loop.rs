//! Goose's own loop: users who ask again as soon as they are answered, counted by Goose; what
//! `cargo xtask bench load` has the engine beside. Prints what was counted, as JSON.

use std::error::Error;
use std::iter::repeat_n;

use goose::config::GooseConfiguration;
use goose::prelude::*;
use loadtests::bench::GooseLoop;
use loadtests::closed::Muted;

const USAGE: &str = "usage: goose_loop URL USERS SECONDS PER_SECOND_AT_MOST (0 is no bound)";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, users, seconds, at_most] = &arguments[..] else {
        return Err(USAGE.into());
    };
    let counted = made(url, users, seconds, at_most).await?;
    println!("{}", serde_json::to_string(&counted)?);
    Ok(())
}

/// Has `users` ask for `url`, together `at_most` times a second.
async fn made(
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
    let asks = Transaction::new(std::sync::Arc::new(|user| Box::pin(ask(user))));
    let configuration = GooseConfiguration::parse_args_default(&options)?;
    let metrics = GooseAttack::initialize_with_config(configuration)?
        .register_scenario(Scenario::new("hello").register_transaction(asks))
        .execute()
        .await?;
    let requests = metrics.requests.values();
    let times = requests.clone().flat_map(|it| &it.raw_data.times_us);
    Ok(GooseLoop {
        seconds: metrics.duration as f64,
        failed: requests.map(|it| it.fail_count as u64).sum(),
        latency: times
            .flat_map(|(micros, count)| repeat_n(*micros, *count))
            .collect(),
    })
}

async fn ask(user: &mut GooseUser) -> TransactionResult {
    let answer = user.get("").await?;
    if let Ok(answer) = answer.response {
        // Goose leaves the body unread, and then the connection cannot be kept.
        let _ = answer.bytes().await;
    }
    Ok(())
}
