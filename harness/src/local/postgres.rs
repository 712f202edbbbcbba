//! Postgres from binaries, in a temporary directory, on 127.0.0.1.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{User, chown};

use super::backing::on_a_free_port;
use crate::bring_up::{Context, POSTGRES, UpError, last_lines, process_part};
use crate::process::bound::{Program, Reach, describe};
use crate::process::user;
use crate::run::event::Part;
use crate::wait::{self, Observation};

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The data is thrown away with the run, so nothing needs to survive a crash.
const THROW_AWAY: [&str; 3] = [
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
];

/// All that it makes goes with its directory, also when it is killed: no socket in a
/// place of the system's, no file in /dev/shm.
const AT_HOME: [&str; 2] = [
    "unix_socket_directories=",
    "dynamic_shared_memory_type=mmap",
];

/// Makes a database cluster and starts Postgres on it.
pub async fn start(context: &Context<'_>, binaries: &Path) -> Result<Part, UpError> {
    let no_supply = |why| UpError::NoSupply {
        name: "Postgres",
        why,
    };
    let user = user::unprivileged().map_err(|nobody| no_supply(nobody.to_string()))?;
    let room = match &user {
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
    let folder = context.owned.directory_in(&room, POSTGRES).await?;
    give_to(&folder, user.as_ref())?;
    let data = folder.join("data");
    initialise(context, binaries, &folder, &data, user.as_ref()).await?;
    let port = on_a_free_port(context, POSTGRES, async |port| {
        context
            .owned
            .start(&server(context, binaries, &data, user.as_ref(), port))
            .await?;
        accepts_connections(context, &data).await
    })
    .await?;
    Ok(process_part(
        context.owned,
        POSTGRES,
        format!("127.0.0.1:{port}"),
    ))
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
    binaries: &Path,
    folder: &Path,
    data: &Path,
    user: Option<&User>,
) -> Result<(), UpError> {
    // A file, because a command line can be read by every user of the machine.
    let password = folder.join("password");
    std::fs::write(&password, &context.secrets.postgres_password)
        .map_err(UpError::system("write Postgres' password file"))?;
    give_to(&password, user)?;
    let name = "initdb";
    let options = [
        "--username=trii",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--no-sync",
    ];
    let mut arguments: Vec<OsString> = options.into_iter().map(OsString::from).collect();
    arguments.extend([
        "--pgdata".into(),
        data.into(),
        "--pwfile".into(),
        password.clone().into(),
    ]);
    context
        .owned
        .start(&Program {
            arguments,
            ..program(context, name, binaries.join(name), user)
        })
        .await?;
    let status = context
        .owned
        .finish(name, context.deadlines.backing_services)
        .await?;
    std::fs::remove_file(&password).map_err(UpError::system("remove Postgres' password file"))?;
    match status.success() {
        true => Ok(()),
        false => Err(UpError::Ended {
            part: name.into(),
            how: describe(status),
            log: context.log(name),
        }),
    }
}

fn server(
    context: &Context<'_>,
    binaries: &Path,
    data: &Path,
    user: Option<&User>,
    port: u16,
) -> Program {
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "max_connections=200".to_owned(),
    ];
    settings.extend(THROW_AWAY.into_iter().chain(AT_HOME).map(str::to_owned));
    let mut arguments: Vec<OsString> = vec!["-D".into(), data.into()];
    for setting in settings {
        arguments.extend(["-c".into(), setting.into()]);
    }
    Program {
        arguments,
        ..program(context, POSTGRES, binaries.join("postgres"), user)
    }
}

fn program(
    context: &Context<'_>,
    name: &str,
    path: std::path::PathBuf,
    user: Option<&User>,
) -> Program {
    Program {
        name: name.to_owned(),
        path,
        arguments: Vec::new(),
        // Its words are read. A locale that this machine lacks ends it.
        environment: vec![("LC_ALL".into(), "C".into())],
        user: user.cloned(),
        log: context.log(name),
        // Its SIGTERM waits for its clients ("smart shutdown", PostgreSQL 15 manual, 19.5).
        stop_signal: Signal::SIGINT,
        stop_reaches: Reach::Group,
        // "Immediate shutdown": it ends its own children and its shared memory with it.
        death_signal: Signal::SIGQUIT,
        answer: None,
    }
}

/// As `pg_ctl start -w` does: the last line of `postmaster.pid` says `ready`.
/// `None`: the port was taken.
async fn accepts_connections(context: &Context<'_>, data: &Path) -> Result<Option<()>, UpError> {
    let log = context.log(POSTGRES);
    let pid_file = data.join("postmaster.pid");
    let ready = wait::until(
        "Postgres accepts connections",
        context.deadlines.backing_services,
        LOOK_EVERY,
        async || {
            if let Some(status) = context.owned.ended(POSTGRES) {
                let taken = last_lines(&log).contains("Address already in use");
                return match taken {
                    true => Observation::Ready(None),
                    false => Observation::Hopeless(describe(status)),
                };
            }
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            match text.lines().nth(7).map(str::trim) {
                Some("ready") => Observation::Ready(Some(())),
                Some(state) => Observation::NotYet(format!("postmaster.pid says {state:?}")),
                None => Observation::NotYet("no status in postmaster.pid".into()),
            }
        },
    );
    ready.await.map_err(|wait| UpError::Wait {
        part: POSTGRES.into(),
        log: Some(log.clone()),
        wait,
    })
}
