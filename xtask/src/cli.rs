//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use base::exit::ExitCode;
use base::process::run_bound::Binding;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use environments::environment::EnvironmentName;
use loadtests::perf::{FEWEST_PAIRS, PAIRS};

fn exit_codes() -> String {
    let codes = ExitCode::ALL.map(|code| format!("  {:>3}  {}", code as u8, code.meaning()));
    format!("Exit codes:\n{}", codes.join("\n"))
}

/// Rehearses releases of a platform: stands it up, proves it, reports, takes it down.
///
/// Start with `cargo xtask e2e --provision`.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = exit_codes())]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Stand the platform up, prove it, report, and take it down
    ///
    /// The stages are plan, preflight, provision, deploy, verify, load and teardown; each is timed.
    /// There is a load if load.e2e of harness.toml names a profile, every scenario is run, and
    /// every check passes. Everything is recorded in the folder of the run, `target/reports/<run-id>/`: open its
    /// index.html. Ctrl-C takes everything down first. A second Ctrl-C exits immediately and prints
    /// the command that cleans up.
    E2e(E2eArgs),
    /// Stand the platform up and leave it up
    ///
    /// The environment is owned by a background process and stays until `cargo xtask down`.
    /// Several can be up at once, each under its own --name.
    Up(UpArgs),
    /// Take an environment down, and remove what dead ones left
    ///
    /// Takes down the environment --name, or every environment with --all. Also removes what killed
    /// runs have left.
    Down(DownArgs),
    /// Show the environments that are up
    ///
    /// Checks the readiness of each service. Exit code 1 when a part is lost or not ready.
    Status(StatusArgs),
    /// Prove an environment that is up: every route, one order end to end, every refusal
    ///
    /// Runs the smoke scenario against the environment --name and reports like e2e does; the same
    /// as `scenario run smoke`.
    Smoke(NamedArgs),
    /// Prove single claims about an environment that is up: list them, run them
    ///
    /// docs/scenarios.md says more.
    Scenario(ScenarioArgs),
    /// Deploy a version of the platform to an environment that is up on a cluster
    ///
    /// Upgrades the Helm release and watches its pods until the rollout is complete. A pod that can
    /// never become ready fails the command immediately, with the pod's error. The previous version
    /// continues to serve.
    Deploy(DeployArgs),
    /// Release one service from one colour to the other: deploy, status, promote, abort
    ///
    /// Starts the new version beside the live one, as the other colour. Checks each of its pods,
    /// switches all traffic with one patch, and compares the traffic after the switch with that
    /// before. A version that does not pass is rolled back. The state is in the cluster: if a
    /// deployer was killed, the next `deploy` or `abort` takes over.
    BlueGreen(BlueGreenArgs),
    /// Put load on an environment that is up, and evaluate the result
    ///
    /// docs/load.md says more.
    Load(LoadArgs),
    /// Report whether a version is slower, or fails more, than another or than before
    ///
    /// Runs the load of a profile several times and compares the results: p50, p95, p99, error
    /// share and throughput of each endpoint. A metric has *regressed* when it is worse by more
    /// than chance explains, over all endpoints, and by more than matters. It is *unchanged* only
    /// when that is shown. Otherwise the output says which evidence is missing.
    ///
    /// --ab makes pairs of runs of two versions, in turn: A B, B A, A B, ..., and deploys each
    /// version before its run. --against compares one run of the running version with stored runs.
    /// --save stores runs of the running version. --calibrate compares the running version with
    /// itself, and reports the smallest change that can be detected here.
    ///
    /// Exit code 98 when something regressed; else 99 when a threshold of the profile failed in a
    /// run, 1 when answers were not good, 5 when there is not enough evidence. docs/perf.md says
    /// more.
    Perf(PerfArgs),
    /// Write a first harness.toml for a platform, from its chart or from what runs in a cluster
    ///
    /// Renders the chart of --chart, or reads the namespace of --from-cluster, and writes what it
    /// sees: services with their ports, probes and images, routes and hosts, and the Secrets that
    /// nothing supplies. What cannot be seen is a comment `TO DO` in the file; the output lists
    /// them. Beside the file it writes a first smoke check for each route, and a first journey. No
    /// file is overwritten. Of a cluster it only reads, and of Secrets only their names.
    Init(InitArgs),
    /// Report what this machine has and lacks, with the fix for each
    Doctor(DoctorArgs),
    /// Run the project's tests, in tiers
    ///
    /// fast: no process but the tests'. containers: real Postgres and Redis, whole runs of the
    /// local target. cluster: what is installed on Kubernetes, rendered by helm. The last lines
    /// report what was run, and what could not be run here and why.
    Test(TestArgs),
    /// List and build the container images, and load them into a kind cluster
    ///
    /// Each folder of fixtures/images is the recipe of one image: pulled from a registry, or built
    /// from packages and modules if no registry answers.
    Images(ImagesArgs),
    /// Measure the figures that the README states
    ///
    /// Runs against environments of its own, taken down afterwards, and writes its results to
    /// `bench/<time>.json` of the harness home. Exit code 99 when a stated figure does not hold,
    /// 5 when one cannot be measured here. docs/benchmarks.md says how to read them.
    Bench(BenchArgs),
    /// Render a run's report again from its folder
    Report(ReportArguments),
    /// Own an environment (started by the other commands)
    #[command(hide = true)]
    Supervise,
    /// Become a program that dies with its owner (started by `supervise`)
    #[command(hide = true)]
    RunBound(RunBoundArgs),
}

