//! The project's own tests, in tiers by what they need.
//!
//! A test's tier is the name of its binary: `containers` and `cluster` are integration
//! tests of these names, all others are `fast`. Within both, a module's name tells what
//! its tests need besides: `requirement.rs`.

pub mod ground;
mod requirement;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use miette::Diagnostic;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use quick_junit::{Report, TestCaseStatus};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, Command};

use crate::cargo;
use crate::engine::machine::EngineMachine;
use crate::engine::{self, Engine};
use crate::exit::ExitCode;
use crate::images::{self, Supply, Workshop};
use crate::interrupts::Interrupts;
use crate::preflight;
use crate::provision::Need;
use crate::run::event::Failure;
use crate::supervisor::Order;
use crate::tools;
use ground::Ground;
use requirement::Requirement;

/// By what its tests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Nothing but a compiler.
    Fast,
    /// Real Postgres and Redis.
    Containers,
    /// A real Kubernetes cluster.
    Cluster,
}

impl Tier {
    /// Every tier, the cheapest first.
    pub const ALL: [Tier; 3] = [Tier::Fast, Tier::Containers, Tier::Cluster];

    /// What `--provision` has to bring for it.
    pub fn needs(self) -> Vec<Need> {
        let besides_the_runner: &[Need] = match self {
            Tier::Fast => &[],
            Tier::Containers => &[
                Need::PostgresBinaries,
                Need::RedisBinaries,
                Need::Engine,
                Need::ImageBuilder,
                Need::Registry,
            ],
            Tier::Cluster => &Need::OF_CLUSTERS,
        };
        [&[Need::Nextest], besides_the_runner].concat()
    }

    /// The tier's name, also that of its test binaries.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Fast => "fast",
            Tier::Containers => "containers",
            Tier::Cluster => "cluster",
        }
    }

    /// The tier of a test binary, by nextest's name for it (`package::binary`).
    fn of(binary: &str) -> Tier {
        match binary.rsplit("::").next() {
            Some("containers") => Tier::Containers,
            Some("cluster") => Tier::Cluster,
            _ => Tier::Fast,
        }
    }
}

/// The tests cannot be run.
#[derive(Debug, Error, Diagnostic)]
pub enum TestsError {
    /// The test runner is not there.
    #[error("cargo-nextest, which runs the tests, is not installed")]
    #[diagnostic(help("`cargo xtask test --provision` installs it"))]
    NoNextest,
    /// A program could not be started.
    #[error("cannot run {program}: {source}")]
    Run {
        /// Which.
        program: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// The cluster that tests share did not come up.
    #[error("{}: {}", .0.what, .0.seen)]
    #[diagnostic(help("look at {}; next: {}", .0.look_at, .0.next))]
    NoGround(Box<Failure>),
    /// The cluster that tests share was not taken down.
    #[error("left of the tests' cluster: {}", .0.join("; "))]
    #[diagnostic(help("`cargo xtask down --all` removes it"))]
    Left(Vec<String>),
    /// The tests do not compile, mostly.
    #[error("the tests cannot be listed; cargo's words are above")]
    #[diagnostic(help("`cargo test --workspace --no-run` shows compiler errors alone"))]
    NotListed,
    /// The platform does not compile.
    #[error("the platform cannot be built; cargo's words are above")]
    #[diagnostic(help("`cargo build --release --package platform` shows them alone"))]
    NotBuilt,
    /// What nextest says cannot be read.
    #[error("cannot read {what}: {reason}")]
    Unreadable {
        /// What was read.
        what: String,
        /// Why not.
        reason: String,
    },
}

/// What is run here, and what is not, and why.
#[derive(Debug, Default)]
pub struct TestPlan {
    tiers: Vec<Tier>,
    /// Without an engine: why there is none.
    no_engine: Option<String>,
    /// Without what clusters take besides an engine: what is missing.
    no_cluster: Option<String>,
    /// Why no test can stand before the engine's socket.
    no_socket: Option<String>,
    /// Why no test can mount a file system.
    no_mount: Option<String>,
    /// Without the registry that pulls are tested with: why it is not here.
    no_registry: Option<String>,
    /// What a whole tier lacks.
    missing: BTreeMap<Tier, String>,
    /// Whether what cannot be run here is a failure: pipelines are to run every test.
    strict: bool,
}

impl TestPlan {
    /// Looks what can be run here of `tiers`, with the project's own tools in `tools_dir`.
    pub async fn look(tiers: &[Tier], tools_dir: &Path) -> (TestPlan, Option<Engine>) {
        let mut plan = TestPlan {
            tiers: tiers.to_vec(),
            strict: is_pipeline(std::env::var_os("CI").as_deref()),
            ..TestPlan::default()
        };
        for tier in tiers {
            let missing: Vec<&str> = missing(*tier, tools_dir).map(Need::words).collect();
            if !missing.is_empty() {
                plan.missing.insert(*tier, missing.join(" and "));
            }
        }
        if *tiers == [Tier::Fast] {
            return (plan, None);
        }
        plan.no_registry = requirement::no_registry(tools_dir);
        plan.no_mount = requirement::no_mount().await;
        let (engine, machine) = match Engine::find(engine::PATIENCE).await {
            Ok(engine) => {
                plan.no_socket = requirement::no_socket(&engine);
                let machine = EngineMachine::of(&engine).await.ok();
                (Some(engine), machine)
            }
            Err(none) => {
                plan.no_engine = Some(none.in_short());
                (None, None)
            }
        };
        let lacking = preflight::missing_tools(tools_dir, machine.as_ref());
        let lacking: Vec<&str> = lacking.iter().map(|need| need.words()).collect();
        plan.no_cluster = (!lacking.is_empty()).then(|| lacking.join(" and "));
        (plan, engine)
    }

