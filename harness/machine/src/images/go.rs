//! Programs of Go modules, as static binaries. Each set is compiled by its own main module, which
//! requires the module and repeats its replacements: `go install` refuses modules that replace
//! others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::build_folder::BuildFolder;
use super::context::files_below;
use super::recipe::Recipe;
use super::schema::{GoModule, GoPrograms, ModuleFiles, Replacement};
use super::{ImageError, Workshop};
use crate::tools::{self, OLDEST_GO};
use base::duration::human;
use base::file_lock::{self, LockError};
use base::process::CommandError;

/// Kubernetes' seven programs take 7 min on two cores, and longer if these are busy.
const COMPILE_DEADLINE: Duration = Duration::from_secs(60 * 60);

const REPORT_EVERY: Duration = Duration::from_secs(15);

/// A module and its go.mod.
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// A build cache that is larger than this after a build is removed, bytes. A build of everything
/// needs 8 GiB. Its results are kept as images.
const CACHE_LIMIT: u64 = 3 << 30;

/// A removal of the cache takes seconds.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// Go, and its directories for one image.
pub(super) struct Go<'a> {
    program: PathBuf,
    cache: PathBuf,
    /// The image, for errors.
    image: &'a str,
    room: &'a BuildFolder,
    /// Shared with other builds. While it is locked, no process removes the cache.
    _cache_in_use: File,
}

/// The output of `go mod download -json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    dir: PathBuf,
    go_mod: PathBuf,
}

