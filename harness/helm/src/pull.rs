//! Charts of OCI registries, pulled once. <https://helm.sh/docs/topics/registries/>

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::Diagnostic;
use semver::Version;
use thiserror::Error;

use super::DeployError;
use super::command::{Program, error_message};
use base::exit::ExitCode;

/// The start of every reference.
const SCHEME: &str = "oci://";

/// How long helm may take to pull a chart. A chart has at most 1 MiB: that is the limit of the Secret
/// in which helm stores a release.
const DEADLINE: Duration = Duration::from_secs(60);

/// A chart of an OCI registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciChart {
    /// `HOST/PATH`, without a tag.
    repository: String,
    /// The version of the chart: `1.2.3`.
    version: String,
}

/// The reference or the version of a chart is not usable.
#[derive(Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum ReferenceError {
    /// A chart in a registry has no version.
    #[error("no version of the chart {0:?} is named")]
    #[diagnostic(help(
        "name one: version = \"1.2.3\" in [[releases]], or --chart-version of `cargo xtask init`"
    ))]
    NoVersion(String),
    /// A chart in a file has a version.
    #[error("{0:?} is not in a registry: it has one version only")]
    #[diagnostic(help("leave the version out, or name a chart \"oci://HOST/PATH\""))]
    VersionOfFile(String),
    /// It does not name a chart in a registry.
    #[error("{0:?} does not name a chart in a registry")]
    #[diagnostic(help("a host and a path in lower case, e.g. \"oci://charts.example/shop\""))]
    Reference(String),
    /// It has a tag or a digest.
    #[error("{0:?} has a tag or a digest")]
    #[diagnostic(help("leave it out: the version of the chart selects it"))]
    Tagged(String),
    /// The version is not an exact one.
    #[error("{0:?} is not the version of a chart")]
    #[diagnostic(help("one exact version, as in its Chart.yaml, e.g. \"1.2.3\""))]
    Version(String),
}

impl ReferenceError {
    /// Returns whether the version is wrong, and not the reference.
    pub fn is_of_version(&self) -> bool {
        matches!(
            self,
            ReferenceError::Version(_) | ReferenceError::VersionOfFile(_)
        )
    }
}

impl OciChart {
    /// Reads where a chart is, and its version. Returns none for a file or folder.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn of(chart: &str, version: Option<&str>) -> Result<Option<OciChart>, ReferenceError> {
        match (chart.starts_with(SCHEME), version) {
            (false, None) => Ok(None),
            (false, Some(_)) => Err(ReferenceError::VersionOfFile(chart.to_owned())),
            (true, None) => Err(ReferenceError::NoVersion(chart.to_owned())),
            (true, Some(version)) => OciChart::parse(chart, version).map(Some),
        }
    }

    fn parse(reference: &str, version: &str) -> Result<OciChart, ReferenceError> {
        let repository = reference.strip_prefix(SCHEME).unwrap_or_default();
        let (host, path) = repository.split_once('/').unwrap_or_default();
        if path.contains([':', '@']) {
            return Err(ReferenceError::Tagged(reference.to_owned()));
        }
        if !is_host(host) || !path.split('/').all(is_path_component) {
            return Err(ReferenceError::Reference(reference.to_owned()));
        }
        let semver = version.strip_prefix('v').unwrap_or(version);
        match Version::parse(semver) {
            Ok(_) => Ok(OciChart {
                repository: repository.to_owned(),
                version: version.to_owned(),
            }),
            Err(_) => Err(ReferenceError::Version(version.to_owned())),
        }
    }

    /// The host of its registry, with the port.
    pub fn host(&self) -> &str {
        let host = self.repository.split('/').next();
        host.unwrap_or_default()
    }

    /// `oci://HOST/PATH`.
    pub fn reference(&self) -> String {
        format!("{SCHEME}{}", self.repository)
    }

    /// The version of the chart.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where the chart is in the folder `charts`, once it is pulled.
    pub fn file(&self, charts: &Path) -> PathBuf {
        let (repository, version) = (&self.repository, &self.version);
        let name = repository.rsplit('/').next().unwrap_or_default();
        let folder = charts.join(repository).join(version);
        folder.join(format!("{name}-{version}.tgz"))
    }

    /// Whether its registry is on this machine, where registries have no certificate.
    fn is_here(&self) -> bool {
        let host = self.host();
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        ["127.0.0.1", "localhost"].contains(&name)
    }
}

impl fmt::Display for OciChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.reference(), self.version)
    }
}

/// `NAME`, or `NAME:PORT`.
fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "443"));
    let is_label = |label: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(letter)
    };
    name.split('.').all(is_label) && port.parse::<u16>().is_ok()
}

/// "Pulling manifests" in the distribution specification: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(alphanumeric)
        && component.ends_with(alphanumeric)
        && component
            .chars()
            .all(|c| alphanumeric(c) || "._-".contains(c))
}