    /// nextest's filter expression for what is run of `tiers`. It may only name what
    /// `there` is: nextest refuses a filter that names no test.
    fn filter(&self, there: &[Listed], tiers: &[Tier]) -> String {
        let named = |tier: Tier| {
            let binary = format!("binary(={})", tier.name());
            there.iter().any(|test| test.tier == tier).then_some(binary)
        };
        let slow: Vec<String> = [Tier::Containers, Tier::Cluster]
            .into_iter()
            .filter_map(named)
            .collect();
        let wanted: Vec<String> = self
            .tiers
            .iter()
            .filter(|tier| tiers.contains(tier) && self.not_run(**tier).is_none())
            .filter_map(|tier| match tier {
                Tier::Fast => Some(format!("not ({})", slow.join(" or "))),
                slow => named(*slow),
            })
            .collect();
        let mut filter = wanted.join(" or ");
        for tier in tiers {
            for requirement in Requirement::ALL {
                let left_out = |test: &Listed| test.tier == *tier && requirement.is_of(&test.name);
                if self.lacks(*tier, requirement).is_some() && there.iter().any(left_out) {
                    let left_out = requirement.filter(tier.name());
                    filter = format!("({filter}) and not {left_out}");
                }
            }
        }
        filter
    }

    /// Whether there is a test of `tiers` to run.
    fn runs_any(&self, there: &[Listed], tiers: &[Tier]) -> bool {
        let run = |test: &Listed| tiers.contains(&test.tier) && self.selects(test) && !test.ignored;
        there.iter().any(run)
    }

    /// Whether the test is run.
    fn selects(&self, test: &Listed) -> bool {
        self.tiers.contains(&test.tier) && self.left_out(test).is_none()
    }

    /// Why the test cannot be run here, if it cannot.
    fn left_out(&self, test: &Listed) -> Option<String> {
        let lacks = |requirement: Requirement| match requirement.is_of(&test.name) {
            true => self.lacks(test.tier, requirement),
            false => None,
        };
        self.not_run(test.tier)
            .or_else(|| Requirement::ALL.into_iter().find_map(lacks))
    }

    /// Why no test of the tier has what it requires, if none has.
    fn lacks(&self, tier: Tier, requirement: Requirement) -> Option<String> {
        match (tier, requirement) {
            (Tier::Fast, _) => None,
            (_, Requirement::Engine) => self.no_ground(tier),
            (_, Requirement::Registry) => self.no_registry.clone(),
            (_, Requirement::Socket) => self.no_socket.clone(),
            (_, Requirement::Mount) => self.no_mount.clone(),
        }
    }

