//! `cargo xtask blue-green`: releases of one service, from one colour to the other.

use std::pin::pin;
use std::time::Instant;

use harness::blue_green::lock::Holder;
use harness::blue_green::{
    Ask, BlueGreenError, Conclusion, Deployer, Event, Happened, Plan, Status, Step,
};
use harness::cluster::Cluster;
use harness::config::remote::Action;
use harness::environment::{Environment, EnvironmentFolder};
use harness::exit::ExitCode;
use harness::interrupts::Interrupts;
use harness::local::colours::versions::{self, NotBuilt};
use harness::remote::Remote;
use harness::run::event::{Check, Failure, Happening, Outcome, Stage, StageResult};
use harness::run::{Run, RunFolderError, millis};
use harness::service::Service;
use miette::Diagnostic;
use tokio_util::sync::CancellationToken;

use super::deploy::{Site, cluster_of};
use super::remote;
use super::workplace::{Workplace, conclude, interrupts, print_json};
use crate::cli::{BlueGreen, BlueGreenCommand, BlueGreenService, Supply};
use crate::console::Console;
use crate::problem::Problem;

/// What is waited for where the API server takes its time.
const ASKING: &str = "asking the cluster";

/// Where a service is released.
struct Ground<'a> {
    place: &'a Workplace,
    target: String,
    cluster: Cluster,
    /// What brings a version there.
    source: Source<'a>,
    /// The id of a release, where it is not the run's.
    release: Option<String>,
    /// Keeps others of this machine from a remote target.
    _remote: Option<Remote<'a>>,
}

/// Where a version comes from.
enum Source<'a> {
    /// Its image is brought to nodes that are ours.
    Image(Box<Site<'a>>),
    /// It is what the checkout holds, in this environment.
    Checkout(EnvironmentFolder),
    /// It is there, or is not.
    Elsewhere,
}

/// Runs one of the commands.
pub async fn run(arguments: BlueGreen) -> Result<ExitCode, Problem> {
    let (of, change) = match &arguments.command {
        BlueGreenCommand::Deploy(deploy) => (&deploy.of, !deploy.dry_run),
        BlueGreenCommand::Promote(of)
        | BlueGreenCommand::Pause(of)
        | BlueGreenCommand::Abort(of) => (of, true),
        BlueGreenCommand::Status(of) => (of, false),
    };
    let place = Workplace::find(&of.named.common).await?;
    // Outlives what is found of it.
    let environment;
    let mut ground = match remote::site(&place) {
        Some(site) => Ground::there(&place, site, change).await?,
        None => {
            let folder = EnvironmentFolder::of(&place.home, &of.named.name);
            let found = folder.read(&of.named.name);
            environment = found.map_err(Problem::no_environment)?;
            Ground::here(&place, &environment).await?
        }
    };
    match &arguments.command {
        BlueGreenCommand::Status(of) => ground.status(of).await,
        BlueGreenCommand::Deploy(deploy) if deploy.dry_run => {
            ground.plan(&deploy.of, &deploy.version).await
        }
        BlueGreenCommand::Deploy(deploy) => {
            ground.release.clone_from(&deploy.release);
            let ask = Ask::Deploy {
                version: &deploy.version,
                manual: deploy.manual,
            };
            ground.release(&deploy.of, ask, deploy.images).await
        }
        BlueGreenCommand::Promote(of) => ground.release(of, Ask::Promote, Supply::Auto).await,
        BlueGreenCommand::Pause(of) => ground.release(of, Ask::Pause, Supply::Auto).await,
        BlueGreenCommand::Abort(of) => ground.release(of, Ask::Abort, Supply::Auto).await,
    }
}

impl<'a> Ground<'a> {
    /// An environment of this machine's that is up.
    async fn here(place: &'a Workplace, environment: &'a Environment) -> Result<Self, Problem> {
        Ok(Ground {
            place,
            target: environment.target.clone(),
            cluster: cluster_of(environment).await?,
            source: match &environment.cluster {
                Some(_) => Source::Image(Box::new(Site::find(place, environment).await?)),
                None => Source::Checkout(EnvironmentFolder::of(&place.home, &environment.name)),
            },
            release: None,
            _remote: None,
        })
    }

