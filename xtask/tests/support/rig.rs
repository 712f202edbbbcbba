//! A harness of a test's own: home, name, configuration, and the commands run in it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::leftovers::Traces;
use crate::machine::{Process, eventually, processes};

/// The first run may have to build the platform.
pub const UP: Duration = Duration::from_secs(240);
/// "Within seconds", on a machine that does other things as well.
pub const SECONDS: Duration = Duration::from_secs(15);

/// A whole run that proves no more than smoke: scenarios that are added must not prolong it.
pub const E2E: [&str; 3] = ["e2e", "--scenario", "smoke"];
/// The same, on a cluster of its own.
pub const E2E_ON_KIND: [&str; 5] = ["e2e", "--scenario", "smoke", "--target", "kind"];

/// Everything of one test: nothing is shared with another.
pub struct Rig {
    folder: tempfile::TempDir,
    pub name: String,
    home: PathBuf,
    variables: Vec<(String, OsString)>,
}

/// How a command ended.
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

    /// Errors are shown broken into lines: that does not count.
    #[track_caller]
    pub fn expect_words(&self, words: &str) -> &Self {
        let shown = self.stderr.replace('│', " ");
        let shown: Vec<&str> = shown.split_whitespace().collect();
        assert!(
            shown.join(" ").contains(words),
            "{words:?} is not in:\n{}",
            self.stderr
        );
        self
    }
}

impl Rig {
    /// With binaries as backing services, and short deadlines for what is made to fail.
    pub fn new() -> Rig {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir().unwrap();
        let rig = Rig {
            name: format!("t{}-{number}", std::process::id()),
            home: folder.path().join("home"),
            folder,
            variables: Vec::new(),
        };
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../harness.toml");
        fs::write(rig.config(), fs::read_to_string(ours).unwrap()).unwrap();
        rig.change("default_target = \"auto\"", "default_target = \"local\"")
            .change(
                "backing_services = \"auto\"",
                "backing_services = \"binaries\"",
            )
            .change("stop = 15", "stop = 3")
    }

