//! The supervisor's own side.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{BEAT, Message, Order, Request};
use crate::bring_up::containers::{Change, ContainerWatch};
use crate::bring_up::{Context, Lost, Owned, UpError};
use crate::config::{Config, Target};
use crate::environment::{Environment, EnvironmentFolder, Secrets};
use crate::exit::ExitCode;
use crate::home::Home;
use crate::kind;
use crate::ledger::Ledger;
use crate::local;
use crate::remote::RemoteError;
use crate::run::LOGS;
use crate::run::event::{Failure, Happening, Stage};
use crate::sweep;

/// Stands up what the first line of standard input orders, and owns it until asked to
/// end, by a line, by the end of input before [`Request::Detach`], or by a signal.
pub async fn serve() -> ExitCode {
    // A session of its own: a terminal that closes or sends Ctrl-C concerns the command,
    // which then says what is to be done.
    let _ = nix::unistd::setsid();
    let (messages, outbox) = unbounded_channel();
    let written = tokio::spawn(write_messages(outbox));
    let Ok(mut control) = Control::new() else {
        return ExitCode::NoEnvironment;
    };
    let code = match control.order().await {
        Ok(order) => own(&order, &mut control, messages).await,
        Err(failure) => {
            let _ = messages.send(Message::Failed(failure));
            drop(messages);
            ExitCode::Usage
        }
    };
    // Ends as the last sender is dropped, or the reader is gone.
    let _ = tokio::time::timeout(Duration::from_secs(2), written).await;
    code
}

async fn write_messages(mut outbox: UnboundedReceiver<Message>) {
    let mut out = tokio::io::stdout();
    let mut beat = tokio::time::interval(BEAT);
    loop {
        let message = tokio::select! {
            message = outbox.recv() => message,
            _ = beat.tick() => Some(Message::Alive),
        };
        let Some(message) = message else { return };
        let Ok(line) = serde_json::to_string(&message) else {
            continue;
        };
        let written = out.write_all(format!("{line}\n").as_bytes()).await;
        if written.is_err() || out.flush().await.is_err() {
            // The command is gone: nobody has to be told.
            return;
        }
    }
}

async fn own(order: &Order, control: &mut Control, messages: UnboundedSender<Message>) -> ExitCode {
    let home = Home::new(&order.home);
    let folder = EnvironmentFolder::of(&home, &order.name);
    let logs = order.run_folder.join(LOGS);
    let _lock = match folder.take(&order.name, &order.run, order.stop).await {
        Ok(lock) => lock,
        Err(error) => {
            let _ = messages.send(Message::Failed(UpError::from(error).failure(&logs)));
            let _ = messages.send(Message::Down { left: Vec::new() });
            return ExitCode::NoEnvironment;
        }
    };
    // What a dead owner of this or another name left would be in the way.
    for text in sweep::dead_owners(&home).await.lines() {
        let stage = Stage::Provision;
        let _ = messages.send(Message::Happened(Happening::Note { stage, text }));
    }
    let owned = Arc::new(Owned::new(
        &order.name.to_string(),
        Ledger::at(home.ledger()),
    ));
    let stands = tokio::select! {
        up = stand_up(order, &home, &folder, &owned, messages.clone()) => match up {
            Ok(environment) => Some(environment),
            Err(failure) => {
                let _ = messages.send(Message::Failed(failure));
                None
            }
        },
        why = control.asked_to_end() => {
            say_why(why, &messages);
            None
        }
    };
    let came_up = stands.is_some();
    if let Some(environment) = stands {
        let _ = messages.send(Message::Up(Box::new(environment.clone())));
        let why = stay_up(environment, &owned, &folder, control, &messages).await;
        say_why(why, &messages);
    }
    folder.withdraw();
    let mut left = owned.release(order.stop).await;
    left.extend(sweep::own_builds(&home).await);
    left.extend(folder.remove().err().map(|error| error.to_string()));
    let code = match (left.is_empty(), came_up) {
        (false, _) => ExitCode::CleanupIncomplete,
        (true, true) => ExitCode::Held,
        (true, false) => ExitCode::NoEnvironment,
    };
    let _ = messages.send(Message::Down { left });
    code
}