    /// Why what needs an engine is not run in this tier, if it is not.
    fn no_ground(&self, tier: Tier) -> Option<String> {
        let no_engine = self.no_engine.as_ref();
        let no_engine = no_engine.map(|why| format!("they need a container engine, and {why}"));
        let no_cluster = self.no_cluster.as_ref().map(|missing| {
            format!("they need a cluster, and {missing} is missing: `--provision` gets it")
        });
        match tier {
            Tier::Fast => None,
            Tier::Containers => no_engine,
            Tier::Cluster => no_engine.or(no_cluster),
        }
    }

    /// Why the whole tier is not run, if it is not.
    fn not_run(&self, tier: Tier) -> Option<String> {
        let missing = self.missing.get(&tier)?;
        Some(format!(
            "{missing} missing: `cargo xtask test --provision` installs it"
        ))
    }
}

/// What no test of the tier can do without, and is not here.
fn missing(tier: Tier, tools_dir: &Path) -> impl Iterator<Item = Need> {
    let here = |need: &Need| match need {
        Need::PostgresBinaries => tools::postgres_bin_dir().is_some(),
        Need::RedisBinaries => tools::redis_server().is_some(),
        Need::Helm => tools::own_or_on_path(tools_dir, "helm").is_some(),
        // The runner is looked for before; tests without an engine, or without what a
        // cluster takes, are left out one by one.
        Need::Nextest | Need::Engine | Need::ImageBuilder => true,
        Need::Go | Need::DockerCli | Need::Kind => true,
        Need::Registry | Need::Runtime | Need::Inotify => true,
    };
    tier.needs().into_iter().filter(move |need| !here(need))
}

/// PATH with the project's own tools first, for tests that start them.
pub fn path_with(tools_dir: &Path) -> (String, String) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(tools_dir.join("bin")).chain(std::env::split_paths(&path));
    // Only a name with a colon in it cannot be joined: then PATH stays as it is.
    let joined = std::env::join_paths(all).unwrap_or(path);
    ("PATH".into(), joined.to_string_lossy().into_owned())
}

/// Whether `CI`, which pipelines set (GitHub, GitLab and others to `true`), says so.
fn is_pipeline(ci: Option<&OsStr>) -> bool {
    ci.is_some_and(|ci| !ci.is_empty() && ci != "0" && ci != "false")
}

/// A test that there is.
struct Listed {
    tier: Tier,
    name: String,
    ignored: bool,
}

/// What came of a tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that are run by hand only.
    pub ignored: usize,
    /// Tests that could not be run here, by name, under the reason.
    pub left_out: BTreeMap<String, Vec<String>>,
}

impl Tally {
    /// How many could not be run here.
    fn left_out(&self) -> usize {
        self.left_out.values().map(Vec::len).sum()
    }
}

/// What came of the tests.
#[derive(Debug)]
pub struct Outcome {
    plan: TestPlan,
    /// What came of each tier.
    pub tallies: BTreeMap<Tier, Tally>,
    /// What nextest came to.
    ran: ExitCode,
}

/// What the tests of the cluster tier are given, where they have a cluster.
pub struct ClusterOrder<'a> {
    /// How it is stood up.
    pub order: Order,
    /// Variables for its supervisor.
    pub variables: &'a [(String, String)],
    /// Who is told how far it is.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

/// Who is told how far the tests are.
#[derive(Clone, Copy)]
pub struct Audience<'a> {
    /// What is waited for from now on.
    pub waiting: &'a (dyn Fn(&str) + Sync),
    /// cargo or nextest has said something itself.
    pub heard: &'a (dyn Fn() + Sync),
}

