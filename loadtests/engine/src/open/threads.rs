//! The workers' threads.

use std::io;
use std::mem;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use prober::cpu_of_this_thread;
use tokio::runtime::{self, LocalOptions};
use tokio_util::sync::CancellationToken;

use super::busy::Busy;
use super::timer::Timer;
use super::worker::WorkerShare;

/// The running workers. If this is dropped, they stop immediately.
pub struct Threads {
    /// Each thread returns the share of a core that it used.
    running: Vec<JoinHandle<io::Result<f64>>>,
    abandon: CancellationToken,
}

impl Threads {
    /// Starts a thread for each share.
    pub fn start(shares: Vec<WorkerShare>) -> io::Result<Threads> {
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

    /// Waits for all threads. Returns the share of a core that the busiest used.
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

fn work(share: WorkerShare, abandon: &CancellationToken) -> io::Result<f64> {
    let begin = Instant::now();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    // Without this worker the load is incomplete: the others stop too.
    let runtime = runtime.inspect_err(|_| share.job.stop.cancel())?;
    runtime.block_on(async {
        let work = share.work(Timer::finest(), Busy::from_now());
        let _ = abandon.run_until_cancelled(work).await;
    });
    Ok(cpu_of_this_thread() / begin.elapsed().as_secs_f64())
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.abandon.cancel();
        for thread in self.running.drain(..) {
            // A panic is already printed.
            let _ = thread.join();
        }
    }
}
