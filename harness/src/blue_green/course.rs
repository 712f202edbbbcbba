//! A release from step to step. Each is written into the cluster before it is done and may
//! be done twice, so that whoever comes after a deployer that died goes on from there.

mod ends;
mod others;
mod steps;
pub(super) mod stop;
pub(super) mod switch;
pub(super) mod together;
mod watching;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::canary::Canary;
use super::changes::Changes;
use super::colour::Colour;
use super::error::BlueGreenError;
use super::event::{Event, Happened};
use super::lock::Lock;
use super::objects::{LIVE, Objects, Side};
use super::probe::Probe;
use super::record::{Book, Record, Step};
use super::requests::{RequestMap, Requests};
use super::traffic::Reading;
use super::{Ask, Conclusion, Deployer, FIELD_MANAGER, preflight};
use crate::cluster::rollout::RolloutError;
use others::Decided;
use stop::{Stop, Why};
use together::{Member, Progress};

/// A release under way, and who follows it.
pub(super) struct Course<'a, O> {
    deployer: &'a Deployer<'a>,
    objects: Objects<'a>,
    changes: Changes<'a>,
    lock: &'a Lock,
    book: Book,
    /// Where it is one of several services of the release.
    member: Option<Member>,
    /// What is asked of the release from elsewhere.
    requests: Option<Requests>,
    /// Traffic on the live colour when the checks began, for the baseline.
    before: Option<Reading>,
    /// Traffic on the new colour when it was last looked at: at first right before the switch.
    on_new: Option<Reading>,
    /// Requests of our own, from right before the switch on.
    probe: Option<Probe>,
    observe: &'a mut O,
}

impl<'a, O: AsyncFnMut(&Event)> Course<'a, O> {
    /// Reads what is under way.
    pub async fn open(
        deployer: &'a Deployer<'a>,
        lock: &'a Lock,
        member: Option<Member>,
        observe: &'a mut O,
    ) -> Result<Self, BlueGreenError> {
        let objects = deployer.objects();
        Ok(Course {
            deployer,
            objects,
            changes: Changes { objects, lock },
            lock,
            book: Book::read(deployer.cluster, deployer.service).await?,
            member,
            requests: None,
            before: None,
            on_new: None,
            probe: None,
            observe,
        })
    }