impl Command {
    /// Returns the options that most commands have.
    pub fn common(&self) -> Common {
        let without_target = |json: bool, places: &PlacesArgs| Common {
            target: None,
            json,
            places: places.clone(),
        };
        match self {
            Command::E2e(E2eArgs { named, .. })
            | Command::Up(UpArgs { named, .. })
            | Command::Down(DownArgs { named, .. })
            | Command::Smoke(named)
            | Command::Deploy(DeployArgs { named, .. })
            | Command::Perf(PerfArgs { named, .. }) => named.common.clone(),
            Command::Status(StatusArgs { common, .. })
            | Command::Doctor(DoctorArgs { common, .. })
            | Command::Test(TestArgs { common, .. }) => common.clone(),
            Command::Scenario(ScenarioArgs { command }) => match command {
                ScenarioCommand::List { json } => without_target(*json, &PlacesArgs::default()),
                ScenarioCommand::Run(run) => run.named.common.clone(),
            },
            Command::BlueGreen(BlueGreenArgs { command }) => match command {
                BlueGreenCommand::Deploy(deploy) => deploy.named.common.clone(),
                BlueGreenCommand::Status(service)
                | BlueGreenCommand::Promote(service)
                | BlueGreenCommand::Pause(service)
                | BlueGreenCommand::Abort(service) => service.named.common.clone(),
            },
            Command::Load(LoadArgs { command }) => match command {
                LoadCommand::Run(run) => run.named.common.clone(),
                LoadCommand::Show(_) => Common::default(),
                LoadCommand::Compare(compare) => {
                    without_target(compare.json, &PlacesArgs::default())
                }
            },
            Command::Images(ImagesArgs {
                command:
                    ImagesCommand::List(place)
                    | ImagesCommand::Build(ImagesBuild { place, .. })
                    | ImagesCommand::Load(ImagesLoad { place, .. }),
            })
            | Command::Bench(BenchArgs { place, .. }) => without_target(place.json, &place.places),
            Command::Init(init) => {
                let places = PlacesArgs {
                    config: None,
                    home: init.home.clone(),
                };
                without_target(init.json, &places)
            }
            Command::Report(report) => without_target(report.json, &report.places),
            Command::Supervise | Command::RunBound(_) => Common::default(),
        }
    }
}

