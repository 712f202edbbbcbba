//! Programs of Go modules, as static binaries. Each set is compiled by a main module
//! of its own, which requires the module and repeats what that replaces: `go install`
//! refuses modules that replace others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::context::files_below;
use super::recipe::Recipe;
use super::room::Room;
use super::schema::{GoModule, GoPrograms, ModuleFiles, Replacement};
use super::{ImageError, Workshop};
use crate::duration::human;
use crate::file_lock::{self, LockError};
use crate::provision::OLDEST_GO;
use crate::subprocess::SubprocessError;
use crate::tools;

/// Kubernetes' seven programs take 7 min on two cores, and longer where these are busy.
const COMPILE_DEADLINE: Duration = Duration::from_secs(60 * 60);

const SAID_EVERY: Duration = Duration::from_secs(15);

/// A module and its go.mod.
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// A build cache that is larger than this when all is built is removed, bytes. One build
/// of everything makes 8 GiB; what comes of it is kept as images.
const CACHE_LIMIT: u64 = 3 << 30;

/// A removal of the cache takes seconds.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// Go, and where it works for one image.
pub(super) struct Go<'a> {
    program: PathBuf,
    cache: PathBuf,
    /// The image, for errors.
    image: &'a str,
    room: &'a Room,
    /// Shared with other builds; who would remove the cache finds it held.
    _cache_in_use: File,
}

/// What `go mod download -json` tells.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    dir: PathBuf,
    go_mod: PathBuf,
}

