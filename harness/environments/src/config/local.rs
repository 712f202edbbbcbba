//! How the local target runs the platform: `[platform.local]` and `[services.NAME.local]`.

mod start;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hyper::Uri;
use toml::Spanned;

use super::Fault;
use super::placeholders::{self, NAMES, OF_A_BUILD, OF_A_SERVICE, SECRETS, Values, names_in};
use super::schema::{LocalPlatformTable, ServiceTable, SpannedCommand};
use super::shared_rules::{fault, validate_variable_name};
use base::text::nearest;
use machine::command_tools::CommandTool;
use start::{Start, validate_args};

const METRICS_PORT: &str = "metrics_port";

/// What the services have in common on the local target. The texts have placeholders.
#[derive(Clone, Debug, Default)]
pub struct LocalPlatform {
    /// The command that builds the platform, instead of `cargo_package`. Empty: there is none.
    pub build: Vec<String>,
    /// The cargo package whose program is `{program}`.
    pub cargo_package: Option<String>,
    /// The tools that the commands need.
    pub tools: Vec<CommandTool>,
    /// The command that runs before the services. Empty: there is none.
    pub prepare: Vec<String>,
    /// The environment variables of each process.
    pub env: BTreeMap<String, String>,
}

/// A service as a process of this machine, or as a container of its image. The texts have
/// placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalService {
    /// The program and its arguments. Empty with an image, and if no target is local.
    pub run: Vec<String>,
    /// The image of its container, instead of `run`.
    pub image: Option<String>,
    /// The arguments of its container. Empty: those of the image.
    pub args: Vec<String>,
    /// The URL that answers 2xx once the service is ready. Without it, a connection is enough.
    pub ready: Option<String>,
    /// Whether it gets a port for its metrics.
    pub has_metrics: bool,
    /// Where it runs, relative to the repository. Without it, in the repository.
    pub directory: Option<PathBuf>,
    /// Its environment variables, with those of the platform.
    pub env: BTreeMap<String, String>,
}

impl LocalService {
    /// Returns whether any of its texts has this placeholder.
    fn uses(&self, placeholder: &str) -> bool {
        let command = self.run.iter().chain(&self.args);
        let texts = command.chain(&self.ready).chain(self.env.values());
        texts
            .flat_map(|text| names_in(text))
            .any(|name| name == placeholder)
    }
}

pub(super) fn validate_platform(table: &LocalPlatformTable) -> Result<LocalPlatform, Fault> {
    let build = validate_build(table)?;
    for text in table.prepare.iter().flat_map(|it| it.get_ref()) {
        validate_public(text, table)?;
        if let Some(name) = names_in(text.get_ref()).find(|it| OF_A_SERVICE.contains(it)) {
            return Err(fault(
                text,
                format!("{{{name}}} differs between services, and prepare runs once, before them"),
                "leave it out, or use it in run",
            ));
        }
    }
    validate_env(&table.env, table)?;
    let start = Start::of(table.run.as_ref(), table.image.as_ref())?;
    validate_args(table.args.as_ref(), start)?;
    Ok(LocalPlatform {
        build,
        cargo_package: table.cargo_package.clone(),
        tools: validate_tools(&table.tools)?,
        prepare: validate_command(table.prepare.as_ref())?,
        env: plain(&table.env).collect(),
    })
}

fn validate_tools(names: &[Spanned<String>]) -> Result<Vec<CommandTool>, Fault> {
    let tools = names.iter().map(|name| {
        CommandTool::named(name.get_ref()).ok_or_else(|| {
            let known = CommandTool::ALL.map(|it| it.name).join(", ");
            fault(
                name,
                format!("the harness installs no tool {:?}", name.get_ref()),
                format!("it knows {known}; a command may use any other tool that is on PATH"),
            )
        })
    });
    tools.collect()
}

/// It runs before anything has a port or a password.
fn validate_build(table: &LocalPlatformTable) -> Result<Vec<String>, Fault> {
    if let (Some(build), Some(package)) = (&table.build, &table.cargo_package) {
        return Err(fault(
            build,
            format!("build and cargo_package {package:?} both build the platform"),
            "keep one of them: build can also run cargo",
        ));
    }
    for text in table.build.iter().flat_map(|it| it.get_ref()) {
        validate_text(text, table)?;
        if let Some(name) = names_in(text.get_ref()).find(|it| !OF_A_BUILD.contains(it)) {
            return Err(fault(
                text,
                format!("{{{name}}} has no value when the platform is built"),
                "leave it out, or use it in run or in env: build has {version} and {target}",
            ));
        }
    }
    validate_command(table.build.as_ref())
}

/// What applies to the process of each service.
pub(super) struct LocalDefaults<'a> {
    pub platform: &'a LocalPlatformTable,
    /// Whether a target is local.
    pub needed: bool,
}

