//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use harness::environment::EnvironmentName;
use harness::exit::ExitCode;
use harness::process::bound::Binding;
use loadtests::perf::{FEWEST_PAIRS, PAIRS};

/// As the README has them.
fn exit_codes() -> String {
    let codes = ExitCode::ALL.map(|code| format!("  {:>3}  {}", code as u8, code.meaning()));
    format!("Exit codes:\n{}", codes.join("\n"))
}

/// Rehearses releases of the TRII platform: stands it up, proves it, reports, takes it down.
///
/// Start with `cargo xtask e2e --provision`.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = exit_codes())]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Stand the platform up, prove it, report, and take it down
    ///
    /// The stages are plan, preflight, provision, deploy, verify and teardown; each is timed.
    /// Everything that happens goes to a folder of its own, `target/reports/<run-id>/`: open its
    /// index.html. Ctrl-C takes everything down first; pressed twice, it leaves at once and says
    /// what to type to clean up.
    E2e(E2e),
    /// Stand the platform up and leave it up
    ///
    /// The environment is owned by a background process and stays until `cargo xtask down`.
    /// Several can be up at once, each under its own --name.
    Up(Up),
    /// Take an environment down, and remove what dead ones left
    ///
    /// Without --all: the environment --name. Removes what runs that were killed have left, too.
    Down(Down),
    /// Show the environments that are up
    ///
    /// Asks each service whether it is ready. Exit code 1 when a part is lost or not ready.
    Status(Status),
    /// Prove an environment that is up: every route, one order end to end, every refusal
    ///
    /// Runs the smoke scenario against the environment --name and reports like e2e does; the same
    /// as `scenario run smoke`.
    Smoke(Named),
    /// Prove single claims about an environment that is up: list them, run them
    ///
    /// docs/scenarios.md says more.
    Scenario(Scenario),
    /// Deploy a version of the platform to an environment that is up on a cluster
    ///
    /// Upgrades the Helm release and watches its pods until the rollout is complete. A pod that
    /// will never be ready ends it at once, in the pod's own words, while the version before goes
    /// on serving.
    Deploy(Deploy),
    /// Release one service from one colour to the other: deploy, status, promote, abort
    ///
    /// The new version comes up beside the live one, as the other colour; each of its pods is
    /// checked; one patch moves all traffic; what is measured then is compared with what was; and
    /// a version that does not hold is taken back by itself. The state is in the cluster: a
    /// deployer that was killed is followed by the next `deploy` or `abort`.
    BlueGreen(BlueGreen),
    /// Put load on an environment that is up, and judge what it answered
    ///
    /// docs/load.md says more.
    Load(Load),
    /// Say whether a version is slower, or fails more, than another or than it was
    ///
    /// Puts the load of a profile on the platform several times and holds the results against
    /// each other: of each endpoint p50, p95, p99, error share and throughput. A metric has
    /// *regressed* when it is worse by more than chance explains, over all endpoints, and by
    /// more than matters; it is *unchanged* only when that is shown; for the rest it is said
    /// what is lacking.
    ///
    /// --ab makes pairs of runs of two versions, in turn: A B, B A, A B, ..., each version
    /// deployed before its run. --against makes one run of what is up, against stored ones.
    /// --save stores runs of what is up. --calibrate holds what is up against itself, and tells
    /// the smallest change that can be seen here.
    ///
    /// Exit code 98 when something regressed; else 99 when a threshold of the profile did not
    /// hold in a run, 1 when answers were not good, 5 when there is not enough evidence.
    /// docs/perf.md says more.
    Perf(Perf),
    /// Say what this machine has and lacks, with the fix for each
    Doctor(Doctor),
    /// Run the project's tests, in tiers
    ///
    /// fast: no process but the tests'. containers: real Postgres and Redis, whole runs of the
    /// local target. cluster: what is installed on Kubernetes, rendered by helm. The last lines say
    /// what was run, and what could not be run here and why.
    Test(Test),
    /// Have the container images: list, build, load into a kind cluster
    ///
    /// Each folder of fixtures/images says how one image is had: pulled from a registry, or
    /// built from packages and modules where none answers.
    Images(Images),
    /// Measure the figures that the README states
    ///
    /// Runs against environments of its own, taken down afterwards, and writes its results to
    /// `bench/<time>.json` of the harness home. Exit code 99 when a stated figure does not hold,
    /// 5 when one cannot be measured here. docs/benchmarks.md says how to read them.
    Bench(Bench),
    /// Render a run's report again from its folder
    Report(ReportArguments),
    /// Own an environment (started by the other commands)
    #[command(hide = true)]
    Supervise,
    /// Become a program that dies with its owner (started by `supervise`)
    #[command(hide = true)]
    RunBound(RunBound),
}