    /// A remote target, which has to allow what is to be changed.
    async fn there(
        place: &'a Workplace,
        site: harness::remote::Site<'a>,
        change: bool,
    ) -> Result<Self, Problem> {
        let actions: &[Action] = if change { &[Action::Deploy] } else { &[] };
        let remote = Console::waiting(ASKING, site.open("blue-green", actions)).await;
        let remote = remote.map_err(|error| Problem::new(error.exit_code(), error))?;
        Ok(Ground {
            place,
            target: site.name.to_owned(),
            cluster: remote.cluster().clone(),
            source: Source::Elsewhere,
            release: None,
            _remote: Some(remote),
        })
    }

    async fn status(&self, of: &BlueGreenService) -> Result<ExitCode, Problem> {
        let status = Console::waiting(ASKING, Status::of(&self.cluster, &of.service)).await;
        let status = status.map_err(problem)?;
        match of.named.common.json {
            true => print_json(&status)?,
            false => print_line!("{}", in_words(&status)),
        }
        Ok(ExitCode::Held)
    }

    async fn plan(&self, of: &BlueGreenService, version: &str) -> Result<ExitCode, Problem> {
        let called_off = CancellationToken::new();
        let smoke = self.smoke(&of.service);
        let deployer = self.deployer(of, &smoke, "dry-run", called_off);
        let plan = Console::waiting(ASKING, deployer.plan(version)).await;
        let plan = plan.map_err(problem)?;
        print_line!("{}", plan_in_words(&plan, &of.service, version));
        Ok(ExitCode::Held)
    }