/// What `go mod edit -json` tells.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoMod {
    go: String,
    replace: Option<Vec<GoReplace>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoReplace {
    old: GoPath,
    new: GoPath,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoPath {
    path: String,
    version: Option<String>,
}

impl<'a> Go<'a> {
    pub async fn find(
        workshop: &Workshop,
        image: &'a str,
        room: &'a Room,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Go<'a>, ImageError> {
        let found = tools::go(&workshop.state_dir.join("tools"), OLDEST_GO).await;
        let program = found.ok_or_else(|| ImageError::NoGo {
            name: image.to_owned(),
        })?;
        let cache = cache(workshop);
        let lock = cache_lock(&cache);
        let in_use = file_lock::lock_shared(&lock, REMOVAL_DEADLINE, progress).await;
        Ok(Go {
            program,
            cache,
            image,
            room,
            _cache_in_use: in_use
                .map_err(|error| ImageError::io("lock Go's cache")(error.into()))?,
        })
    }

    /// Compiles the programs into `bin`.
    pub async fn compile(
        &self,
        recipe: &Recipe,
        programs: &GoPrograms,
        number: usize,
        bin: &Path,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), ImageError> {
        let main = self.room.path().join(format!("go-{number}"));
        let io = ImageError::io("write the main module of a Go build");
        std::fs::create_dir_all(&main).map_err(&io)?;
        let packages: Vec<String> = match (&programs.module, &programs.directory) {
            (Some(module), _) => {
                let text = self.main_module(recipe, programs, module, &main).await?;
                std::fs::write(main.join("go.mod"), text).map_err(&io)?;
                let package = |dir: &String| package(&module.path, dir);
                programs.programs.iter().map(package).collect()
            }
            (None, Some(directory)) => {
                lay_out(recipe, directory, &main).map_err(&io)?;
                programs.programs.clone()
            }
            (None, None) => {
                return Err(self.unfit("a [[build.go]] names neither `module` nor `directory`"));
            }
        };
        let mut command = self.command(&["build", "-C", &main.display().to_string()]);
        command.extend(["-mod=mod", "-trimpath", "-buildvcs=false"].map(str::to_owned));
        // The linker leaves debugging tables out: to make none saves a tenth of the time.
        command.push("-gcflags=all=-dwarf=false".to_owned());
        command.push(format!("-tags={}", programs.tags.join(",")));
        command.push(format!("-ldflags={}", linker_flags(&programs.stamp)));
        command.push(format!("-o={}/", bin.display()));
        command.extend(packages);
        let failed = |source| self.failed(source);
        let compiling = self.room.run(&command, COMPILE_DEADLINE, progress, failed);
        told_of(compiling, progress).await
    }

    /// Downloads a module; tells where its files are.
    pub async fn files_of(&self, files: &ModuleFiles) -> Result<PathBuf, ImageError> {
        Ok(self
            .download(&files.module)
            .await?
            .dir
            .join(&files.directory))
    }

    /// The go.mod to compile `module` with.
    async fn main_module(
        &self,
        recipe: &Recipe,
        programs: &GoPrograms,
        module: &GoModule,
        main: &Path,
    ) -> Result<String, ImageError> {
        let upstream = self.download(module).await?;
        let file = upstream.go_mod.display().to_string();
        let json = self.output(&["mod", "edit", "-json", &file]).await?;
        let upstream: GoMod = self.parsed(&json)?;
        let mut replaced = BTreeMap::new();
        for (number, (path, replacement)) in programs.replace.iter().enumerate() {
            let by = match replacement {
                Replacement::Module(other) => format!("{} {}", other.path, other.version),
                Replacement::Directory { directory } => {
                    let local = format!("./local-{number}");
                    lay_out(recipe, directory, &main.join(&local))
                        .map_err(ImageError::io("lay out a local Go module"))?;
                    local
                }
                Replacement::Overlay { version, overlay } => {
                    let local = format!("./local-{number}");
                    let (path, version) = (path.clone(), version.clone());
                    let original = self.download(&GoModule { path, version }).await?.dir;
                    copy_tree(&original, &main.join(&local))
                        .and_then(|()| lay_out(recipe, overlay, &main.join(&local)))
                        .map_err(ImageError::io("lay out a local Go module"))?;
                    local
                }
            };
            replaced.insert(path.clone(), by);
        }
        go_mod(programs, module, &upstream, replaced).map_err(|why| self.unfit(&why))
    }

    async fn download(&self, module: &GoModule) -> Result<Downloaded, ImageError> {
        let name = format!("{}@{}", module.path, module.version);
        let answer = self.output(&["mod", "download", "-json", &name]).await?;
        self.parsed(&answer)
    }

    async fn output(&self, arguments: &[&str]) -> Result<String, ImageError> {
        // Beside no go.mod, so that none is read.
        let mut command = self.command(&[]);
        command.extend(arguments.iter().map(|word| (*word).to_owned()));
        let failed = |source| self.failed(source);
        self.room.output(&command, DOWNLOAD_DEADLINE, failed).await
    }

    fn parsed<T: for<'de> Deserialize<'de>>(&self, json: &str) -> Result<T, ImageError> {
        serde_json::from_str(json).map_err(|error| self.unfit(&format!("go answers {error}")))
    }

    fn command(&self, arguments: &[&str]) -> Vec<String> {
        let mut words = vec![
            "env".to_owned(),
            "CGO_ENABLED=0".to_owned(),
            "GOOS=linux".to_owned(),
            // Empty as good as unset: for this machine, and by modules.
            "GOARCH=".to_owned(),
            "GO111MODULE=".to_owned(),
            "GOWORK=off".to_owned(),
            "GOFLAGS=".to_owned(),
            format!("GOCACHE={}", self.cache.display()),
            self.program.display().to_string(),
        ];
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        words
    }

    fn failed(&self, source: SubprocessError) -> ImageError {
        ImageError::Compile {
            name: self.image.to_owned(),
            source,
        }
    }

    fn unfit(&self, why: &str) -> ImageError {
        ImageError::Build {
            name: self.image.to_owned(),
            why: why.to_owned(),
            last_lines: String::new(),
        }
    }
}

/// Go says nothing while it compiles, for minutes: how long it has been at it is said instead.
async fn told_of<T>(compiling: impl Future<Output = T>, progress: &(dyn Fn(&str) + Sync)) -> T {
    let begun = Instant::now();
    let mut compiling = pin!(compiling);
    loop {
        match timeout(SAID_EVERY, &mut compiling).await {
            Ok(compiled) => return compiled,
            Err(_) => {
                let so_far = human(begun.elapsed().as_millis() as u64);
                progress(&format!("compiling, {so_far} so far"));
            }
        }
    }
}

fn cache(workshop: &Workshop) -> PathBuf {
    workshop.state_dir.join("images/go-cache")
}

fn cache_lock(cache: &Path) -> PathBuf {
    cache.with_extension("lock")
}

/// Removes the build cache where it has grown too large, unless someone builds: call it
/// when all is built.
pub(super) fn tidy_cache(workshop: &Workshop) -> Result<(), ImageError> {
    let cache = cache(workshop);
    if !cache.is_dir() {
        return Ok(());
    }
    let _lock = match file_lock::try_lock(&cache_lock(&cache)) {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Ok(()),
        Err(error) => return Err(ImageError::io("lock Go's cache")(error.into())),
    };
    let files = files_below(&cache).map_err(ImageError::io("measure Go's cache"))?;
    let sizes = files.iter().filter_map(|file| file.metadata().ok());
    match sizes.map(|metadata| metadata.len()).sum::<u64>() > CACHE_LIMIT {
        true => std::fs::remove_dir_all(&cache).map_err(ImageError::io("remove Go's cache")),
        false => Ok(()),
    }
}

fn package(module: &str, dir: &str) -> String {
    match dir {
        "." => module.to_owned(),
        dir => format!("{module}/{dir}"),
    }
}

fn linker_flags(stamp: &BTreeMap<String, String>) -> String {
    let stamps = stamp
        .iter()
        .map(|(name, text)| format!(" -X '{name}={text}'"));
    // Without symbols and debugging tables: half the size.
    std::iter::once("-s -w".to_owned()).chain(stamps).collect()
}

/// A main module that requires `module` and replaces what its go.mod does, which Go
/// heeds in main modules only. `replaced` goes before, and what the recipe requires itself: a
/// module that is replaced goes by the version it is replaced in, and what was compiled of it
/// is another than of the same module that is required.
fn go_mod(
    programs: &GoPrograms,
    module: &GoModule,
    upstream: &GoMod,
    mut replaced: BTreeMap<String, String>,
) -> Result<String, String> {
    for GoReplace { old, new } in upstream.replace.iter().flatten() {
        if replaced.contains_key(&old.path) || programs.require.contains_key(&old.path) {
            continue;
        }
        let left = [Some(old.path.as_str()), old.version.as_deref()];
        let left = left.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let right = match (&new.version, &programs.directories) {
            (Some(version), _) => format!("{} {version}", new.path),
            (None, Some(version)) => format!("{} {version}", old.path),
            (None, None) => {
                return Err(format!(
                    "{} replaces {} by the directory {}: name `directories` or `replace`",
                    module.path, old.path, new.path
                ));
            }
        };
        replaced.insert(left, right);
    }
    let GoModule { path, version } = module;
    let mut text = format!(
        "module rehearsal\n\ngo {}\n\nrequire {path} {version}\n",
        upstream.go
    );
    // Writing to a String cannot fail.
    for (path, version) in &programs.require {
        let _ = writeln!(text, "require {path} {version}");
    }
    for (left, right) in replaced {
        let _ = writeln!(text, "replace {left} => {right}");
    }
    Ok(text)
}

/// Writes a directory of the recipe into `to`.
fn lay_out(recipe: &Recipe, directory: &Path, to: &Path) -> std::io::Result<()> {
    for (path, content) in &recipe.files {
        if let Ok(below) = path.strip_prefix(directory) {
            write(&to.join(below), content)?;
        }
    }
    Ok(())
}

/// Contents only: what Go downloads cannot be written to.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    for file in files_below(from)? {
        let below = file.strip_prefix(from).unwrap_or(&file);
        write(&to.join(below), &std::fs::read(&file)?)?;
    }
    Ok(())
}

