//! Postgres from binaries, in a temporary directory, on 127.0.0.1.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::{User, chown};

use super::free_port;
use crate::bring_up::{Context, POSTGRES, UpError, process_part};
use crate::config::PlatformPostgres;
use base::process::Program;
use base::process::user;
use base::run::event::Part;

/// The data is deleted with the run, so it need not survive a crash.
const NOT_DURABLE: [&str; 3] = [
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
];

/// All files are in its directory, also after a kill: no socket in a system directory, no file in
/// /dev/shm.
const IN_DIRECTORY: [&str; 2] = [
    "unix_socket_directories=",
    "dynamic_shared_memory_type=mmap",
];

/// The database that each new server has.
const MADE_BY_INITDB: &str = "postgres";

/// Creates a database cluster, starts Postgres on it, and waits until it accepts connections.
pub async fn start(
    context: &Context<'_>,
    needed: &PlatformPostgres,
    binaries: &Path,
) -> Result<Part, UpError> {
    let no_supply = |why| UpError::NoSupply {
        name: "Postgres",
        why,
    };
    let user = user::unprivileged().map_err(|error| no_supply(error.to_string()))?;
    let parent = match &user {
        None => std::env::temp_dir(),
        Some(user) => user::temporary_folder(user).ok_or_else(|| {
            let own = std::env::temp_dir();
            no_supply(format!(
                "its user {:?} may not enter {}, nor /tmp or /var/tmp: `chmod o+x` it, or set \
                 TMPDIR to a folder that every user may enter",
                user.name,
                own.display()
            ))
        })?,
    };
    let folder = context.owned.directory_in(&parent, POSTGRES).await?;
    give_to(&folder, user.as_ref())?;
    let data = folder.join("data");
    let cluster = Cluster {
        needed,
        binaries,
        data: &data,
        user: user.as_ref(),
    };
    initialise(context, &cluster, &folder).await?;
    create_database(context, &cluster).await?;
    let [port] = free_port::start(
        context.owned,
        "Postgres accepts connections",
        context.deadlines.backing_services,
        |[port]| Ok(server(context, &cluster, port)),
        |_| std::future::ready(accepts_connections(&data)),
    )
    .await?;
    let address = format!("127.0.0.1:{port}");
    Ok(process_part(context.owned, POSTGRES, address))
}

/// A database cluster, and the programs for it.
struct Cluster<'a> {
    needed: &'a PlatformPostgres,
    binaries: &'a Path,
    data: &'a Path,
    /// Who runs them.
    user: Option<&'a User>,
}

fn give_to(path: &Path, user: Option<&User>) -> Result<(), UpError> {
    let give = || {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        if let Some(user) = user {
            chown(path, Some(user.uid), Some(user.gid))?;
        }
        Ok(())
    };
    give().map_err(UpError::system(format!("hand over {}", path.display())))
}

async fn initialise(
    context: &Context<'_>,
    cluster: &Cluster<'_>,
    folder: &Path,
) -> Result<(), UpError> {
    // In a file: every user of the machine can read a command line.
    let password = folder.join("password");
    std::fs::write(&password, &context.secrets.postgres_password)
        .map_err(UpError::system("write Postgres' password file"))?;
    give_to(&password, cluster.user)?;
    let name = "initdb";
    let username = format!("--username={}", cluster.needed.user);
    let options = [
        username.as_str(),
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--no-sync",
    ];
    let mut arguments: Vec<OsString> = options.into_iter().map(OsString::from).collect();
    arguments.extend([
        "--pgdata".into(),
        cluster.data.into(),
        "--pwfile".into(),
        password.clone().into(),
    ]);
    let child = Program {
        arguments,
        ..program(context, name, cluster.binaries.join(name), cluster.user)
    };
    context.owned.start(&child).await?;
    let deadline = context.deadlines.backing_services;
    let finished = context.finished(name, deadline).await;
    let removed = std::fs::remove_file(&password);
    finished.and(removed.map_err(UpError::system("remove Postgres' password file")))
}

/// Creates the database, unless initdb has made it. Without a server: that one opens its port once,
/// when all is in place.
async fn create_database(context: &Context<'_>, cluster: &Cluster<'_>) -> Result<(), UpError> {
    const SCRIPT: &str = r#"printf 'CREATE DATABASE "%s"\n' "$1" |
        exec "$2" --single -c exit_on_error=true -c dynamic_shared_memory_type=mmap -D "$3" "$4""#;
    let database = &cluster.needed.database;
    if database == MADE_BY_INITDB {
        return Ok(());
    }
    let postgres = cluster.binaries.join("postgres");
    let name = "create-database";
    let mut arguments: Vec<OsString> = vec!["-c".into(), SCRIPT.into(), name.into()];
    arguments.extend([database.into(), postgres.into(), cluster.data.into()]);
    arguments.push(MADE_BY_INITDB.into());
    let child = Program {
        arguments,
        ..program(context, name, "/bin/sh".into(), cluster.user)
    };
    context.owned.start(&child).await?;
    let deadline = context.deadlines.backing_services;
    context.finished(name, deadline).await
}

fn server(context: &Context<'_>, cluster: &Cluster<'_>, port: u16) -> Program {
    let port = format!("port={port}");
    let settings = [
        port.as_str(),
        "listen_addresses=127.0.0.1",
        "max_connections=200",
    ];
    let mut arguments: Vec<OsString> = vec!["-D".into(), cluster.data.into()];
    for setting in settings.into_iter().chain(NOT_DURABLE).chain(IN_DIRECTORY) {
        arguments.extend(["-c".into(), setting.into()]);
    }
    Program {
        arguments,
        ..program(
            context,
            POSTGRES,
            cluster.binaries.join("postgres"),
            cluster.user,
        )
    }
}

fn program(
    context: &Context<'_>,
    name: &str,
    path: std::path::PathBuf,
    user: Option<&User>,
) -> Program {
    Program {
        // The harness parses its messages. It fails with a locale that this machine lacks.
        environment: vec![("LC_ALL".into(), "C".into())],
        user: user.cloned(),
        // SIGTERM waits for clients ("smart shutdown", PostgreSQL 15 manual, 19.5).
        stop_signal: Signal::SIGINT,
        // "Immediate shutdown": it ends its children and removes its shared memory.
        death_signal: Signal::SIGQUIT,
        ..context.child(name, path)
    }
}

/// As `pg_ctl start -w` does: line 8 of `postmaster.pid` is `ready`.
fn accepts_connections(data: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    match text.lines().nth(7).map(str::trim) {
        Some("ready") => Ok(()),
        Some(state) => Err(format!("the status in postmaster.pid is {state:?}")),
        None => Err("no status in postmaster.pid".into()),
    }
}