    fn deployer<'d>(
        &'d self,
        of: &'d BlueGreenService,
        smoke: &'d [String],
        release: &str,
        called_off: CancellationToken,
    ) -> Deployer<'d> {
        Deployer {
            cluster: &self.cluster,
            service: &of.service,
            policy: &self.place.config.blue_green,
            smoke,
            holder: Holder::this(release),
            release: release.to_owned(),
            called_off,
        }
    }

    /// The paths that the configuration has the service answer.
    fn smoke(&self, service: &str) -> Vec<String> {
        let service = service.parse::<Service>().ok();
        let paths = service.and_then(|it| self.place.config.blue_green.smoke.get(&it));
        paths.cloned().unwrap_or_default()
    }

    /// A run of the deployer, from its plan to its report.
    async fn release(
        &self,
        of: &BlueGreenService,
        ask: Ask<'_>,
        supply: Supply,
    ) -> Result<ExitCode, Problem> {
        let mut interrupts = interrupts()?;
        let (name, common) = (&of.named.name, &of.named.common);
        let mut run = self
            .place
            .start_run_on("blue-green", &self.target, name, "which is up")?;
        run.begin(Stage::Deploy)?;
        if let Ask::Deploy { version, .. } = ask {
            let progress = run.teller(Stage::Deploy);
            let brought = tokio::select! {
                brought = self.bring(version, supply, &progress) => Ok(brought),
                code = interrupts.next() => Err(code),
            };
            drop(progress);
            match brought {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    return failed(&mut run, failure, ExitCode::NoEnvironment, common.json);
                }
                Err(code) => return called_off(&mut run, code, common.json),
            }
        }
        let concluded = self.follow(&mut run, of, ask, &mut interrupts).await?;
        match concluded {
            Ok((conclusion, None)) => self.concluded(&mut run, of, ask, &conclusion),
            Ok((_, Some(code))) => called_off(&mut run, code, common.json),
            Err(error) => {
                let code = error.exit_code();
                let failure = self.failure(of, &error);
                failed(&mut run, failure, code, common.json)
            }
        }
    }

    /// Has the version be where its pods look for it.
    async fn bring(
        &self,
        version: &str,
        supply: Supply,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), Failure> {
        match &self.source {
            Source::Image(site) => {
                let brought = site.bring_image(version, supply, progress).await;
                brought.map_err(|error| error.failure())
            }
            Source::Checkout(folder) => {
                progress("building the platform");
                let (workspace, deadline) =
                    (&self.place.workspace, self.place.config.deadlines.build);
                let built = versions::build(workspace, folder, version, deadline).await;
                built.map_err(|error| not_built(version, &error))
            }
            Source::Elsewhere => Ok(()),
        }
    }

    /// Has the deployer do it and writes down what it tells. The first signal calls it off,
    /// which it sees to by itself; a second one leaves it where it is.
    async fn follow(
        &self,
        run: &mut Run,
        of: &BlueGreenService,
        ask: Ask<'_>,
        interrupts: &mut Interrupts,
    ) -> Result<Result<(Conclusion, Option<ExitCode>), BlueGreenError>, Problem> {
        let called_off = CancellationToken::new();
        let release = self.release.as_deref().unwrap_or(run.id()).to_owned();
        let smoke = self.smoke(&of.service);
        let deployer = self.deployer(of, &smoke, &release, called_off.clone());
        let mut scribe = Scribe::new(run, &of.service);
        let mut observe = async |event: &Event| scribe.write(event);
        let ended = {
            let mut asked = pin!(deployer.run(ask, &mut observe));
            tokio::select! {
                concluded = &mut asked => concluded.map(|it| (it, None)),
                code = interrupts.next() => {
                    say!(
                        "called off: it is taken back, or finished where it is too late for that; once more leaves at once"
                    );
                    called_off.cancel();
                    tokio::select! {
                        concluded = asked => concluded.map(|it| (it, Some(code))),
                        _ = interrupts.next() => {
                            say!("left as it is; `cargo xtask blue-green abort --service {}` takes it back", of.service);
                            std::process::exit(code as i32);
                        }
                    }
                }
            }
        };
        scribe.end()?;
        Ok(ended)
    }

    fn concluded(
        &self,
        run: &mut Run,
        of: &BlueGreenService,
        ask: Ask<'_>,
        conclusion: &Conclusion,
    ) -> Result<ExitCode, Problem> {
        let is_back = matches!(
            conclusion,
            Conclusion::TakenBack { .. } | Conclusion::Reverted { .. }
        );
        let code = match ask {
            // To take back is what it is for.
            Ask::Abort if is_back => ExitCode::Held,
            Ask::Abort => ExitCode::CheckFailed,
            _ => conclusion.exit_code(),
        };
        let service = &of.service;
        let what = match conclusion {
            Conclusion::AlreadyLive { version, colour } => {
                format!("{version} is live already, as {colour}: nothing to do")
            }
            Conclusion::LiveUnwell {
                version,
                colour,
                why,
            } => format!("{version} is live already, as {colour}, and is not well: {why}"),
            Conclusion::AtGate { version, colour } => {
                format!("{version} is ready as {colour} and waits at the gate")
            }
            Conclusion::Released { version, colour } => {
                format!("{version} of {service} is live, as {colour}")
            }
            Conclusion::TakenBack { why, .. } => format!("taken back before any traffic: {why}"),
            Conclusion::Reverted { why, .. } => format!("traffic is back where it was: {why}"),
        };
        if code != ExitCode::Held {
            let (what_failed, expected) = match ask {
                Ask::Abort => ("was not taken back", "a release that is not at its end yet"),
                _ => ("is not released", "a version that holds"),
            };
            let failure = Failure {
                what: format!("{service} {what_failed}"),
                expected: expected.into(),
                seen: what,
                look_at: "the audit of the release in the cluster".into(),
                next: format!(
                    "cargo xtask blue-green status --service {service}{}",
                    self.named(of)
                ),
            };
            return failed(run, failure, code, of.named.common.json);
        }
        // Of the other two the deployer has told.
        if !matches!(
            conclusion,
            Conclusion::AtGate { .. } | Conclusion::Released { .. }
        ) {
            run.note(Stage::Deploy, what)?;
        }
        run.end_stages(StageResult::Done)?;
        run.finish(code)?;
        let code = conclude(run, code, of.named.common.json)?;
        let named = self.named(of);
        match conclusion {
            Conclusion::AtGate { .. } => {
                say!("next:    cargo xtask blue-green promote --service {service}{named}, or abort")
            }
            _ => say!("next:    cargo xtask blue-green status --service {service}{named}"),
        }
        Ok(code)
    }

    /// How the environment is named on the command line.
    fn named(&self, of: &BlueGreenService) -> String {
        match self.source {
            Source::Elsewhere => format!(" --target {}", self.target),
            _ => format!(" --name {}", of.named.name),
        }
    }

    fn failure(&self, of: &BlueGreenService, error: &BlueGreenError) -> Failure {
        let service = &of.service;
        let help = error.help().map(|it| it.to_string());
        // The library does not know how the environment is named here.
        let (command, named) = (format!("--service {service}`"), self.named(of));
        let help = help.map(|it| it.replace(&command, &format!("--service {service}{named}`")));
        Failure {
            what: format!("{service} is not released"),
            expected: error.expected().into(),
            seen: error.to_string(),
            look_at: format!("{} get deployments,services", self.cluster.kubectl()),
            next: help.unwrap_or_else(|| "cargo xtask status".into()),
        }
    }
}

