//! A release from step to step. Each is written into the cluster before it is done and may
//! be done twice, so that whoever comes after a deployer that died goes on from there.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::Patch;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::analysis::{self, Analysis};
use super::colour::Colour;
use super::error::BlueGreenError;
use super::event::{Event, Happened};
use super::histogram::Histogram;
use super::lock::Lock;
use super::objects::{Objects, VERSION, tag};
use super::record::{Book, Outcome, Record, Step};
use super::relay::relayed;
use super::traffic::{Reading, Window};
use super::{Ask, Conclusion, Deployer, health, preflight, switch};
use crate::cluster::rollout::{self, RolloutError};
use crate::run::millis;

/// Between two looks at measured traffic.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Over the time of an analysis, where nothing can be said at its end.
const SECOND_LOOKS: Duration = Duration::from_secs(5);

/// For a pod to show what it has counted.
const READING: Duration = Duration::from_secs(2);

/// For each pod to be among those that a first reading has.
const FIRST_READING: Duration = Duration::from_secs(5);

/// Over a pod's grace period, until the kubelet has told that it ended.
const AFTER_GRACE: Duration = Duration::from_secs(30);

/// Why a release is taken back.
#[derive(Clone, Debug)]
pub(super) enum Why {
    /// Something does not hold.
    Failed(String),
    /// Nobody can tell whether it holds.
    Inconclusive(String),
    /// Whoever asked for it calls it off.
    CalledOff,
}

impl Why {
    fn text(&self) -> &str {
        match self {
            Why::Failed(text) | Why::Inconclusive(text) => text,
            Why::CalledOff => "it was called off",
        }
    }
}

/// What comes after a step, or why nothing does.
type Next = Result<Step, Why>;

/// A release under way, and who follows it.
pub(super) struct Course<'a, O> {
    deployer: &'a Deployer<'a>,
    objects: Objects<'a>,
    lock: &'a Lock,
    book: Book,
    /// Traffic on the live colour when the checks began, for the baseline.
    before: Option<Reading>,
    observe: &'a mut O,
}

impl<'a, O: AsyncFnMut(&Event)> Course<'a, O> {
    /// Reads what is under way.
    pub async fn open(
        deployer: &'a Deployer<'a>,
        lock: &'a Lock,
        observe: &'a mut O,
    ) -> Result<Self, BlueGreenError> {
        Ok(Course {
            deployer,
            objects: deployer.objects(),
            lock,
            book: Book::read(deployer.cluster, deployer.service).await?,
            before: None,
            observe,
        })
    }

    /// Does what is asked.
    pub async fn run(&mut self, ask: Ask<'_>) -> Result<Conclusion, BlueGreenError> {
        match ask {
            Ask::Deploy { version, manual } => self.deploy(version, manual).await,
            Ask::Promote => self.promote().await,
            Ask::Abort => self.abort().await,
            Ask::End => self.end().await,
        }
    }

    /// Releases `version`, after what an earlier deployer left was seen to.
    async fn deploy(&mut self, version: &str, manual: bool) -> Result<Conclusion, BlueGreenError> {
        if let Some(unfinished) = self.book.record.clone() {
            let concluded = self.see_to(unfinished, version, manual).await?;
            if let Some(concluded) = concluded {
                return Ok(concluded);
            }
        }
        let sides = self.objects.sides().await?;
        if sides.live.version == version {
            return Ok(Conclusion::AlreadyLive {
                version: version.to_owned(),
                colour: sides.live.colour,
            });
        }
        let replicas = preflight::replicas(&self.objects, &sides.live).await?;
        preflight::look(&self.objects, &sides, replicas).await?;
        let now = Timestamp::now();
        self.write(Record {
            release: self.deployer.release.clone(),
            version: version.to_owned(),
            old_version: sides.live.version,
            from: sides.live.colour,
            to: sides.idle.colour,
            replicas,
            manual,
            deployer: self.deployer.holder.to_string(),
            begun: now,
            step: Step::BringUp,
            since: now,
            baseline: None,
            why: None,
        })
        .await?;
        self.go_on().await
    }