/// What commands about one environment understand.
#[derive(Args, Clone)]
pub struct Named {
    /// The environment's name: several can be up at once
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub name: EnvironmentName,
    #[command(flatten)]
    pub common: Common,
}

/// What most commands understand.
#[derive(Args, Clone)]
pub struct Common {
    /// The target, as harness.toml names it, or `auto`: kind where a container engine answers,
    /// else local [default: its default_target]
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// Print one JSON document on standard output; progress goes to standard error
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub places: Places,
}

/// Where things are.
#[derive(Args, Clone)]
pub struct Places {
    /// The configuration [default: harness.toml of the repository]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where reports and state are kept [default: target of the repository]
    #[arg(long, value_name = "DIR", env = "TRII_HARNESS_HOME")]
    pub home: Option<PathBuf>,
}

/// Arguments of `e2e`.
#[derive(Args)]
pub struct E2e {
    #[command(flatten)]
    pub named: Named,
    /// Install what is missing first, after saying what that will be
    #[arg(long)]
    pub provision: bool,
    /// Leave the environment up when everything held, or a check failed or was inconclusive
    #[arg(long)]
    pub keep: bool,
    /// Only this scenario, or this family; may be given several times [default: all of
    /// `scenario list`]
    #[arg(long = "scenario", value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// Where container images may come from
    #[arg(long, value_name = "SUPPLY", default_value = "auto")]
    pub images: Supply,
}

/// Arguments of `up`.
#[derive(Args)]
pub struct Up {
    #[command(flatten)]
    pub named: Named,
    /// Install what is missing first, after saying what that will be
    #[arg(long)]
    pub provision: bool,
    /// Where container images may come from
    #[arg(long, value_name = "SUPPLY", default_value = "auto")]
    pub images: Supply,
}

/// Arguments of `down`.
#[derive(Args)]
pub struct Down {
    #[command(flatten)]
    pub named: Named,
    /// Every environment, and all that is known to be left of dead ones
    #[arg(long)]
    pub all: bool,
    /// Also stop the container engine, if --provision started it
    #[arg(long)]
    pub engine: bool,
}

