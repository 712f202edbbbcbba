//! A generator that is late.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use prober::ProbeTarget;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::test_server::Server;
use crate::journey::WrittenJourney;
use crate::open::busy::Busy;
use crate::open::connection::Dial;
use crate::open::journeys::PreparedJourneys;
use crate::open::timer::Timer;
use crate::open::totals::Totals;
use crate::open::worker::{Job, WorkerShare};
use crate::open::{LoadPlan, RateStage, Schedule};

/// A connection. The 50th read of all blocks the thread for 200 ms.
struct SlowOnce {
    stream: TcpStream,
    reads: Arc<AtomicU64>,
}

impl AsyncRead for SlowOnce {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() && self.reads.fetch_add(1, Relaxed) == 50 {
            std::thread::sleep(Duration::from_millis(200));
        }
        read
    }
}

impl AsyncWrite for SlowOnce {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn slow_once(server: &Server) -> Dial {
    let (address, reads) = (server.address, Arc::new(AtomicU64::new(0)));
    Arc::new(move || {
        let reads = reads.clone();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            Ok(Box::new(SlowOnce { stream, reads }) as _)
        })
    })
}

/// Requests that are due while the thread blocks use existing connections.
#[test]
fn a_generator_that_is_late_opens_no_connections() {
    let serving = tokio::runtime::Runtime::new().unwrap();
    let server = serving.block_on(Server::plain());
    let stage = RateStage::constant(1000.0, Duration::from_millis(500));
    let target = ProbeTarget::of(format!("http://{}", server.address));
    let plan = LoadPlan::of(target, vec![stage], vec![WrittenJourney::get("/quotes")]);
    let job = Arc::new(Job {
        journeys: PreparedJourneys::of(&plan).unwrap(),
        schedule: Schedule::new(&plan.stages).unwrap(),
        connections: plan.connections,
        timeout: Duration::from_secs(60),
        drain: plan.drain,
        block: Duration::from_secs(1),
        workers: 1,
        headers: prober::IdentityHeaders::default(),
        dial: slow_once(&server),
        begin: Instant::now(),
        stop: CancellationToken::new(),
    });
    let mut totals = Totals::of(job.journeys.names());
    let (counts, mut counted) = unbounded_channel();
    let share = WorkerShare {
        job,
        number: 0,
        bound: plan.max_in_flight,
        log: None,
        counts,
    };
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default());
    let worked = async { share.work(Timer::finest(), Busy::from_now()).await };
    runtime.unwrap().block_on(worked);
    while let Ok(counts) = counted.try_recv() {
        totals.add(counts);
    }
    let whole = totals.endpoints["GET /quotes"].whole();
    assert_eq!((whole.requests, whole.failed, whole.dropped), (500, 0, 0));
    assert!(server.connections() < 100, "{}", server.connections());
}