/// Runs nextest for a plan, its output passed through: first what needs no cluster, then
/// with one that is stood up for it, the rest.
pub async fn run(
    plan: TestPlan,
    nextest: &Path,
    workspace: &Path,
    environment: &[(String, String)],
    cluster: Option<ClusterOrder<'_>>,
    audience: Audience<'_>,
    interrupts: &mut Interrupts,
) -> Result<Outcome, TestsError> {
    if plan.tiers.contains(&Tier::Containers)
        && let Some(code) = build_platform(workspace, audience, interrupts).await?
    {
        return Ok(Outcome::called_off(plan, code));
    }
    let there = match list(nextest, workspace, audience, interrupts).await? {
        Ok(listed) => listed,
        Err(code) => return Ok(Outcome::called_off(plan, code)),
    };
    let mut part = Part {
        nextest,
        workspace,
        audience,
        junit: workspace.join(JUNIT),
        environment: environment.to_vec(),
        tallies: not_run(&plan, &there),
        // What is not run, and why, is said on the last lines.
        exit_code: None,
    };
    part.run(&plan, &there, &[Tier::Fast, Tier::Containers], interrupts)
        .await?;
    let called_off = [Some(ExitCode::Interrupted), Some(ExitCode::Terminated)];
    if plan.runs_any(&there, &[Tier::Cluster]) && !called_off.contains(&part.exit_code) {
        part.run_on_cluster(&plan, &there, cluster, interrupts)
            .await?;
    }
    Ok(Outcome {
        ran: part.exit_code.unwrap_or(ExitCode::NoEnvironment),
        tallies: part.tallies,
        plan,
    })
}

/// Below the workspace wherever cargo's target directory is: nextest's `store.dir`.
/// <https://nexte.st/docs/configuration/reference/#storedir>
const JUNIT: &str = "target/nextest/default/junit.xml";

/// Runs of nextest, and what they came to.
struct Part<'a> {
    nextest: &'a Path,
    workspace: &'a Path,
    audience: Audience<'a>,
    junit: PathBuf,
    environment: Vec<(String, String)>,
    tallies: BTreeMap<Tier, Tally>,
    exit_code: Option<ExitCode>,
}

impl Part<'_> {
    async fn run(
        &mut self,
        plan: &TestPlan,
        there: &[Listed],
        tiers: &[Tier],
        interrupts: &mut Interrupts,
    ) -> Result<(), TestsError> {
        if !plan.runs_any(there, tiers) {
            return Ok(());
        }
        // An old one must not be taken for this run's.
        let _ = std::fs::remove_file(&self.junit);
        let filter = plan.filter(there, tiers);
        let code = self.execute(&filter, interrupts).await?;
        if self.junit.exists() {
            add_results(&self.junit, &mut self.tallies)?;
        }
        self.exit_code = match self.exit_code {
            Some(earlier) if earlier != ExitCode::Held => Some(earlier),
            _ => Some(code),
        };
        Ok(())
    }

    async fn execute(
        &self,
        filter: &str,
        interrupts: &mut Interrupts,
    ) -> Result<ExitCode, TestsError> {
        let mut child = nextest_command(self.nextest, self.workspace, "run")
            .args(["--filterset", filter])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stderr(stderr())
            .spawn()
            .map_err(|source| run_error(self.nextest, source))?;
        (self.audience.waiting)("running the tests");
        let (group, stderr) = (child.id(), child.stderr.take());
        let ended = passing_on(stderr, self.audience, child.wait());
        let ended = passing_signals_on(ended, group, interrupts).await;
        match ended.map_err(|source| run_error(self.nextest, source))? {
            (_, Some(code)) => Ok(code),
            (status, None) if status.success() => Ok(ExitCode::Held),
            (_, None) => Ok(ExitCode::CheckFailed),
        }
    }

    async fn run_on_cluster(
        &mut self,
        plan: &TestPlan,
        there: &[Listed],
        cluster: Option<ClusterOrder<'_>>,
        interrupts: &mut Interrupts,
    ) -> Result<(), TestsError> {
        let tier = [Tier::Cluster];
        let Some(cluster) = cluster.filter(|_| plan.no_ground(Tier::Cluster).is_none()) else {
            return self.run(plan, there, &tier, interrupts).await;
        };
        let standing_up = Ground::up(cluster.order, cluster.variables, cluster.progress);
        let ground = tokio::select! {
            up = standing_up => up.map_err(TestsError::NoGround)?,
            // Its supervisor takes down what there is once we do not hold it any more.
            code = interrupts.next() => {
                self.exit_code = Some(code);
                return Ok(());
            }
        };
        self.environment.extend(ground.variables());
        let ran = self.run(plan, there, &tier, interrupts).await;
        let left = ground.down().await;
        ran?;
        match left.is_empty() {
            true => Ok(()),
            false => Err(TestsError::Left(left)),
        }
    }
}