fn write(file: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(file, content)
}

#[cfg(test)]
mod tests {
    use super::super::recipe::Build;
    use super::*;

    const KUBERNETES: &str = r#"{
        "Module": {"Path": "k8s.io/kubernetes"}, "Go": "1.26.0",
        "Replace": [
            {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
            {"Old": {"Path": "a.org/b", "Version": "v1.0.0"}, "New": {"Path": "c.org/b", "Version": "v1.0.1"}}
        ]
    }"#;

    /// What becomes of it by a recipe that says this besides.
    fn kubernetes(says: &str, replaced: BTreeMap<String, String>) -> Result<String, String> {
        let module = GoModule {
            path: "k8s.io/kubernetes".to_owned(),
            version: "v1.37.2".to_owned(),
        };
        let programs = toml::from_str(&format!("programs = []\n{says}")).unwrap();
        let upstream = serde_json::from_str(KUBERNETES).unwrap();
        go_mod(&programs, &module, &upstream, replaced)
    }

    #[test]
    fn directories_become_published_modules() {
        let text = kubernetes("directories = \"v0.37.2\"", BTreeMap::new()).unwrap();
        assert_eq!(
            text,
            "module rehearsal\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v1.37.2\n\
             replace a.org/b v1.0.0 => c.org/b v1.0.1\n\
             replace k8s.io/api => k8s.io/api v0.37.2\n"
        );
    }