/// Why a chart is not pulled.
#[derive(Debug, Error, Diagnostic)]
pub enum PullError {
    /// The registry has no such chart, or not in this version.
    #[error("{chart} is not in its registry: {words}")]
    #[diagnostic(help("name a chart and a version that are there"))]
    NotFound {
        /// The chart.
        chart: OciChart,
        /// helm's error.
        words: String,
    },
    /// The registry does not let this user read the chart.
    #[error("the registry does not permit to read {chart}: {words}")]
    #[diagnostic(help("`helm registry login {}`: helm keeps the password", chart.host()))]
    Unauthorized {
        /// The chart.
        chart: OciChart,
        /// helm's error.
        words: String,
    },
    /// The registry does not answer.
    #[error("the registry of {chart} does not answer: {words}")]
    #[diagnostic(help(
        "check that this machine reaches {}; a chart that was pulled once needs no registry",
        chart.host()
    ))]
    Silent {
        /// The chart.
        chart: OciChart,
        /// helm's error.
        words: String,
    },
    /// helm fails for another reason.
    #[error("helm cannot pull {chart}: {words}")]
    #[diagnostic(help("try `helm pull {} --version {}`", chart.reference(), chart.version()))]
    Failed {
        /// The chart.
        chart: OciChart,
        /// helm's error.
        words: String,
    },
    /// The folder of charts cannot be written.
    #[error("cannot keep a chart in {}: {source}", path.display())]
    #[diagnostic(help("free space or make the folder writable, or choose another with --home"))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// helm cannot be started.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Helm(#[from] DeployError),
}

impl PullError {
    /// Classifies helm's error by its message: helm 3 exits with 1 for all errors.
    fn of_helm(chart: &OciChart, words: String) -> PullError {
        const UNAUTHORIZED: [&str; 5] = [
            "credential not found",
            "code 401",
            "code 403",
            "unauthorized",
            "denied",
        ];
        const NOT_FOUND: [&str; 2] = ["not found", "code 404"];
        const SILENT: [&str; 5] = [
            "dial tcp",
            "timeout",
            "deadline exceeded",
            "connection reset",
            "EOF",
        ];
        let chart = chart.clone();
        // The reference may contain anything.
        let reason = words
            .replace(&chart.repository, "")
            .replace(&chart.version, "");
        let has = |patterns: &[&str]| patterns.iter().any(|it| reason.contains(it));
        match () {
            () if has(&SILENT) => PullError::Silent { chart, words },
            () if has(&UNAUTHORIZED) => PullError::Unauthorized { chart, words },
            () if has(&NOT_FOUND) => PullError::NotFound { chart, words },
            () => PullError::Failed { chart, words },
        }
    }

    /// Returns the exit code of a command that fails with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            PullError::NotFound { .. } => ExitCode::Usage,
            PullError::Helm(error) => error.exit_code(),
            _ => ExitCode::NoEnvironment,
        }
    }
}