/// Builds what whole runs start, so that no test has to wait for that. Returns the code of
/// the signal that called it off, if one did.
async fn build_platform(
    workspace: &Path,
    audience: Audience<'_>,
    interrupts: &mut Interrupts,
) -> Result<Option<ExitCode>, TestsError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let cargo = PathBuf::from(cargo);
    let mut child = command(&cargo, workspace)
        .args(["build", "--release", "--package", "platform", "--locked"])
        .stderr(stderr())
        .spawn()
        .map_err(|source| run_error(&cargo, source))?;
    (audience.waiting)("compiling the platform");
    let (group, stderr) = (child.id(), child.stderr.take());
    let ended = passing_on(stderr, audience, child.wait());
    let ended = passing_signals_on(ended, group, interrupts).await;
    match ended.map_err(|source| run_error(&cargo, source))? {
        (_, Some(code)) => Ok(Some(code)),
        (status, None) if status.success() => Ok(None),
        (_, None) => Err(TestsError::NotBuilt),
    }
}

/// A cargo, or nextest, which starts one.
fn command(program: &Path, workspace: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(workspace)
        // Of its own: a terminal's Ctrl-C reaches it once, from here.
        .process_group(0)
        .kill_on_drop(true);
    for variable in cargo::of_this_crate() {
        command.env_remove(variable);
    }
    command
}

fn nextest_command(nextest: &Path, workspace: &Path, verb: &str) -> Command {
    let mut command = command(nextest, workspace);
    command.args(["nextest", verb, "--workspace", "--locked"]);
    command
}

/// Every test of the project; or the code of the signal that ended the compiling, which takes
/// minutes the first time.
async fn list(
    nextest: &Path,
    workspace: &Path,
    audience: Audience<'_>,
    interrupts: &mut Interrupts,
) -> Result<Result<Vec<Listed>, ExitCode>, TestsError> {
    let mut command = nextest_command(nextest, workspace, "list");
    command
        .args(["--message-format", "json", "--run-ignored", "all"])
        .stdout(Stdio::piped())
        .stderr(stderr());
    let mut child = command
        .spawn()
        .map_err(|source| run_error(nextest, source))?;
    (audience.waiting)("compiling the tests");
    let (group, stderr) = (child.id(), child.stderr.take());
    let output = passing_on(stderr, audience, child.wait_with_output());
    let output = passing_signals_on(output, group, interrupts).await;
    let output = output.map_err(|source| run_error(nextest, source))?;
    let output = match output {
        (_, Some(code)) => return Ok(Err(code)),
        (output, None) => output,
    };
    if !output.status.success() {
        return Err(TestsError::NotListed);
    }
    let listed: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| TestsError::Unreadable {
            what: "nextest's list of tests".into(),
            reason: error.to_string(),
        })?;
    Ok(Ok(tests(&listed)))
}

/// Where a child's standard error goes. On a terminal it shows by itself how far it is;
/// elsewhere it may say nothing for minutes, and we have to know.
fn stderr() -> Stdio {
    match std::io::stderr().is_terminal() {
        true => Stdio::inherit(),
        false => Stdio::piped(),
    }
}

/// Awaits the end of a child, and passes on what comes from its standard error.
async fn passing_on<T>(
    stderr: Option<ChildStderr>,
    audience: Audience<'_>,
    ended: impl Future<Output = T>,
) -> T {
    /// What it wrote is there at once; what it left running may hold the stream open.
    const LATE: Duration = Duration::from_millis(200);
    let passed = async {
        let Some(mut stderr) = stderr else { return };
        let mut bytes = [0; 8 * 1024];
        while let Ok(length @ 1..) = stderr.read(&mut bytes).await {
            // Nobody may read it any more: then the tests go on all the same.
            let _ = std::io::stderr().write_all(&bytes[..length]);
            (audience.heard)();
        }
    };
    let (mut passed, mut ended) = (std::pin::pin!(passed), std::pin::pin!(ended));
    tokio::select! {
        ended = &mut ended => {
            let _ = tokio::time::timeout(LATE, passed).await;
            ended
        }
        () = &mut passed => ended.await,
    }
}