impl LocalDefaults<'_> {
    pub fn validate(
        &self,
        name: &Spanned<String>,
        table: &ServiceTable,
    ) -> Result<LocalService, Fault> {
        let (platform, own) = (self.platform, &table.local);
        validate_env(&own.env, platform)?;
        let own_start = Start::of(own.run.as_ref(), own.image.as_ref())?;
        let of_platform = Start::of(platform.run.as_ref(), platform.image.as_ref())?;
        // Another program is ready in its own way, and has its own arguments and metrics.
        let inherits = own_start.is_none();
        let start = own_start.or(of_platform);
        let inherited = platform.args.as_ref().filter(|_| inherits);
        let args = own.args.as_ref().or(inherited);
        validate_args(own.args.as_ref(), start)?;
        let run = own.run.as_ref().or(platform.run.as_ref());
        for text in run.into_iter().chain(args).flat_map(|it| it.get_ref()) {
            validate_public(text, platform)?;
        }
        let inherited = platform.ready.as_ref().filter(|_| inherits);
        let ready = own.ready.as_ref().or(inherited);
        if let Some(ready) = ready {
            validate_ready(ready, platform)?;
        }
        let (run, image) = start.map_or(Ok(Default::default()), Start::validate)?;
        let args = args.into_iter().flat_map(|it| it.get_ref());
        let mut service = LocalService {
            run,
            image,
            args: args.map(|it| it.get_ref().clone()).collect(),
            ready: ready.map(|it| it.get_ref().clone()),
            has_metrics: false,
            directory: own.directory.clone(),
            env: plain(&own.env).collect(),
        };
        let of_platform: Vec<_> = plain(&platform.env).collect();
        let is_metrics = |text: &str| names_in(text).any(|it| it == METRICS_PORT);
        let inherits = inherits && of_platform.iter().any(|(_, it)| is_metrics(it));
        service.has_metrics = inherits || service.uses(METRICS_PORT);
        service.env = of_platform.into_iter().chain(service.env).collect();
        match start {
            Some(start) => start.validate_service(name.get_ref(), table, &service)?,
            None if self.needed => return Err(no_run(name)),
            None => {}
        }
        Ok(service)
    }
}

fn no_run(name: &Spanned<String>) -> Fault {
    fault(
        name,
        format!("{} has no run for the local target", name.get_ref()),
        format!(
            "set it, or image, in [platform.local] or in [services.{}.local]",
            name.get_ref()
        ),
    )
}

fn validate_command(command: Option<&SpannedCommand>) -> Result<Vec<String>, Fault> {
    let Some(command) = command else {
        return Ok(Vec::new());
    };
    let words: Vec<String> = command
        .get_ref()
        .iter()
        .map(|it| it.get_ref().clone())
        .collect();
    match words.first().is_none_or(String::is_empty) {
        true => Err(fault(
            command,
            "a command without a program".to_owned(),
            "e.g. [\"python3\", \"-m\", \"http.server\", \"{port}\"]",
        )),
        false => Ok(words),
    }
}

fn validate_ready(ready: &Spanned<String>, platform: &LocalPlatformTable) -> Result<(), Fault> {
    validate_public(ready, platform)?;
    let values: Values = NAMES.into_iter().map(|it| (it, "1".to_owned())).collect();
    let url = placeholders::render(ready.get_ref(), &values).parse::<Uri>();
    match url.is_ok_and(|it| it.scheme_str() == Some("http") && it.host().is_some()) {
        true => Ok(()),
        false => Err(fault(
            ready,
            format!("ready {:?} is not an http URL", ready.get_ref()),
            "e.g. \"http://127.0.0.1:{port}/health\"",
        )),
    }
}

type Env = BTreeMap<Spanned<String>, Spanned<String>>;

fn validate_env(env: &Env, platform: &LocalPlatformTable) -> Result<(), Fault> {
    for (variable, text) in env {
        validate_variable_name(variable)?;
        validate_text(text, platform)?;
    }
    Ok(())
}

fn plain(env: &Env) -> impl Iterator<Item = (String, String)> {
    env.iter()
        .map(|(variable, text)| (variable.get_ref().clone(), text.get_ref().clone()))
}

/// A command line and a URL must not have secrets.
fn validate_public(text: &Spanned<String>, platform: &LocalPlatformTable) -> Result<(), Fault> {
    validate_text(text, platform)?;
    match names_in(text.get_ref()).find(|it| SECRETS.contains(it)) {
        None => Ok(()),
        Some(secret) => Err(fault(
            text,
            format!("{{{secret}}} is a secret, which only env may have"),
            "pass it by env: other users can read a command line",
        )),
    }
}

fn validate_text(text: &Spanned<String>, platform: &LocalPlatformTable) -> Result<(), Fault> {
    for name in names_in(text.get_ref()) {
        if !NAMES.contains(&name) {
            return Err(Fault {
                span: text.span(),
                message: format!("no placeholder is called {{{name}}}"),
                help: nearest(name, NAMES),
            });
        }
        if name == "program" && platform.cargo_package.is_none() {
            return Err(fault(
                text,
                "{program} is the program of cargo_package, which is not set".to_owned(),
                "set cargo_package in [platform.local], or name the program",
            ));
        }
    }
    Ok(())
}
