//! Image builds that are killed or cancelled: nothing is left of them.
//!
//! Each test has its own recipes. A mount that only the command sees puts them in the place of the
//! checkout's, which needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use base::wait::{self, Observation};
use bollard::query_parameters::ListContainersOptionsBuilder;
use machine::engine::Engine;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::machine::{Process, engine, eventually, processes};
use crate::rig::SECONDS;

/// From the start until a builder runs, on a busy machine: it downloads packages first.
const STARTED: Duration = Duration::from_secs(300);

/// Mounts `$1` at `$2` and executes the rest.
const WITH_RECIPES: &str = r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#;

/// The home and the recipes of one test, and the build of one image.
struct Build {
    folder: TempDir,
    child: Option<Child>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

impl Build {
    /// Starts to build an image from these files.
    fn start(files: &[(&str, &str)]) -> Build {
        let folder = TempDir::new().unwrap();
        let name = format!("probe-{}", std::process::id());
        let recipes = folder.path().join("recipes");
        let (ours, probe) = (workspace().join("fixtures/images"), recipes.join(&name));
        fs::create_dir_all(recipes.join("base")).unwrap();
        fs::copy(
            ours.join("base/image.toml"),
            recipes.join("base/image.toml"),
        )
        .unwrap();
        for (file, text) in files {
            let file = probe.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let mut build = Build {
            folder,
            child: None,
        };
        // The tools of this checkout, Go among them.
        fs::create_dir_all(build.home().join("harness")).unwrap();
        let tools = workspace().join("target/harness/tools");
        std::os::unix::fs::symlink(tools, build.home().join("harness/tools")).unwrap();
        let stderr = fs::File::create(build.folder.path().join("stderr")).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", WITH_RECIPES, "sh"])
            .args([&recipes, &ours])
            .arg(env!("CARGO_BIN_EXE_xtask"))
            .args(["images", "build", "--images", "build", &name])
            .env("TRII_HARNESS_HOME", build.home())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        build.child = Some(child);
        build
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn stderr(&self) -> String {
        read(&self.folder.path().join("stderr"))
    }

    /// Returns every process that uses this home or these recipes.
    fn processes(&self) -> Vec<Process> {
        let mark = self.folder.path().display().to_string();
        let is_ours = |process: &Process| {
            process.command.contains(&mark)
                || process.environment.contains(&mark)
                || process.directory.contains(&mark)
        };
        processes().into_iter().filter(is_ours).collect()
    }

    /// Waits for a process of the build.
    fn runs(&mut self, text: &str) {
        eventually(&format!("{text} runs"), STARTED, || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!(
                    "{text}: the build ended before ({status}):\n{}",
                    self.stderr()
                );
            }
            let all = self.processes();
            let found = all.iter().any(|process| process.command.contains(text));
            found.then_some(()).ok_or_else(|| self.stderr())
        });
    }

    /// Sends the command a signal, and waits for its exit. Returns its exit code.
    fn end(&mut self, signal: Signal) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let status = eventually("the command exits", SECONDS, || {
            child.try_wait().unwrap().ok_or_else(|| self.stderr())
        });
        status.code()
    }

    fn no_process_is_left(&self) {
        eventually("no process is left", SECONDS, || {
            let remaining = self.processes();
            match remaining.is_empty() {
                true => Ok(()),
                false => Err(format!("{remaining:?}")),
            }
        });
    }

    /// Returns the folders of builds.
    fn build_folders(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(self.home().join("harness")).unwrap().flatten();
        let all = all.map(|entry| entry.path()).filter(|path| path.is_dir());
        all.filter(|path| path.display().to_string().contains("/image-"))
            .collect()
    }

    async fn containers(&self, engine: &Engine) -> Vec<String> {
        let home = format!("trii.rehearsal.home={}", self.home().display());
        let filters = std::collections::HashMap::from([("label", vec![home])]);
        let all = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let listed = engine.client().list_containers(Some(all)).await.unwrap();
        let ids = listed.into_iter().filter_map(|container| container.id);
        ids.collect()
    }

    /// Waits for the container of the build.
    async fn has_container(&self, engine: &Engine) {
        const PAUSE: Duration = Duration::from_millis(50);
        let started = wait::until("a container exists", STARTED, PAUSE, async || {
            match self.containers(engine).await.len() {
                1 => Observation::Ready(()),
                _ => Observation::NotYet(self.stderr()),
            }
        });
        started.await.unwrap();
    }