/// Awaits the end of a child that leads a group. A signal to this process becomes a
/// SIGINT to the group: nextest ends its tests at that, at once on a second.
async fn passing_signals_on<T>(
    ended: impl Future<Output = std::io::Result<T>>,
    group: Option<u32>,
    interrupts: &mut Interrupts,
) -> std::io::Result<(T, Option<ExitCode>)> {
    let mut ended = std::pin::pin!(ended);
    let mut called_off = None;
    loop {
        tokio::select! {
            ended = ended.as_mut() => return Ok((ended?, called_off)),
            code = interrupts.next() => {
                called_off = Some(code);
                if let Some(Ok(group)) = group.map(i32::try_from) {
                    let _ = killpg(Pid::from_raw(group), Signal::SIGINT);
                }
            }
        }
    }
}

fn run_error(program: &Path, source: std::io::Error) -> TestsError {
    TestsError::Run {
        program: program.display().to_string(),
        source,
    }
}

fn tests(listed: &Value) -> Vec<Listed> {
    let suites = listed["rust-suites"].as_object().into_iter().flatten();
    let tests = suites.flat_map(|(binary, suite)| {
        let tests = suite["testcases"].as_object().into_iter().flatten();
        tests.map(move |(name, test)| Listed {
            tier: Tier::of(binary),
            name: name.clone(),
            ignored: test["ignored"] == true,
        })
    });
    tests.collect()
}

/// What there is and is not run, by tier.
fn not_run(plan: &TestPlan, there: &[Listed]) -> BTreeMap<Tier, Tally> {
    let mut tallies: BTreeMap<Tier, Tally> = BTreeMap::new();
    for test in there.iter().filter(|test| plan.tiers.contains(&test.tier)) {
        let tally = tallies.entry(test.tier).or_default();
        match (test.ignored, plan.left_out(test)) {
            (true, _) => tally.ignored += 1,
            (false, Some(why)) => {
                let names = tally.left_out.entry(why).or_default();
                names.push(test.name.clone());
            }
            (false, None) => {}
        }
    }
    tallies
}

fn add_results(junit: &Path, tallies: &mut BTreeMap<Tier, Tally>) -> Result<(), TestsError> {
    let unreadable = |reason: String| TestsError::Unreadable {
        what: junit.display().to_string(),
        reason,
    };
    let text = std::fs::read_to_string(junit).map_err(|error| unreadable(error.to_string()))?;
    let report =
        Report::deserialize_from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    for suite in &report.test_suites {
        let tally = tallies.entry(Tier::of(&suite.name)).or_default();
        for test in &suite.test_cases {
            match test.status {
                TestCaseStatus::Success { .. } => tally.passed += 1,
                TestCaseStatus::NonSuccess { .. } => tally.failed += 1,
                TestCaseStatus::Skipped { .. } => tally.ignored += 1,
            }
        }
    }
    Ok(())
}

impl std::fmt::Display for Outcome {
    /// A line a tier, and the sum in the form that pipelines read.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sum = Tally::default();
        for tier in &self.plan.tiers {
            let tally = self.tallies.get(tier).cloned().unwrap_or_default();
            writeln!(f, "{:<11} {}", tier.name(), self.in_words(&tally))?;
            sum.passed += tally.passed;
            sum.failed += tally.failed;
            sum.ignored += tally.ignored + tally.left_out();
        }
        if self.fails_a_pipeline() {
            writeln!(
                f,
                "failed: CI is set, and a pipeline is to run every test: see what was not run"
            )?;
        }
        let Tally {
            passed,
            failed,
            ignored,
            ..
        } = sum;
        write!(
            f,
            "tests: {passed} passed, {failed} failed, {ignored} skipped"
        )
    }
}