    #[test]
    fn a_directory_without_a_version_is_named() {
        let why = kubernetes("", BTreeMap::new()).unwrap_err();
        assert!(
            why.contains("replaces k8s.io/api by the directory"),
            "{why}"
        );
    }

    #[test]
    fn a_replacement_of_the_recipe_goes_before_upstreams() {
        let ours = BTreeMap::from([
            ("k8s.io/api".to_owned(), "./local-0".to_owned()),
            ("a.org/b".to_owned(), "d.org/b v2.0.0".to_owned()),
        ]);
        let text = kubernetes("", ours).unwrap();
        assert!(text.contains("replace k8s.io/api => ./local-0\n"), "{text}");
        assert!(
            text.contains("replace a.org/b => d.org/b v2.0.0\n"),
            "{text}"
        );
        assert!(!text.contains("c.org"), "{text}");
    }

    #[test]
    fn what_a_recipe_requires_is_required_and_not_replaced() {
        let says = "require = { \"e.org/f\" = \"v3.0.0\", \"k8s.io/api\" = \"v0.37.2\" }";
        let text = kubernetes(says, BTreeMap::new()).unwrap();
        assert!(text.contains("require e.org/f v3.0.0\n"), "{text}");
        assert!(text.contains("require k8s.io/api v0.37.2\n"), "{text}");
        assert!(!text.contains("replace k8s.io"), "{text}");
    }

    /// Else they would compile again what Kubernetes has, for minutes.
    #[test]
    fn what_runs_beside_kubernetes_is_compiled_with_its_modules() {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/images");
        let programs = |name: &str| match Recipe::read(&ours, name).unwrap().build {
            Build::Dockerfile(built) => built.go.into_iter().next().unwrap(),
            Build::Debian { .. } => unreachable!("{name} is of Go modules"),
        };
        let kubernetes = programs("kubernetes");
        let its = kubernetes.directories.unwrap();
        let metrics_server = programs("metrics-server").require;
        assert!(!metrics_server.is_empty());
        assert!(metrics_server.values().all(|version| *version == its));
        let coredns = std::fs::read_to_string(ours.join("coredns/program/go.mod")).unwrap();
        let (_, coredns) = coredns.split_once("require (").unwrap();
        let coredns: BTreeMap<_, _> = coredns
            .lines()
            .filter_map(|line| line.trim().split_once(' '))
            .map(|(path, version)| (path.to_owned(), version.to_owned()))
            .collect();
        let k8s = coredns
            .iter()
            .filter(|(path, _)| path.starts_with("k8s.io/"));
        assert!(k8s.clone().count() > 0 && k8s.clone().all(|(_, version)| *version == its));
        for (path, version) in metrics_server.iter().chain(&coredns) {
            assert_eq!(kubernetes.require.get(path), Some(version), "{path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_compilation_is_told_of() {
        let said = std::sync::Mutex::new(Vec::new());
        let progress = |line: &str| said.lock().unwrap().push(line.to_owned());
        let minute = tokio::time::sleep(Duration::from_secs(40));
        told_of(minute, &progress).await;
        let said = said.into_inner().unwrap();
        assert_eq!(
            said,
            ["compiling, 15.0 s so far", "compiling, 30.0 s so far"]
        );
    }

    #[test]
    fn stamps_are_quoted_for_the_linker() {
        let stamp = BTreeMap::from([("a/b.c".to_owned(), "two words".to_owned())]);
        assert_eq!(linker_flags(&stamp), "-s -w -X 'a/b.c=two words'");
    }

    #[test]
    fn packages_are_named_by_their_module() {
        assert_eq!(package("a.org/b/v2", "."), "a.org/b/v2");
        assert_eq!(package("a.org/b/v2", "cmd/c"), "a.org/b/v2/cmd/c");
    }
}