    /// Switches to what waits at the gate.
    async fn promote(&mut self) -> Result<Conclusion, BlueGreenError> {
        let mut record = self.record()?;
        if record.step != Step::Gate {
            return Err(wrong_step(
                &record,
                "promoted",
                "`cargo xtask blue-green deploy` with the same version goes on with it, `abort` takes it back",
            ));
        }
        record.manual = false;
        // Hours may have gone by: whether it may get traffic is asked again.
        record.step = Step::Check;
        self.write(record).await?;
        self.go_on().await
    }

    /// Takes back what is under way.
    async fn abort(&mut self) -> Result<Conclusion, BlueGreenError> {
        let Some(record) = self.book.record.clone() else {
            return self.clear_idle().await;
        };
        if record.step == Step::Retire {
            return Err(wrong_step(
                &record,
                "aborted",
                "the old colour is going; `cargo xtask blue-green deploy` with the same version finishes it, with the old version goes back",
            ));
        }
        let why = record
            .why
            .unwrap_or_else(|| "`abort` was asked for".to_owned());
        self.take_back(Why::Failed(why), Instant::now()).await
    }

    /// Ends what this release has under way. Under the lock: nobody writes another's record now.
    async fn end(&mut self) -> Result<Conclusion, BlueGreenError> {
        self.deployer.must_be_ours(self.book.record.as_ref())?;
        match self.record()?.step {
            Step::Retire => self.go_on().await,
            _ => self.abort().await,
        }
    }

    /// Pods of the idle colour that no release accounts for.
    async fn clear_idle(&mut self) -> Result<Conclusion, BlueGreenError> {
        let idle = self.objects.sides().await?.idle;
        let running = idle.deployment.status.as_ref().and_then(|it| it.replicas);
        if idle.wanted == 0 && running.unwrap_or(0) == 0 {
            return Err(BlueGreenError::NothingUnderWay {
                service: self.deployer.service.to_owned(),
            });
        }
        self.lock.check()?;
        self.objects.scale(idle.colour, 0).await?;
        Ok(Conclusion::TakenBack {
            why: format!("no release accounts for the pods of {}", idle.colour),
            inconclusive: false,
        })
    }

    /// Sees to a release that its deployer left unfinished: `version` is wanted now. How that
    /// ended, where it is the same.
    async fn see_to(
        &mut self,
        mut old: Record,
        version: &str,
        manual: bool,
    ) -> Result<Option<Conclusion>, BlueGreenError> {
        let switched = self.objects.sides().await?.live.colour == old.to;
        let same = old.version == version;
        // Nobody left that one: it waits for a person.
        if old.step == Step::Gate && !same {
            self.deployer.must_be_ours(Some(&old))?;
        }
        let course = match (old.step, switched) {
            (Step::Retire, _) | (Step::Drain, true) => Some(old.step),
            (Step::Revert, _) => None,
            (Step::BringUp | Step::Check | Step::Gate | Step::Switch, false) if same => {
                Some(Step::BringUp)
            }
            (Step::Switch | Step::Analyse, true) if same => Some(old.step),
            _ => None,
        };
        let how = match (course, same) {
            (Some(step), _) => format!("resumed at {step}"),
            (None, true) => "taken back".to_owned(),
            (None, false) => format!("taken back, as {version} is wanted now"),
        };
        self.tell(Happened::Found {
            release: old.release.clone(),
            step: old.step,
            how,
        })
        .await;
        let concluded = match course {
            Some(step) => {
                old.step = step;
                old.manual = manual;
                old.deployer = self.deployer.holder.to_string();
                self.write(old).await?;
                self.go_on().await?
            }
            None => {
                let unfinished = "its deployer left it unfinished".to_owned();
                let why = old.why.unwrap_or(unfinished);
                self.take_back(Why::Failed(why), Instant::now()).await?
            }
        };
        Ok(same.then_some(concluded))
    }

    /// From where the record is to the end, or back.
    async fn go_on(&mut self) -> Result<Conclusion, BlueGreenError> {
        loop {
            let record = self.record()?;
            self.tell(Happened::Began { step: record.step }).await;
            let next = match record.step {
                Step::Gate => return self.wait_at_gate(&record).await,
                Step::Retire => return self.retire(&record).await,
                step => self.unless_called_off(step, &record).await?,
            };
            match next {
                Ok(step) => self.begin(step).await?,
                Err(why) => return self.take_back(why, Instant::now()).await,
            }
        }
    }

