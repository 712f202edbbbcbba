//! The project's own tests, in tiers by what they need.
//!
//! A test's tier is the name of its binary: `containers` and `cluster` are integration tests of
//! these names, all others are `fast`. Within a tier, the names of modules tell what else their
//! tests need: `requirement.rs`.

mod cluster;
mod requirement;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
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

use base::cargo;
use base::duration::human;
use base::exit::ExitCode;
use base::interrupts::Interrupts;
use base::run::event::Failure;
use base::run::millis;
use cluster::SharedCluster;
use environments::preflight;
use environments::supervisor::Order;
use machine::engine::machine::EngineMachine;
use machine::engine::{self, Engine};
use machine::images::{self, Supply, Workshop};
use machine::provision::Need;
use machine::tools;
use requirement::Requirement;

/// A tier of tests, by what they need.
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

    /// What `--provision` must install for it.
    pub fn needs(self) -> Vec<Need> {
        let other_needs: &[Need] = match self {
            Tier::Fast => &[],
            Tier::Containers => &[
                Need::PostgresBinaries,
                Need::RedisBinaries,
                Need::Browser,
                Need::Engine,
                Need::ImageBuilder,
                Need::Go,
                Need::Registry,
            ],
            Tier::Cluster => &Need::OF_CLUSTERS,
        };
        [&[Need::Nextest], other_needs].concat()
    }

    /// The images that its tests start, by their recipes.
    fn images(self) -> &'static [&'static str] {
        match self {
            Tier::Fast => &[],
            // The platform can be compiled for containers only on Linux.
            Tier::Containers if cfg!(target_os = "linux") => &["postgres", "redis", "platform"],
            Tier::Containers => &["postgres", "redis"],
            Tier::Cluster => &["generator", "podinfo", "prober", "prometheus"],
        }
    }

    /// The name of the tier, and of its test binaries.
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
    /// The test runner is not installed.
    #[error("cargo-nextest, which runs the tests, is not installed")]
    #[diagnostic(help("`cargo xtask test --provision` installs it"))]
    NoNextest,
    /// A program could not be started.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The cluster that tests share did not come up.
    #[error("{}: {}", .0.what, .0.seen)]
    #[diagnostic(help("look at {}; next: {}", .0.look_at, .0.next))]
    NoCluster(Box<Failure>),
    /// The cluster that tests share was not torn down.
    #[error("left of the tests' cluster: {}", .0.join("; "))]
    #[diagnostic(help("`cargo xtask down --all` removes it"))]
    Left(Vec<String>),
    /// The tests cannot be listed, usually because they do not compile.
    #[error("the tests cannot be listed; cargo's output is above")]
    #[diagnostic(help("`cargo test --workspace --no-run` shows compiler errors alone"))]
    NotListed,
    /// The platform does not compile.
    #[error("the platform cannot be built; cargo's output is above")]
    #[diagnostic(help("`cargo build --release --package platform` shows it alone"))]
    NotBuilt,
    /// nextest's output cannot be read.
    #[error("cannot read {what}: {reason}")]
    Unreadable {
        /// The output.
        what: String,
        /// The cause.
        reason: String,
    },
}

/// What can be run on this machine, and why the rest cannot.
#[derive(Debug, Default)]
pub struct TestPlan {
    tiers: Vec<Tier>,
    /// Why there is no engine.
    no_engine: Option<String>,
    /// What clusters need in addition to an engine, and is missing.
    no_cluster: Option<String>,
    /// Why no test can intercept connections to the engine's socket.
    no_socket: Option<String>,
    /// Why no test can mount a file system.
    no_mount: Option<String>,
    /// Why there is no registry to pull from.
    no_registry: Option<String>,
    /// What all tests of a tier need, and is missing.
    missing: BTreeMap<Tier, String>,
    /// Whether a test that cannot be run is a failure: pipelines must run every test.
    strict: bool,
}