impl Outcome {
    fn called_off(plan: TestPlan, exit_code: ExitCode) -> Self {
        Outcome {
            plan,
            tallies: BTreeMap::new(),
            ran: exit_code,
        }
    }

    /// What the command ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self.ran {
            ExitCode::Held if self.fails_a_pipeline() => ExitCode::NoEnvironment,
            ran => ran,
        }
    }

    fn fails_a_pipeline(&self) -> bool {
        self.plan.strict && self.tallies.values().any(|tally| tally.left_out() > 0)
    }

    fn in_words(&self, tally: &Tally) -> String {
        if *tally == Tally::default() {
            return match self.ran {
                ExitCode::Interrupted | ExitCode::Terminated => "not run: called off".into(),
                _ => "no tests: there is nothing to run in this tier yet".into(),
            };
        }
        let mut words = vec![format!("{} passed, {} failed", tally.passed, tally.failed)];
        for (why, names) in &tally.left_out {
            words.push(format!("{} not run: {why}{}", names.len(), listed(names)));
        }
        if tally.ignored > 0 {
            words.push(format!("{} only by hand (docs/testing.md)", tally.ignored));
        }
        words.join("; ")
    }
}

/// The tests' names, where they are few enough to be read; `--json` has them all.
fn listed(names: &[String]) -> String {
    const FEW: usize = 5;
    match names.len() {
        0..=FEW => format!(" ({})", names.join(", ")),
        _ => String::new(),
    }
}