    /// A step, cut short where the release is called off, or the lock lost.
    async fn unless_called_off(
        &mut self,
        step: Step,
        record: &Record,
    ) -> Result<Next, BlueGreenError> {
        let (called_off, lock) = (self.deployer.called_off.clone(), self.lock);
        tokio::select! {
            biased;
            lost = lock.lost() => Err(lost.into()),
            () = called_off.cancelled() => Ok(Err(Why::CalledOff)),
            next = self.step(step, record) => next,
        }
    }

    async fn step(&mut self, step: Step, record: &Record) -> Result<Next, BlueGreenError> {
        match step {
            Step::BringUp => self.bring_up(record).await,
            Step::Check => self.check(record).await,
            Step::Switch => self.switch(record).await,
            Step::Analyse => self.analyse(record).await,
            Step::Drain => self.drain(record).await,
            Step::Gate | Step::Retire => Ok(Ok(step)),
            Step::Revert => {
                let unfinished = || "it was being taken back".to_owned();
                let why = record.why.clone().unwrap_or_else(unfinished);
                Ok(Err(Why::Failed(why)))
            }
        }
    }

    async fn bring_up(&mut self, record: &Record) -> Result<Next, BlueGreenError> {
        let idle = self.objects.sides().await?.of(record.to).deployment.clone();
        let container = self.objects.container(&idle)?;
        let image = container.image.clone().unwrap_or_default();
        let repository = tag(&image).map_or(image.as_str(), |(repository, _)| repository);
        let patch = json!({"spec": {
            "replicas": record.replicas,
            "template": {
                "metadata": {"labels": {VERSION: record.version}},
                "spec": {"containers": [{
                    "name": container.name,
                    "image": format!("{repository}:{}", record.version),
                }]},
            },
        }});
        // Strategic, so that containers are told apart by their names.
        let patch = Patch::Strategic(patch);
        self.objects.patch_deployment(record.to, &patch).await?;
        Ok(self.until_up(record).await?.map(|()| Step::Check))
    }

