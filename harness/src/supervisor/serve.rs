//! The supervisor's own side.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Message, Order, Request};
use crate::config::Config;
use crate::environment::{Environment, EnvironmentFolder, Secrets};
use crate::exit::ExitCode;
use crate::home::Home;
use crate::ledger::Ledger;
use crate::local::{self, Context, Owned, UpError};
use crate::run::LOGS;
use crate::run::event::{Failure, Happening};
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
    while let Some(message) = outbox.recv().await {
        let Ok(line) = serde_json::to_string(&message) else {
            continue;
        };
        // The command may be gone: then nobody has to be told.
        let _ = out.write_all(format!("{line}\n").as_bytes()).await;
        let _ = out.flush().await;
    }
}

async fn own(order: &Order, control: &mut Control, messages: UnboundedSender<Message>) -> ExitCode {
    let home = Home::new(&order.home);
    let folder = EnvironmentFolder::of(&home, &order.name);
    let logs = order.run_folder.join(LOGS);
    let _lock = match folder.take(&order.name, &order.run) {
        Ok(lock) => lock,
        Err(error) => {
            let _ = messages.send(Message::Failed(UpError::from(error).failure(&logs)));
            let _ = messages.send(Message::Down { left: Vec::new() });
            return ExitCode::NoEnvironment;
        }
    };
    // What a dead owner of this or another name left would be in the way.
    sweep::dead_owners(&home).await;
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
        () = control.asked_to_end() => None,
    };
    let came_up = stands.is_some();
    let mut grace = Duration::from_secs(15);
    if let Some((environment, stop_deadline)) = stands {
        grace = stop_deadline;
        let _ = messages.send(Message::Up(Box::new(environment.clone())));
        tokio::select! {
            () = watch(&owned, &folder, environment, &messages) => {}
            () = control.asked_to_end() => {}
        }
    }
    let mut left = owned.release(grace).await;
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
) -> Result<(Environment, Duration), Failure> {
    let logs = order.run_folder.join(LOGS);
    let config = Config::read(&order.config).map_err(|error| refused(&error, &order.config))?;
    let (target_name, target) = config
        .target(Some(&order.target))
        .map_err(|error| refused(&error, &order.config))?;
    let secrets = Secrets::generate();
    let up = async {
        folder.write_secrets(&secrets)?;
        let context = Context {
            config: &config,
            target_name,
            target,
            deadlines: config.deadlines,
            home,
            workspace: &order.workspace,
            run: &order.run,
            run_folder: &order.run_folder,
            secrets: &secrets,
            owned,
            http: http_client()?,
            messages,
        };
        let environment = local::bring_up(&context, &order.name).await?;
        folder.write(&environment)?;
        Ok(environment)
    };
    up.await
        .map(|environment| (environment, config.deadlines.stop))
        .map_err(|error: UpError| error.failure(&logs))
}

/// A look at a service takes this long at most; then the next look is due.
const LOOK: Duration = Duration::from_secs(2);

fn http_client() -> Result<reqwest::Client, UpError> {
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

/// Notices parts that end although nobody asked them to. Never returns.
async fn watch(
    owned: &Owned,
    folder: &EnvironmentFolder,
    mut environment: Environment,
    messages: &UnboundedSender<Message>,
) {
    let Ok(mut child_ended) = signal(SignalKind::child()) else {
        return std::future::pending().await;
    };
    let mut containers = owned.watch_containers();
    loop {
        let lost = tokio::select! {
            _ = child_ended.recv() => owned.newly_lost(),
            lost = containers.next_lost() => vec![lost],
        };
        for lost in lost {
            environment
                .lost
                .push(format!("{}: {}", lost.part, lost.how));
            // A full disk does not change that the part is lost.
            let _ = folder.write(&environment);
            let _ = messages.send(Message::Happened(Happening::PartLost {
                part: lost.part,
                how: lost.how,
                log: lost.log.display().to_string(),
            }));
        }
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
    async fn asked_to_end(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                line = self.input.next_line(), if !self.detached => {
                    let request = line.ok().flatten().map(|line| serde_json::from_str(&line));
                    match request {
                        Some(Ok(Request::Detach)) => self.detached = true,
                        // Asked to, or the command is gone, or speaks nonsense.
                        _ => return,
                    }
                }
            }
        }
    }
}
