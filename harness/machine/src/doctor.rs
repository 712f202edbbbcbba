//! What this machine has and lacks, with the consequence of each and the command that fixes it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use crate::command_tools::CommandTool;
use crate::engine::machine::{EngineMachine, missing_capabilities};
use crate::engine::{Engine, NoEngine, TIMEOUT};
use crate::provision::{inotify, oci_runtime};
use crate::tools::{self, OLDEST_GO, SETUP_COMMAND};
use base::process::user;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was checked, e.g. `container engine`.
    pub subject: String,
    /// Its state.
    pub state: FindingState,
    /// What was found, e.g. `15.14 in /usr/lib/postgresql/15/bin`.
    pub seen: String,
    /// What fails, or may fail, because of it; none if there is no problem.
    pub consequence: Option<String>,
    /// One command, or one thing to do, that fixes it; none if there is no problem.
    pub fix: Option<String>,
}

/// The state of a finding's subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingState {
    /// No problem.
    Ok,
    /// Works within limits.
    Warning,
    /// Something cannot work.
    Missing,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            FindingState::Ok => "ok",
            FindingState::Warning => "warning",
            FindingState::Missing => "missing",
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
            state: FindingState::Ok,
            seen: seen.into(),
            consequence: None,
            fix: None,
        }
    }

    fn problem(self, state: FindingState, consequence: &str, fix: impl Into<String>) -> Finding {
        Finding {
            state,
            consequence: Some(consequence.to_owned()),
            fix: Some(fix.into()),
            ..self
        }
    }
}

