//! The workers' threads, which their owner joins.

use std::io;
use std::mem;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use prober::cpu_of_this_thread;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use super::timer::Timer;
use super::worker::Share;

/// The workers at work. Dropped, they end at once.
pub struct Threads {
    /// Each tells which part of its time it used a core.
    running: Vec<JoinHandle<f64>>,
    abandon: CancellationToken,
}

impl Threads {
    /// A thread for each share.
    pub fn start(shares: Vec<Share>) -> io::Result<Threads> {
        let mut threads = Threads {
            running: Vec::new(),
            abandon: CancellationToken::new(),
        };
        for share in shares {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let abandon = threads.abandon.clone();
            let works = move || {
                let begin = Instant::now();
                runtime.block_on(async {
                    let working = share.work(Timer::finest());
                    let _or_abandoned = abandon.run_until_cancelled(working).await;
                });
                cpu_of_this_thread() / begin.elapsed().as_secs_f64()
            };
            let name = format!("load-{}", threads.running.len());
            threads
                .running
                .push(Builder::new().name(name).spawn(works)?);
        }
        Ok(threads)
    }

    /// Waits for all, which have come to their end. Returns the part of its time that the
    /// busiest used a core.
    pub fn join(mut self) -> f64 {
        let running = mem::take(&mut self.running).into_iter();
        let used = running.map(|thread| match thread.join() {
            Ok(used) => used,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        used.fold(0.0, f64::max)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.abandon.cancel();
        for thread in self.running.drain(..) {
            // That it panicked was printed, and whoever drops this is on its way out.
            let _ = thread.join();
        }
    }
}
