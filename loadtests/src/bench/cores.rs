//! The cores that this process may use, and how to pin a program to one of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base::process;
use base::process::{BoundChild, Program, Reach};
use machine::tools::on_path;
use nix::sys::signal::Signal;

use super::error::BenchError;

const PIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A core for the server and one for the load generator.
#[derive(Clone, Debug)]
pub struct Cores {
    pub server: Core,
    pub generator: Core,
}

/// A core, and the program that pins others to it (taskset(1)).
#[derive(Clone, Debug)]
pub struct Core {
    taskset: PathBuf,
    number: usize,
}

impl Core {
    /// The start of a command line that runs `program` there.
    pub fn command(&self, program: &Path) -> Vec<String> {
        vec![
            self.taskset.display().to_string(),
            "--cpu-list".into(),
            self.number.to_string(),
            program.display().to_string(),
        ]
    }

    /// Starts `program` there, as `name`, in the process of `taskset`.
    pub fn start(
        &self,
        name: &str,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Result<BoundChild, BenchError> {
        let command = self.command(program);
        let words = command[1..].iter().map(String::as_str);
        let arguments = words.chain(arguments.iter().copied());
        let variables = environment.iter();
        let program = Program {
            name: name.into(),
            path: self.taskset.clone(),
            arguments: arguments.map(Into::into).collect(),
            environment: variables
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
            directory: None,
            user: None,
            log: log.to_owned(),
            stop_signal: Signal::SIGTERM,
            stop_reaches: Reach::Group,
            death_signal: Signal::SIGKILL,
            answer: None,
        };
        Ok(program.start()?)
    }

    /// Pins every thread of a process to it. Fails if the process has exited.
    pub async fn pin(&self, process: u32) -> Result<(), BenchError> {
        let argv = [
            self.taskset.display().to_string(),
            "--all-tasks".into(),
            "--cpu-list".into(),
            "--pid".into(),
            self.number.to_string(),
            process.to_string(),
        ];
        Ok(process::run(&argv, PIN_TIMEOUT, &|_| ()).await?)
    }
}

impl Cores {
    /// Returns the first two cores that this process may use, as a container may limit them. Fails
    /// with [`BenchError::NoTaskset`] or [`BenchError::TooFewCores`].
    pub fn choose() -> Result<Cores, BenchError> {
        let taskset = on_path("taskset").ok_or(BenchError::NoTaskset)?;
        // proc_pid_status(5). A system without this file has no taskset either.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        match allowed(&status).as_slice() {
            [server, generator, ..] => {
                let [server, generator] = [server, generator].map(|number| Core {
                    taskset: taskset.clone(),
                    number: *number,
                });
                Ok(Cores { server, generator })
            }
            fewer => Err(BenchError::TooFewCores {
                allowed: fewer.len(),
            }),
        }
    }
}

fn allowed(status: &str) -> Vec<usize> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap_or_default()
        .trim()
        .split(',')
        .filter_map(range)
        .flatten()
        .collect()
}

/// As in cpuset(7), "List format": `3` or `0-2`.
fn range(text: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cores_are_read_as_the_kernel_lists_them() {
        for (list, cores) in [
            ("0-1", vec![0, 1]),
            ("0", vec![0]),
            ("2,5-7", vec![2, 5, 6, 7]),
            ("", vec![]),
        ] {
            let status = format!("Name:\tx\nCpus_allowed:\t3\nCpus_allowed_list:\t{list}\n");
            assert_eq!(allowed(&status), cores, "{list:?}");
        }
        assert_eq!(allowed(""), Vec::<usize>::new());
    }

    proptest! {
        #[test]
        fn any_set_written_core_by_core_is_read_back(
            cores in prop::collection::btree_set(0usize..256, 0..20)
        ) {
            let cores: Vec<usize> = cores.into_iter().collect();
            let words: Vec<String> = cores.iter().map(usize::to_string).collect();
            let status = format!("Cpus_allowed_list:\t{}\n", words.join(","));
            prop_assert_eq!(allowed(&status), cores);
        }
    }
}
