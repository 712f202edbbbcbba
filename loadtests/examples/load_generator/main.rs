//! What `cargo xtask bench load` measures, each in a process of its own that can be kept on a
//! core. Prints one JSON document.

mod arrivals;
mod users;
mod verdicts;

use std::error::Error;

use serde::Serialize;

const USAGE: &str = "usage: load_generator arrivals URL PER_SECOND SECONDS IN_FLIGHT
       load_generator users URL USERS SECONDS PER_SECOND_AT_MOST
       load_generator verdicts";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["arrivals", url, rate, seconds, in_flight] => print(&arrivals::made(
            url,
            rate.parse()?,
            seconds.parse()?,
            in_flight.parse()?,
        )?),
        ["users", url, users, seconds, at_most] => {
            print(&users::made(url, users, seconds, at_most)?)
        }
        ["verdicts"] => print(&verdicts::counted()),
        _ => Err(USAGE.into()),
    }
}

fn print(document: &impl Serialize) -> Result<(), Box<dyn Error>> {
    println!("{}", serde_json::to_string(document)?);
    Ok(())
}