impl TestPlan {
    /// Finds out what can be run of `tiers`, with the project's own tools in `tools_dir`.
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
        let (engine, machine) = match Engine::find(engine::TIMEOUT).await {
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

    /// Returns nextest's filter expression for what is run of `tiers`. It names only what `tests`
    /// has: nextest refuses a filter that matches no test.
    fn filter(&self, tests: &[Listed], tiers: &[Tier]) -> String {
        let named = |tier: Tier| {
            let binary = format!("binary(={})", tier.name());
            tests.iter().any(|test| test.tier == tier).then_some(binary)
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
                if self.lacks(*tier, requirement).is_some() && tests.iter().any(left_out) {
                    let left_out = requirement.filter(tier.name());
                    filter = format!("({filter}) and not {left_out}");
                }
            }
        }
        filter
    }

    /// Whether there is a test of `tiers` to run.
    fn runs_any(&self, tests: &[Listed], tiers: &[Tier]) -> bool {
        let selected = |tier| tiers.contains(&tier) && self.tiers.contains(&tier);
        let runs = |test: &Listed| !test.ignored && self.left_out(test).is_none();
        tests.iter().any(|test| selected(test.tier) && runs(test))
    }

    /// Returns why the test cannot be run, if it cannot.
    fn left_out(&self, test: &Listed) -> Option<String> {
        let lacks = |requirement: Requirement| match requirement.is_of(&test.name) {
            true => self.lacks(test.tier, requirement),
            false => None,
        };
        self.not_run(test.tier)
            .or_else(|| Requirement::ALL.into_iter().find_map(lacks))
    }

    /// Returns why the requirement is not met for tests of the tier, if it is not.
    fn lacks(&self, tier: Tier, requirement: Requirement) -> Option<String> {
        match (tier, requirement) {
            (Tier::Fast, _) => None,
            (_, Requirement::Engine) => self.no_cluster_for(tier),
            (_, Requirement::Registry) => self.no_registry.clone(),
            (_, Requirement::Socket) => self.no_socket.clone(),
            (_, Requirement::Mount) => self.no_mount.clone(),
        }
    }

    /// Returns the images that the tests start. Those of the environment on the cluster are not
    /// among them: they are brought up with it.
    fn images(&self) -> impl Iterator<Item = &'static str> {
        let has_engine = |tier: &&Tier| self.no_cluster_for(**tier).is_none();
        self.tiers
            .iter()
            .filter(has_engine)
            .flat_map(|tier| tier.images().iter().copied())
    }

    /// Returns why tests of the tier that need an engine are not run, if they are not.
    fn no_cluster_for(&self, tier: Tier) -> Option<String> {
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

    /// Returns why no test of the tier is run, if none is.
    fn not_run(&self, tier: Tier) -> Option<String> {
        let missing = self.missing.get(&tier)?;
        Some(format!(
            "{missing} missing: `cargo xtask test --provision` installs it"
        ))
    }
}

/// Returns what all tests of the tier need, and this machine lacks.
fn missing(tier: Tier, tools_dir: &Path) -> impl Iterator<Item = Need> {
    let is_here = |need: &Need| match need {
        Need::PostgresBinaries => tools::postgres_bin_dir().is_some(),
        Need::RedisBinaries => tools::redis_server().is_some(),
        Need::Browser => tools::chromium().is_some(),
        Need::Helm => tools::own_or_on_path(tools_dir, "helm").is_some(),
        // The runner was found before. Tests that need an engine or a cluster are left out singly.
        Need::Nextest | Need::Engine | Need::ImageBuilder => true,
        Need::Go | Need::DockerCli | Need::Kind => true,
        Need::Registry | Need::Runtime | Need::Inotify => true,
    };
    tier.needs().into_iter().filter(move |need| !is_here(need))
}

