//! The harness of one test: home, name, configuration, and the commands that run in it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use environments::environment::Environment;
use loadtests::result::LoadResult;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::machine::{Process, eventually, processes};

/// The first run may have to build the platform.
pub const UP: Duration = Duration::from_secs(240);
/// "Within seconds" on a busy machine.
pub const SECONDS: Duration = Duration::from_secs(15);

/// A complete run of the smoke scenario alone: new scenarios must not prolong it.
pub const E2E: [&str; 3] = ["e2e", "--scenario", "smoke"];
/// The same run on its own cluster.
pub const E2E_ON_KIND: [&str; 5] = ["e2e", "--scenario", "smoke", "--target", "kind"];

/// The files and names of one test. Tests share none of them.
pub struct Rig {
    folder: tempfile::TempDir,
    pub name: String,
    home: PathBuf,
    shares_environment: bool,
    variables: Vec<(String, OsString)>,
}

/// The exit status and the output of a command.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{}\n{}\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Checks the exit code, and that standard error has `text`.
    #[track_caller]
    pub fn expect(&self, code: i32, text: &str) -> &Self {
        self.expect_code(code).expect_stderr(text)
    }

    /// Line breaks in the output do not count.
    #[track_caller]
    pub fn expect_stderr(&self, text: &str) -> &Self {
        let output = self.stderr.replace('│', " ");
        let output: Vec<&str> = output.split_whitespace().collect();
        assert!(
            output.join(" ").contains(text),
            "{text:?} is not in:\n{}",
            self.stderr
        );
        self
    }
}

impl Rig {
    /// Backing services run from binaries, and deadlines are short.
    pub fn new() -> Rig {
        Rig::of(include_str!("../../../harness.toml"))
            .change("default_target = \"auto\"", "default_target = \"local\"")
            .change(
                "backing_services = \"auto\"",
                "backing_services = \"binaries\"",
            )
            .change("stop = 15", "stop = 3")
    }

    /// The platform that `config` describes.
    pub fn of(config: &str) -> Rig {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir().unwrap();
        let rig = Rig {
            name: format!("t{}-{number}", std::process::id()),
            home: folder.path().join("home"),
            folder,
            shares_environment: false,
            variables: Vec::new(),
        };
        fs::write(rig.config(), config).unwrap();
        rig
    }

