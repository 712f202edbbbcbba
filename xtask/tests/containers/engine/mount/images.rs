//! Images under construction: whatever becomes of the command that builds them, nothing is
//! left of it.
//!
//! The recipes are of the test's own: they are laid over the checkout's in mounts that only the
//! command sees, which takes root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bollard::query_parameters::ListContainersOptionsBuilder;
use harness::engine::Engine;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::engine::engine;
use crate::machine::{Process, eventually, processes};
use crate::rig::SECONDS;

/// From the start until a builder is at work, where others work as well: packages are fetched first.
const AT_WORK: Duration = Duration::from_secs(300);

/// Lays `$1` over `$2` and becomes the rest.
const WITH_RECIPES: &str = r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#;

/// A home and recipes of one test's own, and the build of one image there.
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
    /// Begins to build the image of this `image.toml`, beside which are `files`.
    fn begin(recipe: &str, files: &[(&str, &str)]) -> Build {
        let folder = TempDir::new().unwrap();
        let name = format!("probe-{}", std::process::id());
        let recipes = folder.path().join("recipes");
        let (ours, probe) = (workspace().join("fixtures/images"), recipes.join(&name));
        for (folder, file, text) in [
            (
                recipes.join("base"),
                "image.toml",
                read(&ours.join("base/image.toml")),
            ),
            (probe.clone(), "image.toml", recipe.to_owned()),
        ] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), text).unwrap();
        }
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
        let said = fs::File::create(build.folder.path().join("said")).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", WITH_RECIPES, "sh"])
            .args([&recipes, &ours])
            .arg(env!("CARGO_BIN_EXE_xtask"))
            .args(["images", "build", "--images", "build", &name])
            .env("TRII_HARNESS_HOME", build.home())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap();
        build.child = Some(child);
        build
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn said(&self) -> String {
        read(&self.folder.path().join("said"))
    }

    /// All that works in this home or with these recipes, however it was started.
    fn processes(&self) -> Vec<Process> {
        let mark = self.folder.path().display().to_string();
        let is_ours = |process: &Process| {
            process.command.contains(&mark)
                || process.environment.contains(&mark)
                || process.directory.contains(&mark)
        };
        processes().into_iter().filter(is_ours).collect()
    }

    /// Waits until a process of the build says so.
    fn runs(&mut self, words: &str) {
        eventually(&format!("{words} runs"), AT_WORK, || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("{words}: it ended before ({status}):\n{}", self.said());
            }
            let all = self.processes();
            let found = all.iter().any(|process| process.command.contains(words));
            found.then_some(()).ok_or_else(|| self.said())
        });
    }

    /// Sends the command a signal, and waits for its end. Its exit code.
    fn end(&mut self, signal: Signal) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let ended = eventually("the command ends", SECONDS, || {
            child.try_wait().unwrap().ok_or_else(|| self.said())
        });
        ended.code()
    }

    fn no_process_is_left(&self) {
        eventually("no process is left", SECONDS, || {
            let left = self.processes();
            match left.is_empty() {
                true => Ok(()),
                false => Err(format!("{left:?}")),
            }
        });
    }

    /// The folders that were built in.
    fn rooms(&self) -> Vec<PathBuf> {
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
        listed.into_iter().filter_map(|one| one.id).collect()
    }

    async fn nothing_is_left(&self, engine: &Engine) {
        self.no_process_is_left();
        assert_eq!(self.rooms(), [] as [PathBuf; 0]);
        assert_eq!(self.containers(engine).await, [] as [String; 0]);
        let ledger = read(&self.home().join("harness/ledger.jsonl"));
        let made = ledger.matches("\"made\"").count();
        let gone = ledger.matches("\"gone\"").count();
        assert_eq!(made, gone, "{ledger}");
    }

    fn down(&self) {
        let down = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["down", "--all"])
            .env("TRII_HARNESS_HOME", self.home())
            .output()
            .unwrap();
        assert!(down.status.success(), "{down:?}");
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some(child) = &mut self.child {
                let _ = child.kill();
                let _ = child.wait();
            }
            let _ = Command::new(env!("CARGO_BIN_EXE_xtask"))
                .args(["down", "--all"])
                .env("TRII_HARNESS_HOME", self.home())
                .output();
        }
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

fn debian() -> Build {
    // What it includes makes it another image than the checkout's.
    Build::begin(
        "[build]\ndebian = \"bookworm\"\ninclude = [\"ca-certificates\", \"less\"]\n",
        &[],
    )
}

/// A program of which Go has compiled nothing yet in this home: much of its library.
fn go() -> Build {
    let program = "package main\n\nimport \"net/http\"\n\n\
                   func main() { _ = http.ListenAndServe(\"\", nil) }\n";
    Build::begin(
        "[build]\n\n[[build.go]]\ndirectory = \"program\"\nprograms = [\".\"]\n",
        &[
            ("Dockerfile", "FROM scratch\nCOPY bin/ /\n"),
            ("program/main.go", program),
            ("program/go.mod", "module probe\n\ngo 1.27\n"),
        ],
    )
}

/// A node without containerd, for which the build waits a minute.
fn node() -> Build {
    Build::begin(
        "[build]\nfrom = \"base\"\npreload = [\"base\"]\n",
        &[("Dockerfile", "ARG BASE\nFROM ${BASE}\n")],
    )
}

#[tokio::test]
async fn a_killed_build_of_a_debian_leaves_a_folder_that_down_removes() {
    let engine = engine().await;
    let mut build = debian();
    // Something is mounted in the folder by then.
    build.runs("dpkg --install");
    build.end(Signal::SIGKILL);
    build.no_process_is_left();
    let rooms = build.rooms();
    assert_eq!(rooms.len(), 1, "{rooms:?}");
    let mounts = read(Path::new("/proc/self/mountinfo"));
    assert!(
        !mounts.contains(&rooms[0].display().to_string()),
        "{mounts}"
    );
    build.down();
    build.nothing_is_left(&engine).await;
}

#[tokio::test]
async fn a_killed_compiler_leaves_a_folder_that_down_removes() {
    let engine = engine().await;
    let mut build = go();
    build.runs("/compile ");
    build.end(Signal::SIGKILL);
    build.no_process_is_left();
    assert_eq!(build.rooms().len(), 1);
    build.down();
    build.nothing_is_left(&engine).await;
}

#[tokio::test]
async fn a_killed_preload_leaves_a_container_that_down_removes() {
    let engine = engine().await;
    let mut build = node();
    until_there(&build, &engine).await;
    build.end(Signal::SIGKILL);
    assert_eq!(build.containers(&engine).await.len(), 1);
    build.down();
    build.nothing_is_left(&engine).await;
}

#[tokio::test]
async fn a_build_that_is_called_off_leaves_nothing() {
    let engine = engine().await;
    let mut build = debian();
    build.runs("apt-get");
    assert_eq!(build.end(Signal::SIGINT), Some(130), "{}", build.said());
    build.nothing_is_left(&engine).await;
    let mut build = node();
    until_there(&build, &engine).await;
    assert_eq!(build.end(Signal::SIGTERM), Some(143), "{}", build.said());
    build.nothing_is_left(&engine).await;
}

async fn until_there(build: &Build, engine: &Engine) {
    let there = harness::wait::until(
        "the container is there",
        AT_WORK,
        Duration::from_millis(50),
        async || match build.containers(engine).await.len() {
            1 => harness::wait::Observation::Ready(()),
            _ => harness::wait::Observation::NotYet(build.said()),
        },
    );
    there.await.unwrap();
}