/// Whether the variable `CI` is set, as pipelines do (GitHub, GitLab and others to `true`).
fn is_pipeline(ci: Option<&OsStr>) -> bool {
    ci.is_some_and(|ci| !ci.is_empty() && ci != "0" && ci != "false")
}

/// A test of the project.
struct Listed {
    tier: Tier,
    name: String,
    ignored: bool,
}

/// A test that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestFailure {
    /// Its binary and its name, as nextest has them.
    pub test: String,
    /// The first lines of its panic, or how it ended.
    pub why: String,
    /// Where it panicked, `FILE:LINE:COLUMN`.
    pub at: Option<String>,
}

/// How long a test took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestDuration {
    /// Its binary and its name, as nextest has them.
    pub test: String,
    /// Milliseconds.
    pub millis: u64,
}

/// How many of the slowest tests are named.
const SLOWEST: usize = 10;

/// Leaves the slowest tests, the slowest first.
fn keep_slowest(tests: &mut Vec<TestDuration>) {
    tests.sort_by_key(|it| std::cmp::Reverse(it.millis));
    tests.truncate(SLOWEST);
}

/// The results of a tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TestCounts {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that are run by hand only.
    pub ignored: usize,
    /// Why each of them failed.
    pub failures: Vec<TestFailure>,
    /// The slowest tests, the slowest first.
    pub slowest: Vec<TestDuration>,
    /// The names of tests that could not be run, by reason.
    pub left_out: BTreeMap<String, Vec<String>>,
}

impl TestCounts {
    /// The number of tests that could not be run.
    fn left_out(&self) -> usize {
        self.left_out.values().map(Vec::len).sum()
    }
}

/// The results of all tests.
#[derive(Debug)]
pub struct TierResults {
    plan: TestPlan,
    /// The results of each tier.
    pub tallies: BTreeMap<Tier, TestCounts>,
    /// The exit code of nextest.
    ran: ExitCode,
}

/// How to start the cluster for the tests of the cluster tier.
pub struct ClusterOrder<'a> {
    /// The order for its supervisor.
    pub order: Order,
    /// Environment variables for its supervisor.
    pub variables: &'a [(String, String)],
    /// Receives its progress.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

/// Receives the progress of the tests.
#[derive(Clone, Copy)]
pub struct Listener<'a> {
    /// Receives the current activity.
    pub waiting: &'a (dyn Fn(&str) + Sync),
    /// Called when cargo or nextest has printed something.
    pub printed: &'a (dyn Fn() + Sync),
}

/// Runs nextest for a plan, and passes its output on. First runs the tests that need no cluster,
/// then starts a cluster for the others.
pub async fn run(
    plan: TestPlan,
    nextest: &Path,
    workspace: &Path,
    environment: &[(String, String)],
    cluster: Option<ClusterOrder<'_>>,
    listener: Listener<'_>,
    interrupts: &mut Interrupts,
) -> Result<TierResults, TestsError> {
    if plan.tiers.contains(&Tier::Containers)
        && let Some(code) = build_platform(workspace, listener, interrupts).await?
    {
        return Ok(TierResults::cancelled(plan, code));
    }
    let tests = match list(nextest, workspace, listener, interrupts).await? {
        Ok(listed) => listed,
        Err(code) => return Ok(TierResults::cancelled(plan, code)),
    };
    let mut part = Part {
        nextest,
        workspace,
        listener,
        junit: workspace.join(JUNIT),
        environment: environment.to_vec(),
        tallies: not_run(&plan, &tests),
        exit_code: None,
    };
    part.run(&plan, &tests, &[Tier::Fast, Tier::Containers], interrupts)
        .await?;
    let cancelled = [Some(ExitCode::Interrupted), Some(ExitCode::Terminated)];
    if plan.runs_any(&tests, &[Tier::Cluster]) && !cancelled.contains(&part.exit_code) {
        part.run_on_cluster(&plan, &tests, cluster, interrupts)
            .await?;
    }
    Ok(TierResults {
        ran: part.exit_code.unwrap_or(ExitCode::NoEnvironment),
        tallies: part.tallies,
        plan,
    })
}

