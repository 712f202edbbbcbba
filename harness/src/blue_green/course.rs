//! A release from step to step. Each is written into the cluster before it is done and may
//! be done twice, so that whoever comes after a deployer that died goes on from there.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::analysis::{self, Analysis};
use super::changes::Changes;
use super::colour::Colour;
use super::error::BlueGreenError;
use super::event::{Event, Happened};
use super::histogram::Histogram;
use super::lock::Lock;
use super::objects::{LIVE, Objects, Side, VERSION, tag};
use super::policy::Evidence;
use super::probe::Probe;
use super::record::{Book, Outcome, Record, Step};
use super::relay::relayed;
use super::requests::{Letterbox, Requests};
use super::traffic::{self, Reading, Window};
use super::{Ask, Conclusion, Deployer, FIELD_MANAGER, health, preflight, switch};
use crate::cluster::rollout::{self, RolloutError};
use crate::run::millis;

/// Between two looks at measured traffic.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many looks, and what is in flight at all of them is not answered any more.
const STUCK: usize = 5;

/// Over the time of an analysis, where nothing can be said at its end.
const SECOND_LOOKS: Duration = Duration::from_secs(5);

/// For a pod to show what it has counted.
const READING: Duration = Duration::from_secs(2);

/// For each pod to be among those that a first reading has.
const FIRST_READING: Duration = Duration::from_secs(5);

/// For an old colour that has lost some of its pods to have them again.
const CAPACITY: Duration = Duration::from_secs(10);

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

/// What a new colour is watched by.
enum Watched {
    Users(Users),
    Probe(Probe),
    /// How often its containers had been started again before.
    Restarts(u64),
}

/// Users' requests, from look to look.
struct Users {
    last: Reading,
    /// How many requests were in flight at each of the last looks.
    in_flight: VecDeque<u64>,
    counted: Window,
    /// Until then latency is not counted.
    warm_at: Option<Instant>,
}

impl Users {
    fn look(&mut self, now: Reading) {
        let now = now.since(&self.last);
        let mut more = Window::between(&self.last, &now);
        if self.warm_at.is_some_and(|it| self.last.at() < it) {
            more.durations = Histogram::default();
        }
        self.in_flight.push_back(more.in_flight);
        self.counted = std::mem::take(&mut self.counted).and(more);
        if self.in_flight.len() > STUCK {
            self.in_flight.pop_front();
            self.counted.stuck = self.in_flight.iter().min().copied().unwrap_or(0);
        }
        self.last = now;
    }
}

/// What comes after a step, or why nothing does.
type Next = Result<Step, Why>;

/// A release under way, and who follows it.
pub(super) struct Course<'a, O> {
    deployer: &'a Deployer<'a>,
    objects: Objects<'a>,
    changes: Changes<'a>,
    lock: &'a Lock,
    book: Book,
    /// What is asked of the release from elsewhere.
    requests: Option<Requests>,
    /// Traffic on the live colour when the checks began, for the baseline.
    before: Option<Reading>,
    /// Traffic on the new colour when it was last looked at: at first right before the switch.
    on_new: Option<Reading>,
    observe: &'a mut O,
}

impl<'a, O: AsyncFnMut(&Event)> Course<'a, O> {
    /// Reads what is under way.
    pub async fn open(
        deployer: &'a Deployer<'a>,
        lock: &'a Lock,
        observe: &'a mut O,
    ) -> Result<Self, BlueGreenError> {
        let objects = deployer.objects();
        Ok(Course {
            deployer,
            objects,
            changes: Changes { objects, lock },
            lock,
            book: Book::read(deployer.cluster, deployer.service).await?,
            requests: None,
            before: None,
            on_new: None,
            observe,
        })
    }