/// Options of commands for one environment.
#[derive(Args, Clone)]
pub struct NamedArgs {
    /// The environment's name: several can be up at once
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub name: EnvironmentName,
    #[command(flatten)]
    pub common: Common,
}

/// Options of most commands.
#[derive(Args, Clone, Default)]
pub struct Common {
    /// The target, as harness.toml names it, or `auto`: kind where a container engine answers,
    /// else local [default: its default_target]
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// Print one JSON document on standard output; progress goes to standard error
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub places: PlacesArgs,
}

#[derive(Args, Clone, Default)]
pub struct PlacesArgs {
    /// The configuration [default: harness.toml of the repository]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where reports and state are kept [default: target of the repository]
    #[arg(long, value_name = "DIR", env = "TRII_HARNESS_HOME")]
    pub home: Option<PathBuf>,
}

/// Arguments of `e2e`.
#[derive(Args)]
pub struct E2eArgs {
    #[command(flatten)]
    pub named: NamedArgs,
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
    pub images: SupplyArg,
}

#[derive(Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub named: NamedArgs,
    /// Install what is missing first, after saying what that will be
    #[arg(long)]
    pub provision: bool,
    /// Where container images may come from
    #[arg(long, value_name = "SUPPLY", default_value = "auto")]
    pub images: SupplyArg,
}

#[derive(Args)]
pub struct DownArgs {
    #[command(flatten)]
    pub named: NamedArgs,
    /// Every environment, and all that is known to be left of dead ones
    #[arg(long)]
    pub all: bool,
    /// Also stop the container engine, if --provision started it
    #[arg(long)]
    pub engine: bool,
}

#[derive(Args)]
pub struct StatusArgs {
    /// Only the environment of this name
    #[arg(long, value_name = "NAME")]
    pub name: Option<EnvironmentName>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args)]
pub struct ScenarioArgs {
    #[command(subcommand)]
    pub command: ScenarioCommand,
}

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

#[derive(Args)]
pub struct ScenarioRun {
    /// The scenarios; a family's name, `blue-green` of `blue-green/happy`, means all of it
    #[arg(value_name = "SCENARIO", required = true)]
    pub names: Vec<String>,
    /// Break the claim on purpose: the scenario must then report it
    #[arg(long)]
    pub sabotage: bool,
    #[command(flatten)]
    pub named: NamedArgs,
}

#[derive(Args)]
pub struct LoadArgs {
    #[command(subcommand)]
    pub command: LoadCommand,
}

#[derive(Subcommand)]
pub enum LoadCommand {
    /// Run a load profile against the environment --name, and report
    ///
    /// Simulated users browse quotes, log in and read portfolios, place orders, request analyses
    /// and predictions, as `load` and `profiles` of harness.toml say. In an open profile, reads of
    /// quotes arrive at a rate that does not depend on the answers. Each answer is checked, not
    /// only timed. The result is `load-PROFILE.json` of the run's folder. A remote target must
    /// allow it by name, and bounds the rate.
    ///
    /// Exit code 99 when a threshold of the profile fails, 1 when an answer was not good and no
    /// threshold covers that, 5 when the load generator was the bottleneck and the result says
    /// nothing about the platform. Ctrl-C waits a few seconds for requests in flight, and keeps
    /// what was measured.
    Run(LoadRunArgs),
    /// Show a load result, or the raw log of a run
    ///
    /// A raw log that was cut off is shown as far as it goes, with exit code 1.
    Show(LoadShow),
    /// Compare stored load results, as `perf` does
    ///
    /// Each side is `load-PROFILE.json` of a run's folder, or a folder that has several: as many of
    /// A as of B make pairs, in the order in which they were made. One result may be compared with
    /// a folder of several, or with a baseline. The first two seconds of each run do not count.
    ///
    /// Exit code 98 when something regressed, 5 when there is not enough evidence.
    Compare(LoadCompare),
}

