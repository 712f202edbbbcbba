//! What this machine has and lacks, each with what follows from it and the one
//! command that mends it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use crate::config::Target;
use crate::engine::machine::EngineMachine;
use crate::engine::{Engine, NoEngine, PATIENCE};
use crate::process::user;
use crate::provision::{OLDEST_GO, SETUP_COMMAND, inotify, oci_runtime};
use crate::tools;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at, e.g. `container engine`.
    pub subject: String,
    /// How it stands.
    pub state: State,
    /// What was seen, e.g. `15.14 in /usr/lib/postgresql/15/bin`.
    pub seen: String,
    /// What does not work, or may not, because of it; none when all is well.
    pub consequence: Option<String>,
    /// One command, or one thing to do, that mends it; none when all is well.
    pub fix: Option<String>,
}

/// How the subject of a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, with a limit worth knowing.
    Warning,
    /// Something cannot work.
    Missing,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Missing => "missing",
        };
        write!(f, "{state:<8} {:<22} {}", self.subject, self.seen)?;
        if let Some(consequence) = &self.consequence {
            write!(f, "\n{:<31} so: {consequence}", "")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n{:<31} fix: {fix}", "")?;
        }
        Ok(())
    }
}

impl Finding {
    fn ok(subject: &str, seen: impl Into<String>) -> Finding {
        Finding {
            subject: subject.to_owned(),
            state: State::Ok,
            seen: seen.into(),
            consequence: None,
            fix: None,
        }
    }

    fn trouble(self, state: State, consequence: &str, fix: impl Into<String>) -> Finding {
        Finding {
            state,
            consequence: Some(consequence.to_owned()),
            fix: Some(fix.into()),
            ..self
        }
    }
}

/// Looks at everything. `target_dir` is cargo's (its disk matters), `tools_dir`
/// where the project keeps its own tools; the ports are those of `targets`. Takes at most
/// a few seconds.
pub async fn examine(
    target_dir: &Path,
    tools_dir: &Path,
    targets: &BTreeMap<String, Target>,
) -> Vec<Finding> {
    let ((engine, machine), postgres, redis, nextest, mmdebstrap, go, docker, kind, helm) = tokio::join!(
        engine(),
        postgres(),
        redis(),
        nextest(tools_dir),
        mmdebstrap(),
        go(tools_dir),
        cluster_tool("docker", as_part(&["--version"]), 0, tools_dir),
        cluster_tool("kind", as_part(&["version"]), 0, tools_dir),
        cluster_tool("helm", as_user(&["version", "--short"]), 3, tools_dir),
    );
    let machine = machine.as_ref();
    // What can be read here is true of the engine's machine where that is this one.
    let elsewhere = machine.filter(|machine| !machine.is_this_one);
    let mut findings = vec![engine];
    findings.extend(machine.map(engines_machine));
    findings.extend([postgres, redis, nextest]);
    findings.extend([mmdebstrap, go, docker, kind, helm]);
    findings.extend(disk(target_dir));
    if let (Some(machine), None) = (machine, elsewhere) {
        findings.extend(engines_disk(machine, target_dir));
    }
    findings.push(ports(targets));
    findings.extend(cgroups(machine));
    findings.extend(memory());
    findings.extend(elsewhere.and_then(memory_of));
    findings.extend(open_files());
    if cfg!(target_os = "linux") {
        findings.extend(capabilities(machine));
    }
    if cfg!(target_os = "linux") && elsewhere.is_none() {
        findings.extend(inotify_limits());
    }
    findings
}

/// The engine, and its machine.
async fn engine() -> (Finding, Option<EngineMachine>) {
    match Engine::find(PATIENCE).await {
        Ok(engine) => {
            let machine = EngineMachine::of(&engine).await;
            let finding = Finding::ok("container engine", engine.to_string());
            (finding, machine.ok())
        }
        Err(none) => (no_engine(&none), None),
    }
}

/// Where it is, and what that means for the rest.
fn engines_machine(machine: &EngineMachine) -> Finding {
    let seen = match machine.is_this_one {
        true => format!("this one, {machine}"),
        false => format!(
            "another, {machine}: its limits on inotify and its disk cannot be looked at from here"
        ),
    };
    Finding::ok("engine's machine", seen)
}