async fn stand_up(
    order: &Order,
    home: &Home,
    folder: &EnvironmentFolder,
    owned: &Arc<Owned>,
    messages: UnboundedSender<Message>,
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

/// A look at a service takes this long at most; then the next look is due.
const LOOK: Duration = Duration::from_secs(2);

fn http_client() -> Result<reqwest::Client, UpError> {
    crate::tls::use_ring();
    reqwest::Client::builder()
        .timeout(LOOK)
        .no_proxy()
        .build()
        .map_err(|error| UpError::System {
            what: "make an HTTP client".into(),
            source: std::io::Error::other(error),
        })
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

/// Keeps the environment's record true until it is asked to end; says why.
async fn stay_up(
    mut environment: Environment,
    owned: &Owned,
    folder: &EnvironmentFolder,
    control: &mut Control,
    messages: &UnboundedSender<Message>,
) -> End {
    let mut watch = Watch::new(owned);
    loop {
        tokio::select! {
            change = watch.next_change() => {
                record(change, &mut environment, messages);
                // A full disk changes nothing of it.
                let _ = folder.write(&environment);
            }
            asked = control.asked() => match asked {
                Asked::ToStay => {
                    environment.stays = true;
                    let _ = folder.write(&environment);
                    let _ = messages.send(Message::Stays);
                }
                Asked::ToEnd(why) => return why,
            }
        }
    }
}

fn record(change: Change, environment: &mut Environment, messages: &UnboundedSender<Message>) {
    match change {
        Change::Lost(lost) => {
            environment
                .lost
                .push(format!("{}: {}", lost.part, lost.how));
            let _ = messages.send(Message::Happened(Happening::PartLost {
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

/// As the report links it: relative to the run's folder.
fn in_run_folder(log: &Path, folder: &Path) -> String {
    log.strip_prefix(folder)
        .unwrap_or(log)
        .display()
        .to_string()
}

/// Notices parts that end although nobody asked them to, and containers that run again.
struct Watch<'a> {
    owned: &'a Owned,
    child_ended: Option<Signal>,
    lost_children: VecDeque<Lost>,
    containers: ContainerWatch,
}

impl<'a> Watch<'a> {
    fn new(owned: &'a Owned) -> Self {
        Watch {
            owned,
            child_ended: signal(SignalKind::child()).ok(),
            // Those that ended before anybody listened.
            lost_children: owned.newly_lost().into(),
            containers: owned.watch_containers(),
        }
    }

    /// May be dropped and called again.
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

/// Never, where the signal cannot be listened for.
async fn next_signal(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// What the supervisor is asked.
enum Asked {
    ToStay,
    ToEnd(End),
}

/// Why the environment ends.
enum End {
    /// The command that started it wants that, or is gone.
    Command,
    /// A signal of this name: `down`, mostly.
    Signal(&'static str),
}

fn say_why(end: End, messages: &UnboundedSender<Message>) {
    if let End::Signal(name) = end {
        let why = format!("its supervisor was sent {name}, as `cargo xtask down` does");
        let _ = messages.send(Message::Ending { why });
    }
}

/// What asks the supervisor to end.
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
        let line = self
            .input
            .next_line()
            .await
            .ok()
            .flatten()
            .unwrap_or_default();
        serde_json::from_str(&line).map_err(|error| Failure {
            what: "the supervisor was not told what to stand up".into(),
            expected: "an order, as one line of JSON".into(),
            seen: error.to_string(),
            look_at: "the command that started it".into(),
            next: "cargo xtask up --help".into(),
        })
    }

    /// Returns once it is time to end. May be dropped and called again.
    async fn asked_to_end(&mut self) -> End {
        loop {
            if let Asked::ToEnd(why) = self.asked().await {
                return why;
            }
        }
    }

    /// What it is asked next. May be dropped and called again.
    async fn asked(&mut self) -> Asked {
        let line = tokio::select! {
            _ = self.terminate.recv() => return Asked::ToEnd(End::Signal("SIGTERM")),
            _ = self.interrupt.recv() => return Asked::ToEnd(End::Signal("SIGINT")),
            line = self.input.next_line(), if !self.detached => line,
        };
        match line.ok().flatten().map(|line| serde_json::from_str(&line)) {
            Some(Ok(Request::Detach)) => {
                self.detached = true;
                Asked::ToStay
            }
            // Asked to, or the command is gone, or speaks nonsense.
            _ => Asked::ToEnd(End::Command),
        }
    }
}