    /// Does what is asked.
    pub async fn run(&mut self, ask: Ask<'_>) -> Result<Conclusion, BlueGreenError> {
        // Large, and on top of what the caller holds.
        let concluded = Box::pin(self.carry_out(ask)).await;
        self.end_probe().await;
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

    async fn carry_out(&mut self, ask: Ask<'_>) -> Result<Conclusion, BlueGreenError> {
        self.must_be_of_these()?;
        self.until_all(Progress::Locked).await?;
        match ask {
            Ask::Deploy { version, manual } => self.deploy(version, manual).await,
            Ask::Promote => self.promote().await,
            Ask::Abort => self.abort().await,
            Ask::Pause => Err(wrong_step(
                &self.record()?,
                "paused",
                "nobody is at work on it: it stays where it is until `deploy`, `promote` or `abort`",
            )),
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
        let reconfigured = sides.reconfigured(self.deployer.service);
        if sides.live.version == version && !reconfigured {
            return self.already_live(sides.live).await;
        }
        if reconfigured {
            let text = format!(
                "{} has another configuration than {}, which is live: it is released with {version} (`{}`)",
                sides.idle.colour,
                sides.live.colour,
                self.objects.kubectl(&format!(
                    "get deployment {} -o yaml",
                    self.objects.deployment(sides.idle.colour)
                ))
            );
            self.progress(text).await;
        }
        let replicas = preflight::replicas(&self.objects, &sides.live).await?;
        preflight::look(&self.objects, &sides, replicas).await?;
        let policy = self.deployer.policy;
        preflight::evidence(self.deployer, policy.analysis, sides.live.colour).await?;
        let canary = self.canary().await?;
        let release = self.release_of_others(version).await?;
        self.until_all(Progress::Possible).await?;
        let now = Timestamp::now();
        self.write(Record {
            release: release.unwrap_or_else(|| self.deployer.release.clone()),
            together: self.services(),
            version: version.to_owned(),
            old_version: sides.live.version,
            from: sides.live.colour,
            to: sides.idle.colour,
            replicas,
            manual,
            reconfigured,
            analysis: policy.analysis,
            canary,
            weight: 0,
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

    /// How the ingress leads traffic to the new colour, where it can.
    async fn canary(&mut self) -> Result<Option<Canary>, BlueGreenError> {
        let Some(canary) = &self.deployer.policy.canary else {
            return Ok(None);
        };
        match self.objects.why_no_canary().await? {
            None => Ok(Some(canary.clone())),
            Some(because) => {
                self.tell(Happened::CanarySkipped { because }).await;
                Ok(None)
            }
        }
    }

    /// The version is live; that says nothing of whether its pods are well.
    async fn already_live(&mut self, live: Side) -> Result<Conclusion, BlueGreenError> {
        let (version, colour) = (live.version, live.colour);
        self.reached(Progress::Possible);
        let selector = self.objects.selector(colour);
        let deadline = self.deployer.policy.green_ready;
        Ok(match self.follow_rollout(&selector, deadline, "").await {
            Ok(()) => {
                self.reached(Progress::Drained);
                Conclusion::AlreadyLive { version, colour }
            }
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
        preflight::evidence(self.deployer, record.analysis, record.from).await?;
        record.manual = false;
        record.deployer = self.deployer.holder.to_string();
        // Hours may have gone by: its pods are made up, and whether it may get traffic is asked
        // again.
        record.step = Step::BringUp;
        record.baseline = None;
        let sides = self.objects.sides().await?;
        let replicas = preflight::replicas(&self.objects, &sides.live).await?;
        record.replicas = record.replicas.max(replicas);
        self.until_all(Progress::Possible).await?;
        self.write(record).await?;
        self.go_on().await
    }

    /// Takes back what is under way.
    async fn abort(&mut self) -> Result<Conclusion, BlueGreenError> {
        let Some(record) = self.book.record.clone() else {
            return self.clear_idle().await;
        };
        if record.step == Step::Retire || self.decided(&record).await? == Decided::Forward {
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
        if self.objects.live().await?.is_none() {
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
        if self.objects.live().await?.is_none() {
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
        let settled = switch::settled(&self.objects, self.deployer.service, live, patched).await;
        let settled = settled.map_err(|stop| stop.or(|seen| self.not_back(live, seen)))?;
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
        let live = self.objects.live().await?;
        let (switched, not_switched) = (live == Some(old.to), live == Some(old.from));
        let same = old.version == version;
        let decided = self.decided(&old).await?;
        // What several services have begun together, they end together.
        let is_finished = same || decided == Decided::Forward || old.together.is_empty();
        // Nobody left that one: it waits for a person.
        if old.step == Step::Gate && !same {
            self.deployer.must_be_ours(Some(&old))?;
        }
        let course = match old.step {
            _ if decided == Decided::Back => None,
            // Who is live now counts: somebody may have moved traffic by hand.
            Step::Retire | Step::Drain if switched && is_finished => Some(old.step),
            Step::Switch | Step::Analyse if switched && same => Some(old.step),
            Step::BringUp | Step::Check | Step::Gate | Step::Canary | Step::Switch
                if not_switched && same =>
            {
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
        // The others are of the release that is wanted now.
        let member = if same { None } else { self.member.take() };
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
        if member.is_some() {
            self.member = member;
        }
        Ok(same.then_some(concluded))
    }

    /// From where the record is to the end, or back.
    async fn go_on(&mut self) -> Result<Conclusion, BlueGreenError> {
        self.reached_by(self.record()?.step);
        let request_map = self.request_map();
        self.requests = Some(Requests::of(request_map, &self.record()?.release));
        loop {
            let record = self.record()?;
            self.tell(Happened::Began { step: record.step }).await;
            let next = match record.step {
                Step::Gate => return self.wait_at_gate(&record).await,
                Step::Retire => return Box::pin(self.retire(&record)).await,
                step => self.unless_called_off(step, &record).await,
            };
            match next {
                Ok(step) => self.begin(step).await?,
                Err(Stop::TakeBack(why)) if !self.fail(why.text()) => {
                    let text = format!("too late to take back, {}", why.text());
                    self.progress(text).await;
                    self.begin(Step::Retire).await?;
                }
                Err(Stop::TakeBack(why)) => {
                    return Box::pin(self.take_back(why, Instant::now())).await;
                }
                Err(Stop::Leave(error)) => return Err(error),
            }
        }
    }

    /// A step, cut short where the release is called off, or the lock lost.
    async fn unless_called_off(&mut self, step: Step, record: &Record) -> Result<Step, Stop> {
        let (called_off, lock) = (self.deployer.called_off.clone(), self.lock);
        let abort = self.requests.as_ref().map(Requests::abort);
        let abort = async {
            match abort {
                Some(abort) => abort.await,
                None => std::future::pending().await,
            }
        };
        let another = self.member.as_ref().map(Member::failed);
        let another = async {
            match another {
                Some(another) => another.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            lost = lock.lost() => Err(lost.into()),
            () = called_off.cancelled() => Err(Stop::TakeBack(Why::CalledOff)),
            request = abort => Err(Stop::failed(request.to_string())),
            failed = another => Err(failed.into()),
            next = self.step(step, record) => next,
        }
    }

    /// Each is large, and not all of them are to be in hand at once.
    async fn step(&mut self, step: Step, record: &Record) -> Result<Step, Stop> {
        match step {
            Step::BringUp => Box::pin(self.bring_up(record)).await,
            Step::Check => {
                let next = Box::pin(self.check(record)).await?;
                self.wait_for_others(next).await
            }
            Step::Canary => Box::pin(self.shift_by_weights(record)).await,
            Step::Switch => Box::pin(self.switch(record)).await,
            Step::Analyse => Box::pin(self.analyse(record)).await,
            Step::Drain => Box::pin(self.drain(record)).await,
            Step::Gate | Step::Retire => Ok(step),
            Step::Revert => {
                let why = record.why.as_deref();
                Err(Stop::failed(why.unwrap_or("it was being taken back")))
            }
        }
    }

    /// Goes to the next step.
    async fn begin(&mut self, step: Step) -> Result<(), BlueGreenError> {
        let mut record = self.record()?;
        record.step = step;
        record.since = Timestamp::now();
        self.write(record).await?;
        self.reached_by(step);
        Ok(())
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

    fn request_map(&self) -> RequestMap {
        RequestMap::of(self.deployer.cluster, self.deployer.service)
    }

    async fn progress(&mut self, text: String) {
        self.tell(Happened::Progress { text }).await;
    }

    async fn tell(&mut self, what: Happened) {
        // Whatever is done there would be a part of every step otherwise.
        Box::pin((self.observe)(&Event::now(what))).await;
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
