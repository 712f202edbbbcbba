//! What a deployer does at each step of a release.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::watching::Watch;
use super::{Course, switch};
use crate::blue_green::analysis::Analysis;
use crate::blue_green::canary::Canary;
use crate::blue_green::course::stop::{Stop, Why};
use crate::blue_green::course::together::Progress;
use crate::blue_green::error::BlueGreenError;
use crate::blue_green::event::relayed;
use crate::blue_green::event::{Event, Happened};
use crate::blue_green::objects::{VERSION, tag};
use crate::blue_green::policy::Evidence;
use crate::blue_green::record::{Record, Step};
use crate::blue_green::requests::Requests;
use crate::blue_green::{Conclusion, health, preflight};
use crate::cluster::rollout::{self, RolloutError};

impl<O: AsyncFnMut(&Event)> Course<'_, O> {
    pub(super) async fn bring_up(&mut self, record: &Record) -> Result<Step, Stop> {
        let idle = self.objects.side(record.to).await?.deployment;
        let container = self.objects.container(&idle)?;
        let image = container.image.clone().unwrap_or_default();
        let repository = tag(&image).map_or(image.as_str(), |(repository, _)| repository);
        let template = json!({
            "metadata": {"labels": {VERSION: record.version}},
            "spec": {"containers": [{
                "name": container.name,
                "image": format!("{repository}:{}", record.version),
            }]},
        });
        if record.canary.is_some() {
            // Of whoever left it at a later step.
            self.changes.delete_canaries().await?;
        }
        self.changes.hold(record.to, record.replicas).await?;
        self.changes
            .bring_up(record.to, record.replicas, &template)
            .await?;
        self.until_up(record).await?;
        Ok(Step::Check)
    }

    /// Waits until the new colour's rollout is truly complete.
    pub(super) async fn until_up(&mut self, record: &Record) -> Result<(), Stop> {
        let end = Instant::now() + self.deployer.policy.green_ready;
        let selector = self.objects.selector(record.to);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let live = format!("{} is live in {}; ", record.from, record.old_version);
            match self.follow_rollout(&selector, left, &live).await {
                Ok(()) => return Ok(()),
                // It may come back; what it was asked to do it has been told.
                Err(RolloutError::Cluster(error)) if error.may_pass() && Instant::now() < end => {
                    self.progress(error.to_string()).await;
                    self.objects.sides().await?;
                }
                Err(RolloutError::Cluster(error)) => return Err(error.into()),
                Err(error) => {
                    return Err(Stop::failed(format!(
                        "{} does not come up: {error}",
                        record.to
                    )));
                }
            }
        }
    }

    pub(super) async fn follow_rollout(
        &mut self,
        selector: &str,
        deadline: Duration,
        beside: &str,
    ) -> Result<(), RolloutError> {
        let cluster = self.deployer.cluster;
        relayed(
            async |progress: &(dyn Fn(&str) + Sync)| {
                rollout::complete(cluster, selector, deadline, progress).await
            },
            async |line| self.progress(format!("{beside}{line}")).await,
        )
        .await
    }

    pub(super) async fn check(&mut self, record: &Record) -> Result<Step, Stop> {
        if record.analysis.is_users() {
            self.tell_of_ingress().await;
            self.before = Some(self.first_reading(record.analysis, record.from).await?);
        }
        let held = health::every_pod(&self.objects, record.to, record.replicas).await?;
        self.tell(held).await;
        let preview = self.objects.preview();
        switch::settled(&self.objects, &preview, record.to, Instant::now()).await?;
        self.smoke(&preview, &record.version).await?;
        if let Some(canary) = &record.canary {
            self.changes.set_canary_weight(canary, 0).await?;
            if let Some(header) = canary.header.clone() {
                let to = record.to;
                self.tell(Happened::PreviewHeaderSet { to, header }).await;
            }
        }
        let asked = self.requests.as_ref().and_then(Requests::stops_at_gate);
        let has_weights = |it: &Canary| !it.weights.is_empty();
        Ok(match asked.unwrap_or(record.manual) {
            true => Step::Gate,
            false if record.canary.as_ref().is_some_and(has_weights) => Step::Canary,
            false => Step::Switch,
        })
    }

    /// Has the ingress route one share of its traffic after the other to the new colour. Each is
    /// watched until it is known whether the new version holds.
    pub(super) async fn shift_by_weights(&mut self, record: &Record) -> Result<Step, Stop> {
        let mut record = record.clone();
        let canary = record.canary.clone().unwrap_or_default();
        self.measure_baseline(&mut record).await?;
        self.changes.mark(record.to, true).await?;
        self.changes.hold(record.from, record.replicas).await?;
        self.on_new = Some(self.first_reading(record.analysis, record.to).await?);
        for weight in canary.weights.iter().copied() {
            // First: who takes it back has to know that users had it.
            record.weight = weight;
            self.write(record.clone()).await?;
            self.changes.set_canary_weight(&canary, weight).await?;
            let to = record.to;
            self.tell(Happened::CanaryWeightSet { to, weight }).await;
            let watch = Watch::of_weight(&record, self.deployer.policy);
            self.holds(&record, watch).await?;
        }
        Ok(Step::Switch)
    }

    /// From here on the active Service alone decides where traffic goes.
    pub(super) async fn delete_canaries(&mut self, record: &Record) -> Result<(), BlueGreenError> {
        match record.canary {
            Some(_) => self.changes.delete_canaries().await,
            None => Ok(()),
        }
    }

    async fn measure_baseline(&mut self, record: &mut Record) -> Result<(), Stop> {
        if record.baseline.is_none() {
            record.baseline = match record.analysis {
                Evidence::Required | Evidence::Prometheus => Some(self.baseline(record).await?),
                Evidence::Probe => Some(self.probed_baseline(record).await?),
                Evidence::None => None,
            };
        }
        Ok(())
    }

    pub(super) async fn smoke(&mut self, service: &str, version: &str) -> Result<(), Stop> {
        let smoked = health::smoke(&self.objects, service, version, self.deployer.smoke).await?;
        self.tell(smoked).await;
        Ok(())
    }

    pub(super) async fn wait_at_gate(
        &mut self,
        record: &Record,
    ) -> Result<Conclusion, BlueGreenError> {
        let (version, colour) = (record.version.clone(), record.to);
        // Whoever promotes it must not be told to pause again.
        self.requests = None;
        if self.request_map().read(&record.release).await?.is_some() {
            self.request_map().clear().await?;
        }
        self.tell(Happened::AtGate {
            version: version.clone(),
            colour,
        })
        .await;
        Ok(Conclusion::AtGate { version, colour })
    }

    pub(super) async fn switch(&mut self, record: &Record) -> Result<Step, Stop> {
        let mut record = record.clone();
        self.measure_baseline(&mut record).await?;
        self.keep_up(&mut record).await?;
        self.write(record.clone()).await?;
        // Both are left alone by others until it is settled which of them is live.
        self.changes.mark(record.to, true).await?;
        // What may have to take traffic back keeps its capacity until it is retired.
        self.changes.hold(record.from, record.replicas).await?;
        if record.analysis.is_users() {
            self.on_new = Some(self.first_reading(record.analysis, record.to).await?);
        }
        self.count_anew();
        let patched = Instant::now();
        let moved = self
            .changes
            .move_traffic(Some(record.from), record.to)
            .await?;
        self.tell(moved).await;
        // The canary's backend is the preview, which is about to select the old colour.
        self.delete_canaries(&record).await?;
        self.changes.show(record.from).await?;
        let service = self.deployer.service;
        let settled = switch::settled(&self.objects, service, record.to, patched).await?;
        self.tell(settled).await;
        Ok(Step::Analyse)
    }

    /// The live colour may have grown since: the new one is to have as many.
    async fn keep_up(&mut self, record: &mut Record) -> Result<(), Stop> {
        let sides = self.objects.sides().await?;
        if sides.live.colour != record.from {
            return Ok(());
        }
        let replicas = preflight::replicas(&self.objects, &sides.live).await?;
        let has = sides.of(record.to).ready;
        if has >= replicas {
            return Ok(());
        }
        record.replicas = replicas.max(record.replicas);
        let text = format!(
            "{} has {has} ready pods, {} runs {replicas}: scaling up",
            record.to, record.from
        );
        self.progress(text).await;
        self.write(record.clone()).await?;
        self.changes.hold(record.to, record.replicas).await?;
        self.changes.scale(record.to, record.replicas).await?;
        self.until_up(record).await
    }

    pub(super) async fn analyse(&mut self, record: &Record) -> Result<Step, Stop> {
        let smoked = self.smoke(self.deployer.service, &record.version).await;
        smoked.map_err(|stop| match stop {
            Stop::TakeBack(why) => Stop::failed(format!("after the switch: {}", why.text())),
            Stop::Leave(error) => Stop::Leave(error),
        })?;
        let watch = Watch::of_all(record, self.deployer.policy);
        self.holds(record, watch).await?;
        Ok(Step::Drain)
    }

    /// Watches the new colour, which has to be shown to hold.
    async fn holds(&mut self, record: &Record, watch: Watch) -> Result<(), Stop> {
        let analysis = self.watch(record, watch).await?;
        self.tell_analysis(record, &analysis).await;
        match analysis {
            Analysis::Holds { .. } => Ok(()),
            Analysis::Inconclusive { why } => Err(Stop::TakeBack(Why::Inconclusive(why))),
            Analysis::Breach { what } => Err(Stop::failed(what)),
        }
    }

    async fn tell_analysis(&mut self, record: &Record, analysis: &Analysis) {
        // A breach is told as soon as it is seen.
        if !matches!(analysis, Analysis::Breach { .. }) {
            let text = format!("{}: {analysis}", record.to);
            self.tell(Happened::Analysed { text }).await;
        }
    }

    pub(super) async fn drain(&mut self, record: &Record) -> Result<Step, Stop> {
        let text = format!("connections to {} are given time", record.from);
        self.progress(text).await;
        let watch = Watch::of_drain(record, self.deployer.policy);
        let mut analysis = self.watch(record, watch).await?;
        self.tell_analysis(record, &analysis).await;
        loop {
            if let Analysis::Breach { what } = analysis {
                return Err(Stop::failed(what));
            }
            self.reached(Progress::Drained);
            // It is watched for as long as there is a way back.
            match &self.member {
                Some(member) if !member.all_drained() => {}
                Some(member) => {
                    member.go_forward()?;
                    return Ok(Step::Retire);
                }
                None => return Ok(Step::Retire),
            }
            analysis = self.watch(record, watch).await?;
        }
    }
}