/// Below the workspace wherever cargo's target directory is: nextest's `store.dir`.
/// <https://nexte.st/docs/configuration/reference/#storedir>
const JUNIT: &str = "target/nextest/default/junit.xml";

/// Runs of nextest, and their results.
struct Part<'a> {
    nextest: &'a Path,
    workspace: &'a Path,
    listener: Listener<'a>,
    junit: PathBuf,
    environment: Vec<(String, String)>,
    tallies: BTreeMap<Tier, TestCounts>,
    exit_code: Option<ExitCode>,
}

impl Part<'_> {
    async fn run(
        &mut self,
        plan: &TestPlan,
        tests: &[Listed],
        tiers: &[Tier],
        interrupts: &mut Interrupts,
    ) -> Result<(), TestsError> {
        if !plan.runs_any(tests, tiers) {
            return Ok(());
        }
        // The file of an earlier run must not be read as that of this run.
        let _ = std::fs::remove_file(&self.junit);
        let filter = plan.filter(tests, tiers);
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
        let mut command = nextest_command(self.nextest, self.workspace, "run");
        command
            .args(["--filterset", filter])
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        match run_child(command, "running the tests", self.listener, interrupts).await? {
            (_, Some(code)) => Ok(code),
            (output, None) if output.status.success() => Ok(ExitCode::Held),
            (_, None) => Ok(ExitCode::CheckFailed),
        }
    }

    async fn run_on_cluster(
        &mut self,
        plan: &TestPlan,
        tests: &[Listed],
        cluster: Option<ClusterOrder<'_>>,
        interrupts: &mut Interrupts,
    ) -> Result<(), TestsError> {
        let tier = [Tier::Cluster];
        let Some(cluster) = cluster.filter(|_| plan.no_cluster_for(Tier::Cluster).is_none()) else {
            return self.run(plan, tests, &tier, interrupts).await;
        };
        let starting = SharedCluster::start(cluster.order, cluster.variables, cluster.progress);
        let shared = tokio::select! {
            up = starting => up.map_err(TestsError::NoCluster)?,
            // The supervisor tears everything down when its handle is dropped.
            code = interrupts.next() => {
                self.exit_code = Some(code);
                return Ok(());
            }
        };
        self.environment.extend(shared.variables());
        let ran = self.run(plan, tests, &tier, interrupts).await;
        let left = shared.tear_down().await;
        ran?;
        match left.is_empty() {
            true => Ok(()),
            false => Err(TestsError::Left(left)),
        }
    }
}

/// Builds the platform, so that no test waits for that. Returns the exit code of the signal that
/// cancelled it, if one did.
async fn build_platform(
    workspace: &Path,
    listener: Listener<'_>,
    interrupts: &mut Interrupts,
) -> Result<Option<ExitCode>, TestsError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = cargo_command(Path::new(&cargo), workspace);
    command.args(["build", "--release", "--package", "platform", "--locked"]);
    match run_child(command, "compiling the platform", listener, interrupts).await? {
        (_, Some(code)) => Ok(Some(code)),
        (output, None) if output.status.success() => Ok(None),
        (_, None) => Err(TestsError::NotBuilt),
    }
}

/// A command for cargo, or for nextest, which starts cargo.
fn cargo_command(program: &Path, workspace: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(workspace)
        // A separate group gets a terminal's Ctrl-C once, from this process.
        .process_group(0)
        .kill_on_drop(true);
    for variable in cargo::crate_variables() {
        command.env_remove(variable);
    }
    // What tests run on purpose, and see fail, is no news of the pipeline.
    for variable in ["GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"] {
        command.env_remove(variable);
    }
    command
}

fn nextest_command(nextest: &Path, workspace: &Path, verb: &str) -> Command {
    let mut command = cargo_command(nextest, workspace);
    command.args(["nextest", verb, "--workspace", "--locked"]);
    command
}