    /// With this instead of that in the configuration.
    pub fn change(self, that: &str, this: &str) -> Rig {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(that), "{that:?} is not in harness.toml");
        fs::write(self.config(), text.replacen(that, this, 1)).unwrap();
        self
    }

    /// With a variable for every command.
    pub fn variable(mut self, name: &str, value: &(impl AsRef<OsStr> + ?Sized)) -> Rig {
        self.variables.push((name.into(), value.as_ref().into()));
        self
    }

    /// In another home.
    pub fn at_home(mut self, home: &Path) -> Rig {
        self.home = home.to_owned();
        self
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

    /// The folder of the environment.
    pub fn environment_folder(&self) -> PathBuf {
        self.home.join("harness/environments").join(&self.name)
    }

    /// What the harness wrote down about the environment that is up.
    pub fn environment(&self) -> Option<Value> {
        let text = fs::read_to_string(self.environment_folder().join("environment.json"));
        serde_json::from_str(&text.ok()?).ok()
    }

    /// Starts a command in the environment of this rig.
    pub fn spawn(&self, arguments: &[&str]) -> Course<'_> {
        self.spawn_through(&[], arguments)
    }

    /// As `spawn`, through a program that becomes the command.
    pub fn spawn_through(&self, program: &[&str], arguments: &[&str]) -> Course<'_> {
        let output = tempfile::tempdir_in(self.folder.path()).unwrap();
        let file = |name: &str| fs::File::create(output.path().join(name)).unwrap();
        let line = [program, &[env!("CARGO_BIN_EXE_xtask")], arguments].concat();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).args(["--name", &self.name]);
        command.arg("--config").arg(self.config());
        let child = command
            // Also the mark by which all that the command starts is found.
            .env("TRII_HARNESS_HOME", &self.home)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Course {
            rig: self,
            verb: arguments[0].to_owned(),
            child,
            output,
        }
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.spawn(arguments).ends_within(UP)
    }

    /// Stands the environment up, and leaves it so.
    pub fn up(&self) -> Value {
        self.run(&["up"]).expect_code(0);
        self.environment().unwrap()
    }

    /// The processes that have this rig's mark on them, and their children.
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

    /// The first process of this environment whose command says so.
    pub fn find(&self, words: &str) -> Result<Process, String> {
        let mut all = self.processes();
        match all.iter().position(|one| one.command.contains(words)) {
            Some(at) => Ok(all.swap_remove(at)),
            None => Err(format!(
                "no {words:?} among {:?}",
                all.iter().map(|one| &one.command).collect::<Vec<_>>()
            )),
        }
    }

    pub fn supervisor(&self) -> Process {
        eventually("there is a supervisor", SECONDS, || self.find(" supervise"))
    }

    /// What is to be gone afterwards.
    pub fn traces(&self) -> Traces {
        Traces::of(self)
    }

    /// The events of the last run of this verb.
    pub fn events(&self, verb: &str) -> Vec<Value> {
        let Some(folder) = self.run_folder(verb) else {
            return Vec::new();
        };
        let text = fs::read_to_string(folder.join("events.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The folder of the last run of this verb.
    pub fn run_folder(&self, verb: &str) -> Option<PathBuf> {
        let runs = fs::read_dir(self.home.join("reports")).ok()?.flatten();
        let of_verb = runs
            .map(|entry| entry.path())
            .filter(|path| path.display().to_string().contains(&format!("-{verb}-")));
        of_verb.max_by_key(|path| fs::metadata(path).and_then(|meta| meta.created()).ok())
    }
}

/// A command under way; killed when dropped.
pub struct Course<'a> {
    rig: &'a Rig,
    verb: String,
    child: Child,
    output: tempfile::TempDir,
}

impl Course<'_> {
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

    /// Waits for a stage to begin.
    pub fn reaches(&mut self, stage: &str) {
        self.happens(&format!("stage {stage} begins"), |event| {
            event["event"] == "stage-started" && event["stage"] == stage
        });
    }

    /// Waits for an event.
    pub fn happens(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) {
        eventually(what, UP, || {
            let events = self.rig.events(&self.verb);
            if events.iter().any(&is_it) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{what}: it ended before ({status}):\n{}", self.stderr());
            }
            Err(self.stderr())
        });
    }

    /// Waits for a process of the environment.
    pub fn starts(&mut self, words: &str) -> Process {
        eventually(&format!("{words} runs"), UP, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{words}: it ended before ({status}):\n{}", self.stderr());
            }
            self.rig.find(words)
        })
    }

    /// Waits for a process in a node: it is one of this machine, but not of the environment.
    pub fn sees_in_node(&mut self, words: &str) {
        eventually(&format!("{words} runs in a node"), UP, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{words}: it ended before ({status}):\n{}", self.stderr());
            }
            let found = processes().iter().any(|one| one.command.contains(words));
            found.then_some(()).ok_or_else(|| self.stderr())
        });
    }

    /// Waits until it says so.
    pub fn says(&mut self, words: &str) {
        eventually(&format!("it says {words:?}"), UP, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{words}: it ended before ({status}):\n{}", self.stderr());
            }
            let said = self.stderr();
            said.contains(words).then_some(()).ok_or(said)
        });
    }

    /// Waits until the ledger has it.
    pub fn finds_in_ledger(&mut self, words: &str) {
        eventually("the ledger has it", UP, || {
            let ledger = fs::read_to_string(self.rig.ledger()).unwrap_or_default();
            ledger.contains(words).then_some(()).ok_or(ledger)
        });
    }

    /// Stops this command until the environment is up, does `meanwhile`, and lets it go on:
    /// what comes next finds things as `meanwhile` left them.
    pub fn paused_when_up(&mut self, meanwhile: impl FnOnce()) {
        self.reaches("provision");
        self.signal(Signal::SIGSTOP);
        eventually("the environment is up", UP, || {
            self.rig.environment().ok_or_else(|| self.stderr())
        });
        meanwhile();
        self.signal(Signal::SIGCONT);
    }

    /// How long it said nothing, at the most, until it ended.
    pub fn longest_silence(&mut self) -> Duration {
        let (mut longest, mut since, mut said) = (Duration::ZERO, Instant::now(), 0);
        eventually("the command ends", UP, || {
            let length = self.stderr().len();
            longest = longest.max(since.elapsed());
            if length != said {
                (since, said) = (Instant::now(), length);
            }
            let status = self.child.try_wait().unwrap();
            status.map(|_| longest).ok_or_else(|| self.stderr())
        })
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.output.path().join("stderr")).unwrap()
    }

    pub fn ends_within(mut self, deadline: Duration) -> Ended {
        let status = eventually("the command ends", deadline, || {
            self.child.try_wait().unwrap().ok_or_else(|| self.stderr())
        });
        Ended {
            status,
            stdout: fs::read_to_string(self.output.path().join("stdout")).unwrap(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Course<'_> {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A test that failed leaves nothing either.
impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = Command::new(env!("CARGO_BIN_EXE_xtask"))
                .args(["down", "--all"])
                .env("TRII_HARNESS_HOME", &self.home)
                .output();
        }
    }
}
