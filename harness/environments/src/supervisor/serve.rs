//! The supervisor's side.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{BEAT, Order, SupervisorRequest};
use crate::bring_up::containers::{Change, ContainerWatch};
use crate::bring_up::{Context, Lost, Owned, SupervisorMessage, UpError};
use crate::config::{Config, Target};
use crate::environment::{Environment, EnvironmentFolder, Secrets};
use crate::kind;
use crate::local;
use crate::remote::RemoteError;
use crate::sweep;
use base::exit::ExitCode;
use base::home::Home;
use base::ledger::Ledger;
use base::run::LOGS;
use base::run::event::{Failure, Happening, Stage};
use machine::command_tools;

/// Brings up the environment that the first line of standard input orders. A request, a signal, or
/// the end of the input before [`SupervisorRequest::Detach`] ends it. Returns the exit code.
pub async fn serve() -> ExitCode {
    // In its own session it receives no signals of the terminal: the command handles those.
    let _ = nix::unistd::setsid();
    let (messages, outbox) = unbounded_channel();
    let written = tokio::spawn(write_messages(outbox));
    let Ok(mut control) = Control::new() else {
        return ExitCode::NoEnvironment;
    };
    let code = match control.order().await {
        Ok(order) => own(&order, &mut control, messages).await,
        Err(failure) => {
            let _ = messages.send(SupervisorMessage::Failed(failure));
            drop(messages);
            ExitCode::Usage
        }
    };
    // Ends when the last sender is dropped, or when the reader has exited.
    let _ = tokio::time::timeout(Duration::from_secs(2), written).await;
    code
}

async fn write_messages(mut outbox: UnboundedReceiver<SupervisorMessage>) {
    let mut out = tokio::io::stdout();
    let mut beat = tokio::time::interval(BEAT);
    loop {
        let message = tokio::select! {
            message = outbox.recv() => message,
            _ = beat.tick() => Some(SupervisorMessage::Alive),
        };
        let Some(message) = message else { return };
        let Ok(line) = serde_json::to_string(&message) else {
            continue;
        };
        let written = out.write_all(format!("{line}\n").as_bytes()).await;
        if written.is_err() || out.flush().await.is_err() {
            // The command has exited.
            return;
        }
    }
}

async fn own(
    order: &Order,
    control: &mut Control,
    messages: UnboundedSender<SupervisorMessage>,
) -> ExitCode {
    let home = Home::new(&order.home);
    let folder = EnvironmentFolder::of(&home, &order.name);
    let logs = order.run_folder.join(LOGS);
    let _lock = match folder.take(&order.name, &order.run, order.stop).await {
        Ok(lock) => lock,
        Err(error) => {
            let _ = messages.send(SupervisorMessage::Failed(
                UpError::from(error).failure(&logs),
            ));
            let _ = messages.send(SupervisorMessage::Down { left: Vec::new() });
            return ExitCode::NoEnvironment;
        }
    };
    // Leftovers of dead owners could conflict with this environment.
    for text in sweep::dead_owners(&home).await.lines() {
        let stage = Stage::Provision;
        let _ = messages.send(SupervisorMessage::Happened(Happening::Note { stage, text }));
    }
    let ledger = Ledger::at(home.ledger());
    let owned = Arc::new(Owned::new(&order.name.to_string(), ledger));
    let environment = tokio::select! {
        up = bring_up(order, &home, &folder, &owned, messages.clone()) => match up {
            Ok(environment) => Some(environment),
            Err(failure) => {
                let _ = messages.send(SupervisorMessage::Failed(failure));
                None
            }
        },
        why = control.end() => {
            report_end(why, &messages);
            None
        }
    };
    let came_up = environment.is_some();
    if let Some(environment) = environment {
        let _ = messages.send(SupervisorMessage::Up(Box::new(environment.clone())));
        let why = stay_up(environment, &owned, &folder, control, &messages).await;
        report_end(why, &messages);
    }
    folder.withdraw();
    let mut remaining = owned.release(order.stop).await;
    remaining.extend(sweep::own_builds(&home).await);
    remaining.extend(folder.remove().err().map(|error| error.to_string()));
    let code = match (remaining.is_empty(), came_up) {
        (false, _) => ExitCode::CleanupIncomplete,
        (true, true) => ExitCode::Held,
        (true, false) => ExitCode::NoEnvironment,
    };
    let _ = messages.send(SupervisorMessage::Down { left: remaining });
    code
}

