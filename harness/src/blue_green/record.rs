//! What a deployer does, written into the cluster before it does it: the next one, on
//! whatever machine, goes on from there.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde::{Deserialize, Serialize};

use super::FIELD_MANAGER;
use super::canary::Canary;
use super::colour::Colour;
use super::error::BlueGreenError;
use super::policy::Evidence;
use super::retry::retrying;
use super::traffic::Window;
use crate::cluster::{Cluster, ClusterError};

const RECORD: &str = "record.json";
const AUDIT: &str = "audit.jsonl";

/// Past releases that are remembered.
const REMEMBERED: usize = 20;

/// Where a release is. Each is written down before anything of it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The idle colour gets the new version, and as many pods as the live one has.
    BringUp,
    /// Each of its pods is asked for its health, and the preview Service is smoked.
    Check,
    /// Somebody has to say `promote` or `abort`.
    Gate,
    /// A share of the ingress' traffic goes to the new colour, and is compared with what was.
    Canary,
    /// The active Service's selector is changed.
    Switch,
    /// Measured traffic is compared with what it was on the old colour.
    Analyse,
    /// The old colour's connections are given time, and the new one is still watched.
    Drain,
    /// The old colour's pods end.
    Retire,
    /// Traffic goes back to the old colour, and the new one's pods end.
    Revert,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Step::BringUp => "bring-up",
            Step::Check => "check",
            Step::Gate => "gate",
            Step::Canary => "canary",
            Step::Switch => "switch",
            Step::Analyse => "analyse",
            Step::Drain => "drain",
            Step::Retire => "retire",
            Step::Revert => "revert",
        })
    }
}

/// A release under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its id: that of the run that began it.
    pub release: String,
    /// The services that are released together, each after those that it calls; none where it is
    /// this one alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub together: Vec<String>,
    /// The version that is to be live.
    pub version: String,
    /// The version that was.
    pub old_version: String,
    /// The colour that was live.
    pub from: Colour,
    /// The colour that is to be.
    pub to: Colour,
    /// How many pods the new colour gets.
    pub replicas: i32,
    /// Whether somebody has to say `promote`.
    pub manual: bool,
    /// Whether its configuration is another than what was live.
    #[serde(default)]
    pub reconfigured: bool,
    /// What shows whether it holds.
    #[serde(default)]
    pub analysis: Evidence,
    /// How the ingress routes traffic to it before the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// The share of the ingress' traffic that it has had at most before the switch, percent.
    #[serde(default)]
    pub weight: u8,
    /// Who is at it.
    pub deployer: String,
    /// When it began.
    pub begun: Timestamp,
    /// Where it is.
    pub step: Step,
    /// Since when.
    pub since: Timestamp,
    /// Traffic on the old colour, just before the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Window>,
    /// Why it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A release that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What it was, as of its last step.
    #[serde(flatten)]
    pub record: Record,
    /// When it ended.
    pub ended: Timestamp,
    /// How.
    pub outcome: Outcome,
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The new version is live.
    Released,
    /// It never was: its pods are gone again.
    TakenBack,
    /// It was, and traffic went back.
    Reverted,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Released => "released",
            Outcome::TakenBack => "taken back",
            Outcome::Reverted => "reverted",
        })
    }
}

/// The ConfigMap that all of it is in. Each write says which one it follows, so that a
/// deployer that was taken for dead cannot write over its successor's.
pub struct Book {
    api: Api<ConfigMap>,
    map: ConfigMap,
    /// The release under way.
    pub record: Option<Record>,
    /// Those that have ended, the last one last.
    pub audit: Vec<Entry>,
}

impl Book {
    /// Reads it; a service that was never released has an empty one.
    ///
    /// # Errors
    /// What the API server said; [`BlueGreenError::Record`] where somebody wrote nonsense.
    pub async fn read(cluster: &Cluster, service: &str) -> Result<Book, BlueGreenError> {
        let api: Api<ConfigMap> = Api::namespaced(cluster.client().clone(), &cluster.namespace);
        let name = super::objects::kept_in(service);
        let found = retrying("read the record", async || api.get_opt(&name).await).await?;
        let map = found.unwrap_or_else(|| empty(service, &name));
        let unreadable = |error: serde_json::Error| BlueGreenError::Record {
            object: format!("configmap/{name}"),
            reason: error.to_string(),
        };
        let data = map.data.clone().unwrap_or_default();
        let record = data.get(RECORD).map(|text| serde_json::from_str(text));
        let record = record.transpose().map_err(unreadable)?;
        let lines = data.get(AUDIT).map(String::as_str).unwrap_or_default();
        let audit: Result<Vec<Entry>, _> = lines.lines().map(serde_json::from_str).collect();
        let audit = audit.map_err(unreadable)?;
        Ok(Book {
            api,
            map,
            record,
            audit,
        })
    }

    /// Writes down where the release is.
    ///
    /// # Errors
    /// [`BlueGreenError::Overtaken`] where somebody else wrote since; what the API server said.
    pub async fn write(&mut self, record: Record) -> Result<(), BlueGreenError> {
        self.record = Some(record);
        self.save().await
    }

    /// The release has ended.
    ///
    /// # Errors
    /// As [`Book::write`].
    pub async fn conclude(&mut self, outcome: Outcome) -> Result<(), BlueGreenError> {
        let Some(record) = self.record.take() else {
            return Ok(());
        };
        self.audit.push(Entry {
            record,
            ended: Timestamp::now(),
            outcome,
        });
        let forgotten = self.audit.len().saturating_sub(REMEMBERED);
        self.audit.drain(..forgotten);
        self.save().await
    }

    async fn save(&mut self) -> Result<(), BlueGreenError> {
        self.map.data = Some(self.data()?);
        let (api, map) = (&self.api, &self.map);
        let name = map.metadata.name.clone().unwrap_or_default();
        let is_new = map.metadata.resource_version.is_none();
        let saved = retrying("write the record", async || {
            let parameters = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            let written = match is_new {
                true => api.create(&parameters, map).await,
                false => api.replace(&name, &parameters, map).await,
            };
            match written {
                // The answer to an earlier try may have been lost on its way.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let there = api.get(&name).await?;
                    match there.data == map.data {
                        true => Ok(Some(there)),
                        false => Ok(None),
                    }
                }
                written => written.map(Some),
            }
        });
        self.map = saved.await?.ok_or_else(|| BlueGreenError::Overtaken {
            object: format!("configmap/{name}"),
        })?;
        Ok(())
    }

    fn data(&self) -> Result<BTreeMap<String, String>, BlueGreenError> {
        let text = |error: serde_json::Error| {
            BlueGreenError::Cluster(ClusterError::Refused {
                what: "take the record".to_owned(),
                reason: error.to_string(),
            })
        };
        let mut data = BTreeMap::new();
        if let Some(record) = &self.record {
            let json = serde_json::to_string_pretty(record).map_err(text)?;
            data.insert(RECORD.to_owned(), json);
        }
        let lines: Result<Vec<String>, _> = self.audit.iter().map(serde_json::to_string).collect();
        data.insert(AUDIT.to_owned(), lines.map_err(text)?.join("\n"));
        Ok(data)
    }
}

fn empty(service: &str, name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(super::objects::labels(service)),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}