fn no_engine(none: &NoEngine) -> Finding {
    Finding::ok("container engine", none.to_string()).trouble(
        State::Missing,
        "no kind clusters and no containers: the local target runs Postgres and Redis as processes",
        none.help()
            .map_or_else(|| SETUP_COMMAND.to_owned(), |help| help.to_string()),
    )
}

async fn postgres() -> Finding {
    let dir = tools::postgres_bin_dir();
    let program = dir.map(|dir| dir.join("postgres"));
    // As root it is another's to run, who may not find it where root does.
    let user = user::unprivileged().ok().flatten();
    let ask = async |program: &Path| {
        tools::version_line_as_part(program, &["--version"], user.as_ref()).await
    };
    program_finding(
        "Postgres binaries",
        program,
        ask,
        14,
        "without an engine the local target has no database",
    )
    .await
}

async fn redis() -> Finding {
    program_finding(
        "redis-server",
        tools::redis_server(),
        as_part(&["--version"]),
        6,
        "without an engine the local target has no Redis",
    )
    .await
}

async fn nextest(tools_dir: &Path) -> Finding {
    program_finding(
        "cargo-nextest",
        tools::nextest(tools_dir),
        // The program is a cargo subcommand and wants its own name first.
        as_user(&["nextest", "--version"]),
        0,
        "the project's own tests run by `cargo test` only, without nextest's timeouts and JUnit report",
    )
    .await
}

async fn mmdebstrap() -> Finding {
    program_finding(
        "mmdebstrap",
        tools::on_path("mmdebstrap"),
        as_user(&["--version"]),
        0,
        "images are pulled only, which needs a registry",
    )
    .await
}

/// Go tells its version in a way of its own.
async fn go(tools_dir: &Path) -> Finding {
    let subject = "Go";
    match tools::go(tools_dir, OLDEST_GO).await {
        Some(program) => {
            let line = tools::version_line(&program, &["version"]).await;
            let seen = format!("{}, {}", line.unwrap_or_default(), program.display());
            Finding::ok(subject, seen)
        }
        None => Finding::ok(subject, format!("none of version {OLDEST_GO} or newer")).trouble(
            State::Missing,
            "images of a cluster are pulled only, which needs a registry",
            SETUP_COMMAND,
        ),
    }
}

async fn cluster_tool(
    name: &str,
    ask: impl AsyncFn(&Path) -> Option<String>,
    oldest: u32,
    tools_dir: &Path,
) -> Finding {
    let program = tools::own_or_on_path(tools_dir, name);
    program_finding(name, program, ask, oldest, "no kind clusters").await
}

/// Asks for its version in the whole environment, where a run has it so.
fn as_user(arguments: &[&str]) -> impl AsyncFn(&Path) -> Option<String> {
    async move |program| tools::version_line(program, arguments).await
}

/// Asks for its version as a part of an environment, where a run has it so.
fn as_part(arguments: &[&str]) -> impl AsyncFn(&Path) -> Option<String> {
    async move |program| tools::version_line_as_part(program, arguments, None).await
}

async fn program_finding(
    subject: &str,
    program: Option<PathBuf>,
    ask: impl AsyncFn(&Path) -> Option<String>,
    oldest: u32,
    consequence: &str,
) -> Finding {
    let Some(program) = program else {
        return Finding::ok(subject, "not found").trouble(
            State::Missing,
            consequence,
            SETUP_COMMAND,
        );
    };
    let line = ask(&program).await;
    judge_program(subject, &program, line.as_deref(), oldest, consequence)
}

fn judge_program(
    subject: &str,
    program: &Path,
    version: Option<&str>,
    oldest: u32,
    consequence: &str,
) -> Finding {
    let Some(line) = version else {
        let program = program.display();
        let seen = format!("{program} does not tell its version as a run would ask it");
        let fix = format!(
            "mend it (is it a shim whose version manager is not set up?), or put another one \
             before {program} on PATH"
        );
        return Finding::ok(subject, seen).trouble(State::Missing, consequence, fix);
    };
    let finding = Finding::ok(subject, format!("{line}, {}", program.display()));
    match tools::major_version(line) {
        Some(major) if major >= oldest => finding,
        _ => finding.trouble(
            State::Missing,
            consequence,
            format!("install version {oldest} or newer and put it first on PATH"),
        ),
    }
}

const GIB: u64 = 1 << 30;