async fn bring_up(
    order: &Order,
    home: &Home,
    folder: &EnvironmentFolder,
    owned: &Arc<Owned>,
    messages: UnboundedSender<SupervisorMessage>,
) -> Result<Environment, Failure> {
    let logs = order.run_folder.join(LOGS);
    let mut config = Config::read(&order.config).map_err(|error| refused(&error, &order.config))?;
    if let Some(version) = &order.version {
        config.platform.version.clone_from(&version.name);
    }
    let (target_name, target) = config
        .target(Some(&order.target))
        .map_err(|error| refused(&error, &order.config))?;
    let secrets = Secrets::generate();
    let up = async {
        folder.write_secrets(&secrets)?;
        let context = Context {
            config: &config,
            target_name,
            supply: order.supply,
            program: order.version.as_ref().map(|it| it.program.as_path()),
            path: command_tools::path(&config.platform.local.tools, &home.tools()).await,
            deadlines: config.deadlines,
            home,
            workspace: &order.workspace,
            run: &order.run,
            run_folder: &order.run_folder,
            folder,
            secrets: &secrets,
            owned,
            http: http_client()?,
            messages,
        };
        let environment = match target {
            Target::Local(local) => local::bring_up(&context, local, &order.name).await?,
            Target::Kind(kind) => kind::bring_up(&context, kind, &order.name).await?,
            Target::Remote(_) => return Err(RemoteError::not_ours(target_name, "up").into()),
        };
        folder.write(&environment)?;
        Ok(environment)
    };
    up.await.map_err(|error: UpError| error.failure(&logs))
}

fn http_client() -> Result<reqwest::Client, UpError> {
    const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
    base::tls::use_ring();
    reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .no_proxy()
        .build()
        .map_err(std::io::Error::other)
        .map_err(UpError::system("create an HTTP client"))
}

fn refused(error: &dyn std::fmt::Display, config: &Path) -> Failure {
    Failure {
        what: "the configuration was refused".into(),
        expected: "a configuration that can be used".into(),
        seen: error.to_string(),
        look_at: config.display().to_string(),
        next: "cargo xtask doctor".into(),
    }
}

/// Updates the environment's record until the environment ends. Returns why it ends.
async fn stay_up(
    mut environment: Environment,
    owned: &Owned,
    folder: &EnvironmentFolder,
    control: &mut Control,
    messages: &UnboundedSender<SupervisorMessage>,
) -> End {
    let mut watch = PartsWatch::new(owned);
    loop {
        tokio::select! {
            change = watch.next_change() => {
                record(change, &mut environment, messages);
                // A full disk does not end the environment.
                let _ = folder.write(&environment);
            }
            event = control.next() => match event {
                ControlEvent::ToStay => {
                    environment.stays = true;
                    let _ = folder.write(&environment);
                    let _ = messages.send(SupervisorMessage::Stays);
                }
                ControlEvent::ToEnd(why) => return why,
            }
        }
    }
}

fn record(
    change: Change,
    environment: &mut Environment,
    messages: &UnboundedSender<SupervisorMessage>,
) {
    match change {
        Change::Lost(lost) => {
            let line = format!("{}: {}", lost.part, lost.how);
            environment.lost.push(line);
            let _ = messages.send(SupervisorMessage::Happened(Happening::PartLost {
                is_service: environment.is_of_service(&lost.part),
                part: lost.part,
                how: lost.how,
                log: in_run_folder(&lost.log, &environment.run_folder),
            }));
        }
        Change::Back { part, address } => {
            let of_it = format!("{part}: ");
            environment.lost.retain(|lost| !lost.starts_with(&of_it));
            for known in environment.parts.iter_mut().filter(|it| it.name == part) {
                known.address.clone_from(&address);
            }
        }
    }
}

