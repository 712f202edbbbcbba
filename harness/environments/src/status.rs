//! The status of an environment.

use std::time::Duration;

use serde::Serialize;

use crate::environment::{Environment, EnvironmentFolder, EnvironmentHolder, EnvironmentName};
use crate::kind::health;
use crate::local::readiness;
use base::duration::human;
use base::home::Home;

/// The status of an environment.
#[derive(Debug, Serialize)]
pub struct EnvironmentStatus {
    /// Its name.
    pub name: EnvironmentName,
    /// Its condition.
    pub condition: Condition,
    /// The owner of the name.
    pub holder: Option<EnvironmentHolder>,
    /// The environment, once it is up.
    pub environment: Option<Environment>,
    /// What is wrong, one line each.
    #[serde(rename = "trouble")]
    pub problems: Vec<String>,
}

/// The condition of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Its owner is bringing it up or taking it down.
    Starting,
    /// All of it answers.
    Up,
    /// Something is lost or not ready.
    Degraded,
    /// Its owner is dead; `down` removes what is left.
    Dead,
    /// Its owner may live on another host.
    Undecided,
}

/// A service that takes longer to answer is not ready.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the status of the environment of this name.
pub async fn of(home: &Home, name: &EnvironmentName) -> EnvironmentStatus {
    let folder = EnvironmentFolder::of(home, name);
    let (condition, environment, problems) = match (folder.is_held(), folder.read(name)) {
        (false, _) => match folder.check_last_holder() {
            Ok(()) => {
                let problem = "its owner is dead: `cargo xtask down --all` removes what it left";
                (Condition::Dead, None, vec![problem.to_owned()])
            }
            Err(error) => (Condition::Undecided, None, vec![error.to_string()]),
        },
        (true, Err(_)) => (Condition::Starting, None, Vec::new()),
        (true, Ok(environment)) => {
            let lost = environment.lost.iter();
            let mut problems: Vec<String> = lost.map(|it| format!("lost: {it}")).collect();
            problems.extend(match &environment.cluster {
                None => not_ready(&environment).await,
                Some(place) => {
                    let found = health::check(&environment, place).await;
                    [found.cluster, found.platform].concat()
                }
            });
            let condition = match problems.is_empty() {
                true => Condition::Up,
                false => Condition::Degraded,
            };
            (condition, Some(environment), problems)
        }
    };
    EnvironmentStatus {
        name: name.clone(),
        condition,
        holder: folder.holder(),
        environment,
        problems,
    }
}

async fn not_ready(environment: &Environment) -> Vec<String> {
    base::tls::use_ring();
    let Ok(http) = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .build()
    else {
        return vec!["no HTTP client could be made".into()];
    };
    let services = environment
        .parts
        .iter()
        .filter(|part| environment.services.contains(&part.name));
    let problems = services.map(async |part| {
        let ready = match environment.ready_urls.get(&part.name) {
            Some(url) => readiness::answers(&http, url).await,
            None => readiness::accepts_connections(&part.address).await,
        };
        ready.err().map(|reason| format!("{}: {reason}", part.name))
    });
    let problems = futures::future::join_all(problems).await;
    problems.into_iter().flatten().collect()
}

impl std::fmt::Display for EnvironmentStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let condition = match self.condition {
            Condition::Starting => "starting or stopping",
            Condition::Up => "up",
            Condition::Degraded => "degraded",
            Condition::Dead => "dead",
            Condition::Undecided => "not known to be dead",
        };
        write!(f, "{}: {condition}", self.name)?;
        if let Some(environment) = &self.environment {
            let age = jiff::Timestamp::now().duration_since(environment.since);
            let age = human(u64::try_from(age.as_millis()).unwrap_or(0));
            write!(
                f,
                " since {age}, target {}, {} {}",
                environment.target,
                environment.version,
                environment.site_url()
            )?;
            for part in &environment.parts {
                let (name, address, runs_as) = (&part.name, &part.address, &part.runs_as);
                write!(f, "\n  {name:<28} {address:<22} {runs_as}")?;
            }
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn scripts_read_these_keys() {
        let folder = tempfile::tempdir().unwrap();
        let status = of(&Home::new(folder.path()), &"mine".parse().unwrap()).await;
        let status = serde_json::to_value(&status).unwrap();
        let mut keys: Vec<&String> = status.as_object().unwrap().keys().collect();
        keys.sort();
        let expected = ["condition", "environment", "holder", "name", "trouble"];
        assert_eq!(keys, expected);
    }
}