fn disk(target_dir: &Path) -> Option<Finding> {
    // The directory may not be there yet; its nearest ancestor is on the same disk.
    let dir = target_dir.ancestors().find(|dir| dir.is_dir())?;
    let stat = statvfs(dir).ok()?;
    // The field types differ between systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
    Some(judge_disk(free, dir))
}

/// Where the engine of this machine keeps images and containers, if that is another disk.
fn engines_disk(machine: &EngineMachine, target_dir: &Path) -> Option<Finding> {
    let dir = machine.root_dir.as_deref()?;
    let of = |dir: &Path| Some(fs::metadata(dir).ok()?.dev());
    let ours = target_dir.ancestors().find_map(of);
    (of(dir)? != ours?).then(|| disk(dir)).flatten()
}

/// What building every image of a cluster takes at its peak: images, Go's modules and build
/// cache, Rust's; measured.
const BUILDING_EVERYTHING: u64 = 25 * GIB;

fn judge_disk(free: u64, dir: &Path) -> Finding {
    let seen = format!("{} free at {}", gib(free), dir.display());
    let finding = Finding::ok("disk", seen);
    let half_way = "builds, images and databases fail half-way with `no space left on device`";
    let (state, consequence) = match free {
        0..GIB => (State::Missing, half_way),
        _ if free < 5 * GIB => (State::Warning, half_way),
        _ if free < BUILDING_EVERYTHING => (
            State::Warning,
            "images of a cluster that are not here yet fail half-way if all must be built, which \
             takes about 25 GiB; pulling them takes 5",
        ),
        _ => return finding,
    };
    finding.trouble(state, consequence, "docker system prune")
}

/// The ports that the configuration asks for. What an environment of ours holds is taken,
/// too.
fn ports(targets: &BTreeMap<String, Target>) -> Finding {
    let asked_for = targets.iter().filter_map(|(name, target)| {
        let (key, port) = match target {
            Target::Local(local) => ("router_port", local.router_port),
            Target::Kind(kind) => ("ingress_port", kind.ingress_port),
            Target::Remote(_) => return None,
        };
        (port != 0).then(|| (format!("targets.{name}.{key}"), port))
    });
    let is_taken = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err();
    let (taken, free): (Vec<_>, Vec<_>) = asked_for.partition(|(_, port)| is_taken(*port));
    judge_ports(&taken, &free)
}

fn judge_ports(taken: &[(String, u16)], free: &[(String, u16)]) -> Finding {
    let words = |ports: &[(String, u16)]| {
        let words = ports.iter().map(|(key, port)| format!("{port} ({key})"));
        words.collect::<Vec<_>>().join(", ")
    };
    match (taken, free) {
        ([], []) => Finding::ok("ports", "any that are free, of 127.0.0.1 alone"),
        ([], free) => Finding::ok("ports", format!("free: {}", words(free))),
        (taken, _) => Finding::ok("ports", format!("taken: {}", words(taken))).trouble(
            State::Warning,
            "no other environment of that target comes up; `cargo xtask status` tells whether one \
             of yours has it",
            "set the key to 0 in harness.toml, which takes a free one, or end what listens there",
        ),
    }
}

fn memory() -> Option<Finding> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    Some(judge_memory(system.available_memory()))
}

fn judge_memory(available: u64) -> Finding {
    let finding = Finding::ok("memory", format!("{} available", gib(available)));
    if available >= 2 * GIB {
        return finding;
    }
    finding.trouble(
        State::Warning,
        "a kind cluster is likely to be ended by the kernel; the local target still fits",
        "close something large, or give Docker Desktop or Colima more memory",
    )
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB as f64)
}

