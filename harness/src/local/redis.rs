//! Redis from its binary, in a temporary directory, on 127.0.0.1.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::backing::on_a_free_port;
use crate::bring_up::containers::answers_ping;
use crate::bring_up::{Context, REDIS, UpError, last_lines, process_part};
use crate::process::bound::{Program, Reach, describe};
use crate::run::event::Part;
use crate::wait::{self, Observation};

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Starts Redis.
pub async fn start(context: &Context<'_>, binary: &Path) -> Result<Part, UpError> {
    let folder = context.owned.directory(REDIS).await?;
    let port = on_a_free_port(context, REDIS, async |port| {
        let config = folder.join("redis.conf");
        write_config(&config, &folder, port, &context.secrets.redis_password)?;
        context
            .owned
            .start(&Program {
                name: REDIS.into(),
                path: binary.to_owned(),
                arguments: vec![config.into()],
                environment: Vec::new(),
                user: None,
                log: context.log(REDIS),
                stop_signal: Signal::SIGTERM,
                stop_reaches: Reach::Group,
                death_signal: Signal::SIGKILL,
                answer: None,
            })
            .await?;
        answers(context, port).await
    })
    .await?;
    Ok(process_part(
        context.owned,
        REDIS,
        format!("127.0.0.1:{port}"),
    ))
}

/// The password goes into a file: a command line can be read by every user.
fn write_config(path: &Path, folder: &Path, port: u16, password: &str) -> Result<(), UpError> {
    use std::io::Write;
    // Quoted, for a space in it (redis.conf).
    let folder = folder.display().to_string();
    let folder = folder.replace('\\', r"\\").replace('"', "\\\"");
    let text = format!(
        "bind 127.0.0.1\nport {port}\ndir \"{folder}\"\nsave \"\"\nappendonly no\nrequirepass {password}\n"
    );
    std::fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(UpError::system("write Redis' configuration"))
}

/// `None`: the port was taken.
async fn answers(context: &Context<'_>, port: u16) -> Result<Option<()>, UpError> {
    let log = context.log(REDIS);
    let ready = wait::until(
        "Redis accepts connections",
        context.deadlines.backing_services,
        LOOK_EVERY,
        async || {
            if let Some(status) = context.owned.ended(REDIS) {
                let taken = last_lines(&log).contains("Address already in use");
                return match taken {
                    true => Observation::Ready(None),
                    false => Observation::Hopeless(describe(status)),
                };
            }
            match answers_ping(&format!("127.0.0.1:{port}")).await {
                Ok(()) => Observation::Ready(Some(())),
                Err(reason) => Observation::NotYet(reason),
            }
        },
    );
    ready.await.map_err(|wait| UpError::Wait {
        part: REDIS.into(),
        log: Some(log.clone()),
        wait,
    })
}
