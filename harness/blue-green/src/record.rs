//! The record of a release, in the cluster. A deployer writes each step before it runs it. The next
//! deployer, on any machine, continues from there.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::colour::Colour;
use super::error::BlueGreenError;
use super::naming::{self, posted_as_deployer};
use super::policy::{Canary, Evidence};
use super::retry::retrying;
use super::traffic::Window;
use kubernetes::{Cluster, ClusterError};

const RECORD: &str = "record.json";
const AUDIT: &str = "audit.jsonl";

/// How many past releases are kept.
const KEPT: usize = 20;

/// A step of a release. It is written before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseStep {
    /// The idle colour gets the new version, and as many pods as the live one has.
    BringUp,
    /// Health checks of its pods, and smoke requests to the preview Service.
    Check,
    /// The release waits for `promote` or `abort`.
    Gate,
    /// The new colour gets a share of the ingress' traffic, which is analysed.
    Canary,
    /// The active Service's selector is changed.
    Switch,
    /// The traffic is compared with that on the old colour.
    Analyse,
    /// The old colour's connections end, and the new one is still watched.
    Drain,
    /// The old colour's pods end.
    Retire,
    /// Traffic returns to the old colour, and the new one's pods end.
    Revert,
}

impl fmt::Display for ReleaseStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ReleaseStep::BringUp => "bring-up",
            ReleaseStep::Check => "check",
            ReleaseStep::Gate => "gate",
            ReleaseStep::Canary => "canary",
            ReleaseStep::Switch => "switch",
            ReleaseStep::Analyse => "analyse",
            ReleaseStep::Drain => "drain",
            ReleaseStep::Retire => "retire",
            ReleaseStep::Revert => "revert",
        })
    }
}

/// A release in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// Its id: that of the run that started it.
    pub release: String,
    /// The services that are released together, each after those that it calls; empty for a release
    /// of one service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub together: Vec<String>,
    /// The new version.
    pub version: String,
    /// The old version.
    pub old_version: String,
    /// The colour of the old version.
    pub from: Colour,
    /// The colour of the new version.
    pub to: Colour,
    /// The number of pods of the new colour.
    pub replicas: i32,
    /// Whether it waits for `promote`.
    pub manual: bool,
    /// Whether the configuration changes, too.
    #[serde(default)]
    pub reconfigured: bool,
    /// The evidence of its analysis.
    #[serde(default)]
    pub analysis: Evidence,
    /// How the ingress routes traffic to the new colour before the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// The greatest share of the ingress' traffic before the switch, in percent.
    #[serde(default)]
    pub weight: u8,
    /// The deployer that runs it.
    pub deployer: String,
    /// When it started.
    pub begun: Timestamp,
    /// Its step.
    pub step: ReleaseStep,
    /// When the step began.
    pub since: Timestamp,
    /// Traffic on the old colour, just before the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Window>,
    /// Why it is rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl ReleaseRecord {
    /// Returns the error of an operation that is not possible at this step.
    pub(super) fn wrong_step(&self, operation: &'static str, help: &'static str) -> BlueGreenError {
        BlueGreenError::WrongStep {
            release: self.release.clone(),
            operation,
            step: self.step.to_string(),
            help,
        }
    }

    /// Returns an error if this is not the record of `release`.
    pub(super) fn must_be_of(&self, release: &str, service: &str) -> Result<(), BlueGreenError> {
        match self.release == release {
            true => Ok(()),
            false => Err(BlueGreenError::OfAnother {
                service: service.to_owned(),
                release: self.release.clone(),
                version: self.version.clone(),
                whose: self.deployer.clone(),
                step: self.step.to_string(),
                since: format!("{:.0}", self.since),
            }),
        }
    }
}

/// A release that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its record at its last step.
    #[serde(flatten)]
    pub record: ReleaseRecord,
    /// When it ended.
    pub ended: Timestamp,
    /// How it ended.
    pub outcome: ReleaseOutcome,
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseOutcome {
    /// The new version is live.
    Released,
    /// It was rolled back before it had traffic.
    #[serde(rename = "taken-back")]
    RolledBack,
    /// It was rolled back, and traffic is on the old colour again.
    Reverted,
}

impl fmt::Display for ReleaseOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ReleaseOutcome::Released => "released",
            ReleaseOutcome::RolledBack => "rolled back",
            ReleaseOutcome::Reverted => "reverted",
        })
    }
}

/// The ConfigMap with the records of a service. Each write has the resource version that it
/// follows: a deployer that was suspended cannot overwrite its successor's record.
pub struct RecordMap {
    api: Api<ConfigMap>,
    map: ConfigMap,
    /// The release in progress.
    pub record: Option<ReleaseRecord>,
    /// The releases that have ended, the last one last.
    pub audit: Vec<AuditEntry>,
}

impl RecordMap {
    /// Reads the records, which are empty for a service that was never released.
    ///
    /// # Errors
    /// [`BlueGreenError::Record`] if they cannot be parsed; the API server's error.
    pub async fn read(cluster: &Cluster, service: &str) -> Result<RecordMap, BlueGreenError> {
        let api: Api<ConfigMap> = cluster.api();
        let name = naming::record_name(service);
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
        let audit: Result<Vec<AuditEntry>, _> = lines.lines().map(serde_json::from_str).collect();
        let audit = audit.map_err(unreadable)?;
        Ok(RecordMap {
            api,
            map,
            record,
            audit,
        })
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`BlueGreenError::Overtaken`] if somebody else has written it since; the API server's error.
    pub async fn write(&mut self, record: ReleaseRecord) -> Result<(), BlueGreenError> {
        self.record = Some(record);
        self.save().await
    }

    /// Moves the record to the releases that have ended.
    ///
    /// # Errors
    /// As [`RecordMap::write`].
    pub async fn conclude(&mut self, outcome: ReleaseOutcome) -> Result<(), BlueGreenError> {
        let Some(record) = self.record.take() else {
            return Ok(());
        };
        self.audit.push(AuditEntry {
            record,
            ended: Timestamp::now(),
            outcome,
        });
        let dropped = self.audit.len().saturating_sub(KEPT);
        self.audit.drain(..dropped);
        self.save().await
    }

    async fn save(&mut self) -> Result<(), BlueGreenError> {
        self.map.data = Some(self.data()?);
        let (api, map) = (&self.api, &self.map);
        let name = map.metadata.name.clone().unwrap_or_default();
        let is_new = map.metadata.resource_version.is_none();
        let saved = retrying("write the record", async || {
            let parameters = posted_as_deployer();
            let written = match is_new {
                true => api.create(&parameters, map).await,
                false => api.replace(&name, &parameters, map).await,
            };
            match written {
                // The answer to an earlier attempt may have been lost.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let found = api.get(&name).await?;
                    Ok((found.data == map.data).then_some(found))
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
            labels: Some(naming::labels(service)),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}