/// Arguments of `status`.
#[derive(Args)]
pub struct Status {
    /// Only the environment of this name
    #[arg(long, value_name = "NAME")]
    pub name: Option<EnvironmentName>,
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `scenario`.
#[derive(Args)]
pub struct Scenario {
    /// What to do with them.
    #[command(subcommand)]
    pub command: ScenarioCommand,
}

/// What can be done with scenarios.
#[derive(Subcommand)]
pub enum ScenarioCommand {
    /// Show every scenario: its name and number, what it needs, and the claim it proves
    List {
        /// Print one JSON document on standard output
        #[arg(long)]
        json: bool,
    },
    /// Run scenarios against the environment --name, and report
    ///
    /// Exit code 1 when a check failed, 5 when none failed and one is inconclusive or all were
    /// skipped.
    Run(ScenarioRun),
}

/// Arguments of `scenario run`.
#[derive(Args)]
pub struct ScenarioRun {
    /// The scenarios; a family's name, `blue-green` of `blue-green/happy`, means all of it
    #[arg(value_name = "SCENARIO", required = true)]
    pub names: Vec<String>,
    /// Break the claim on purpose: the scenario must then report it
    #[arg(long)]
    pub sabotage: bool,
    #[command(flatten)]
    pub named: Named,
}

impl ScenarioRun {
    /// What `smoke` means.
    pub fn smoke(named: Named) -> Self {
        ScenarioRun {
            names: vec![scenarios::smoke::NAME.to_owned()],
            sabotage: false,
            named,
        }
    }
}

/// Arguments of `load`.
#[derive(Args)]
pub struct Load {
    /// What to do.
    #[command(subcommand)]
    pub command: LoadCommand,
}

/// What can be done with load.
#[derive(Subcommand)]
pub enum LoadCommand {
    /// Run a load profile against the environment --name, and report
    ///
    /// Simulated users browse quotes, log in and read portfolios, place orders, ask for analyses
    /// and predictions, as `load` and `profiles` of harness.toml say; or, in an open profile,
    /// reads of quotes arrive at a rate, whatever the answers do. Each answer is checked, not
    /// only timed. The result is `load-PROFILE.json` of the run's folder. A remote target must
    /// allow it by name, and bounds the rate.
    ///
    /// Exit code 99 when a threshold of the profile does not hold, 1 when an answer was not good
    /// and no threshold is of that, 5 when the load generator was the bottleneck: then nothing is
    /// said of the platform. Ctrl-C gives what is in flight a few seconds, and keeps what was
    /// measured.
    Run(LoadRun),
    /// Show a load result, or the raw log of a run
    ///
    /// A raw log that was cut off is shown as far as it goes, with exit code 1.
    Show(LoadShow),
    /// Hold load results that were kept against each other, as `perf` does
    ///
    /// Each side is `load-PROFILE.json` of a run's folder, or a folder that has several: as
    /// many of A as of B make pairs, in the order in which they were made. One result may be
    /// held against a folder of several, or against a baseline. The first two seconds of each
    /// run do not count.
    ///
    /// Exit code 98 when something regressed, 5 when there is not enough evidence.
    Compare(LoadCompare),
}

/// The file of the only one of k6's outputs that is written.
fn json_file(output: &str) -> Result<PathBuf, String> {
    const WRITTEN: &str = "json=FILE or json=FILE.gz";
    let (kind, file) = output.split_once('=').unwrap_or((output, ""));
    match (kind, file) {
        ("json", "" | "-") => Err(format!("json is written to a file: {WRITTEN}")),
        ("json", file) => Ok(file.into()),
        _ => Err(format!(
            "of k6's outputs {WRITTEN} is written, and {kind:?} is not"
        )),
    }
}

/// Arguments of `load run`.
#[derive(Args)]
pub struct LoadRun {
    /// The profile, as harness.toml names it: smoke, average, soak, ...
    #[arg(value_name = "PROFILE")]
    pub profile: String,
    /// Also write each request as k6's option of that name does; compressed where FILE ends in .gz
    #[arg(short, long, value_name = "json=FILE", value_parser = json_file)]
    pub out: Option<PathBuf>,
    /// Also write the result as k6's option of that name does
    #[arg(long, value_name = "FILE")]
    pub summary_export: Option<PathBuf>,
    /// Have N pods of the environment's cluster make the arrivals together, where this machine
    /// alone does not make enough: docs/load.md
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=100))]
    pub generators: Option<u16>,
    #[command(flatten)]
    pub named: Named,
}

/// Arguments of `load show`.
#[derive(Args)]
pub struct LoadShow {
    /// `load-PROFILE.json` or `load-PROFILE.log` of a run's folder
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `load compare`.
#[derive(Args)]
pub struct LoadCompare {
    /// What is held against: a result, a folder of results, or a baseline
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// What is judged: a result, or a folder of results
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `perf`.
#[derive(Args)]
#[command(group(
    ArgGroup::new("purpose")
        .args(["ab", "against", "calibrate", "save"])
        .required(true)
        .multiple(true)
))]
pub struct Perf {
    /// Hold VERSION_B against VERSION_A. On kind and remote targets as `deploy --version`; on
    /// local, harness.toml's version is built from this checkout, another one is the program
    /// `harness/versions/VERSION` of the harness home
    #[arg(long, num_args = 2, value_names = ["VERSION_A", "VERSION_B"])]
    #[arg(conflicts_with_all = ["against", "calibrate", "save"])]
    pub ab: Option<Vec<String>>,
    /// Hold one run against a baseline: `baselines/BASELINE.json` of the repository, or a file
    #[arg(long, value_name = "BASELINE", conflicts_with = "calibrate")]
    pub against: Option<String>,
    /// Hold what is up against itself: tells the smallest change that can be seen
    #[arg(long, conflicts_with = "save")]
    pub calibrate: bool,
    /// Add the runs to a baseline; makes it where there is none
    #[arg(long, value_name = "BASELINE")]
    pub save: Option<String>,
    /// The profile, as harness.toml names it
    #[arg(long, value_name = "PROFILE", default_value = "steady")]
    pub profile: String,
    /// How many pairs of runs
    #[arg(long, value_name = "N", default_value_t = PAIRS, conflicts_with_all = ["against", "save"])]
    #[arg(value_parser = clap::value_parser!(u32).range(i64::from(FEWEST_PAIRS)..=100))]
    pub pairs: u32,
    /// How many runs are stored
    #[arg(long, value_name = "N", default_value_t = FEWEST_PAIRS, requires = "save")]
    #[arg(conflicts_with = "against", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Where container images may come from
    #[arg(long, value_name = "SUPPLY", default_value = "auto")]
    pub images: Supply,
    #[command(flatten)]
    pub named: Named,
}