/// Writes a deployer's events into a run: each step with its time, and what was seen to hold
/// as checks.
struct Scribe<'r> {
    run: &'r mut Run,
    claim: String,
    step: Option<(Step, Instant)>,
    /// Since when there are checks.
    proving: Option<Instant>,
}

/// What the checks of a release are under, in its report.
const SCENARIO: &str = "release";

impl<'r> Scribe<'r> {
    fn new(run: &'r mut Run, service: &str) -> Self {
        Scribe {
            run,
            claim: format!("{service} gets traffic in a version that holds, and in no other"),
            step: None,
            proving: None,
        }
    }

    fn write(&mut self, event: &Event) {
        // What a full disk keeps from being written does not stop a release half way: the
        // run's end tells.
        let _ = self.try_write(event);
    }

    fn try_write(&mut self, event: &Event) -> Result<(), RunFolderError> {
        match &event.what {
            Happened::Progress { text } => {
                self.run.progress(Stage::Deploy, text);
                Ok(())
            }
            Happened::Began { step } => {
                self.end_step()?;
                self.step = Some((*step, Instant::now()));
                self.run.note(Stage::Deploy, format!("{step} ..."))
            }
            Happened::Released { .. } | Happened::AtGate { .. } => {
                self.end_step()?;
                self.run.note(Stage::Deploy, event.what.to_string())
            }
            Happened::HealthHeld { .. }
            | Happened::SmokeHeld { .. }
            | Happened::Settled { .. }
            | Happened::Analysed { .. }
            | Happened::Reverted { .. } => {
                let step = self.step.as_ref();
                let step = step.map_or("beginning".to_owned(), |(step, _)| step.to_string());
                self.checked(
                    event,
                    Outcome::Passed {
                        seen: format!("in the step {step}, at {:.0}", event.at),
                    },
                )
            }
            Happened::SmokeSkipped { .. } => self.checked(
                event,
                Outcome::Skipped {
                    because: "[services.NAME] smoke of the configuration has no paths for it"
                        .into(),
                },
            ),
            what => self.run.note(Stage::Deploy, format!("  {what}")),
        }
    }

    fn checked(&mut self, event: &Event, outcome: Outcome) -> Result<(), RunFolderError> {
        if self.proving.is_none() {
            self.proving = Some(Instant::now());
            self.run.record(Happening::ScenarioStarted {
                scenario: SCENARIO.into(),
                claim: self.claim.clone(),
            })?;
        }
        let begun = self.step.as_ref().map(|(_, begun)| begun.elapsed());
        let check = Check {
            name: event.what.to_string(),
            millis: millis(begun.unwrap_or_default()),
            outcome,
        };
        self.run.checked(SCENARIO, check)
    }