    /// Replaces the first `old` in the configuration.
    pub fn change(self, old: &str, new: &str) -> Rig {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(old), "{old:?} is not in harness.toml");
        fs::write(self.config(), text.replacen(old, new, 1)).unwrap();
        self
    }

    /// Takes the backing services from `supply`: `auto` or `containers`.
    pub fn backing_services(self, supply: &str) -> Rig {
        let line = |supply: &str| format!("backing_services = \"{supply}\"");
        self.change(&line("binaries"), &line(supply))
    }

    /// Makes the profile `breakpoint` send `rate` requests a second for so many seconds.
    pub fn arrivals(self, rate: u64, seconds: u64) -> Rig {
        let stages = format!(
            "stages = [{{ rate = {rate}, seconds = 0 }}, {{ rate = {rate}, seconds = {seconds} }}]"
        );
        self.change("stages = [{ rate = 2000, seconds = 1200 }]", &stages)
    }

    /// Sets a variable for every command.
    pub fn variable(mut self, name: &str, value: &(impl AsRef<OsStr> + ?Sized)) -> Rig {
        self.variables.push((name.into(), value.as_ref().into()));
        self
    }

    pub fn at_home(mut self, home: &Path) -> Rig {
        self.home = home.to_owned();
        self
    }

    /// Uses an environment that is up, beside other tests.
    pub fn in_environment(mut self, home: &Path, name: &str) -> Rig {
        self.name = name.to_owned();
        self.shares_environment = true;
        self.at_home(home)
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("harness.toml")
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn ledger(&self) -> PathBuf {
        self.home.join("harness/ledger.jsonl")
    }

    pub fn environment_folder(&self) -> PathBuf {
        self.home.join("harness/environments").join(&self.name)
    }

    /// Returns what the harness recorded about the running environment.
    pub fn environment(&self) -> Option<Value> {
        let text = fs::read_to_string(self.environment_folder().join("environment.json"));
        serde_json::from_str(&text.ok()?).ok()
    }

    /// The same, typed.
    pub fn typed_environment(&self) -> Environment {
        let recorded = self.environment();
        let recorded = recorded.unwrap_or_else(|| panic!("environment {:?} is not up", self.name));
        serde_json::from_value(recorded).unwrap()
    }

    /// Returns the secrets of the running environment, by name.
    pub fn secrets(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.environment_folder().join("secrets.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Starts a command.
    pub fn spawn(&self, arguments: &[&str]) -> RunningCommand<'_> {
        self.spawn_through(&[], arguments)
    }

    /// As `spawn`, through a program that executes the command.
    pub fn spawn_through(&self, program: &[&str], arguments: &[&str]) -> RunningCommand<'_> {
        let output = tempfile::tempdir_in(self.folder.path()).unwrap();
        let file = |name: &str| fs::File::create(output.path().join(name)).unwrap();
        let line = [program, &[env!("CARGO_BIN_EXE_xtask")], arguments].concat();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).args(["--name", &self.name]);
        command.arg("--config").arg(self.config());
        let child = command
            // All child processes inherit it: `processes` finds them by it.
            .env("TRII_HARNESS_HOME", &self.home)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        RunningCommand {
            rig: self,
            verb: arguments[0].to_owned(),
            child,
            output,
        }
    }

    /// Runs a command and waits for its exit.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.spawn(arguments).ends_within(UP)
    }

    /// Brings the environment up, and leaves it running.
    pub fn up(&self) -> Value {
        self.run(&["up"]).expect_code(0);
        self.environment().unwrap()
    }

    /// Returns the processes that name this rig, and their children.
    pub fn processes(&self) -> Vec<Process> {
        let marks = [
            self.folder.path().display().to_string(),
            self.home.display().to_string(),
            // A directory of the environment.
            format!("trii-{}-", self.name),
            // A service's INSTANCE.
            format!("-{}\n", self.name),
        ];
        let marked = |process: &Process| {
            marks.iter().any(|mark| {
                process.command.contains(mark)
                    || process.environment.contains(mark)
                    || process.directory.contains(mark)
            })
        };
        let (mut ours, mut others): (Vec<_>, Vec<_>) = processes().into_iter().partition(marked);
        let known: Vec<u32> = ours.iter().map(|process| process.pid).collect();
        others.retain(|process| known.contains(&process.parent));
        ours.append(&mut others);
        ours
    }

    /// Returns the first process of this rig whose command line contains `text`.
    pub fn find(&self, text: &str) -> Result<Process, String> {
        let all = self.processes();
        let found = all.iter().find(|process| process.command.contains(text));
        found.cloned().ok_or_else(|| {
            let commands: Vec<&String> = all.iter().map(|process| &process.command).collect();
            format!("no {text:?} among {commands:?}")
        })
    }

    pub fn supervisor(&self) -> Process {
        eventually("there is a supervisor", SECONDS, || self.find(" supervise"))
    }

    /// Kills the supervisor, and waits for its exit.
    pub fn kill_supervisor(&self) {
        let supervisor = self.supervisor();
        supervisor.signal(Signal::SIGKILL);
        supervisor.exits();
        eventually("no supervisor runs", SECONDS, || {
            match self.find(" supervise") {
                Ok(process) => Err(process.command),
                Err(_) => Ok(()),
            }
        });
    }

    /// Returns the events of the last run of a command.
    pub fn events(&self, verb: &str) -> Vec<Value> {
        let Some(folder) = self.run_folder(verb) else {
            return Vec::new();
        };
        let text = fs::read_to_string(folder.join("events.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Returns the result of the last load run.
    pub fn load_result(&self, profile: &str) -> LoadResult {
        let folder = self.run_folder("load").unwrap();
        LoadResult::read(&folder.join(format!("load-{profile}.json"))).unwrap()
    }

    /// Returns the folder of the last run of a command.
    pub fn run_folder(&self, verb: &str) -> Option<PathBuf> {
        let runs = fs::read_dir(self.home.join("reports")).ok()?.flatten();
        let of_verb = runs
            .map(|entry| entry.path())
            .filter(|path| path.display().to_string().contains(&format!("-{verb}-")));
        of_verb.max_by_key(|path| fs::metadata(path).and_then(|meta| meta.created()).ok())
    }
}

/// A running command. It is killed when dropped.
pub struct RunningCommand<'a> {
    rig: &'a Rig,
    verb: String,
    child: Child,
    output: tempfile::TempDir,
}

impl RunningCommand<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    /// Waits until `look` returns true for the running command.
    fn wait_until(&mut self, what: &str, mut look: impl FnMut(&Self) -> bool) {
        eventually(what, UP, || {
            self.runs(what);
            look(&*self).then_some(()).ok_or_else(|| self.stderr())
        });
    }

    /// Panics if the command has exited.
    fn runs(&mut self, what: &str) {
        if let Some(status) = self.child.try_wait().unwrap() {
            let stderr = self.stderr();
            panic!("{what}: the command exited before ({status}):\n{stderr}");
        }
    }

    /// Waits until a stage starts.
    pub fn reaches(&mut self, stage: &str) {
        self.happens(&format!("the stage {stage} starts"), |event| {
            event["event"] == "stage-started" && event["stage"] == stage
        });
    }

    /// Waits for an event, which may be the last one of the command.
    pub fn happens(&mut self, what: &str, matches: impl Fn(&Value) -> bool) {
        eventually(what, UP, || {
            if self.rig.events(&self.verb).iter().any(&matches) {
                return Ok(());
            }
            self.runs(what);
            Err(self.stderr())
        });
    }

    /// Waits for a process of the environment.
    pub fn starts(&mut self, text: &str) -> Process {
        let mut started = None;
        self.wait_until(&format!("{text} runs"), |command| {
            started = command.rig.find(text).ok();
            started.is_some()
        });
        started.unwrap()
    }

    /// Waits for a process in a node: it is one of this machine, but not of the environment.
    pub fn starts_in_node(&mut self, text: &str) {
        self.wait_until(&format!("{text} runs in a node"), |_| {
            processes()
                .iter()
                .any(|process| process.command.contains(text))
        });
    }

    /// Waits until the command prints `text`.
    pub fn prints(&mut self, text: &str) {
        self.wait_until(&format!("the output has {text:?}"), |command| {
            command.stderr().contains(text)
        });
    }

    /// Waits until the ledger has `text`.
    pub fn records_in_ledger(&mut self, text: &str) {
        eventually("the ledger has it", UP, || {
            let ledger = fs::read_to_string(self.rig.ledger()).unwrap_or_default();
            ledger.contains(text).then_some(()).ok_or(ledger)
        });
    }

    /// Makes the stage `verify` last: stops the gateway as soon as the environment is up.
    pub fn hangs_in_verify(&mut self) {
        let rig = self.rig;
        self.paused_when_up(|| {
            rig.find("serve api-gateway")
                .unwrap()
                .signal(Signal::SIGSTOP)
        });
        self.reaches("verify");
    }

    /// Stops this command until the environment is up, calls `meanwhile`, and continues the
    /// command.
    pub fn paused_when_up(&mut self, meanwhile: impl FnOnce()) {
        self.reaches("provision");
        self.signal(Signal::SIGSTOP);
        eventually("the environment is up", UP, || {
            self.rig.environment().ok_or_else(|| self.stderr())
        });
        meanwhile();
        self.signal(Signal::SIGCONT);
    }

    /// Waits for the exit. Returns the longest time without output.
    pub fn longest_silence(&mut self) -> Duration {
        let (mut longest, mut since, mut printed) = (Duration::ZERO, Instant::now(), 0);
        eventually("the command exits", UP, || {
            let length = self.stderr().len();
            longest = longest.max(since.elapsed());
            if length != printed {
                (since, printed) = (Instant::now(), length);
            }
            let status = self.child.try_wait().unwrap();
            status.map(|_| longest).ok_or_else(|| self.stderr())
        })
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.output.path().join("stderr")).unwrap()
    }

    pub fn ends_within(mut self, deadline: Duration) -> Ended {
        let status = eventually("the command exits", deadline, || {
            self.child.try_wait().unwrap().ok_or_else(|| self.stderr())
        });
        Ended {
            status,
            stdout: fs::read_to_string(self.output.path().join("stdout")).unwrap(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for RunningCommand<'_> {
    fn drop(&mut self) {
        // It has exited, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A failed test leaves nothing, either, and lets other tests keep the environment that they share.
impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.shares_environment {
            let _ = Command::new(env!("CARGO_BIN_EXE_xtask"))
                .args(["down", "--all"])
                .env("TRII_HARNESS_HOME", &self.home)
                .output();
        }
    }
}