/// The output of `go mod edit -json`.
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
        room: &'a BuildFolder,
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
        // The linker leaves debugging tables out. Not generating them saves a tenth of the time.
        command.push("-gcflags=all=-dwarf=false".to_owned());
        command.push(format!("-tags={}", programs.tags.join(",")));
        command.push(format!("-ldflags={}", linker_flags(&programs.stamp)));
        command.push(format!("-o={}/", bin.display()));
        command.extend(packages);
        let failed = |source| self.failed(source);
        let compiling = self.room.run(&command, COMPILE_DEADLINE, progress, failed);
        with_reports(compiling, progress).await
    }

    /// Downloads a module and returns the directory of its files.
    pub async fn files_of(&self, files: &ModuleFiles) -> Result<PathBuf, ImageError> {
        let downloaded = self.download(&files.module).await?;
        Ok(downloaded.dir.join(&files.directory))
    }

    /// Returns the go.mod to compile `module` with.
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
        // There is no go.mod in the working directory.
        let mut command = self.command(&[]);
        command.extend(arguments.iter().map(|word| (*word).to_owned()));
        let failed = |source| self.failed(source);
        self.room.output(&command, DOWNLOAD_DEADLINE, failed).await
    }

    fn parsed<T: for<'de> Deserialize<'de>>(&self, json: &str) -> Result<T, ImageError> {
        let parsed = serde_json::from_str(json);
        parsed.map_err(|error| self.unfit(&format!("the output of go is not valid: {error}")))
    }

    fn command(&self, arguments: &[&str]) -> Vec<String> {
        // An empty variable is the same as an unset one: for this machine, and with modules.
        let variables = "CGO_ENABLED=0 GOOS=linux GOARCH= GO111MODULE= GOWORK=off GOFLAGS=";
        let cache = format!("GOCACHE={}", self.cache.display());
        let program = self.program.display().to_string();
        let words = std::iter::once("env").chain(variables.split(' '));
        let words = words.chain([cache.as_str(), &program]);
        let words = words.chain(arguments.iter().copied());
        words.map(str::to_owned).collect()
    }

    fn failed(&self, source: CommandError) -> ImageError {
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

/// Reports the elapsed time: Go prints nothing while it compiles, for minutes.
async fn with_reports<T>(
    compiling: impl Future<Output = T>,
    progress: &(dyn Fn(&str) + Sync),
) -> T {
    let started = Instant::now();
    let mut compiling = pin!(compiling);
    loop {
        if let Ok(compiled) = timeout(REPORT_EVERY, &mut compiling).await {
            return compiled;
        }
        let elapsed = human(started.elapsed().as_millis() as u64);
        progress(&format!("compiling, {elapsed} so far"));
    }
}

fn cache(workshop: &Workshop) -> PathBuf {
    workshop.state_dir.join("images/go-cache")
}

fn cache_lock(cache: &Path) -> PathBuf {
    cache.with_extension("lock")
}

/// Removes the build cache if it has grown too large and no other build uses it. Call it after a
/// build.
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

/// Returns a main module that requires `module` and repeats its replacements: Go follows those of a
/// main module only. `replaced` and the recipe's own requirements take precedence. Go's cache does
/// not share packages between a replaced module and the same module as a requirement.
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

/// Copies contents without modes: the files that Go downloads are read-only.
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

    /// Returns the go.mod for a recipe with these additional lines.
    fn kubernetes(lines: &str, replaced: BTreeMap<String, String>) -> Result<String, String> {
        let module = GoModule {
            path: "k8s.io/kubernetes".to_owned(),
            version: "v1.37.2".to_owned(),
        };
        let programs = toml::from_str(&format!("programs = []\n{lines}")).unwrap();
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
        let error = kubernetes("", BTreeMap::new()).unwrap_err();
        let expected = "replaces k8s.io/api by the directory";
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_replacement_of_the_recipe_takes_precedence() {
        let ours = BTreeMap::from([
            ("k8s.io/api".to_owned(), "./local-0".to_owned()),
            ("a.org/b".to_owned(), "d.org/b v2.0.0".to_owned()),
        ]);
        let text = kubernetes("", ours).unwrap();
        for line in ["k8s.io/api => ./local-0", "a.org/b => d.org/b v2.0.0"] {
            assert!(text.contains(&format!("replace {line}\n")), "{text}");
        }
        assert!(!text.contains("c.org"), "{text}");
    }

    #[test]
    fn what_a_recipe_requires_is_required_and_not_replaced() {
        let lines = "require = { \"e.org/f\" = \"v3.0.0\", \"k8s.io/api\" = \"v0.37.2\" }";
        let text = kubernetes(lines, BTreeMap::new()).unwrap();
        for line in ["e.org/f v3.0.0", "k8s.io/api v0.37.2"] {
            assert!(text.contains(&format!("require {line}\n")), "{text}");
        }
        assert!(!text.contains("replace k8s.io"), "{text}");
    }

    /// With other versions, they compile Kubernetes' packages again, for minutes.
    #[test]
    fn programs_beside_kubernetes_are_compiled_with_its_modules() {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/images");
        let programs = |name: &str| match Recipe::read(&ours, name).unwrap().build {
            Build::Dockerfile(built) => built.go.into_iter().next().unwrap(),
            Build::Debian { .. } => unreachable!("{name} is of Go modules"),
        };
        let kubernetes = programs("kubernetes");
        let expected = kubernetes.directories.unwrap();
        let metrics_server = programs("metrics-server").require;
        assert!(!metrics_server.is_empty());
        assert!(metrics_server.values().all(|version| *version == expected));
        let coredns = std::fs::read_to_string(ours.join("coredns/program/go.mod")).unwrap();
        let (_, coredns) = coredns.split_once("require (").unwrap();
        let coredns: BTreeMap<_, _> = coredns
            .lines()
            .filter_map(|line| line.trim().split_once(' '))
            .map(|(path, version)| (path.to_owned(), version.to_owned()))
            .collect();
        let mut k8s = coredns
            .iter()
            .filter(|(path, _)| path.starts_with("k8s.io/"));
        assert!(k8s.clone().count() > 0 && k8s.all(|(_, version)| *version == expected));
        for (path, version) in metrics_server.iter().chain(&coredns) {
            assert_eq!(kubernetes.require.get(path), Some(version), "{path}");
        }
    }

    /// The pulled image, the built one, the chart, and what the local target builds.
    #[test]
    fn podinfo_is_of_one_release_everywhere() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let read = |file: &str| std::fs::read_to_string(fixtures.join(file)).unwrap();
        let recipe = Recipe::read(&fixtures.join("images"), "podinfo").unwrap();
        let Build::Dockerfile(built) = recipe.build else {
            unreachable!("it is of a Go module");
        };
        let module = built.go[0].module.as_ref().unwrap();
        assert_eq!(built.module_files[0].module, *module);
        let release = recipe.pull.unwrap().tag;
        let chart = read("podinfo/chart/Chart.yaml");
        assert!(chart.contains(&format!("appVersion: {release}\n")));
        let platform: toml::Table = read("podinfo/harness.toml").parse().unwrap();
        let platform = &platform["platform"];
        assert_eq!(platform["version"].as_str(), Some(release.as_str()));
        let build = platform["local"]["build"].to_string();
        assert!(build.contains(&format!("{}/cmd/podinfo@{}", module.path, module.version)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_long_compilation_is_reported() {
        let lines = std::sync::Mutex::new(Vec::new());
        let progress = |line: &str| lines.lock().unwrap().push(line.to_owned());
        let compiling = tokio::time::sleep(Duration::from_secs(40));
        with_reports(compiling, &progress).await;
        let expected = ["compiling, 15.0 s so far", "compiling, 30.0 s so far"];
        assert_eq!(lines.into_inner().unwrap(), expected);
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
