//! The cores that this process may use.

use super::error::BenchError;

/// A core for the server and one for the load generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The server's.
    pub server: usize,
    /// The generator's.
    pub generator: usize,
}

impl Cores {
    /// The first two this process may use; which those are, a container may have decided.
    pub fn choose() -> Result<Cores, BenchError> {
        // proc_pid_status(5). Where there is no such file there is no taskset either.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        match allowed(&status).as_slice() {
            [server, generator, ..] => Ok(Cores {
                server: *server,
                generator: *generator,
            }),
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