/// Has the images that the containers tier uses, so that no test has to wait for them.
pub async fn prepare_images(
    engine: &Engine,
    workshop: &Workshop,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<(), images::ImageError> {
    // The platform compiles for containers on Linux only.
    let platform = cfg!(target_os = "linux").then_some("platform");
    for name in ["postgres", "redis"].into_iter().chain(platform) {
        images::ensure(engine, workshop, name, Supply::Auto, progress).await?;
    }
    Ok(())
}

#[cfg(test)]
mod unit {
    use serde_json::json;

    use super::*;

    fn plan(no_engine: Option<&str>, missing: Option<(Tier, &str)>) -> TestPlan {
        let missing = missing.map(|(tier, what)| (tier, what.to_owned()));
        TestPlan {
            tiers: Tier::ALL.to_vec(),
            no_engine: no_engine.map(str::to_owned),
            missing: missing.into_iter().collect(),
            ..TestPlan::default()
        }
    }

    fn there() -> Vec<Listed> {
        let test = |ignored: bool| json!({"ignored": ignored});
        tests(&json!({"rust-suites": {
            "harness": {"testcases": {"a": test(false), "b": test(false)}},
            "harness::containers": {"testcases": {
                "engine::c": test(false),
                "engine::registry::g": test(false),
                "engine::by_hand": test(true),
                "engine::socket::s": test(false),
                "mount::m": test(false),
                "d": test(false),
            }},
            "harness::cluster": {"testcases": {"e": test(false), "engine::f": test(false)}},
        }}))
    }

    #[test]
    fn the_filter_names_what_there_is_and_leaves_out_what_cannot_be_run() {
        let filters = [
            plan(None, None),
            TestPlan {
                no_registry: Some("there is none".into()),
                ..plan(None, None)
            },
            plan(Some("none answers"), None),
            plan(None, Some((Tier::Containers, "Redis"))),
            plan(None, Some((Tier::Cluster, "helm"))),
            TestPlan {
                no_socket: Some("over TCP".into()),
                no_mount: Some("not root".into()),
                ..plan(None, None)
            },
        ]
        .map(|plan| {
            let both = [Tier::Fast, Tier::Containers];
            let filters = [both.as_slice(), &[Tier::Cluster]];
            filters
                .map(|tiers| plan.filter(&there(), tiers))
                .join("\n    ")
        });
        insta::assert_snapshot!(filters.join("\n"), @r"
        not (binary(=containers) or binary(=cluster)) or binary(=containers)
            binary(=cluster)
        (not (binary(=containers) or binary(=cluster)) or binary(=containers)) and not (binary(=containers) and test(/(^|::)registry::/))
            binary(=cluster)
        (not (binary(=containers) or binary(=cluster)) or binary(=containers)) and not (binary(=containers) and test(/(^|::)engine::/))
            (binary(=cluster)) and not (binary(=cluster) and test(/(^|::)engine::/))
        not (binary(=containers) or binary(=cluster))
            binary(=cluster)
        not (binary(=containers) or binary(=cluster)) or binary(=containers)
            
        ((not (binary(=containers) or binary(=cluster)) or binary(=containers)) and not (binary(=containers) and test(/(^|::)socket::/))) and not (binary(=containers) and test(/(^|::)mount::/))
            binary(=cluster)
        ");
    }

    #[test]
    fn the_last_lines_say_what_was_run_and_what_not_and_why() {
        let plan = plan(
            Some("no container engine answers"),
            Some((Tier::Cluster, "helm")),
        );
        let mut tallies = not_run(&plan, &there());
        tallies.get_mut(&Tier::Fast).unwrap().passed = 2;
        tallies.get_mut(&Tier::Containers).unwrap().passed = 2;
        let outcome = Outcome {
            plan,
            tallies,
            ran: ExitCode::Held,
        };
        insta::assert_snapshot!(outcome, @r"
        fast        2 passed, 0 failed
        containers  2 passed, 0 failed; 3 not run: they need a container engine, and no container engine answers (engine::c, engine::registry::g, engine::socket::s); 1 only by hand (docs/testing.md)
        cluster     0 passed, 0 failed; 2 not run: helm missing: `cargo xtask test --provision` installs it (e, engine::f)
        tests: 4 passed, 0 failed, 6 skipped
        ");
    }

    #[test]
    fn what_cannot_be_run_here_fails_in_a_pipeline_and_what_is_run_by_hand_does_not() {
        let ended = |strict, no_mount: Option<&str>, ran| {
            let plan = TestPlan {
                strict,
                no_mount: no_mount.map(str::to_owned),
                ..plan(None, None)
            };
            let tallies = not_run(&plan, &there());
            assert_eq!(tallies[&Tier::Containers].ignored, 1);
            Outcome { plan, tallies, ran }
        };
        let held = ended(true, Some("they need to mount"), ExitCode::Held);
        assert_eq!(held.exit_code(), ExitCode::NoEnvironment);
        insta::assert_snapshot!(held, @r"
        fast        no tests: there is nothing to run in this tier yet
        containers  0 passed, 0 failed; 1 not run: they need to mount (mount::m); 1 only by hand (docs/testing.md)
        cluster     no tests: there is nothing to run in this tier yet
        failed: CI is set, and a pipeline is to run every test: see what was not run
        tests: 0 passed, 0 failed, 2 skipped
        ");
        let failed = ended(true, Some("not root"), ExitCode::CheckFailed);
        assert_eq!(failed.exit_code(), ExitCode::CheckFailed);
        let at_home = ended(false, Some("not root"), ExitCode::Held);
        assert_eq!(at_home.exit_code(), ExitCode::Held);
        let nothing_left_out = ended(true, None, ExitCode::Held);
        assert_eq!(nothing_left_out.exit_code(), ExitCode::Held);
    }

    #[test]
    fn a_pipeline_is_told_by_ci() {
        let told = |ci: &str| is_pipeline(Some(OsStr::new(ci)));
        assert!(told("true") && told("1") && told("woodpecker"));
        assert!(!told("") && !told("0") && !told("false"));
        assert!(!is_pipeline(None));
    }

    #[test]
    fn results_are_counted_by_the_binary_they_come_from() {
        let folder = tempfile::tempdir().unwrap();
        let junit = folder.path().join("junit.xml");
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="2" failures="1" errors="0">
  <testsuite name="xtask::containers" tests="2" disabled="0" errors="0" failures="1">
    <testcase name="one"/>
    <testcase name="two"><failure type="test failure"/></testcase>
  </testsuite>
</testsuites>"#;
        std::fs::write(&junit, text).unwrap();
        let mut tallies = BTreeMap::new();
        add_results(&junit, &mut tallies).unwrap();
        assert_eq!(tallies[&Tier::Containers].passed, 1);
        assert_eq!(tallies[&Tier::Containers].failed, 1);
    }
}
