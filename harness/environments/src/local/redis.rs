//! Redis from its binary, in a temporary directory, on 127.0.0.1.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::free_port;
use crate::bring_up::containers::answers_ping;
use crate::bring_up::{Context, REDIS, UpError, process_part};
use base::process::Program;
use base::run::event::Part;

/// Starts Redis, and waits until it accepts connections.
pub async fn start(context: &Context<'_>, binary: &Path) -> Result<Part, UpError> {
    let folder = context.owned.directory(REDIS).await?;
    let [port] = free_port::start(
        context.owned,
        "Redis accepts connections",
        context.deadlines.backing_services,
        |[port]| {
            let config = folder.join("redis.conf");
            write_config(&config, &folder, port, &context.secrets.redis_password)?;
            Ok(Program {
                arguments: vec![config.into()],
                ..context.child(REDIS, binary)
            })
        },
        |[port]| async move { answers_ping(&format!("127.0.0.1:{port}")).await },
    )
    .await?;
    let address = format!("127.0.0.1:{port}");
    Ok(process_part(context.owned, REDIS, address))
}

/// The password is in a file: every user of the machine can read a command line.
fn write_config(path: &Path, folder: &Path, port: u16, password: &str) -> Result<(), UpError> {
    use std::io::Write;
    // Quoted, because it may contain a space.
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
