//! The steps of a release.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::watch::WatchTimes;
use super::{ServiceRelease, switch};
use crate::analysis::Analysis;
use crate::colour::Colour;
use crate::error::BlueGreenError;
use crate::event::{EventKind, ReleaseEvent, relayed};
use crate::group::Milestone;
use crate::objects::{VERSION, tag};
use crate::policy::{Canary, Evidence};
use crate::record::{ReleaseOutcome, ReleaseRecord, ReleaseStep};
use crate::requests::OperatorRequests;
use crate::step_error::{Reason, StepError};
use crate::{Conclusion, Deployer, health, preflight};
use kubernetes::rollout::{self, RolloutError};

/// Between two reads of pods that end.
const READ_EVERY: Duration = Duration::from_millis(250);

/// How long after a pod's grace period the kubelet may take to report its end.
const AFTER_GRACE: Duration = Duration::from_secs(30);

impl<O: AsyncFnMut(&ReleaseEvent)> ServiceRelease<'_, O> {
    pub(super) async fn bring_up(
        &mut self,
        record: &ReleaseRecord,
    ) -> Result<ReleaseStep, StepError> {
        let idle = self.objects.colour(record.to).await?.deployment;
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
            // An earlier deployer may have left them.
            self.changes.delete_canaries().await?;
        }
        self.changes.hold(record.to, record.replicas).await?;
        self.changes
            .bring_up(record.to, record.replicas, &template)
            .await?;
        self.until_up(record).await?;
        Ok(ReleaseStep::Check)
    }

    /// Waits until the new colour's rollout is complete.
    pub(super) async fn until_up(&mut self, record: &ReleaseRecord) -> Result<(), StepError> {
        let end = Instant::now() + self.deployer.policy.green_ready;
        let selector = self.objects.selector(record.to);
        loop {
            let remaining = end.saturating_duration_since(Instant::now());
            let live = format!("{} is live in {}; ", record.from, record.old_version);
            match self.follow_rollout(&selector, remaining, &live).await {
                Ok(()) => return Ok(()),
                // The API server may come back, and it has the change already.
                Err(RolloutError::Cluster(error)) if error.may_pass() && Instant::now() < end => {
                    self.progress(error.to_string()).await;
                    self.objects.colours().await?;
                }
                Err(RolloutError::Cluster(error)) => return Err(error.into()),
                Err(error) => {
                    return Err(StepError::failed(format!(
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
        prefix: &str,
    ) -> Result<(), RolloutError> {
        let cluster = self.deployer.cluster;
        relayed(
            async |progress: &(dyn Fn(&str) + Sync)| {
                rollout::complete(cluster, selector, deadline, progress).await
            },
            async |line| self.progress(format!("{prefix}{line}")).await,
        )
        .await
    }

    pub(super) async fn check(&mut self, record: &ReleaseRecord) -> Result<ReleaseStep, StepError> {
        if record.analysis.is_users() {
            self.check_ingress().await;
            self.before = Some(self.first_reading(record.analysis, record.from).await?);
        }
        let healthy = health::every_pod(&self.objects, record.to, record.replicas).await?;
        self.emit(healthy).await;
        let preview = self.objects.preview();
        switch::settled(&self.objects, &preview, record.to, Instant::now()).await?;
        self.smoke(&preview, record.to, &record.version).await?;
        if let Some(canary) = &record.canary {
            self.changes.set_canary_weight(canary, 0).await?;
            if let Some(header) = canary.header.clone() {
                let to = record.to;
                self.emit(EventKind::PreviewHeaderSet { to, header }).await;
            }
        }
        let requested = self
            .requests
            .as_ref()
            .and_then(OperatorRequests::stops_at_gate);
        let has_weights = |it: &Canary| !it.weights.is_empty();
        Ok(match requested.unwrap_or(record.manual) {
            true => ReleaseStep::Gate,
            false if record.canary.as_ref().is_some_and(has_weights) => ReleaseStep::Canary,
            false => ReleaseStep::Switch,
        })
    }

    /// Makes the ingress route one share of its traffic after the other to the new colour, and
    /// watches the new colour at each.
    pub(super) async fn shift_by_weights(
        &mut self,
        record: &ReleaseRecord,
    ) -> Result<ReleaseStep, StepError> {
        let mut record = record.clone();
        let canary = record.canary.clone().unwrap_or_default();
        self.measure_baseline(&mut record).await?;
        self.changes.mark(record.to, true).await?;
        self.changes.hold(record.from, record.replicas).await?;
        self.on_new = Some(self.first_reading(record.analysis, record.to).await?);
        for weight in canary.weights.iter().copied() {
            // Written first: a rollback must know that users have had the new version.
            record.weight = weight;
            self.write(record.clone()).await?;
            self.changes.set_canary_weight(&canary, weight).await?;
            let to = record.to;
            self.emit(EventKind::CanaryWeightSet { to, weight }).await;
            let times = WatchTimes::of_weight(&record, self.deployer.policy);
            self.verify(&record, times).await?;
        }
        Ok(ReleaseStep::Switch)
    }

    /// Deletes the canaries, so that only the active Service decides where traffic goes.
    pub(super) async fn delete_canaries(
        &mut self,
        record: &ReleaseRecord,
    ) -> Result<(), BlueGreenError> {
        match record.canary {
            Some(_) => self.changes.delete_canaries().await,
            None => Ok(()),
        }
    }

    async fn measure_baseline(&mut self, record: &mut ReleaseRecord) -> Result<(), StepError> {
        if record.baseline.is_none() {
            record.baseline = match record.analysis {
                Evidence::Required | Evidence::Prometheus => Some(self.baseline(record).await?),
                Evidence::Probe => Some(self.probed_baseline(record).await?),
                Evidence::None => None,
            };
        }
        Ok(())
    }

    pub(super) async fn smoke(
        &mut self,
        service: &str,
        colour: Colour,
        version: &str,
    ) -> Result<(), StepError> {
        if !self.deployer.smoke.is_empty() {
            switch::proxy_settled(&self.objects, service, colour).await?;
        }
        let Deployer { policy, smoke, .. } = *self.deployer;
        let source = policy.versions.of(self.deployer.service);
        let smoked = health::smoke(&self.objects, service, (version, &source), smoke).await?;
        self.emit(smoked).await;
        Ok(())
    }

    pub(super) async fn wait_at_gate(
        &mut self,
        record: &ReleaseRecord,
    ) -> Result<Conclusion, BlueGreenError> {
        let (version, colour) = (record.version.clone(), record.to);
        // An old request must not pause it again after it is promoted.
        self.requests = None;
        if self.request_map().read(&record.release).await?.is_some() {
            self.request_map().clear().await?;
        }
        self.emit(EventKind::AtGate {
            version: version.clone(),
            colour,
        })
        .await;
        Ok(Conclusion::AtGate { version, colour })
    }

    pub(super) async fn switch(
        &mut self,
        record: &ReleaseRecord,
    ) -> Result<ReleaseStep, StepError> {
        let mut record = record.clone();
        self.measure_baseline(&mut record).await?;
        self.keep_up(&mut record).await?;
        self.write(record.clone()).await?;
        // The cluster's policy now protects both colours.
        self.changes.mark(record.to, true).await?;
        // The old colour keeps its capacity until it is retired: traffic may come back.
        self.changes.hold(record.from, record.replicas).await?;
        if record.analysis.is_users() {
            self.on_new = Some(self.first_reading(record.analysis, record.to).await?);
        }
        self.count_anew();
        let patched = Instant::now();
        let (from, to) = (record.from, record.to);
        let moved = self.changes.move_traffic(Some(from), to).await?;
        self.emit(moved).await;
        // The canary's backend is the preview, which will select the old colour.
        self.delete_canaries(&record).await?;
        self.changes.show(from).await?;
        let service = self.deployer.service;
        let settled = switch::settled(&self.objects, service, to, patched).await?;
        self.emit(settled).await;
        Ok(ReleaseStep::Analyse)
    }

    /// Scales the new colour up if the live one has grown meanwhile.
    async fn keep_up(&mut self, record: &mut ReleaseRecord) -> Result<(), StepError> {
        let colours = self.objects.colours().await?;
        if colours.live.colour != record.from {
            return Ok(());
        }
        let replicas = preflight::replicas(&self.objects, &colours.live).await?;
        let (from, to, ready) = (record.from, record.to, colours.idle.ready);
        if ready >= replicas {
            return Ok(());
        }
        record.replicas = replicas.max(record.replicas);
        let text = format!("{to} has {ready} ready pods, {from} runs {replicas}: scaling up");
        self.progress(text).await;
        self.write(record.clone()).await?;
        self.changes.hold(record.to, record.replicas).await?;
        self.changes.scale(record.to, record.replicas).await?;
        self.until_up(record).await
    }

    pub(super) async fn analyse(
        &mut self,
        record: &ReleaseRecord,
    ) -> Result<ReleaseStep, StepError> {
        let service = self.deployer.service;
        let smoked = self.smoke(service, record.to, &record.version).await;
        smoked.map_err(|error| match error {
            StepError::RollBack(reason) => {
                StepError::failed(format!("after the switch: {}", reason.text()))
            }
            error => error,
        })?;
        let times = WatchTimes::of_all(record, self.deployer.policy);
        self.verify(record, times).await?;
        Ok(ReleaseStep::Drain)
    }

    /// Watches the new colour. Its analysis must pass.
    async fn verify(&mut self, record: &ReleaseRecord, times: WatchTimes) -> Result<(), StepError> {
        let analysis = self.watch(record, times).await?;
        self.emit_analysis(record, &analysis).await;
        match analysis {
            Analysis::Holds { .. } => Ok(()),
            Analysis::Inconclusive { why } => Err(StepError::RollBack(Reason::Inconclusive(why))),
            Analysis::Breach { what } => Err(StepError::failed(what)),
        }
    }

    async fn emit_analysis(&mut self, record: &ReleaseRecord, analysis: &Analysis) {
        // A breach is reported as soon as it is seen.
        if !matches!(analysis, Analysis::Breach { .. }) {
            let text = format!("{}: {analysis}", record.to);
            self.emit(EventKind::Analysed { text }).await;
        }
    }

    pub(super) async fn drain(&mut self, record: &ReleaseRecord) -> Result<ReleaseStep, StepError> {
        let text = format!("waiting for connections to {} to end", record.from);
        self.progress(text).await;
        let times = WatchTimes::of_drain(record, self.deployer.policy);
        let mut analysis = self.watch(record, times).await?;
        self.emit_analysis(record, &analysis).await;
        loop {
            if let Analysis::Breach { what } = analysis {
                return Err(StepError::failed(what));
            }
            self.member.reached(Milestone::Drained);
            // It is watched as long as it can be rolled back.
            if self.member.all_drained() {
                self.member.finish()?;
                return Ok(ReleaseStep::Retire);
            }
            analysis = self.watch(record, times).await?;
        }
    }

    /// Ends the old colour's pods. After this only another release can restore the old version.
    pub(super) async fn retire(
        &mut self,
        record: &ReleaseRecord,
    ) -> Result<Conclusion, BlueGreenError> {
        self.changes.mark(record.to, true).await?;
        self.changes.mark(record.from, false).await?;
        self.empty(record.from).await?;
        // Any later difference is a change of the chart.
        self.changes.configure_as_live(record.from).await?;
        self.restore_autoscalers().await?;
        self.records.conclude(ReleaseOutcome::Released).await?;
        let (version, colour) = (record.version.clone(), record.to);
        self.emit(EventKind::Released {
            version: version.clone(),
            colour,
        })
        .await;
        Ok(Conclusion::Released { version, colour })
    }

    pub(super) async fn restore_autoscalers(&self) -> Result<(), BlueGreenError> {
        for colour in Colour::ALL {
            self.changes.restore_autoscaler(colour).await?;
        }
        Ok(())
    }

    /// Scales a colour to 0 and waits until its pods have ended, each in its grace period.
    pub(super) async fn empty(&mut self, colour: Colour) -> Result<(), BlueGreenError> {
        self.changes.scale(colour, 0).await?;
        let mut end = None;
        let mut reported = 0;
        loop {
            let pods = self.objects.all_pods(colour).await?;
            if pods.is_empty() {
                self.emit(EventKind::Retired { colour }).await;
                return Ok(());
            }
            let grace = pods.iter().filter_map(|pod| {
                let spec = pod.spec.as_ref()?;
                u64::try_from(spec.termination_grace_period_seconds?).ok()
            });
            let grace = Duration::from_secs(grace.max().unwrap_or(30));
            let end = *end.get_or_insert_with(|| Instant::now() + grace + AFTER_GRACE);
            if Instant::now() >= end {
                let text = format!("{} pods of {colour} do not end", pods.len());
                self.progress(text).await;
                return Ok(());
            }
            if pods.len() != reported {
                reported = pods.len();
                self.progress(format!("{reported} pods of {colour} are draining"))
                    .await;
            }
            sleep(READ_EVERY).await;
        }
    }
}