/// The report links to it from the run's folder.
fn in_run_folder(log: &Path, folder: &Path) -> String {
    let log = log.strip_prefix(folder).unwrap_or(log);
    log.display().to_string()
}

/// Reports parts that end unexpectedly, and containers that run again.
struct PartsWatch<'a> {
    owned: &'a Owned,
    child_ended: Option<Signal>,
    lost_children: VecDeque<Lost>,
    containers: ContainerWatch,
}

impl<'a> PartsWatch<'a> {
    fn new(owned: &'a Owned) -> Self {
        PartsWatch {
            owned,
            child_ended: signal(SignalKind::child()).ok(),
            // Children that ended before the signal was registered.
            lost_children: owned.newly_lost().into(),
            containers: owned.watch_containers(),
        }
    }

    /// Cancel safe.
    async fn next_change(&mut self) -> Change {
        loop {
            if let Some(lost) = self.lost_children.pop_front() {
                return Change::Lost(lost);
            }
            tokio::select! {
                () = next_signal(&mut self.child_ended) => {
                    self.lost_children.extend(self.owned.newly_lost());
                }
                change = self.containers.next_change() => return change,
            }
        }
    }
}

/// Never returns if the signal could not be registered.
async fn next_signal(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

enum ControlEvent {
    ToStay,
    ToEnd(End),
}

/// Why the environment ends.
enum End {
    /// The command requested it, or has exited.
    Command,
    /// A signal of this name, usually from `down`.
    Signal(&'static str),
}

fn report_end(end: End, messages: &UnboundedSender<SupervisorMessage>) {
    if let End::Signal(name) = end {
        let why = format!("its supervisor was sent {name}, as `cargo xtask down` does");
        let _ = messages.send(SupervisorMessage::Ending { why });
    }
}

/// The inputs of the supervisor.
struct Control {
    input: Lines<BufReader<Stdin>>,
    terminate: Signal,
    interrupt: Signal,
    detached: bool,
}

impl Control {
    fn new() -> std::io::Result<Self> {
        Ok(Control {
            input: BufReader::new(tokio::io::stdin()).lines(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            detached: false,
        })
    }

    async fn order(&mut self) -> Result<Order, Failure> {
        let line = self.input.next_line().await.ok().flatten();
        let line = line.unwrap_or_default();
        serde_json::from_str(&line).map_err(|error| Failure {
            what: "the supervisor got no order".into(),
            expected: "an order, as one line of JSON".into(),
            seen: error.to_string(),
            look_at: "the command that started it".into(),
            next: "cargo xtask up --help".into(),
        })
    }

    /// Cancel safe.
    async fn end(&mut self) -> End {
        loop {
            if let ControlEvent::ToEnd(why) = self.next().await {
                return why;
            }
        }
    }

    /// Cancel safe.
    async fn next(&mut self) -> ControlEvent {
        let line = tokio::select! {
            _ = self.terminate.recv() => return ControlEvent::ToEnd(End::Signal("SIGTERM")),
            _ = self.interrupt.recv() => return ControlEvent::ToEnd(End::Signal("SIGINT")),
            line = self.input.next_line(), if !self.detached => line,
        };
        match line.ok().flatten().map(|line| serde_json::from_str(&line)) {
            Some(Ok(SupervisorRequest::Detach)) => {
                self.detached = true;
                ControlEvent::ToStay
            }
            // [`Request::Stop`], the end of the input, or an unknown line.
            _ => ControlEvent::ToEnd(End::Command),
        }
    }
}