/// Pulls the chart into the folder `charts` with the program `helm`, unless it is there. Returns its
/// file. Logins are those of `helm registry login`.
///
/// # Errors
/// [`PullError`].
pub async fn pull(helm: &Path, chart: &OciChart, charts: &Path) -> Result<PathBuf, PullError> {
    let file = chart.file(charts);
    if file.is_file() {
        return Ok(file);
    }
    let folder = file.parent().unwrap_or(charts);
    let unwritable = |source| PullError::Folder {
        path: folder.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    // Beside the file: another command may pull the same chart.
    let program = Program::new(helm, folder)?;
    let pulled = program.pulled(chart).await?;
    std::fs::rename(pulled, &file).map_err(unwritable)?;
    Ok(file)
}

impl Program {
    /// Pulls the chart into its home.
    async fn pulled(&self, chart: &OciChart) -> Result<PathBuf, PullError> {
        let mut command = self.with_logins(&["pull", "--version", &chart.version]);
        if chart.is_here() {
            command.arg("--plain-http");
        }
        command.arg("--destination").arg(self.home());
        command.args(["--", &chart.reference()]);
        let output = tokio::time::timeout(DEADLINE, command.output()).await;
        let Ok(output) = output else {
            let words = format!("helm has not pulled it within {} s", DEADLINE.as_secs());
            let chart = chart.clone();
            return Err(PullError::Silent { chart, words });
        };
        let output = output.map_err(|error| self.missing(error))?;
        if !output.status.success() {
            return Err(PullError::of_helm(chart, error_message(&output)));
        }
        // In its name helm replaces a `+` of the version, which no tag has.
        packaged_in(self.home()).ok_or_else(|| PullError::Failed {
            chart: chart.clone(),
            words: "it has written no .tgz".to_owned(),
        })
    }
}

fn packaged_in(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut files = entries.map(|entry| entry.path());
    files.find(|file| file.extension().is_some_and(|it| it == "tgz"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shop() -> OciChart {
        OciChart::parse("oci://127.0.0.1:5000/charts/shop", "1.2.3").unwrap()
    }

    #[test]
    fn a_chart_is_kept_by_its_reference_and_version() {
        let chart = shop();
        assert_eq!(chart.to_string(), "oci://127.0.0.1:5000/charts/shop 1.2.3");
        let file = chart.file(Path::new("/h"));
        let expected = "/h/127.0.0.1:5000/charts/shop/1.2.3/shop-1.2.3.tgz";
        assert_eq!(file, Path::new(expected));
        for (reference, is_here) in [
            ("oci://127.0.0.1/shop", true),
            ("oci://localhost:5000/shop", true),
            ("oci://localhost.example/shop", false),
            ("oci://charts.example:5000/shop", false),
        ] {
            let chart = OciChart::parse(reference, "v1.2.3-rc.1+build").unwrap();
            assert_eq!(chart.is_here(), is_here, "{reference}");
        }
    }

    #[test]
    fn what_names_no_chart_or_no_version_is_refused() {
        let refused = |reference: &str, version| OciChart::parse(reference, version).unwrap_err();
        for reference in [
            "oci://",
            "oci://shop",
            "oci://charts.example/",
            "oci://charts.example//shop",
            "oci://charts.example/Shop",
            "oci://charts.example/../shop",
            "oci://charts.example/shop?a=b",
            "oci://ada:secret@charts.example/shop",
            "oci://charts.example:port/shop",
            "https://charts.example/shop",
        ] {
            let expected = ReferenceError::Reference(reference.to_owned());
            assert_eq!(refused(reference, "1.2.3"), expected);
        }
        for reference in [
            "oci://charts.example/shop:1.2.3",
            "oci://charts.example:443/shop@sha256:0a",
        ] {
            let expected = ReferenceError::Tagged(reference.to_owned());
            assert_eq!(refused(reference, "1.2.3"), expected);
        }
        for version in [
            "", "latest", "1.2", "^1.2.0", ">=1.0.0", "1.2.3/..", "01.2.3",
        ] {
            let error = refused("oci://charts.example/shop", version);
            assert_eq!(error, ReferenceError::Version(version.to_owned()));
        }
    }

    #[test]
    fn only_a_chart_in_a_registry_has_a_version() {
        let shop = "oci://charts.example/shop";
        assert_eq!(OciChart::of("charts/shop", None), Ok(None));
        assert_eq!(
            OciChart::of(shop, Some("1.2.3")),
            OciChart::parse(shop, "1.2.3").map(Some)
        );
        assert_eq!(
            OciChart::of(shop, None),
            Err(ReferenceError::NoVersion(shop.to_owned()))
        );
        assert_eq!(
            OciChart::of("shop.tgz", Some("1.2.3")),
            Err(ReferenceError::VersionOfFile("shop.tgz".to_owned()))
        );
    }

    #[test]
    fn errors_of_helm_are_classified_by_their_messages() {
        let code = |words: &str| {
            let error = PullError::of_helm(&shop(), words.to_owned());
            assert!(error.to_string().contains(words), "{error}");
            let kind = format!("{error:?}");
            let kind = kind.split_whitespace().next().unwrap().to_owned();
            (kind, error.exit_code())
        };
        for (words, kind, exit_code) in [
            (
                "failed to perform \"FetchReference\" on source: 127.0.0.1:5000/charts/shop:1.2.3: not found",
                "NotFound",
                ExitCode::Usage,
            ),
            (
                "GET \"https://charts.example/v2/shop/manifests/1.2.3\": response status code 401: unauthorized: authentication required",
                "Unauthorized",
                ExitCode::NoEnvironment,
            ),
            (
                "failed to perform \"FetchReference\" on source: GET \"http://127.0.0.1:5000/v2/charts/shop/manifests/1.2.3\": basic credential not found",
                "Unauthorized",
                ExitCode::NoEnvironment,
            ),
            (
                "HEAD \"https://charts.example/v2/shop/manifests/1.2.3\": response status code 403: denied",
                "Unauthorized",
                ExitCode::NoEnvironment,
            ),
            (
                "Head \"http://127.0.0.1:5000/v2/charts/shop/manifests/1.2.3\": dial tcp 127.0.0.1:5000: connect: connection refused",
                "Silent",
                ExitCode::NoEnvironment,
            ),
            (
                "tls: failed to verify certificate",
                "Failed",
                ExitCode::NoEnvironment,
            ),
        ] {
            assert_eq!(code(words), (kind.to_owned(), exit_code), "{words}");
        }
    }

    proptest! {
        /// No reference leads out of the folder of charts.
        #[test]
        fn a_chart_is_kept_in_the_folder(reference in "oci://[a-z.:/@_-]{0,20}", version in "[0-9v.+a-z/-]{0,12}") {
            if let Ok(chart) = OciChart::parse(&reference, &version) {
                let file = chart.file(Path::new("/charts"));
                let mut components = file.components().skip(2);
                prop_assert!(components.all(|it| matches!(it, std::path::Component::Normal(_))));
            }
        }
    }
}