/// Returns the file of `json=FILE`, the only one of k6's outputs that is supported.
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

#[derive(Args)]
pub struct LoadRunArgs {
    /// The profile, as harness.toml names it: smoke, average, soak, ...
    #[arg(value_name = "PROFILE")]
    pub profile: String,
    /// Also write each request as k6's option of that name does; compressed where FILE ends in .gz
    #[arg(short, long, value_name = "json=FILE", value_parser = json_file)]
    pub out: Option<PathBuf>,
    /// Also write the result as k6's option of that name does
    #[arg(long, value_name = "FILE")]
    pub summary_export: Option<PathBuf>,
    /// Send the arrivals from N pods of the environment's cluster, if this machine alone cannot
    /// send enough: docs/load.md
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=100))]
    pub generators: Option<u16>,
    #[command(flatten)]
    pub named: NamedArgs,
}

#[derive(Args)]
pub struct LoadShow {
    /// `load-PROFILE.json` or `load-PROFILE.log` of a run's folder
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print a result in the format of another tool
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<FormatArg>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// The summary that k6 prints at the end of a run
    K6,
    /// Prometheus' text format, which is OpenMetrics too
    Prometheus,
}

impl From<FormatArg> for loadtests::show::ShowFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::K6 => Self::K6,
            FormatArg::Prometheus => Self::Prometheus,
        }
    }
}

#[derive(Args)]
pub struct LoadCompare {
    /// What to compare with: a result, a folder of results, or a baseline
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// What to evaluate: a result, or a folder of results
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(group(
    ArgGroup::new("purpose")
        .args(["ab", "against", "calibrate", "save"])
        .required(true)
        .multiple(true)
))]
pub struct PerfArgs {
    /// Compare VERSION_B with VERSION_A. On kind and remote targets as `deploy --version`; on
    /// local, harness.toml's version is built from this checkout, another one is the program
    /// `harness/versions/VERSION` of the harness home
    #[arg(long, num_args = 2, value_names = ["VERSION_A", "VERSION_B"])]
    #[arg(conflicts_with_all = ["against", "calibrate", "save"])]
    pub ab: Option<Vec<String>>,
    /// Compare one run with a baseline: `baselines/BASELINE.json` of the repository, or a file
    #[arg(long, value_name = "BASELINE", conflicts_with = "calibrate")]
    pub against: Option<String>,
    /// Compare the running version with itself: reports the smallest change that can be detected
    #[arg(long, conflicts_with = "save")]
    pub calibrate: bool,
    /// Add the runs to a baseline; creates it if it does not exist
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
    pub images: SupplyArg,
    #[command(flatten)]
    pub named: NamedArgs,
}

#[derive(Args)]
pub struct DeployArgs {
    #[command(flatten)]
    pub named: NamedArgs,
    /// The version: that of harness.toml is built from this checkout, another one is an image
    /// `trii-rehearsal/platform:VERSION` of the engine, or of the nodes [default: harness.toml's]
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Only show what would change in the cluster
    #[arg(long)]
    pub dry_run: bool,
    /// Where container images may come from
    #[arg(long, value_name = "SUPPLY", default_value = "auto")]
    pub images: SupplyArg,
}

#[derive(Args)]
pub struct BlueGreenArgs {
    #[command(subcommand)]
    pub command: BlueGreenCommand,
}