/// Lists every test of the project, after compiling them. Returns the exit code of the signal that
/// cancelled it, if one did.
async fn list(
    nextest: &Path,
    workspace: &Path,
    listener: Listener<'_>,
    interrupts: &mut Interrupts,
) -> Result<Result<Vec<Listed>, ExitCode>, TestsError> {
    let mut command = nextest_command(nextest, workspace, "list");
    command
        .args(["--message-format", "json", "--run-ignored", "all"])
        .stdout(Stdio::piped());
    let output = match run_child(command, "compiling the tests", listener, interrupts).await? {
        (_, Some(code)) => return Ok(Err(code)),
        (output, None) if output.status.success() => output,
        (_, None) => return Err(TestsError::NotListed),
    };
    let listed: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| TestsError::Unreadable {
            what: "nextest's list of tests".into(),
            reason: error.to_string(),
        })?;
    Ok(Ok(tests(&listed)))
}

/// Runs a command to its end. Returns its output, and the exit code of the signal that cancelled
/// it, if one did.
async fn run_child(
    mut command: Command,
    activity: &str,
    listener: Listener<'_>,
    interrupts: &mut Interrupts,
) -> Result<(Output, Option<ExitCode>), TestsError> {
    let program = command.as_std().get_program().display().to_string();
    let run = async {
        let mut child = command.stderr(stderr()).spawn()?;
        (listener.waiting)(activity);
        let (group, stderr) = (child.id(), child.stderr.take());
        let ended = passing_on(stderr, listener, child.wait_with_output());
        passing_signals_on(ended, group, interrupts).await
    };
    run.await
        .map_err(|source| TestsError::Run { program, source })
}

/// Returns where a child's standard error goes. On a terminal the child shows its own progress;
/// elsewhere it may print nothing for minutes, which the listener must know.
fn stderr() -> Stdio {
    match std::io::stderr().is_terminal() {
        true => Stdio::inherit(),
        false => Stdio::piped(),
    }
}

/// Awaits the end of a child, and passes its standard error on.
async fn passing_on<T>(
    stderr: Option<ChildStderr>,
    listener: Listener<'_>,
    ended: impl Future<Output = T>,
) -> T {
    /// The child's output is available immediately, but a process that it left may keep the stream
    /// open.
    const GRACE: Duration = Duration::from_millis(200);
    let passed = async {
        let Some(mut stderr) = stderr else { return };
        let mut bytes = [0; 8 * 1024];
        while let Ok(length @ 1..) = stderr.read(&mut bytes).await {
            // If nobody reads this process's standard error, the tests still continue.
            let _ = std::io::stderr().write_all(&bytes[..length]);
            (listener.printed)();
        }
    };
    let (mut passed, mut ended) = (std::pin::pin!(passed), std::pin::pin!(ended));
    tokio::select! {
        ended = &mut ended => {
            let _ = tokio::time::timeout(GRACE, passed).await;
            ended
        }
        () = &mut passed => ended.await,
    }
}

