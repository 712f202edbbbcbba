//! Starts a program that must know its ports, on ports that no other process uses.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::bring_up::{Owned, UpError};
use base::process::{Program, describe};
use base::wait::{self, Observation};

/// The number of times that ports are chosen, if other processes take them.
pub(super) const PORT_TRIES: usize = 5;
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Starts a program on free ports, and on others if a process took one of them meanwhile. Waits
/// until `check` succeeds; `what` names that condition. Returns the ports.
pub async fn start<const PORTS: usize, Checked>(
    owned: &Arc<Owned>,
    what: &str,
    deadline: Duration,
    program: impl Fn([u16; PORTS]) -> Result<Program, UpError>,
    check: impl Fn([u16; PORTS]) -> Checked + Clone,
) -> Result<[u16; PORTS], UpError>
where
    Checked: Future<Output = Result<(), String>>,
{
    let mut tries = 0;
    loop {
        let ports = free_ports().map_err(UpError::system("find a free port"))?;
        let program = program(ports)?;
        let written = std::fs::metadata(&program.log).map_or(0, |log| log.len());
        owned.start(&program).await?;
        // It owns its data: with a borrow, this future would not be `Send`.
        let (look, check) = (Start::of(owned, &program, written), check.clone());
        let look = move || {
            let (look, checked) = (look.clone(), check(ports));
            async move {
                if let Some(ended) = look.ended() {
                    return ended;
                }
                match checked.await {
                    // Looked at again: another process that took the port also answers.
                    Ok(()) => look.ended().unwrap_or(Observation::Ready(true)),
                    Err(reason) => Observation::NotYet(reason),
                }
            }
        };
        let Program { name, log, .. } = program;
        let found = wait::until(what, deadline, LOOK_EVERY, look).await;
        if found.map_err(UpError::wait(&name, Some(log.clone())))? {
            return Ok(ports);
        }
        owned.forget(&name).await?;
        tries += 1;
        if tries == PORT_TRIES {
            let part = name;
            return Err(UpError::Ports { part, tries, log });
        }
    }
}

/// A program that was started.
#[derive(Clone)]
struct Start {
    owned: Arc<Owned>,
    name: String,
    log: PathBuf,
    /// The length of the log before: it also has what earlier tries wrote.
    written: u64,
}

impl Start {
    fn of(owned: &Arc<Owned>, program: &Program, written: u64) -> Start {
        Start {
            owned: Arc::clone(owned),
            name: program.name.clone(),
            log: program.log.clone(),
            written,
        }
    }

    /// Returns whether another port may help, if the program has ended.
    fn ended(&self) -> Option<Observation<bool>> {
        let status = self.owned.ended(&self.name)?;
        Some(match found_port_taken(&self.log, self.written) {
            true => Observation::Ready(false),
            false => Observation::Failed(format!("it ended with {}", describe(status))),
        })
    }
}

/// Returns different ports: each stays bound until all are found.
pub(super) fn free_ports<const PORTS: usize>() -> std::io::Result<[u16; PORTS]> {
    let mut ports = [0; PORTS];
    let mut bound = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        bound.push(listener);
    }
    Ok(ports)
}

/// Whether the program wrote that its port is taken, after the first `written` bytes of its log.
fn found_port_taken(log: &Path, written: u64) -> bool {
    let text = std::fs::read(log).unwrap_or_default();
    let from = usize::try_from(written).unwrap_or(usize::MAX);
    says_port_taken(&String::from_utf8_lossy(
        text.get(from..).unwrap_or_default(),
    ))
}

/// Whether a program's output says that its port is taken.
pub(super) fn says_port_taken(output: &str) -> bool {
    // In capitals or not, by language.
    output.to_lowercase().contains("address already in use")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ() {
        let [one, two] = free_ports().unwrap();
        assert!(one != two && one != 0 && two != 0);
    }

    #[test]
    fn a_taken_port_is_read_from_what_this_try_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        assert!(!found_port_taken(&log, 0));
        let text = "OSError: [Errno 98] Address already in use\n";
        std::fs::write(&log, text).unwrap();
        assert!(found_port_taken(&log, 0));
        assert!(!found_port_taken(&log, text.len() as u64));
        std::fs::write(
            &log,
            "listen tcp 127.0.0.1:80: bind: address already in use",
        )
        .unwrap();
        assert!(found_port_taken(&log, 0));
    }
}