/// Arguments of `deploy`.
#[derive(Args)]
pub struct Deploy {
    #[command(flatten)]
    pub named: Named,
    /// The version: that of harness.toml is built from this checkout, another one is an image
    /// `trii-rehearsal/platform:VERSION` of the engine, or of the nodes [default: harness.toml's]
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Only show what would change in the cluster
    #[arg(long)]
    pub dry_run: bool,
    /// Where container images may come from
    #[arg(long, value_name = "SUPPLY", default_value = "auto")]
    pub images: Supply,
}

/// Arguments of `blue-green`.
#[derive(Args)]
pub struct BlueGreen {
    /// What to do.
    #[command(subcommand)]
    pub command: BlueGreenCommand,
}

/// What can be done with a service that is released blue-green.
#[derive(Subcommand)]
pub enum BlueGreenCommand {
    /// Release a version
    ///
    /// A new configuration that waits in the idle colour is released with it; where the version is
    /// live already, alone.
    ///
    /// Exit code 0: it is live (or, with --manual, waits at the gate). 1: it did not hold and
    /// was taken back, or it is live already and not well. 3: the API server does not answer, or
    /// a release that had begun was not brought to its end: `deploy` goes on from there. 4:
    /// refused, nothing was changed. 5: taken back, as there was not enough traffic to tell.
    Deploy(BlueGreenDeploy),
    /// Show what is live, what is under way, who is at it, and the releases before
    Status(BlueGreenService),
    /// Switch to the version that waits at the gate
    Promote(BlueGreenService),
    /// Have a release that is under way stop at the gate before the switch
    Pause(BlueGreenService),
    /// Take back the release under way, wherever it is
    ///
    /// Whoever is at work on it does so within seconds; where nobody is any more, it is done from
    /// here. Without a release it takes the idle colour to 0, and has the active Service select the
    /// live colour again where a hand has removed that.
    Abort(BlueGreenService),
}

/// Arguments of `blue-green deploy`.
#[derive(Args)]
pub struct BlueGreenDeploy {
    /// The service, as its Service is called; several are released together, or none of them
    #[arg(long, value_name = "SERVICE", required = true)]
    pub service: Vec<String>,
    #[command(flatten)]
    pub named: Named,
    /// The version: the tag of an image that the nodes have or can pull
    #[arg(long, value_name = "VERSION")]
    pub version: String,
    /// Stop at the gate before the switch, until `promote` or `abort`
    #[arg(long)]
    pub manual: bool,
    /// Only say what would be done, and what stands against it
    #[arg(long)]
    pub dry_run: bool,
    /// Where container images may come from
    #[arg(long, value_name = "SUPPLY", default_value = "auto")]
    pub images: Supply,
    /// The id that its record has, for a scenario that starts it [default: the run's]
    #[arg(long, value_name = "ID", hide = true)]
    pub release: Option<String>,
}

/// Which service, and where.
#[derive(Args)]
pub struct BlueGreenService {
    /// The service, as its Service is called
    #[arg(long, value_name = "SERVICE")]
    pub service: String,
    #[command(flatten)]
    pub named: Named,
}

/// Arguments of `doctor`.
#[derive(Args)]
pub struct Doctor {
    #[command(flatten)]
    pub common: Common,
    /// Install what is missing, after saying what that will be
    #[arg(long)]
    pub provision: bool,
}

/// Arguments of `test`.
#[derive(Args)]
pub struct Test {
    #[command(flatten)]
    pub common: Common,
    /// Only this tier; may be given several times [default: all]
    #[arg(long, value_name = "TIER")]
    pub tier: Vec<Tier>,
    /// Install what the tiers need first, after saying what that will be
    #[arg(long)]
    pub provision: bool,
}

/// The tiers of tests, by what they need.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Nothing but a compiler; seconds
    Fast,
    /// Real Postgres and Redis, from containers and from binaries
    Containers,
    /// The Helm chart, rendered by helm
    Cluster,
}