    /// Does what is asked.
    pub async fn run(&mut self, ask: Ask<'_>) -> Result<Conclusion, BlueGreenError> {
        let concluded = match ask {
            Ask::Deploy { version, manual } => self.deploy(version, manual).await,
            Ask::Promote => self.promote().await,
            Ask::Abort => self.abort().await,
            Ask::Pause => Err(wrong_step(
                &self.record()?,
                "paused",
                "nobody is at work on it: it stays where it is until `deploy`, `promote` or `abort`",
            )),
            Ask::End => self.end().await,
        };
        concluded.map_err(|source| match &self.book.record {
            Some(record) if record.deployer == self.deployer.holder.to_string() => {
                BlueGreenError::Unfinished {
                    service: self.deployer.service.to_owned(),
                    release: record.release.clone(),
                    step: record.step.to_string(),
                    source: Box::new(source),
                }
            }
            _ => source,
        })
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
            return self.already_live(sides.live).await;
        }
        let replicas = preflight::replicas(&self.objects, &sides.live).await?;
        preflight::look(&self.objects, &sides, replicas).await?;
        preflight::evidence(self.deployer.policy.analysis, self.deployer.smoke)?;
        let now = Timestamp::now();
        self.write(Record {
            release: self.deployer.release.clone(),
            version: version.to_owned(),
            old_version: sides.live.version,
            from: sides.live.colour,
            to: sides.idle.colour,
            replicas,
            manual,
            analysis: self.deployer.policy.analysis,
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

    /// The version is live; that says nothing of whether its pods are well.
    async fn already_live(&mut self, live: Side) -> Result<Conclusion, BlueGreenError> {
        let (version, colour) = (live.version, live.colour);
        let selector = self.objects.selector(colour);
        let deadline = self.deployer.policy.green_ready;
        Ok(match self.follow_rollout(&selector, deadline, "").await {
            Ok(()) => Conclusion::AlreadyLive { version, colour },
            Err(RolloutError::Cluster(error)) => return Err(error.into()),
            Err(error) => Conclusion::LiveUnwell {
                version,
                colour,
                why: error.to_string(),
            },
        })
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
        record.deployer = self.deployer.holder.to_string();
        // Hours may have gone by: its pods are made up, and whether it may get traffic is asked
        // again.
        record.step = Step::BringUp;
        record.baseline = None;
        let sides = self.objects.sides().await?;
        let replicas = preflight::replicas(&self.objects, &sides.live).await?;
        record.replicas = record.replicas.max(replicas);
        self.write(record).await?;
        self.go_on().await
    }

    /// Takes back what is under way.
    async fn abort(&mut self) -> Result<Conclusion, BlueGreenError> {
        let Some(record) = self.book.record.clone() else {
            return self.clear_idle().await;
        };
        if record.step == Step::Retire {
            self.live_while_retiring(&record).await?;
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
        let active = self.objects.active().await?;
        if preflight::colour_of(&active).is_none() {
            return self.mend_selector().await;
        }
        let idle = self.objects.sides().await?.idle;
        let running = idle.deployment.status.as_ref().and_then(|it| it.replicas);
        if idle.wanted == 0 && running.unwrap_or(0) == 0 {
            return Err(BlueGreenError::NothingUnderWay {
                service: self.deployer.service.to_owned(),
            });
        }
        self.changes.scale(idle.colour, 0).await?;
        Ok(Conclusion::TakenBack {
            why: format!("no release accounts for the pods of {}", idle.colour),
            inconclusive: false,
        })
    }

    /// Where the old colour is going, a hand that removed the selector's track gets the new one.
    async fn live_while_retiring(&mut self, record: &Record) -> Result<(), BlueGreenError> {
        if preflight::colour_of(&self.objects.active().await?).is_none() {
            let moved = self.changes.move_traffic(None, record.to).await?;
            self.tell(moved).await;
        }
        Ok(())
    }

    /// Has the active Service, which a hand has select neither colour or both, select the one
    /// that was live: it is marked so, and has pods that are ready.
    async fn mend_selector(&mut self) -> Result<Conclusion, BlueGreenError> {
        let mut were_live = Vec::new();
        for colour in Colour::ALL {
            let side = self.objects.side(colour).await?;
            let is_marked = side
                .deployment
                .annotations()
                .get(LIVE)
                .is_some_and(|it| it == "true");
            if is_marked && side.ready > 0 {
                were_live.push(colour);
            }
        }
        let [live] = were_live[..] else {
            return Err(BlueGreenError::Meddled {
                what: format!(
                    "the active Service selects no colour, and {} are marked as live and have pods that are ready",
                    if were_live.is_empty() { "none" } else { "both" }
                ),
                help: format!(
                    "choose one: `{}`",
                    self.objects.kubectl(&format!(
                        "set selector service/{} app.kubernetes.io/name={0},trii.co/track=blue --field-manager {FIELD_MANAGER}",
                        self.deployer.service
                    ))
                ),
            });
        };
        let patched = Instant::now();
        let moved = self.changes.move_traffic(None, live).await?;
        self.tell(moved).await;
        let settled = switch::settled(&self.objects, self.deployer.service, live, patched).await?;
        let settled = settled.map_err(|seen| self.not_back(live, &seen))?;
        self.tell(settled).await;
        Ok(Conclusion::TakenBack {
            why: format!("the active Service selected no colour: it selects {live} again"),
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
        if old.step == Step::Retire {
            self.live_while_retiring(&old).await?;
        }
        let live = preflight::colour_of(&self.objects.active().await?);
        let (switched, not_switched) = (live == Some(old.to), live == Some(old.from));
        let same = old.version == version;
        // Nobody left that one: it waits for a person.
        if old.step == Step::Gate && !same {
            self.deployer.must_be_ours(Some(&old))?;
        }
        let course = match old.step {
            // Who is live now counts: somebody may have moved traffic by hand.
            Step::Retire | Step::Drain if switched => Some(old.step),
            Step::Switch | Step::Analyse if switched && same => Some(old.step),
            Step::BringUp | Step::Check | Step::Gate | Step::Switch if not_switched && same => {
                // Traffic of hours ago is nothing to compare with.
                old.baseline = None;
                Some(Step::BringUp)
            }
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
        let letterbox = self.letterbox();
        self.requests = Some(Requests::of(letterbox, &self.record()?.release));
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
        let abort = self.requests.as_ref().map(Requests::abort);
        let abort = async {
            match abort {
                Some(abort) => abort.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            lost = lock.lost() => Err(lost.into()),
            () = called_off.cancelled() => Ok(Err(Why::CalledOff)),
            request = abort => Ok(Err(Why::Failed(request.to_string()))),
            next = self.step(step, record) => match next {
                // Traffic goes to both; back to the old one alone.
                Err(error @ BlueGreenError::NoLiveColour { .. }) => {
                    Ok(Err(Why::Failed(error.to_string())))
                }
                next => next,
            },
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
        self.changes.hold(record.to, record.replicas).await?;
        self.changes
            .bring_up(record.to, record.replicas, &template)
            .await?;
        Ok(self.until_up(record).await?.map(|()| Step::Check))
    }

    /// Waits until the new colour's rollout is truly complete.
    async fn until_up(&mut self, record: &Record) -> Result<Result<(), Why>, BlueGreenError> {
        let end = Instant::now() + self.deployer.policy.green_ready;
        let selector = self.objects.selector(record.to);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let live = format!("{} is live in {}; ", record.from, record.old_version);
            match self.follow_rollout(&selector, left, &live).await {
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

    async fn check(&mut self, record: &Record) -> Result<Next, BlueGreenError> {
        if record.analysis == Evidence::Required {
            self.before = Some(self.first_reading(record.from).await?);
        }
        match health::every_pod(&self.objects, record.to, record.replicas).await? {
            Ok(held) => self.tell(held).await,
            Err(why) => return Ok(Err(Why::Failed(why))),
        }
        let preview = self.objects.preview();
        let ready = Instant::now();
        if let Err(seen) = switch::settled(&self.objects, &preview, record.to, ready).await? {
            return Ok(Err(Why::Failed(seen)));
        }
        if let Err(why) = self.smoke(&preview, &record.version).await? {
            return Ok(Err(Why::Failed(why)));
        }
        let asked = self.requests.as_ref().and_then(Requests::stops_at_gate);
        Ok(Ok(match asked.unwrap_or(record.manual) {
            true => Step::Gate,
            false => Step::Switch,
        }))
    }

    async fn smoke(
        &mut self,
        service: &str,
        version: &str,
    ) -> Result<Result<(), String>, BlueGreenError> {
        let paths = self.deployer.smoke;
        let smoked = health::smoke(&self.objects, service, version, paths).await?;
        match smoked {
            Ok(held) => {
                self.tell(held).await;
                Ok(Ok(()))
            }
            Err(why) => Ok(Err(why)),
        }
    }

    async fn wait_at_gate(&mut self, record: &Record) -> Result<Conclusion, BlueGreenError> {
        let (version, colour) = (record.version.clone(), record.to);
        // Whoever promotes it must not be told to pause again.
        self.requests = None;
        if self.letterbox().read(&record.release).await?.is_some() {
            self.letterbox().put(None).await?;
        }
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
            record.baseline = match record.analysis {
                Evidence::Required => Some(self.baseline(&record).await?),
                Evidence::Probe => Some(self.probed_baseline(&record).await),
                Evidence::None => None,
            };
        }
        if let Err(why) = self.keep_up(&mut record).await? {
            return Ok(Err(why));
        }
        self.write(record.clone()).await?;
        // Both are left alone by others until it is settled which of them is live.
        self.changes.mark(record.to, true).await?;
        // What may have to take traffic back keeps its capacity until it is retired.
        self.changes.hold(record.from, record.replicas).await?;
        if record.analysis == Evidence::Required {
            self.on_new = Some(self.first_reading(record.to).await?);
        }
        let patched = Instant::now();
        let moved = self
            .changes
            .move_traffic(Some(record.from), record.to)
            .await?;
        self.tell(moved).await;
        self.changes.show(record.from).await?;
        match switch::settled(&self.objects, self.deployer.service, record.to, patched).await? {
            Ok(settled) => self.tell(settled).await,
            Err(seen) => return Ok(Err(Why::Failed(seen))),
        }
        Ok(Ok(Step::Analyse))
    }

    /// Measures traffic on the live colour for as long as the policy says.
    async fn baseline(&mut self, record: &Record) -> Result<Window, BlueGreenError> {
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
        Ok(Window::between(&before, &now))
    }

    /// Asks the live colour for as long.
    async fn probed_baseline(&mut self, record: &Record) -> Window {
        let text = format!("asking {}, to compare with", record.from);
        self.progress(text).await;
        let probe = Probe::begin(&self.objects, self.deployer.smoke);
        sleep(self.deployer.policy.baseline).await;
        probe.window()
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
        self.changes.hold(record.to, record.replicas).await?;
        self.changes.scale(record.to, record.replicas).await?;
        self.until_up(record).await
    }

    async fn analyse(&mut self, record: &Record) -> Result<Next, BlueGreenError> {
        if let Err(why) = self.smoke(self.deployer.service, &record.version).await? {
            let why = format!("after the switch: {why}");
            return Ok(Err(Why::Failed(why)));
        }
        let policy = self.deployer.policy;
        let watched = self.watch(record, policy.watch, policy.warm_up).await?;
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

    /// Looks at the new colour for `span`, or until it breaches. The last look is the verdict.
    /// Latency is judged from the end of `warm_up` on.
    async fn watch(
        &mut self,
        record: &Record,
        span: Duration,
        warm_up: Duration,
    ) -> Result<Result<Analysis, Why>, BlueGreenError> {
        let baseline = record.baseline.clone().unwrap_or_default();
        let mut watched = self.watched(record, warm_up).await?;
        let mut end = Instant::now() + span;
        loop {
            sleep(LOOK_EVERY).await;
            let looked = Instant::now();
            if let Err(why) = self.still_live(record).await? {
                return Ok(Err(why));
            }
            let thresholds = &self.deployer.policy.thresholds;
            let analysis = match &mut watched {
                Watched::Users(users) => {
                    users.look(self.reading(record.to).await?);
                    analysis::judge(&baseline, &users.counted, thresholds)
                }
                Watched::Probe(probe) => analysis::judge(&baseline, &probe.window(), thresholds),
                Watched::Restarts(before) => {
                    let more = self.restarts(record.to).await?.saturating_sub(*before);
                    analysis::judge_by_restarts(more)
                }
            };
            // For how long the API server is away nothing is seen of it.
            let took = looked.elapsed();
            if took > LOOK_EVERY * 3 {
                end += took;
            }
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
                if let Watched::Users(users) = watched {
                    self.on_new = Some(users.last);
                }
                self.tell(Happened::Analysed { text }).await;
                return Ok(Ok(analysis));
            }
        }
    }

    /// What the new colour is watched by.
    async fn watched(
        &mut self,
        record: &Record,
        warm_up: Duration,
    ) -> Result<Watched, BlueGreenError> {
        Ok(match record.analysis {
            Evidence::Required => {
                let last = match self.on_new.take() {
                    Some(reading) => reading,
                    None => self.first_reading(record.to).await?,
                };
                Watched::Users(Users {
                    last,
                    in_flight: VecDeque::new(),
                    counted: Window::default(),
                    warm_at: (!warm_up.is_zero()).then(|| Instant::now() + warm_up),
                })
            }
            Evidence::Probe => Watched::Probe(Probe::begin(&self.objects, self.deployer.smoke)),
            Evidence::None => Watched::Restarts(self.restarts(record.to).await?),
        })
    }

    /// How often containers of a colour were started again.
    async fn restarts(&self, colour: Colour) -> Result<u64, BlueGreenError> {
        let pods = self.objects.pods(colour).await?;
        let restarts = pods.iter().map(traffic::restarts).sum::<i32>();
        Ok(u64::try_from(restarts).unwrap_or(0))
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
        self.changes.mark(record.to, true).await?;
        self.changes.mark(record.from, false).await?;
        self.empty(record.from).await?;
        self.let_go().await?;
        self.book.conclude(Outcome::Released).await?;
        let (version, colour) = (record.version.clone(), record.to);
        self.tell(Happened::Released {
            version: version.clone(),
            colour,
        })
        .await;
        Ok(Conclusion::Released { version, colour })
    }

    /// Their autoscalers have both colours again.
    async fn let_go(&self) -> Result<(), BlueGreenError> {
        for colour in Colour::ALL {
            self.changes.let_go(colour).await?;
        }
        Ok(())
    }

    /// Scales a colour to 0 and waits until its pods have ended, each in its grace period.
    async fn empty(&mut self, colour: Colour) -> Result<(), BlueGreenError> {
        self.changes.scale(colour, 0).await?;
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
        self.changes.mark(record.from, true).await?;
        self.changes.mark(record.to, false).await?;
        self.changes.show(record.to).await?;
        self.empty(record.to).await?;
        self.let_go().await?;
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
        let moved = self.changes.move_traffic(None, record.from).await?;
        self.tell(moved).await;
        let service = self.deployer.service;
        let settled = switch::settled(&self.objects, service, record.from, patched).await?;
        let settled = settled.map_err(|seen| self.not_back(record.from, &seen))?;
        self.tell(settled).await;
        let smoked = self.smoke(service, &record.old_version).await?;
        smoked.map_err(|seen| self.not_back(record.from, &seen))?;
        self.tell(Happened::Reverted {
            why: record.why.clone().unwrap_or_default(),
            millis: millis(since.elapsed()),
        })
        .await;
        Ok(())
    }

    fn not_back(&self, colour: Colour, seen: &str) -> BlueGreenError {
        let look = self.objects.kubectl("get pods,endpointslices");
        BlueGreenError::Meddled {
            what: format!("traffic is not back on {colour}: {seen}"),
            help: format!("look at once: `{look}`"),
        }
    }

    /// An autoscaler or a hand may have taken its pods: it gets as many as it had at the switch.
    /// Some of them are waited for shortly, all of them where it has none: what is live may be
    /// worse than few pods.
    async fn old_colour_can(&mut self, record: &Record) -> Result<(), BlueGreenError> {
        let old = self.objects.side(record.from).await?;
        if old.ready >= record.replicas {
            return Ok(());
        }
        let text = format!(
            "{} has {} ready pods, where it had {}: scaling up",
            record.from, old.ready, record.replicas
        );
        self.progress(text).await;
        self.changes.hold(record.from, record.replicas).await?;
        self.changes.scale(record.from, record.replicas).await?;
        let deadline = match old.ready {
            0 => self.deployer.policy.green_ready,
            _ => CAPACITY,
        };
        let selector = self.objects.selector(record.from);
        let up = rollout::complete(self.deployer.cluster, &selector, deadline, &|_| {}).await;
        match up {
            Err(error) if old.ready == 0 => Err(BlueGreenError::Meddled {
                what: format!("{} cannot take traffic back: {error}", record.from),
                help: "traffic stays where it is; look at its pods".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Goes to the next step.
    async fn begin(&mut self, step: Step) -> Result<(), BlueGreenError> {
        let mut record = self.record()?;
        record.step = step;
        record.since = Timestamp::now();
        self.write(record).await
    }

    async fn write(&mut self, record: Record) -> Result<(), BlueGreenError> {
        self.lock.ours().await?;
        self.book.write(record).await
    }

    fn record(&self) -> Result<Record, BlueGreenError> {
        let service = self.deployer.service.to_owned();
        let record = self.book.record.clone();
        record.ok_or(BlueGreenError::NothingUnderWay { service })
    }

    fn letterbox(&self) -> Letterbox {
        Letterbox::of(self.deployer.cluster, self.deployer.service)
    }

    async fn progress(&mut self, text: String) {
        self.tell(Happened::Progress { text }).await;
    }

    async fn tell(&mut self, what: Happened) {
        (self.observe)(&Event::now(what)).await;
    }
}

pub(super) fn wrong_step(
    record: &Record,
    asked: &'static str,
    help: &'static str,
) -> BlueGreenError {
    BlueGreenError::WrongStep {
        release: record.release.clone(),
        asked,
        step: record.step.to_string(),
        help,
    }
}