fn open_files() -> Option<Finding> {
    let (soft, _hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    Some(judge_open_files(soft))
}

fn judge_open_files(limit: u64) -> Finding {
    let finding = Finding::ok("open files", format!("at most {limit} per process"));
    if limit >= 1024 {
        return finding;
    }
    finding.trouble(
        State::Warning,
        "load tests run out of sockets and count it as errors of the platform",
        "ulimit -n 4096",
    )
}

/// Of all that the engine's machine has: what is free there it does not say.
fn memory_of(machine: &EngineMachine) -> Option<Finding> {
    let memory = machine.memory?;
    Some(Finding {
        subject: "engine's memory".to_owned(),
        seen: format!("{} in all, of {}", gib(memory), machine.name),
        ..judge_memory(memory)
    })
}

/// Of the engine's machine; of this process where no engine answers.
fn capabilities(machine: Option<&EngineMachine>) -> Option<Finding> {
    let runtime = oci_runtime::state(machine);
    match machine {
        Some(machine) => Some(judge_capabilities(
            machine.missing_capabilities.as_deref(),
            runtime,
        )),
        None => {
            let status = fs::read_to_string("/proc/self/status").ok()?;
            let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok()?;
            let missing = oci_runtime::missing(&status, last.trim().parse().ok()?)?;
            Some(judge_capabilities(Some(&missing), runtime))
        }
    }
}

fn inotify_limits() -> Option<Finding> {
    match inotify::LIMITS.map(inotify::Limit::now) {
        [Some(instances), Some(watches)] => Some(judge_inotify(instances, watches)),
        _ => None,
    }
}

/// Of the engine's machine; of this one where no engine says.
fn cgroups(machine: Option<&EngineMachine>) -> Option<Finding> {
    match machine {
        Some(machine) => Some(judge_cgroup(!machine.cgroup_v1)),
        None => cfg!(target_os = "linux")
            .then(|| judge_cgroup(Path::new("/sys/fs/cgroup/cgroup.controllers").exists())),
    }
}

/// Kubernetes 1.35 refuses cgroup v1 unless the kubelet is told otherwise
/// (`failCgroupV1: false`, KEP-5573).
fn judge_cgroup(unified: bool) -> Finding {
    let seen = match unified {
        true => "version 2",
        false => "version 1 (kind's kubelet is told to accept it)",
    };
    Finding::ok("cgroups", seen)
}

/// A privileged container asks for every capability that the kernel knows. None: what the
/// engine's machine lacks cannot be told from here.
fn judge_capabilities(missing: Option<&[u64]>, runtime: oci_runtime::State) -> Finding {
    let subject = "capabilities";
    let Some(missing) = missing else {
        let seen = match runtime {
            oci_runtime::State::Registered => "those that the engine's runtime finds there",
            _ => "not to be told from here; the engine says when it starts a node",
        };
        return Finding::ok(subject, seen);
    };
    let missing: Vec<String> = missing.iter().copied().map(capability_name).collect();
    if missing.is_empty() {
        return Finding::ok(subject, "all");
    }
    let missing = missing.join(", ");
    if runtime == oci_runtime::State::Registered {
        let seen = format!("without {missing}, and Docker's runtime asks for none of these");
        return Finding::ok(subject, seen);
    }
    Finding::ok(subject, format!("without {missing}")).trouble(
        State::Warning,
        "`docker run --privileged` fails, and every kind node is run so; the local target does without",
        SETUP_COMMAND,
    )
}

/// The names of `capabilities(7)` that container hosts are known to withhold.
fn capability_name(bit: u64) -> String {
    match bit {
        12 => "CAP_NET_ADMIN".to_owned(),
        16 => "CAP_SYS_MODULE".to_owned(),
        17 => "CAP_SYS_RAWIO".to_owned(),
        19 => "CAP_SYS_PTRACE".to_owned(),
        21 => "CAP_SYS_ADMIN".to_owned(),
        24 => "CAP_SYS_RESOURCE".to_owned(),
        25 => "CAP_SYS_TIME".to_owned(),
        other => format!("capability {other}"),
    }
}

fn judge_inotify(instances: u64, watches: u64) -> Finding {
    let seen = format!("{instances} instances, {watches} watches");
    let finding = Finding::ok("inotify", seen);
    let [enough_instances, enough_watches] = inotify::LIMITS.map(|limit| limit.least);
    if instances >= enough_instances && watches >= enough_watches {
        return finding;
    }
    let fix = format!(
        "{SETUP_COMMAND}, until the next boot; to stay, put \
         fs.inotify.max_user_instances={enough_instances} and \
         fs.inotify.max_user_watches={enough_watches} into /etc/sysctl.d/"
    );
    finding.trouble(
        State::Warning,
        "kind clusters of several nodes fail with a misleading `too many open files`",
        fix,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{BackingServices, LocalTarget};
    use crate::engine::machine::tests::machine;

    #[test]
    fn a_root_without_sys_resource_is_noticed() {
        let judge = |runtime| judge_capabilities(Some(&[24]), runtime);
        let finding = judge(oci_runtime::State::Lacking);
        assert_eq!(finding.state, State::Warning);
        assert_eq!(finding.seen, "without CAP_SYS_RESOURCE");
        assert_eq!(judge(oci_runtime::State::Registered).state, State::Ok);
    }

    #[test]
    fn a_full_root_is_fine() {
        let judged = judge_capabilities(Some(&[]), oci_runtime::State::NotNeeded);
        assert_eq!(judged.state, State::Ok);
    }

    #[test]
    fn what_cannot_be_told_of_another_machine_is_no_trouble() {
        let judged = judge_capabilities(None, oci_runtime::State::NotNeeded);
        assert_eq!(judged.state, State::Ok);
        assert!(judged.seen.contains("not to be told from here"));
        let there = EngineMachine {
            is_this_one: false,
            ..machine()
        };
        let seen = engines_machine(&there).seen;
        assert!(
            seen.starts_with("another, builder (Debian, kernel 6.1)"),
            "{seen}"
        );
        let memory = memory_of(&there).unwrap();
        assert_eq!(memory.seen, "16.0 GiB in all, of builder");
    }

    #[test]
    fn an_old_postgres_does_not_count() {
        let program = Path::new("/usr/bin/postgres");
        let judge = |line| judge_program("Postgres binaries", program, line, 14, "no database");
        assert_eq!(
            judge(Some("postgres (PostgreSQL) 13.1")).state,
            State::Missing
        );
        assert_eq!(judge(Some("postgres (PostgreSQL) 14.0")).state, State::Ok);
        assert_eq!(judge(None).state, State::Missing);
    }

    #[test]
    fn limits_are_inclusive_where_they_should_be() {
        let dir = Path::new("/");
        assert_eq!(judge_disk(GIB - 1, dir).state, State::Missing);
        assert_eq!(judge_disk(GIB, dir).state, State::Warning);
        assert_eq!(judge_disk(25 * GIB - 1, dir).state, State::Warning);
        assert_eq!(judge_disk(25 * GIB, dir).state, State::Ok);
        assert_eq!(judge_memory(2 * GIB - 1).state, State::Warning);
        assert_eq!(judge_memory(2 * GIB).state, State::Ok);
        assert_eq!(judge_open_files(1023).state, State::Warning);
        assert_eq!(judge_open_files(1024).state, State::Ok);
        assert_eq!(judge_inotify(512, 524_287).state, State::Warning);
        assert_eq!(judge_inotify(512, 524_288).state, State::Ok);
    }

    #[tokio::test]
    async fn an_examination_of_this_machine_survives_json() {
        let dir = tempfile::TempDir::new().unwrap();
        let findings = examine(dir.path(), dir.path(), &BTreeMap::new()).await;
        let text = serde_json::to_string(&findings).unwrap();
        let back: Vec<Finding> = serde_json::from_str(&text).unwrap();
        assert_eq!(findings, back);
        assert!(findings.iter().any(|f| f.subject == "disk"), "{text}");
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_its_key() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        let mine = Target::Local(LocalTarget {
            backing_services: BackingServices::Auto,
            router_port: port,
        });
        let finding = ports(&BTreeMap::from([("mine".to_owned(), mine)]));
        assert_eq!(finding.state, State::Warning);
        let seen = format!("taken: {port} (targets.mine.router_port)");
        assert_eq!(finding.seen, seen);
        assert_eq!(ports(&BTreeMap::new()).state, State::Ok);
    }

    proptest! {
        #[test]
        fn trouble_always_comes_with_a_consequence_and_a_fix(
            free: u64, memory: u64, files: u64, instances: u64, watches: u64,
            missing in proptest::collection::vec(0_u64..41, 0..5)
        ) {
            let mut findings = vec![
                judge_disk(free, Path::new("/")),
                judge_memory(memory),
                judge_open_files(files),
                judge_inotify(instances, watches),
            ];
            findings.push(judge_capabilities(Some(&missing), oci_runtime::State::Lacking));
            for finding in findings {
                let sound = finding.state == State::Ok;
                prop_assert_eq!(finding.fix.is_none(), sound);
                prop_assert_eq!(finding.consequence.is_none(), sound);
            }
        }
    }
}
