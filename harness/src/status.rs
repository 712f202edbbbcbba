//! How an environment is right now.

use std::time::Duration;

use serde::Serialize;

use crate::duration::human;
use crate::environment::{Environment, EnvironmentFolder, EnvironmentName, Holder};
use crate::home::Home;
use crate::kind::health;
use crate::service::Service;

/// An environment and how it is.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Its name.
    pub name: EnvironmentName,
    /// How it is.
    pub condition: Condition,
    /// Who has the name.
    pub holder: Option<Holder>,
    /// What it is made of, once it is up.
    pub environment: Option<Environment>,
    /// What is wrong, one line each.
    pub trouble: Vec<String>,
}

/// How an environment is.
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
}

/// A service that takes longer to say whether it is ready is not.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at the environment of this name.
pub async fn of(home: &Home, name: &EnvironmentName) -> Status {
    let folder = EnvironmentFolder::of(home, name);
    let (condition, environment, trouble) = match (folder.is_held(), folder.read(name)) {
        (false, _) => {
            let trouble = "its owner is dead: `cargo xtask down --all` removes what it left";
            (Condition::Dead, None, vec![trouble.to_owned()])
        }
        (true, Err(_)) => (Condition::Starting, None, Vec::new()),
        (true, Ok(environment)) => {
            let mut trouble: Vec<String> = environment
                .lost
                .iter()
                .map(|lost| format!("lost: {lost}"))
                .collect();
            trouble.extend(match &environment.cluster {
                None => not_ready(&environment).await,
                Some(place) => {
                    let found = health::look(&environment, place).await;
                    [found.cluster, found.platform].concat()
                }
            });
            let condition = match trouble.is_empty() {
                true => Condition::Up,
                false => Condition::Degraded,
            };
            (condition, Some(environment), trouble)
        }
    };
    Status {
        name: name.clone(),
        condition,
        holder: folder.holder(),
        environment,
        trouble,
    }
}

async fn not_ready(environment: &Environment) -> Vec<String> {
    crate::tls::use_ring();
    let Ok(http) = reqwest::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .build()
    else {
        return vec!["no HTTP client could be made".into()];
    };
    let services = environment
        .parts
        .iter()
        .filter(|part| part.name.parse::<Service>().is_ok());
    let asked = services.map(async |part| {
        let asked = part.metrics.as_ref().unwrap_or(&part.address);
        let url = format!("http://{asked}/health/ready");
        match http.get(&url).send().await {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("{}: {url} says {}", part.name, answer.status())),
            Err(error) => Some(format!("{}: {}", part.name, crate::chain(&error))),
        }
    });
    futures::future::join_all(asked)
        .await
        .into_iter()
        .flatten()
        .collect()
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let condition = match self.condition {
            Condition::Starting => "starting or stopping",
            Condition::Up => "up",
            Condition::Degraded => "degraded",
            Condition::Dead => "dead",
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
                write!(
                    f,
                    "\n  {:<28} {:<22} {}",
                    part.name, part.address, part.runs_as
                )?;
            }
        }
        for trouble in &self.trouble {
            write!(f, "\n  {trouble}")?;
        }
        Ok(())
    }
}