    async fn nothing_is_left(&self, engine: &Engine) {
        self.no_process_is_left();
        assert_eq!(self.build_folders(), [] as [PathBuf; 0]);
        assert_eq!(self.containers(engine).await, [] as [String; 0]);
        let ledger = read(&self.home().join("harness/ledger.jsonl"));
        let made = ledger.matches("\"made\"").count();
        let gone = ledger.matches("\"gone\"").count();
        assert_eq!(made, gone, "{ledger}");
    }

    fn down(&self) -> std::io::Result<Output> {
        let mut down = Command::new(env!("CARGO_BIN_EXE_xtask"));
        down.args(["down", "--all"])
            .env("TRII_HARNESS_HOME", self.home());
        down.output()
    }

    /// Removes what a killed build left, after which nothing is left.
    async fn is_removed_by_down(&self, engine: &Engine) {
        let down = self.down().unwrap();
        assert!(down.status.success(), "{down:?}");
        self.nothing_is_left(engine).await;
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some(child) = &mut self.child {
                let _ = child.kill();
                let _ = child.wait();
            }
            let _ = self.down();
        }
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

fn debian() -> Build {
    // These packages make it another image than the checkout's.
    let recipe = "[build]\ndebian = \"bookworm\"\ninclude = [\"ca-certificates\", \"less\"]\n";
    Build::start(&[("image.toml", recipe)])
}

/// A Go program for which the compiler has to compile much of the standard library.
fn go() -> Build {
    let recipe = "[build]\n\n[[build.go]]\ndirectory = \"program\"\nprograms = [\".\"]\n";
    let program = "package main\n\nimport \"net/http\"\n\n\
                   func main() { _ = http.ListenAndServe(\"\", nil) }\n";
    Build::start(&[
        ("image.toml", recipe),
        ("Dockerfile", "FROM scratch\nCOPY bin/ /\n"),
        ("program/main.go", program),
        ("program/go.mod", "module probe\n\ngo 1.27\n"),
    ])
}

/// A node without containerd, for which the build waits a minute.
fn node() -> Build {
    Build::start(&[
        (
            "image.toml",
            "[build]\nfrom = \"base\"\npreload = [\"base\"]\n",
        ),
        ("Dockerfile", "ARG BASE\nFROM ${BASE}\n"),
    ])
}

#[tokio::test]
async fn a_killed_build_of_a_debian_leaves_a_folder_that_down_removes() {
    let engine = engine().await;
    let mut build = debian();
    // By then, a file system is mounted in the folder.
    build.runs("dpkg --install");
    build.end(Signal::SIGKILL);
    build.no_process_is_left();
    let folders = build.build_folders();
    assert_eq!(folders.len(), 1, "{folders:?}");
    let mounts = read(Path::new("/proc/self/mountinfo"));
    let folder = folders[0].display().to_string();
    assert!(!mounts.contains(&folder), "{mounts}");
    build.is_removed_by_down(&engine).await;
}

#[tokio::test]
async fn a_killed_compiler_leaves_a_folder_that_down_removes() {
    let engine = engine().await;
    let mut build = go();
    build.runs("/compile ");
    build.end(Signal::SIGKILL);
    build.no_process_is_left();
    assert_eq!(build.build_folders().len(), 1);
    build.is_removed_by_down(&engine).await;
}

#[tokio::test]
async fn a_killed_preload_leaves_a_container_that_down_removes() {
    let engine = engine().await;
    let mut build = node();
    build.has_container(&engine).await;
    build.end(Signal::SIGKILL);
    assert_eq!(build.containers(&engine).await.len(), 1);
    build.is_removed_by_down(&engine).await;
}

#[tokio::test]
async fn a_build_that_is_cancelled_leaves_nothing() {
    let engine = engine().await;
    let mut build = debian();
    build.runs("apt-get");
    assert_eq!(build.end(Signal::SIGINT), Some(130), "{}", build.stderr());
    build.nothing_is_left(&engine).await;
    let mut build = node();
    build.has_container(&engine).await;
    assert_eq!(build.end(Signal::SIGTERM), Some(143), "{}", build.stderr());
    build.nothing_is_left(&engine).await;
}