    /// Waits until the new colour's rollout is truly complete.
    async fn until_up(&mut self, record: &Record) -> Result<Result<(), Why>, BlueGreenError> {
        let end = Instant::now() + self.deployer.policy.green_ready;
        let selector = self.objects.selector(record.to);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.follow_rollout(record, &selector, left).await {
                Ok(()) => return Ok(Ok(())),
                // It may come back; what it was asked to do it has been told.
                Err(RolloutError::Cluster(error)) if error.may_pass() && Instant::now() < end => {
                    self.progress(error.to_string()).await;
                    self.objects.sides().await?;
                }
                Err(RolloutError::Cluster(error)) => return Err(error.into()),
                Err(error) => {
                    let why = format!("{} does not come up: {error}", record.to);
                    return Ok(Err(Why::Failed(why)));
                }
            }
        }
    }

    async fn follow_rollout(
        &mut self,
        record: &Record,
        selector: &str,
        deadline: Duration,
    ) -> Result<(), RolloutError> {
        let cluster = self.deployer.cluster;
        let live = format!("{} is live in {}", record.from, record.old_version);
        relayed(
            async |progress: &(dyn Fn(&str) + Sync)| {
                rollout::complete(cluster, selector, deadline, progress).await
            },
            async |line| self.progress(format!("{live}; {line}")).await,
        )
        .await
    }

    async fn check(&mut self, record: &Record) -> Result<Next, BlueGreenError> {
        self.before = Some(self.first_reading(record.from).await?);
        match health::every_pod(&self.objects, record.to, record.replicas).await? {
            Ok(held) => self.tell(held).await,
            Err(why) => return Ok(Err(Why::Failed(why))),
        }
        let preview = self.objects.preview();
        let ready = Instant::now();
        if let Err(error) = switch::settled(&self.objects, &preview, record.to, ready).await? {
            return Ok(Err(Why::Failed(error.to_string())));
        }
        if let Err(why) = self.smoke(&preview, &record.version).await {
            return Ok(Err(Why::Failed(why)));
        }
        Ok(Ok(match record.manual {
            true => Step::Gate,
            false => Step::Switch,
        }))
    }

    async fn smoke(&mut self, service: &str, version: &str) -> Result<(), String> {
        let paths = self.deployer.smoke;
        let held = health::smoke(&self.objects, service, version, paths).await?;
        self.tell(held).await;
        Ok(())
    }

    async fn wait_at_gate(&mut self, record: &Record) -> Result<Conclusion, BlueGreenError> {
        let (version, colour) = (record.version.clone(), record.to);
        self.tell(Happened::AtGate {
            version: version.clone(),
            colour,
        })
        .await;
        Ok(Conclusion::AtGate { version, colour })
    }

    async fn switch(&mut self, record: &Record) -> Result<Next, BlueGreenError> {
        let mut record = record.clone();
        if record.baseline.is_none() {
            record.baseline = self.baseline(&record).await?;
        }
        if let Err(why) = self.keep_up(&mut record).await? {
            return Ok(Err(why));
        }
        self.write(record.clone()).await?;
        // Both are left alone by others until it is settled which of them is live.
        self.objects.mark(record.to, true).await?;
        self.lock.check()?;
        let patched = Instant::now();
        let happened = switch::traffic(&self.objects, Some(record.from), record.to).await?;
        self.tell(happened).await;
        switch::preview(&self.objects, record.from).await?;
        match switch::settled(&self.objects, self.deployer.service, record.to, patched).await? {
            Ok(settled) => self.tell(settled).await,
            Err(error) => return Ok(Err(Why::Failed(error.to_string()))),
        }
        Ok(Ok(Step::Analyse))
    }

    /// Measures traffic on the live colour for as long as the policy says.
    async fn baseline(&mut self, record: &Record) -> Result<Option<Window>, BlueGreenError> {
        let before = match self.before.take() {
            Some(before) => before,
            None => self.first_reading(record.from).await?,
        };
        let end = before.at() + self.deployer.policy.baseline;
        if Instant::now() < end {
            let text = format!("measuring traffic on {}, to compare with", record.from);
            self.progress(text).await;
            sleep_until(end).await;
        }
        let now = self.reading(record.from).await?;
        Ok(Some(Window::between(&before, &now)))
    }

    /// The live colour may have grown since: the new one is to have as many.
    async fn keep_up(&mut self, record: &mut Record) -> Result<Result<(), Why>, BlueGreenError> {
        let sides = self.objects.sides().await?;
        if sides.live.colour != record.from {
            return Ok(Ok(()));
        }
        let replicas = preflight::replicas(&self.objects, &sides.live).await?;
        let has = sides.of(record.to).ready;
        if has >= replicas {
            return Ok(Ok(()));
        }
        record.replicas = replicas.max(record.replicas);
        let text = format!(
            "{} has {has} ready pods, {} runs {replicas}: scaling up",
            record.to, record.from
        );
        self.progress(text).await;
        self.write(record.clone()).await?;
        self.objects.scale(record.to, record.replicas).await?;
        self.until_up(record).await
    }

    async fn analyse(&mut self, record: &Record) -> Result<Next, BlueGreenError> {
        if let Err(why) = self.smoke(self.deployer.service, &record.version).await {
            let why = format!("after the switch: {why}");
            return Ok(Err(Why::Failed(why)));
        }
        let policy = self.deployer.policy;
        let watched = self.watch(record, policy.analysis, policy.warm_up).await?;
        Ok(match watched {
            Ok(Analysis::Holds { .. }) => Ok(Step::Drain),
            Ok(Analysis::Inconclusive { why }) => Err(Why::Inconclusive(why)),
            Ok(Analysis::Breach { what, .. }) => Err(Why::Failed(what)),
            Err(why) => Err(why),
        })
    }

    async fn drain(&mut self, record: &Record) -> Result<Next, BlueGreenError> {
        let text = format!("connections to {} are given time", record.from);
        self.progress(text).await;
        let drain = self.deployer.policy.drain;
        let watched = self.watch(record, drain, Duration::ZERO).await?;
        Ok(match watched {
            Ok(Analysis::Breach { what, .. }) => Err(Why::Failed(what)),
            // Whether there was enough traffic has been judged before.
            Ok(_) => Ok(Step::Retire),
            Err(why) => Err(why),
        })
    }

    /// Looks at measured traffic on the new colour for `span`, or until it breaches. The last
    /// look is the verdict. Latency is judged from the end of `warm_up` on.
    async fn watch(
        &mut self,
        record: &Record,
        span: Duration,
        warm_up: Duration,
    ) -> Result<Result<Analysis, Why>, BlueGreenError> {
        let baseline = record.baseline.clone().unwrap_or_default();
        let first = self.first_reading(record.to).await?;
        let warm_at = first.at() + warm_up;
        let mut warm = warm_up.is_zero().then(|| first.clone());
        let end = Instant::now() + span;
        loop {
            sleep(LOOK_EVERY).await;
            if let Err(why) = self.still_live(record).await? {
                return Ok(Err(why));
            }
            let now = self.reading(record.to).await?;
            let mut window = Window::between(&first, &now);
            window.durations = match &warm {
                Some(warm) => Window::between(warm, &now).durations,
                None => Histogram::default(),
            };
            if warm.is_none() && now.at() >= warm_at {
                warm = Some(now);
            }
            let thresholds = &self.deployer.policy.thresholds;
            let analysis = analysis::judge(&baseline, &window, thresholds);
            let text = format!("{}: {analysis}", record.to);
            self.progress(text.clone()).await;
            if let Analysis::Breach { what, .. } = &analysis {
                self.tell(Happened::Breached { what: what.clone() }).await;
                return Ok(Ok(analysis));
            }
            // A pod that was slow to tell is asked again before a good version is taken back.
            let undecided = matches!(analysis, Analysis::Inconclusive { .. });
            let end = if undecided { end + SECOND_LOOKS } else { end };
            if Instant::now() >= end {
                self.tell(Happened::Analysed { text }).await;
                return Ok(Ok(analysis));
            }
        }
    }

    /// Traffic goes where the record says, and somebody is there to take it.
    async fn still_live(&mut self, record: &Record) -> Result<Result<(), Why>, BlueGreenError> {
        let active = self.objects.active().await?;
        if preflight::colour_of(&active) != Some(record.to) {
            let why = switch::meddled(&self.objects, &active).to_string();
            return Ok(Err(Why::Failed(why)));
        }
        let endpoints = self.objects.endpoints(self.deployer.service).await?;
        Ok(match endpoints.iter().any(|(_, ready)| *ready) {
            true => Ok(()),
            false => Err(Why::Failed(format!("no pod of {} is ready", record.to))),
        })
    }

    /// One to compare later ones with: what a pod that it lacks counts later says nothing.
    async fn first_reading(&self, colour: Colour) -> Result<Reading, BlueGreenError> {
        let end = Instant::now() + FIRST_READING;
        loop {
            let reading = self.reading(colour).await?;
            if reading.unread().next().is_none() || Instant::now() >= end {
                return Ok(reading);
            }
            sleep(LOOK_EVERY / 4).await;
        }
    }

    async fn reading(&self, colour: Colour) -> Result<Reading, BlueGreenError> {
        let pods = self.objects.pods(colour).await?;
        Ok(Reading::of(self.deployer.cluster, &pods, READING).await)
    }

    /// The old colour's pods end. From here on there is no way back but another release.
    async fn retire(&mut self, record: &Record) -> Result<Conclusion, BlueGreenError> {
        self.objects.mark(record.to, true).await?;
        self.objects.mark(record.from, false).await?;
        self.empty(record.from).await?;
        self.book.conclude(Outcome::Released).await?;
        let (version, colour) = (record.version.clone(), record.to);
        self.tell(Happened::Released {
            version: version.clone(),
            colour,
        })
        .await;
        Ok(Conclusion::Released { version, colour })
    }

    /// Scales a colour to 0 and waits until its pods have ended, each in its grace period.
    async fn empty(&mut self, colour: Colour) -> Result<(), BlueGreenError> {
        self.lock.check()?;
        self.objects.scale(colour, 0).await?;
        let mut end = None;
        let mut told = 0;
        loop {
            let pods = self.objects.all_pods(colour).await?;
            if pods.is_empty() {
                self.tell(Happened::Retired { colour }).await;
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
            if pods.len() != told {
                told = pods.len();
                self.progress(format!("{told} pods of {colour} are draining"))
                    .await;
            }
            sleep(LOOK_EVERY / 4).await;
        }
    }

    /// Brings all traffic to the old colour, verifies that, and empties the new one.
    /// `since` is when it was known that this has to be.
    async fn take_back(&mut self, why: Why, since: Instant) -> Result<Conclusion, BlueGreenError> {
        let mut record = self.record()?;
        record.why = Some(why.text().to_owned());
        record.step = Step::Revert;
        record.since = Timestamp::now();
        self.write(record.clone()).await?;
        self.tell(Happened::Began { step: Step::Revert }).await;
        let active = self.objects.active().await?;
        let switched = preflight::colour_of(&active) != Some(record.from);
        if switched {
            self.revert(&record, since).await?;
        }
        self.objects.mark(record.from, true).await?;
        self.objects.mark(record.to, false).await?;
        switch::preview(&self.objects, record.to).await?;
        self.empty(record.to).await?;
        let outcome = match switched {
            true => Outcome::Reverted,
            false => Outcome::TakenBack,
        };
        self.book.conclude(outcome).await?;
        let inconclusive = matches!(why, Why::Inconclusive(_));
        let why = why.text().to_owned();
        Ok(match outcome {
            Outcome::Reverted => Conclusion::Reverted { why, inconclusive },
            _ => Conclusion::TakenBack { why, inconclusive },
        })
    }

    async fn revert(&mut self, record: &Record, since: Instant) -> Result<(), BlueGreenError> {
        self.old_colour_can(record).await?;
        let patched = Instant::now();
        let happened = switch::traffic(&self.objects, None, record.from).await?;
        self.tell(happened).await;
        let settled =
            switch::settled(&self.objects, self.deployer.service, record.from, patched).await?;
        let look = self.objects.kubectl("get pods,endpointslices");
        let not_back = |seen: String| BlueGreenError::Meddled {
            what: format!("traffic is not back on {}: {seen}", record.from),
            help: format!("look at once: `{look}`"),
        };
        let settled = settled.map_err(|error| not_back(error.to_string()))?;
        self.tell(settled).await;
        let service = self.deployer.service;
        self.smoke(service, &record.old_version)
            .await
            .map_err(not_back)?;
        self.tell(Happened::Reverted {
            why: record.why.clone().unwrap_or_default(),
            millis: millis(since.elapsed()),
        })
        .await;
        Ok(())
    }

    /// An autoscaler or a hand may have taken its pods.
    async fn old_colour_can(&mut self, record: &Record) -> Result<(), BlueGreenError> {
        let old = self.objects.sides().await?.of(record.from).clone();
        if old.ready > 0 {
            return Ok(());
        }
        let text = format!("{} has no ready pod: bringing it up first", record.from);
        self.progress(text).await;
        self.objects.scale(record.from, record.replicas).await?;
        let selector = self.objects.selector(record.from);
        let deadline = self.deployer.policy.green_ready;
        let up = rollout::complete(self.deployer.cluster, &selector, deadline, &|_| {}).await;
        up.map_err(|error| BlueGreenError::Meddled {
            what: format!("{} cannot take traffic back: {error}", record.from),
            help: "traffic stays where it is; look at its pods".to_owned(),
        })
    }

    /// Goes to the next step.
    async fn begin(&mut self, step: Step) -> Result<(), BlueGreenError> {
        let mut record = self.record()?;
        record.step = step;
        record.since = Timestamp::now();
        self.write(record).await
    }

    async fn write(&mut self, record: Record) -> Result<(), BlueGreenError> {
        self.lock.check()?;
        self.book.write(record).await
    }

    fn record(&self) -> Result<Record, BlueGreenError> {
        let service = self.deployer.service.to_owned();
        let record = self.book.record.clone();
        record.ok_or(BlueGreenError::NothingUnderWay { service })
    }

    async fn progress(&mut self, text: String) {
        self.tell(Happened::Progress { text }).await;
    }

    async fn tell(&mut self, what: Happened) {
        (self.observe)(&Event::now(what)).await;
    }
}

fn wrong_step(record: &Record, asked: &'static str, help: &'static str) -> BlueGreenError {
    BlueGreenError::WrongStep {
        release: record.release.clone(),
        asked,
        step: record.step.to_string(),
        help,
    }
}