#[derive(Subcommand)]
pub enum BlueGreenCommand {
    /// Release a version
    ///
    /// A new configuration that waits in the idle colour is released with it, or alone if the
    /// version is already live.
    ///
    /// Exit code 0: it is live (or, with --manual, waits at the gate). 1: it failed and was rolled
    /// back, or it is already live and not healthy. 3: the API server does not answer, or a release
    /// that had started did not finish: `deploy` resumes it. 4: refused, nothing was changed. 5:
    /// rolled back, as there was not enough traffic for a verdict.
    Deploy(BlueGreenDeploy),
    /// Show what is live, the release in progress, who runs it, and earlier releases
    Status(BlueGreenService),
    /// Switch to the version that waits at the gate
    Promote(BlueGreenService),
    /// Pause the release in progress at the gate before the switch
    Pause(BlueGreenService),
    /// Roll back the release in progress, at any step
    ///
    /// Its deployer rolls back within seconds. If no deployer is running, this command rolls back.
    /// Without a release, it scales the idle colour to 0, and makes the active Service select the
    /// live colour again if that selector was removed.
    Abort(BlueGreenService),
}

#[derive(Args)]
pub struct BlueGreenDeploy {
    /// The service, as its Service is called; several are released together, or none of them
    #[arg(long, value_name = "SERVICE", required = true)]
    pub service: Vec<String>,
    #[command(flatten)]
    pub named: NamedArgs,
    /// The version: the tag of an image that the nodes have or can pull
    #[arg(long, value_name = "VERSION")]
    pub version: String,
    /// Stop at the gate before the switch, until `promote` or `abort`
    #[arg(long)]
    pub manual: bool,
    /// Only report what would be done, and what prevents it
    #[arg(long)]
    pub dry_run: bool,
    /// Where container images may come from
    #[arg(long, value_name = "SUPPLY", default_value = "auto")]
    pub images: SupplyArg,
    /// The id that its record has, for a scenario that starts it [default: the run's]
    #[arg(long, value_name = "ID", hide = true)]
    pub release: Option<String>,
}

#[derive(Args)]
pub struct BlueGreenService {
    /// The service, as its Service is called
    #[arg(long, value_name = "SERVICE")]
    pub service: String,
    #[command(flatten)]
    pub named: NamedArgs,
}

#[derive(Args)]
#[command(group(ArgGroup::new("source").args(["chart", "from_cluster"]).required(true)))]
pub struct InitArgs {
    /// The chart: a folder, a packaged chart (.tgz), or oci://HOST/PATH
    #[arg(long, value_name = "CHART")]
    pub chart: Option<String>,
    /// The version of a chart oci://HOST/PATH
    #[arg(long, value_name = "VERSION", requires = "chart")]
    pub chart_version: Option<String>,
    /// Values for the chart, as for helm; may be given several times, and the last one wins
    #[arg(long, value_name = "FILE", requires = "chart")]
    pub values: Vec<PathBuf>,
    /// The helm release of the chart [default: the chart's name]
    #[arg(long, value_name = "RELEASE", requires = "chart")]
    pub release: Option<String>,
    /// Read a running namespace instead: --context and --namespace
    #[arg(long, requires_all = ["context", "namespace"])]
    pub from_cluster: bool,
    /// The context of your kubeconfig
    #[arg(long, value_name = "CONTEXT", requires = "from_cluster")]
    pub context: Option<String>,
    /// The namespace of the platform [default for a chart: the release's name]
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The file to write [default: RELEASE.toml in the working directory]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
    /// Where helm is looked for, before PATH, and where a pulled chart is kept [default: target of
    /// the repository]
    #[arg(long, value_name = "DIR", env = "TRII_HARNESS_HOME")]
    pub home: Option<PathBuf>,
}

#[derive(Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub common: Common,
    /// Install what is missing, after saying what that will be
    #[arg(long)]
    pub provision: bool,
}

