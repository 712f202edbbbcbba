//! How the local target runs the platform: `[platform.local]` and `[services.NAME.local]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hyper::Uri;
use toml::Spanned;

use super::Fault;
use super::placeholders::{self, NAMES, OF_A_BUILD, OF_A_SERVICE, SECRETS, Values, names_in};
use super::schema::{LocalPlatformTable, ServiceTable, SpannedCommand};
use super::shared_rules::{fault, validate_variable_name};
use base::text::nearest;

const METRICS_PORT: &str = "metrics_port";

/// What the services have in common on the local target. The texts have placeholders.
#[derive(Clone, Debug, Default)]
pub struct LocalPlatform {
    /// The command that builds the platform, instead of `cargo_package`. Empty: there is none.
    pub build: Vec<String>,
    /// The cargo package whose program is `{program}`.
    pub cargo_package: Option<String>,
    /// The command that runs before the services. Empty: there is none.
    pub prepare: Vec<String>,
    /// The environment variables of each process.
    pub env: BTreeMap<String, String>,
}

/// A service as a process of this machine. The texts have placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalService {
    /// The program and its arguments. Empty if no target is local.
    pub run: Vec<String>,
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
        let texts = self.run.iter().chain(&self.ready).chain(self.env.values());
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
    Ok(LocalPlatform {
        build,
        cargo_package: table.cargo_package.clone(),
        prepare: validate_command(table.prepare.as_ref())?,
        env: plain(&table.env).collect(),
    })
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
        let run = own.run.as_ref().or(platform.run.as_ref());
        for text in run.into_iter().flat_map(|it| it.get_ref()) {
            validate_public(text, platform)?;
        }
        // Another program is ready in its own way, and has its own metrics.
        let inherited = platform.ready.as_ref().filter(|_| own.run.is_none());
        let ready = own.ready.as_ref().or(inherited);
        if let Some(ready) = ready {
            validate_ready(ready, platform)?;
        }
        let mut service = LocalService {
            run: validate_command(run)?,
            ready: ready.map(|it| it.get_ref().clone()),
            has_metrics: false,
            directory: own.directory.clone(),
            env: plain(&own.env).collect(),
        };
        let of_platform: Vec<_> = plain(&platform.env).collect();
        let is_platforms = |text: &str| names_in(text).any(|it| it == METRICS_PORT);
        let inherits = own.run.is_none() && of_platform.iter().any(|(_, it)| is_platforms(it));
        service.has_metrics = inherits || service.uses(METRICS_PORT);
        service.env = of_platform.into_iter().chain(service.env).collect();
        match run {
            Some(run) => validate_run(name, table, &service, run)?,
            None if self.needed => return Err(no_run(name)),
            None => {}
        }
        Ok(service)
    }
}

fn validate_run(
    name: &Spanned<String>,
    table: &ServiceTable,
    service: &LocalService,
    run: &SpannedCommand,
) -> Result<(), Fault> {
    let name = name.get_ref();
    if table.blue_green && service.run.first().is_none_or(|it| it != "{program}") {
        return Err(fault(
            run,
            format!("a version is a program: {name} is blue-green, and its run starts another"),
            "begin with \"{program}\", or leave blue_green out",
        ));
    }
    if table.blue_green && service.ready.is_none() {
        return Err(fault(
            run,
            format!("{name} is blue-green, and nothing tells when a pod of it is ready"),
            "set ready, e.g. \"http://127.0.0.1:{port}/health\"",
        ));
    }
    match service.uses("port") {
        true => Ok(()),
        false => Err(fault(
            run,
            format!("{name} does not learn its port"),
            "use {port} in run or in env: the harness chooses the port",
        )),
    }
}

fn no_run(name: &Spanned<String>) -> Fault {
    fault(
        name,
        format!("{} has no run for the local target", name.get_ref()),
        format!(
            "set it in [platform.local] or in [services.{}.local]",
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