/// Awaits the end of a child that leads a process group. Sends SIGINT to the group for each signal
/// to this process: nextest stops its tests, and on a second one kills them.
async fn passing_signals_on<T>(
    ended: impl Future<Output = std::io::Result<T>>,
    group: Option<u32>,
    interrupts: &mut Interrupts,
) -> std::io::Result<(T, Option<ExitCode>)> {
    let mut ended = std::pin::pin!(ended);
    let mut cancelled = None;
    loop {
        tokio::select! {
            ended = ended.as_mut() => return Ok((ended?, cancelled)),
            code = interrupts.next() => {
                cancelled = Some(code);
                if let Some(Ok(group)) = group.map(i32::try_from) {
                    let _ = killpg(Pid::from_raw(group), Signal::SIGINT);
                }
            }
        }
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

/// Counts the tests that are not run, by tier.
fn not_run(plan: &TestPlan, tests: &[Listed]) -> BTreeMap<Tier, TestCounts> {
    let mut tallies: BTreeMap<Tier, TestCounts> = BTreeMap::new();
    for test in tests.iter().filter(|test| plan.tiers.contains(&test.tier)) {
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

fn add_results(junit: &Path, tallies: &mut BTreeMap<Tier, TestCounts>) -> Result<(), TestsError> {
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
            let name = format!("{} {}", suite.name.as_str(), test.name.as_str());
            if let Some(time) = test.time {
                tally.slowest.push(TestDuration {
                    test: name.clone(),
                    millis: millis(time),
                });
            }
            match &test.status {
                TestCaseStatus::Success { .. } => tally.passed += 1,
                TestCaseStatus::NonSuccess {
                    ty, description, ..
                } => {
                    tally.failed += 1;
                    let output = description.as_ref().map(|it| it.as_str());
                    let panic = output.and_then(first_lines);
                    let ended = || ty.as_ref().map(|it| it.as_str().to_owned());
                    tally.failures.push(TestFailure {
                        test: name,
                        why: panic.or_else(ended).unwrap_or_default(),
                        at: output.and_then(place),
                    });
                }
                TestCaseStatus::Skipped { .. } => tally.ignored += 1,
            }
        }
        keep_slowest(&mut tally.slowest);
    }
    Ok(())
}

/// Returns where a panic was: `thread 'two' (7) panicked at src/lib.rs:2:22:`.
fn place(panic: &str) -> Option<String> {
    let (_, place) = panic.lines().next()?.split_once(" panicked at ")?;
    Some(place.trim_end_matches(':').to_owned())
}

/// Returns the first lines of a panic's message, without the backtrace.
fn first_lines(panic: &str) -> Option<String> {
    const LINES: usize = 8;
    const LENGTH: usize = 300;
    let message = panic.lines().skip_while(|it| it.starts_with("thread '"));
    let message = message
        .take_while(|it| *it != "stack backtrace:")
        .take(LINES);
    let lines = message.map(|it| it.chars().take(LENGTH).collect());
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

impl std::fmt::Display for TierResults {
    /// Writes the slowest tests, why tests failed, a line for each tier, and the sum in the form that
    /// pipelines read.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slowest = self.slowest();
        if !slowest.is_empty() {
            writeln!(f, "the slowest tests:")?;
        }
        for TestDuration { test, millis } in &slowest {
            writeln!(f, "{:>12}  {test}", human(*millis))?;
        }
        if !slowest.is_empty() {
            writeln!(f)?;
        }
        for TestFailure { test, why, .. } in self.failures() {
            writeln!(f, "{test} failed:\n  {}\n", why.replace('\n', "\n  "))?;
        }
        let mut sum = TestCounts::default();
        for tier in &self.plan.tiers {
            let tally = self.tallies.get(tier).cloned().unwrap_or_default();
            writeln!(f, "{:<11} {}", tier.name(), self.describe(&tally))?;
            sum.passed += tally.passed;
            sum.failed += tally.failed;
            sum.ignored += tally.ignored + tally.left_out();
        }
        if self.fails_a_pipeline() {
            writeln!(
                f,
                "failed: CI is set, and a pipeline must run every test: see what was not run"
            )?;
        }
        let TestCounts {
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

impl TierResults {
    /// The tests that failed.
    pub fn failures(&self) -> impl Iterator<Item = &TestFailure> {
        self.tallies.values().flat_map(|it| &it.failures)
    }

    /// The slowest tests of all tiers, the slowest first.
    fn slowest(&self) -> Vec<TestDuration> {
        let of_tiers = self.tallies.values().flat_map(|it| &it.slowest);
        let mut slowest: Vec<TestDuration> = of_tiers.cloned().collect();
        keep_slowest(&mut slowest);
        slowest
    }

    fn cancelled(plan: TestPlan, exit_code: ExitCode) -> Self {
        TierResults {
            plan,
            tallies: BTreeMap::new(),
            ran: exit_code,
        }
    }

    /// The exit code of the command.
    pub fn exit_code(&self) -> ExitCode {
        match self.ran {
            ExitCode::Held if self.fails_a_pipeline() => ExitCode::NoEnvironment,
            ran => ran,
        }
    }

    fn fails_a_pipeline(&self) -> bool {
        self.plan.strict && self.tallies.values().any(|tally| tally.left_out() > 0)
    }

    fn describe(&self, tally: &TestCounts) -> String {
        if *tally == TestCounts::default() {
            return match self.ran {
                ExitCode::Interrupted | ExitCode::Terminated => "not run: cancelled".into(),
                _ => "no tests: there is nothing to run in this tier yet".into(),
            };
        }
        let mut parts = vec![format!("{} passed, {} failed", tally.passed, tally.failed)];
        for (why, names) in &tally.left_out {
            parts.push(format!("{} not run: {why}{}", names.len(), listed(names)));
        }
        if tally.ignored > 0 {
            parts.push(format!("{} only by hand (docs/testing.md)", tally.ignored));
        }
        parts.join("; ")
    }
}

/// Returns the tests' names if there are few; `--json` has them all.
fn listed(names: &[String]) -> String {
    const FEW: usize = 5;
    match names.len() {
        0..=FEW => format!(" ({})", names.join(", ")),
        _ => String::new(),
    }
}

/// Pulls or builds the images that the plan's tests start, so that no test waits for them.
pub async fn prepare_images(
    plan: &TestPlan,
    engine: &Engine,
    workshop: &Workshop,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), images::ImageError> {
    let names: Vec<String> = plan.images().map(str::to_owned).collect();
    if names.is_empty() {
        return Ok(());
    }
    let supplied = images::ensure_all(engine, workshop, &names, Supply::Auto, progress);
    supplied.await.map(drop)
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

    fn all_tests() -> Vec<Listed> {
        let test = |ignored: bool| json!({"ignored": ignored});
        tests(&json!({"rust-suites": {
            "environments": {"testcases": {"a": test(false), "b": test(false)}},
            "environments::containers": {"testcases": {
                "engine::c": test(false),
                "engine::registry::g": test(false),
                "engine::by_hand": test(true),
                "engine::socket::s": test(false),
                "mount::m": test(false),
                "d": test(false),
            }},
            "environments::cluster": {"testcases": {"e": test(false), "engine::f": test(false)}},
        }}))
    }

    #[test]
    fn images_are_made_ready_for_the_tests_that_are_run() {
        let all = plan(None, None);
        assert!(all.images().any(|name| name == "redis"));
        assert!(all.images().any(|name| name == "prometheus"));
        let no_kind = TestPlan {
            no_cluster: Some("kind".into()),
            ..plan(None, None)
        };
        assert!(no_kind.images().any(|name| name == "redis"));
        assert!(no_kind.images().all(|name| name != "prometheus"));
        assert_eq!(plan(Some("no engine"), None).images().count(), 0);
    }

    #[test]
    fn the_filter_matches_only_tests_that_exist_and_can_be_run() {
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
                .map(|tiers| plan.filter(&all_tests(), tiers))
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
    fn the_last_lines_report_what_was_run_and_why_the_rest_was_not() {
        let plan = plan(
            Some("no container engine answers"),
            Some((Tier::Cluster, "helm")),
        );
        let mut tallies = not_run(&plan, &all_tests());
        tallies.get_mut(&Tier::Fast).unwrap().passed = 2;
        tallies.get_mut(&Tier::Containers).unwrap().passed = 2;
        let outcome = TierResults {
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
    fn a_test_that_cannot_be_run_fails_a_pipeline_and_one_that_is_run_by_hand_does_not() {
        let ended = |strict, no_mount: Option<&str>, ran| {
            let plan = TestPlan {
                strict,
                no_mount: no_mount.map(str::to_owned),
                ..plan(None, None)
            };
            let tallies = not_run(&plan, &all_tests());
            assert_eq!(tallies[&Tier::Containers].ignored, 1);
            TierResults { plan, tallies, ran }
        };
        let held = ended(true, Some("they need to mount"), ExitCode::Held);
        assert_eq!(held.exit_code(), ExitCode::NoEnvironment);
        insta::assert_snapshot!(held, @r"
        fast        no tests: there is nothing to run in this tier yet
        containers  0 passed, 0 failed; 1 not run: they need to mount (mount::m); 1 only by hand (docs/testing.md)
        cluster     no tests: there is nothing to run in this tier yet
        failed: CI is set, and a pipeline must run every test: see what was not run
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
    fn ten_tests_are_named_the_slowest_of_all_tiers_first() {
        let slowest = |tier: &str, times: std::ops::Range<u64>| TestCounts {
            slowest: times
                .map(|millis| TestDuration {
                    test: format!("{tier} {millis}"),
                    millis,
                })
                .collect(),
            ..TestCounts::default()
        };
        let results = TierResults {
            plan: plan(None, None),
            tallies: BTreeMap::from([
                (Tier::Fast, slowest("fast", 0..9)),
                (Tier::Cluster, slowest("cluster", 5..14)),
            ]),
            ran: ExitCode::Held,
        };
        let names: Vec<String> = results.slowest().into_iter().map(|it| it.test).collect();
        assert_eq!(names.len(), 10);
        assert_eq!(
            (names[0].as_str(), names[9].as_str()),
            ("cluster 13", "fast 6")
        );
        assert!(results.to_string().starts_with("the slowest tests:\n"));
    }

    #[test]
    fn a_pipeline_is_recognised_by_ci() {
        let pipeline_if = |ci: &str| is_pipeline(Some(OsStr::new(ci)));
        assert!(pipeline_if("true") && pipeline_if("1") && pipeline_if("woodpecker"));
        assert!(!pipeline_if("") && !pipeline_if("0") && !pipeline_if("false"));
        assert!(!is_pipeline(None));
    }

    #[test]
    fn results_are_counted_by_the_binary_they_come_from() {
        let folder = tempfile::tempdir().unwrap();
        let junit = folder.path().join("junit.xml");
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="2" failures="1" errors="0">
  <testsuite name="xtask::containers" tests="2" disabled="0" errors="0" failures="1">
    <testcase name="one" time="0.25"/>
    <testcase name="two" time="61.5"><failure type="test failure">thread 'two' (7) panicked at src/lib.rs:2:22:
assertion failed
  left: 1
stack backtrace:
   0: core::panicking::panic_fmt</failure></testcase>
  </testsuite>
</testsuites>"#;
        std::fs::write(&junit, text).unwrap();
        let mut tallies = BTreeMap::new();
        add_results(&junit, &mut tallies).unwrap();
        assert_eq!(tallies[&Tier::Containers].passed, 1);
        assert_eq!(tallies[&Tier::Containers].failed, 1);
        let failure = &tallies[&Tier::Containers].failures[0];
        assert_eq!(failure.at.as_deref(), Some("src/lib.rs:2:22"));
        let outcome = TierResults {
            plan: plan(None, None),
            tallies,
            ran: ExitCode::CheckFailed,
        };
        insta::assert_snapshot!(outcome, @r"
        the slowest tests:
          1 min 01 s  xtask::containers two
              250 ms  xtask::containers one

        xtask::containers two failed:
          assertion failed
            left: 1

        fast        no tests: there is nothing to run in this tier yet
        containers  1 passed, 1 failed
        cluster     no tests: there is nothing to run in this tier yet
        tests: 1 passed, 1 failed, 0 skipped
        ");
    }
}
