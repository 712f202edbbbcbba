//! Reads the thresholds of `harness.toml`.

use environments::config::load::Profile;
use environments::config::{Config, ConfigError};
use miette::Diagnostic;

use crate::threshold::Threshold;

/// Returns the thresholds of a profile.
///
/// # Errors
/// The first invalid threshold of any profile, with its location, before that profile is run.
pub fn thresholds(config: &Config, profile: &Profile) -> Result<Vec<Threshold>, ConfigError> {
    for other in config.profiles.values() {
        of(config, other)?;
    }
    of(config, profile)
}

fn of(config: &Config, profile: &Profile) -> Result<Vec<Threshold>, ConfigError> {
    let read = profile.thresholds.iter().map(|written| {
        let threshold = Threshold::of(&written.metric, &written.expression).map_err(|error| {
            let help = error.help().map(|help| help.to_string());
            config.refuse(written.place.clone(), error.to_string(), help)
        })?;
        Ok(match written.abort_after {
            Some(delay) => threshold.aborting(Some(delay)),
            None => threshold,
        })
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const SHIPPED: &str = include_str!("../../harness.toml");

    fn read(text: &str) -> Result<Vec<Threshold>, ConfigError> {
        let config = Config::parse(Path::new("harness.toml"), text).unwrap();
        let (_, profile) = config.profile("soak").unwrap();
        thresholds(&config, profile)
    }

    #[test]
    fn the_shipped_thresholds_are_read() {
        let all = read(SHIPPED).unwrap();
        let failed = all
            .iter()
            .find(|threshold| threshold.key() == "http_req_failed")
            .unwrap();
        assert!(failed.abort_on_fail);
        assert_eq!(failed.delay.unwrap().as_secs(), 60);
        assert!(
            all.iter()
                .any(|threshold| threshold.key() == "http_req_duration")
        );
    }

    #[test]
    fn an_invalid_threshold_of_any_profile_is_refused_at_its_line() {
        let text = SHIPPED.replacen("p(95)<1000", "p(95)<<1000", 1);
        let line = 1 + text.lines().position(|line| line.contains("<<")).unwrap();
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(&format!("harness.toml:{line}")), "{error}");
        assert!(error.contains("p(95)<<1000"), "{error}");
    }
}
