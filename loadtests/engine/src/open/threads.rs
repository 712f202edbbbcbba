//! The workers' threads, which their owner joins.

use std::io;
use std::mem;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use prober::cpu_of_this_thread;
use tokio::runtime::{self, LocalOptions};
use tokio_util::sync::CancellationToken;

use super::busy::Busy;
use super::timer::Timer;
use super::worker::Share;

/// The workers at work. Dropped, they end at once.
pub struct Threads {
    /// Each tells which part of its time it used a core.
    running: Vec<JoinHandle<io::Result<f64>>>,
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
            let abandon = threads.abandon.clone();
            let name = format!("load-{}", threads.running.len());
            let thread = Builder::new().name(name);
            let thread = thread.spawn(move || work(share, &abandon))?;
            threads.running.push(thread);
        }
        Ok(threads)
    }

    /// Waits for all, which have come to their end. Returns the part of its time that the
    /// busiest used a core.
    pub fn join(mut self) -> io::Result<f64> {
        let mut busiest = 0.0;
        for thread in mem::take(&mut self.running) {
            match thread.join() {
                Ok(used) => busiest = f64::max(busiest, used?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(busiest)
    }
}

fn work(share: Share, abandon: &CancellationToken) -> io::Result<f64> {
    let begin = Instant::now();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    // A part of the load is not the load: without this one the others end too.
    let runtime = runtime.inspect_err(|_| share.job.stop.cancel())?;
    runtime.block_on(async {
        let working = share.work(Timer::finest(), Busy::from_now());
        let _or_abandoned = abandon.run_until_cancelled(working).await;
    });
    Ok(cpu_of_this_thread() / begin.elapsed().as_secs_f64())
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