/// Checks everything, in a few seconds. `target_dir` is cargo's, for its disk. `tools_dir` has the
/// project's own tools. `ports_of_targets` are the ports in the configuration, each with its key;
/// `tools` are those that the platform's commands need.
pub async fn examine(
    target_dir: &Path,
    tools_dir: &Path,
    ports_of_targets: &[(String, u16)],
    tools: &[CommandTool],
) -> Vec<Finding> {
    let ((engine, machine), postgres, redis, chromium, nextest, mmdebstrap, go, docker, kind, helm) = tokio::join!(
        engine(),
        postgres(),
        redis(),
        chromium(),
        nextest(tools_dir),
        mmdebstrap(),
        go(tools_dir),
        cluster_tool("docker", as_part(&["--version"]), 0, tools_dir),
        cluster_tool("kind", as_part(&["version"]), 0, tools_dir),
        cluster_tool("helm", as_user(&["version", "--short"]), 3, tools_dir),
    );
    let machine = machine.as_ref();
    // What is read here describes the engine's machine only if that is this one.
    let elsewhere = machine.filter(|machine| !machine.is_this_one);
    let mut findings = vec![engine];
    findings.extend(machine.map(engines_machine));
    findings.extend([postgres, redis, chromium, nextest]);
    let of_commands = [go, docker, kind, helm].map(|it| needed_by_commands(it, tools));
    findings.push(mmdebstrap);
    findings.extend(of_commands);
    findings.extend(disk(target_dir));
    if let (Some(machine), None) = (machine, elsewhere) {
        findings.extend(engines_disk(machine, target_dir));
    }
    findings.push(ports(ports_of_targets));
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

/// Checks the engine. Returns its machine, too.
async fn engine() -> (Finding, Option<EngineMachine>) {
    match Engine::find(TIMEOUT).await {
        Ok(engine) => (
            Finding::ok("container engine", engine.to_string()),
            EngineMachine::of(&engine).await.ok(),
        ),
        Err(none) => (no_engine(&none), None),
    }
}

fn engines_machine(machine: &EngineMachine) -> Finding {
    let seen = match machine.is_this_one {
        true => format!("this one, {machine}"),
        false => format!(
            "another, {machine}: its limits on inotify and its disk cannot be checked from here"
        ),
    };
    Finding::ok("engine's machine", seen)
}

fn no_engine(none: &NoEngine) -> Finding {
    Finding::ok("container engine", none.to_string()).problem(
        FindingState::Missing,
        "no kind clusters and no containers: the local target runs Postgres and Redis as processes",
        none.help()
            .map_or_else(|| SETUP_COMMAND.to_owned(), |help| help.to_string()),
    )
}

async fn postgres() -> Finding {
    let dir = tools::postgres_bin_dir();
    let program = dir.map(|dir| dir.join("postgres"));
    // As root, another user runs it, who may not find the programs that root finds.
    let user = user::unprivileged().ok().flatten();
    let version = async |program: &Path| {
        tools::version_line_as_part(program, &["--version"], user.as_ref()).await
    };
    program_finding(
        "Postgres binaries",
        program,
        version,
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

async fn chromium() -> Finding {
    program_finding(
        "Chromium",
        tools::chromium(),
        as_user(&["--version"]),
        0,
        "the project's own tests of the tier `containers` do not run: some open pages in it",
    )
    .await
}

async fn nextest(tools_dir: &Path) -> Finding {
    program_finding(
        "cargo-nextest",
        tools::nextest(tools_dir),
        // A cargo subcommand gets its own name as the first argument.
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

async fn go(tools_dir: &Path) -> Finding {
    let subject = "Go";
    match tools::go(tools_dir, OLDEST_GO).await {
        Some(program) => {
            let line = tools::version_line(&program, &["version"]).await;
            let seen = format!("{}, {}", line.unwrap_or_default(), program.display());
            Finding::ok(subject, seen)
        }
        None => Finding::ok(subject, format!("none of version {OLDEST_GO} or newer")).problem(
            FindingState::Missing,
            "images of a cluster are pulled only, which needs a registry",
            SETUP_COMMAND,
        ),
    }
}

/// Names the consequence of a missing tool for the platform's commands, if they need it.
fn needed_by_commands(finding: Finding, tools: &[CommandTool]) -> Finding {
    let subject = &finding.subject;
    let is_needed = tools.iter().any(|it| it.name.eq_ignore_ascii_case(subject));
    match finding.consequence {
        Some(consequence) if is_needed => Finding {
            consequence: Some(format!(
                "the platform cannot be built or run here (platform.local.tools); {consequence}"
            )),
            ..finding
        },
        _ => finding,
    }
}

async fn cluster_tool(
    name: &str,
    version: impl AsyncFn(&Path) -> Option<String>,
    oldest: u32,
    tools_dir: &Path,
) -> Finding {
    let program = tools::own_or_on_path(tools_dir, name);
    program_finding(name, program, version, oldest, "no kind clusters").await
}

/// Gets the version of a program that a run starts with the user's environment.
fn as_user(arguments: &[&str]) -> impl AsyncFn(&Path) -> Option<String> {
    async move |program| tools::version_line(program, arguments).await
}

/// Gets the version of a program that a run starts as a part of an environment.
fn as_part(arguments: &[&str]) -> impl AsyncFn(&Path) -> Option<String> {
    async move |program| tools::version_line_as_part(program, arguments, None).await
}

async fn program_finding(
    subject: &str,
    program: Option<PathBuf>,
    version: impl AsyncFn(&Path) -> Option<String>,
    oldest: u32,
    consequence: &str,
) -> Finding {
    let Some(program) = program else {
        return Finding::ok(subject, "not found").problem(
            FindingState::Missing,
            consequence,
            SETUP_COMMAND,
        );
    };
    let version = version(&program).await;
    check_program(subject, &program, version.as_deref(), oldest, consequence)
}

fn check_program(
    subject: &str,
    program: &Path,
    version: Option<&str>,
    oldest: u32,
    consequence: &str,
) -> Finding {
    let Some(version) = version else {
        let program = program.display();
        let seen = format!("{program} does not print its version in the environment of a run");
        let fix = format!(
            "repair it (is it a shim whose version manager is not set up?), or put another one \
             before {program} on PATH"
        );
        return Finding::ok(subject, seen).problem(FindingState::Missing, consequence, fix);
    };
    let finding = Finding::ok(subject, format!("{version}, {}", program.display()));
    match tools::major_version(version) {
        Some(major) if major >= oldest => finding,
        _ => finding.problem(
            FindingState::Missing,
            consequence,
            format!("install version {oldest} or newer and put it first on PATH"),
        ),
    }
}

const GIB: u64 = 1 << 30;

fn disk(target_dir: &Path) -> Option<Finding> {
    // The directory may not exist yet. Its nearest ancestor is on the same disk.
    let dir = target_dir.ancestors().find(|dir| dir.is_dir())?;
    let stat = statvfs(dir).ok()?;
    // The field types differ between systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
    Some(check_disk(free, dir))
}

/// Checks the disk of the engine's images and containers, if it is another one.
fn engines_disk(machine: &EngineMachine, target_dir: &Path) -> Option<Finding> {
    let dir = machine.root_dir.as_deref()?;
    let of = |dir: &Path| Some(fs::metadata(dir).ok()?.dev());
    let ours = target_dir.ancestors().find_map(of);
    (of(dir)? != ours?).then(|| disk(dir)).flatten()
}

/// The measured peak of building every image of a cluster: images, Go's modules and build cache,
/// Rust's build directory.
const BUILDING_EVERYTHING: u64 = 25 * GIB;

fn check_disk(free: u64, dir: &Path) -> Finding {
    let seen = format!("{} free at {}", gib(free), dir.display());
    let finding = Finding::ok("disk", seen);
    let half_way = "builds, images and databases fail half-way with `no space left on device`";
    let (state, consequence) = match free {
        0..GIB => (FindingState::Missing, half_way),
        _ if free < 5 * GIB => (FindingState::Warning, half_way),
        _ if free < BUILDING_EVERYTHING => (
            FindingState::Warning,
            "building the missing images of a cluster fails half-way: building all of them \
             takes about 25 GiB, pulling them 5",
        ),
        _ => return finding,
    };
    finding.problem(state, consequence, "docker system prune")
}

/// A port of a running environment counts as taken, too.
fn ports(of_targets: &[(String, u16)]) -> Finding {
    let is_taken = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err();
    let (taken, free): (Vec<_>, Vec<_>) = of_targets
        .iter()
        .cloned()
        .partition(|(_, port)| is_taken(*port));
    check_ports(&taken, &free)
}

fn check_ports(taken: &[(String, u16)], free: &[(String, u16)]) -> Finding {
    let listed = |ports: &[(String, u16)]| {
        let ports = ports.iter().map(|(key, port)| format!("{port} ({key})"));
        ports.collect::<Vec<_>>().join(", ")
    };
    match (taken, free) {
        ([], []) => Finding::ok("ports", "any that are free, of 127.0.0.1 alone"),
        ([], free) => Finding::ok("ports", format!("free: {}", listed(free))),
        (taken, _) => Finding::ok("ports", format!("taken: {}", listed(taken))).problem(
            FindingState::Warning,
            "no other environment of that target comes up; `cargo xtask status` shows whether one \
             of yours uses it",
            "set the key to 0 in harness.toml, which takes a free one, or stop what listens there",
        ),
    }
}

fn memory() -> Option<Finding> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    Some(check_memory(system.available_memory()))
}

fn check_memory(available: u64) -> Finding {
    let finding = Finding::ok("memory", format!("{} available", gib(available)));
    if available >= 2 * GIB {
        return finding;
    }
    finding.problem(
        FindingState::Warning,
        "the kernel is likely to kill a kind cluster; the local target still fits",
        "close something large, or give Docker Desktop or Colima more memory",
    )
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB as f64)
}

fn open_files() -> Option<Finding> {
    let (soft, _hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    Some(check_open_files(soft))
}

fn check_open_files(limit: u64) -> Finding {
    let finding = Finding::ok("open files", format!("at most {limit} per process"));
    if limit >= 1024 {
        return finding;
    }
    finding.problem(
        FindingState::Warning,
        "load tests run out of sockets and count it as errors of the platform",
        "ulimit -n 4096",
    )
}

/// Checks the total memory of the engine's machine. The engine does not report what is free.
fn memory_of(machine: &EngineMachine) -> Option<Finding> {
    let memory = machine.memory?;
    Some(Finding {
        subject: "engine's memory".to_owned(),
        seen: format!("{} in all, of {}", gib(memory), machine.name),
        ..check_memory(memory)
    })
}

/// Checks the engine's machine; this process if no engine answers.
fn capabilities(machine: Option<&EngineMachine>) -> Option<Finding> {
    let runtime = oci_runtime::state(machine);
    let missing = match machine {
        Some(machine) => machine.missing_capabilities.clone(),
        None => Some(missing_capabilities("self")?),
    };
    Some(check_capabilities(missing.as_deref(), runtime))
}

fn inotify_limits() -> Option<Finding> {
    match inotify::LIMITS.map(inotify::Limit::now) {
        [Some(instances), Some(watches)] => Some(check_inotify(instances, watches)),
        _ => None,
    }
}

/// Checks the engine's machine; this one if no engine answers.
fn cgroups(machine: Option<&EngineMachine>) -> Option<Finding> {
    match machine {
        Some(machine) => Some(check_cgroup(!machine.cgroup_v1)),
        None => cfg!(target_os = "linux")
            .then(|| check_cgroup(Path::new("/sys/fs/cgroup/cgroup.controllers").exists())),
    }
}

/// Kubernetes 1.35 refuses cgroup v1 unless the kubelet is configured otherwise
/// (`failCgroupV1: false`, KEP-5573).
fn check_cgroup(unified: bool) -> Finding {
    let seen = match unified {
        true => "version 2",
        false => "version 1 (kind's kubelet is configured to accept it)",
    };
    Finding::ok("cgroups", seen)
}

/// A privileged container requires every capability that the kernel knows. `missing` is none if
/// the capabilities of the engine's machine are unknown.
fn check_capabilities(missing: Option<&[u64]>, runtime: oci_runtime::RuntimeState) -> Finding {
    let subject = "capabilities";
    let Some(missing) = missing else {
        let seen = match runtime {
            oci_runtime::RuntimeState::Registered => {
                "the engine's runtime uses those that exist there"
            }
            _ => "unknown from here; the engine reports a missing one when it starts a node",
        };
        return Finding::ok(subject, seen);
    };
    let missing: Vec<String> = missing.iter().copied().map(capability_name).collect();
    if missing.is_empty() {
        return Finding::ok(subject, "all");
    }
    let missing = missing.join(", ");
    if runtime == oci_runtime::RuntimeState::Registered {
        let seen = format!("without {missing}, and Docker's runtime requires none of these");
        return Finding::ok(subject, seen);
    }
    Finding::ok(subject, format!("without {missing}")).problem(
        FindingState::Warning,
        "`docker run --privileged` fails, which starts every kind node; the local target does not use it",
        SETUP_COMMAND,
    )
}

/// Returns the name in `capabilities(7)` of those that container hosts are known to withhold.
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

fn check_inotify(instances: u64, watches: u64) -> Finding {
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
    finding.problem(
        FindingState::Warning,
        "kind clusters of several nodes fail with a misleading `too many open files`",
        fix,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::machine::tests::machine;

    #[test]
    fn a_missing_capability_is_a_warning_without_our_runtime() {
        let check = |runtime| check_capabilities(Some(&[24]), runtime);
        let finding = check(oci_runtime::RuntimeState::Lacking);
        assert_eq!(finding.state, FindingState::Warning);
        assert_eq!(finding.seen, "without CAP_SYS_RESOURCE");
        assert_eq!(
            check(oci_runtime::RuntimeState::Registered).state,
            FindingState::Ok
        );
        let all = check_capabilities(Some(&[]), oci_runtime::RuntimeState::NotNeeded);
        assert_eq!(all.state, FindingState::Ok);
    }

    #[test]
    fn unknown_facts_of_another_machine_are_no_problem() {
        let checked = check_capabilities(None, oci_runtime::RuntimeState::NotNeeded);
        assert_eq!(checked.state, FindingState::Ok);
        assert!(checked.seen.contains("unknown from here"));
        let there = EngineMachine {
            is_this_one: false,
            ..machine()
        };
        let seen = engines_machine(&there).seen;
        let expected = "another, builder (Debian, kernel 6.1)";
        assert!(seen.starts_with(expected), "{seen}");
        let memory = memory_of(&there).unwrap();
        assert_eq!(memory.seen, "16.0 GiB in all, of builder");
    }

    #[test]
    fn an_old_postgres_does_not_count() {
        let program = Path::new("/usr/bin/postgres");
        let check = |line| check_program("Postgres binaries", program, line, 14, "no database");
        for (line, state) in [
            (Some("postgres (PostgreSQL) 13.1"), FindingState::Missing),
            (Some("postgres (PostgreSQL) 14.0"), FindingState::Ok),
            (None, FindingState::Missing),
        ] {
            assert_eq!(check(line).state, state, "{line:?}");
        }
    }

    #[test]
    fn limits_are_inclusive() {
        let dir = Path::new("/");
        assert_eq!(check_disk(GIB - 1, dir).state, FindingState::Missing);
        assert_eq!(check_disk(GIB, dir).state, FindingState::Warning);
        assert_eq!(check_disk(25 * GIB - 1, dir).state, FindingState::Warning);
        assert_eq!(check_disk(25 * GIB, dir).state, FindingState::Ok);
        assert_eq!(check_memory(2 * GIB - 1).state, FindingState::Warning);
        assert_eq!(check_memory(2 * GIB).state, FindingState::Ok);
        assert_eq!(check_open_files(1023).state, FindingState::Warning);
        assert_eq!(check_open_files(1024).state, FindingState::Ok);
        assert_eq!(check_inotify(512, 524_287).state, FindingState::Warning);
        assert_eq!(check_inotify(512, 524_288).state, FindingState::Ok);
    }

    #[tokio::test]
    async fn findings_survive_json() {
        let dir = tempfile::TempDir::new().unwrap();
        let findings = examine(dir.path(), dir.path(), &[], &[]).await;
        let text = serde_json::to_string(&findings).unwrap();
        let parsed: Vec<Finding> = serde_json::from_str(&text).unwrap();
        assert_eq!(findings, parsed);
        assert!(findings.iter().any(|f| f.subject == "disk"), "{text}");
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_its_key() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let finding = ports(&[("targets.mine.router_port".to_owned(), port)]);
        assert_eq!(finding.state, FindingState::Warning);
        let seen = format!("taken: {port} (targets.mine.router_port)");
        assert_eq!(finding.seen, seen);
        assert_eq!(ports(&[]).state, FindingState::Ok);
    }

    proptest! {
        #[test]
        fn a_problem_always_has_a_consequence_and_a_fix(
            free: u64, memory: u64, files: u64, instances: u64, watches: u64,
            missing in proptest::collection::vec(0_u64..41, 0..5)
        ) {
            for finding in [
                check_disk(free, Path::new("/")),
                check_memory(memory),
                check_open_files(files),
                check_inotify(instances, watches),
                check_capabilities(Some(&missing), oci_runtime::RuntimeState::Lacking),
            ] {
                let is_ok = finding.state == FindingState::Ok;
                prop_assert_eq!(finding.fix.is_none(), is_ok);
                prop_assert_eq!(finding.consequence.is_none(), is_ok);
            }
        }
    }
}