/// Arguments of `images`.
#[derive(Args)]
pub struct Images {
    /// What to do with them.
    #[command(subcommand)]
    pub command: ImagesCommand,
}

/// What can be done with images.
#[derive(Subcommand)]
pub enum ImagesCommand {
    /// Show every image: whether it is here, where it comes from, its size and content hash
    List(ImagesPlace),
    /// Have images: those named, or all that are wanted for themselves
    ///
    /// An image that is here is never had again: its tag is the hash of all that makes it.
    Build(ImagesBuild),
    /// Bring images into every node of a kind cluster, and prove that they are there
    Load(ImagesLoad),
}

impl ImagesCommand {
    /// Where it works.
    pub fn places(&self) -> &Places {
        let place = match self {
            ImagesCommand::List(place) => place,
            ImagesCommand::Build(build) => &build.place,
            ImagesCommand::Load(load) => &load.place,
        };
        &place.places
    }
}

/// Where images are, and how answers are printed.
#[derive(Args)]
pub struct ImagesPlace {
    /// Print one JSON document on standard output; progress goes to standard error
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub places: Places,
}

/// Which images, and from where.
#[derive(Args)]
pub struct ImagesBuild {
    /// The images, as their folders are called [default: all that no other is built upon]
    #[arg(value_name = "IMAGE")]
    pub names: Vec<String>,
    /// Where they may come from
    #[arg(long, value_name = "SUPPLY", default_value = "auto")]
    pub images: Supply,
    #[command(flatten)]
    pub place: ImagesPlace,
}

/// Which images, and where to.
#[derive(Args)]
pub struct ImagesLoad {
    /// The kind cluster's name
    #[arg(long, value_name = "CLUSTER")]
    pub cluster: String,
    /// The images, as their folders are called
    #[arg(value_name = "IMAGE", required = true)]
    pub names: Vec<String>,
    /// Where they may come from
    #[arg(long, value_name = "SUPPLY", default_value = "auto")]
    pub images: Supply,
    #[command(flatten)]
    pub place: ImagesPlace,
}

/// Where images may come from.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Supply {
    /// Pulled; built when the registry does not answer or lacks it
    Auto,
    /// Pulled
    Pull,
    /// Built
    Build,
}

impl From<Supply> for harness::images::Supply {
    fn from(supply: Supply) -> Self {
        match supply {
            Supply::Auto => Self::Auto,
            Supply::Pull => Self::Pull,
            Supply::Build => Self::Build,
        }
    }
}

/// Arguments of `bench`.
#[derive(Args)]
pub struct Bench {
    /// What to measure [default: everything]
    #[arg(value_name = "FIGURE")]
    pub figure: Option<Figure>,
    /// How often each is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub rounds: u32,
    /// Print one JSON document on standard output; progress goes to standard error
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub places: Places,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// From `up` to all services ready, by step; a whole `e2e`; the harness's memory
    Local,
    /// Cached quote reads against a bare HTTP server on the same core; needs `wrk`, and Linux
    Quotes,
    /// `e2e` on a cluster against kind, docker, kubectl and helm by hand; images into its nodes
    Kind,
    /// The prober at 2,000 requests/s: CPU time and lag of its own; needs Linux
    Prober,
    /// A release on a cluster under 200 requests/s, by our deployer, Argo Rollouts and the guide's
    /// script
    BlueGreen,
    /// The load engine beside wrk, oha, k6 and Goose; its memory and its verdicts; needs Linux
    Load,
}

/// Arguments of `report`.
#[derive(Args)]
pub struct ReportArguments {
    /// The run's id, as its folder is called [default: the latest]
    pub run: Option<String>,
    /// Print report.json on standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub places: Places,
}

/// Arguments of `run-bound`.
#[derive(Args)]
pub struct RunBound {
    /// The process to die with
    #[arg(long)]
    owner: u32,
    /// The signal to die by
    #[arg(long)]
    death_signal: String,
    /// The user to become first
    #[arg(long)]
    user: Option<String>,
    /// Kill all that the program has started with it
    #[arg(long)]
    with_descendants: bool,
    /// The program and its arguments
    #[arg(last = true)]
    pub program: Vec<OsString>,
}

impl RunBound {
    /// What the library is asked.
    pub fn binding(&self) -> Binding {
        Binding {
            owner: self.owner,
            user: self.user.clone(),
            death_signal: self.death_signal.clone(),
            with_descendants: self.with_descendants,
        }
    }
}