#[derive(Args)]
pub struct TestArgs {
    #[command(flatten)]
    pub common: Common,
    /// Only this tier; may be given several times [default: all]
    #[arg(long, value_name = "TIER")]
    pub tier: Vec<TierArg>,
    /// Install what the tiers need first, after saying what that will be
    #[arg(long)]
    pub provision: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TierArg {
    /// Nothing but a compiler; seconds
    Fast,
    /// Real Postgres and Redis, from containers and from binaries
    Containers,
    /// The Helm chart, rendered by helm
    Cluster,
}

#[derive(Args)]
pub struct ImagesArgs {
    #[command(subcommand)]
    pub command: ImagesCommand,
}

#[derive(Subcommand)]
pub enum ImagesCommand {
    /// Show every image: whether it is here, where it comes from, its size and content hash
    List(CommonWithoutTarget),
    /// Pull or build images: those named, or all that no other is built upon
    ///
    /// An image that is present is not built again: its tag is the hash of all its inputs.
    Build(ImagesBuild),
    /// Load images into every node of a kind cluster, and check that they are there
    Load(ImagesLoad),
}

/// Options of commands without a target.
#[derive(Args)]
pub struct CommonWithoutTarget {
    /// Print one JSON document on standard output; progress goes to standard error
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub places: PlacesArgs,
}

#[derive(Args)]
pub struct ImagesBuild {
    /// The images, as their folders are called [default: all that no other is built upon]
    #[arg(value_name = "IMAGE")]
    pub names: Vec<String>,
    /// Where they may come from
    #[arg(long, value_name = "SUPPLY", default_value = "auto")]
    pub images: SupplyArg,
    #[command(flatten)]
    pub place: CommonWithoutTarget,
}

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
    pub images: SupplyArg,
    #[command(flatten)]
    pub place: CommonWithoutTarget,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SupplyArg {
    /// Pulled; built when the registry does not answer or lacks it
    Auto,
    /// Pulled
    Pull,
    /// Built
    Build,
}

impl From<SupplyArg> for machine::images::Supply {
    fn from(supply: SupplyArg) -> Self {
        match supply {
            SupplyArg::Auto => Self::Auto,
            SupplyArg::Pull => Self::Pull,
            SupplyArg::Build => Self::Build,
        }
    }
}

#[derive(Args)]
pub struct BenchArgs {
    /// What to measure [default: everything]
    #[arg(value_name = "FIGURE")]
    pub figure: Option<FigureArg>,
    /// How often each is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub rounds: u32,
    #[command(flatten)]
    pub place: CommonWithoutTarget,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FigureArg {
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
    /// The report of a million requests: rendered, and opened in Chromium
    Report,
}

#[derive(Args)]
pub struct ReportArguments {
    /// The run's id, as its folder is called [default: the latest]
    pub run: Option<String>,
    /// Print report.json on standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub places: PlacesArgs,
}

#[derive(Args)]
pub struct RunBoundArgs {
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

impl RunBoundArgs {
    pub fn binding(&self) -> Binding {
        Binding {
            owner: self.owner,
            user: self.user.clone(),
            death_signal: self.death_signal.clone(),
            with_descendants: self.with_descendants,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The pages of the documentation, with their text.
    fn pages() -> Vec<(String, String)> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let docs = std::fs::read_dir(workspace.join("docs")).unwrap();
        let docs = docs.map(|entry| entry.unwrap().path());
        let top = ["README.md", "CONTRIBUTING.md"].map(|page| workspace.join(page));
        let pages = docs
            .chain(top)
            .filter(|page| page.extension() == Some("md".as_ref()));
        pages
            .map(|page| {
                (
                    page.display().to_string(),
                    std::fs::read_to_string(page).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn every_documented_command_is_valid() {
        let mut commands = 0;
        for (page, text) in pages() {
            let lines = text.lines().map(str::trim_start);
            for line in lines.filter_map(|line| line.strip_prefix("$ cargo xtask ")) {
                let line = line.split('#').next().unwrap_or_default();
                let words = ["cargo xtask"].into_iter().chain(line.split_whitespace());
                let parsed = Cli::try_parse_from(words);
                assert!(parsed.is_ok(), "{page}: {line}: {}", parsed.err().unwrap());
                commands += 1;
            }
        }
        assert!(commands > 40, "only {commands} commands were found");
    }
}
