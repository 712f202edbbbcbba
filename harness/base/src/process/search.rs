//! Finds processes by their arguments.

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::identity::ProcessIdentity;

/// Returns the running processes with exactly this argument.
pub fn with_argument(argument: &str) -> Vec<ProcessIdentity> {
    let Ok(mut system) = System::new() else {
        return Vec::new();
    };
    let arguments = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, arguments.without_tasks());
    let all = system.processes().iter();
    let found = all.filter(|(_, process)| process.cmd().iter().any(|it| it == argument));
    found
        .filter_map(|(id, _)| ProcessIdentity::of(id.as_u32()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_found_by_one_whole_argument() {
        let argument = format!("argument-{}", std::process::id());
        let mut child = Command::new("sh")
            .args(["-c", "read line", &argument])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        assert_eq!(with_argument(&argument), [identity]);
        assert_eq!(with_argument(&argument[1..]), []);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(with_argument(&argument), []);
    }
}