    fn end(mut self) -> Result<(), RunFolderError> {
        self.end_step()?;
        match self.proving {
            None => Ok(()),
            Some(begun) => self.run.record(Happening::ScenarioFinished {
                scenario: SCENARIO.into(),
                millis: millis(begun.elapsed()),
            }),
        }
    }

    fn end_step(&mut self) -> Result<(), RunFolderError> {
        let Some((step, begun)) = self.step.take() else {
            return Ok(());
        };
        self.run.record(Happening::Step {
            stage: Stage::Deploy,
            step: step.to_string(),
            millis: millis(begun.elapsed()),
        })
    }
}

fn not_built(version: &str, error: &NotBuilt) -> Failure {
    Failure {
        what: format!("{version} cannot be had"),
        expected: "a platform that builds from this checkout".into(),
        seen: error.to_string(),
        look_at: "what cargo says".into(),
        next: "cargo build --release --package=platform --locked".into(),
    }
}

fn failed(
    run: &mut Run,
    failure: Failure,
    code: ExitCode,
    json: bool,
) -> Result<ExitCode, Problem> {
    run.record(Happening::Failed { failure })?;
    run.end_stages(StageResult::Failed)?;
    run.finish(code)?;
    conclude(run, code, json)
}

fn called_off(run: &mut Run, code: ExitCode, json: bool) -> Result<ExitCode, Problem> {
    run.end_stages(StageResult::Interrupted)?;
    run.finish(code)?;
    conclude(run, code, json)
}

fn problem(error: BlueGreenError) -> Problem {
    Problem::new(error.exit_code(), error)
}

fn plan_in_words(plan: &Plan, service: &str, version: &str) -> String {
    let Plan {
        old_version,
        from,
        to,
        replicas,
        reconfigured,
    } = plan;
    if old_version == version && !reconfigured {
        return format!("{service}: {version} is live already, as {from}: nothing to do");
    }
    let configuration = if *reconfigured {
        " with a new configuration"
    } else {
        ""
    };
    format!(
        "{service}: {old_version} is live as {from}\n\
         would bring up {version} as {to}{configuration}, {replicas} pods; check each of them;\n\
         have the active Service select {to}; compare its traffic with that of {from};\n\
         and take {from} to 0"
    )
}

fn in_words(status: &Status) -> String {
    let mut lines = vec![status.service.clone()];
    for side in &status.colours {
        let role = match status.live {
            None => "?   ",
            Some(live) if live == side.colour => "live",
            Some(_) => "idle",
        };
        lines.push(format!(
            "  {:<6} {role}  {:<16} {}/{} ready",
            side.colour.name(),
            side.version,
            side.ready,
            side.wanted
        ));
    }
    if status.live.is_none() {
        lines.push(
            "  the active Service selects neither colour, or both: `blue-green abort` mends it"
                .into(),
        );
    }
    if status.reconfigured && status.under_way.is_none() {
        lines.push(
            "  the idle colour has another configuration: `blue-green deploy` of what is live releases it"
                .into(),
        );
    }
    match &status.under_way {
        None => lines.push("  no release is under way".to_owned()),
        Some(record) => lines.push(format!(
            "  release {} of {} is at {} since {:.0}",
            record.release, record.version, record.step, record.since
        )),
    }
    if let Some(held) = &status.held {
        lines.push(format!("  locked by {}", held.holder));
    }
    for entry in status.audit.iter().rev().take(5) {
        let record = &entry.record;
        let why = record.why.as_ref().map(|why| format!(": {why}"));
        lines.push(format!(
            "  {:.0}  {} -> {}  {}{}",
            entry.ended,
            record.old_version,
            record.version,
            entry.outcome,
            why.unwrap_or_default()
        ));
    }
    lines.join("\n")
}
