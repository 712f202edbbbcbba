//! A process of the platform: its command and its environment, from `harness.toml`.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::bring_up::{Context, UpError};
use crate::config::placeholders::{Values, names_in, render};
use crate::config::{LocalService, PlatformService};
use crate::local::backing::Backing;
use base::process::{Program, variables};
use testcontainers::{ContainerRequest, GenericImage, ImageExt};

/// The addresses of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    /// For users and other services.
    pub address: SocketAddr,
    /// For its metrics, health and faults.
    pub metrics: Option<SocketAddr>,
}

/// Returns the address of a port.
pub(super) fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Returns the values that all processes have. They have secrets: they are only for the environment
/// of children.
pub(super) fn values(context: &Context<'_>, program: Option<&Path>, backing: &Backing) -> Values {
    let secrets = context.secrets;
    let mut values = Values::from([
        ("version", context.config.platform.version.clone()),
        ("target", context.target_name.to_owned()),
        ("jwt_secret", secrets.jwt_secret.clone()),
        ("demo_password", secrets.demo_password.clone()),
    ]);
    values.extend(backing.database_url.clone().map(|it| ("database_url", it)));
    values.extend(backing.redis_url.clone().map(|it| ("redis_url", it)));
    values.extend(program.map(|it| ("program", it.display().to_string())));
    values
}

/// Describes the command that runs before the services. It gets the variables that do not depend on
/// a service.
pub(super) fn prepare(
    context: &Context<'_>,
    name: &str,
    values: &Values,
) -> Result<Program, UpError> {
    let platform = &context.config.platform.local;
    let has_values = |text: &str| names_in(text).all(|name| values.contains_key(name));
    let environment = platform.env.iter().filter(|(_, text)| has_values(text));
    let environment = environment.map(|(name, text)| (name.clone(), render(text, values)));
    let child = Program {
        environment: variables(environment),
        ..context.child(name, "")
    };
    let path = context.path.as_deref();
    running(child, &platform.prepare, context.workspace, values, path)
}

/// How a service is started. Its processes, or containers, differ in their ports.
#[derive(Clone, Default)]
pub(super) struct ServiceProcess {
    service: LocalService,
    directory: PathBuf,
    path: Option<OsString>,
    /// The values except the ports.
    values: Values,
    /// The URLs of the services that it calls, and its variables on every target.
    variables: Vec<(String, String)>,
}

impl ServiceProcess {
    /// Describes a service. `values` are those that all processes have; `url` returns a service's.
    pub fn of(
        context: &Context<'_>,
        service: &PlatformService,
        values: &Values,
        url: impl Fn(&str) -> String,
    ) -> Result<Self, UpError> {
        let directory = service.local.directory.as_deref();
        let directory = context.workspace.join(directory.unwrap_or(Path::new("")));
        let urls = service.calls.iter();
        let urls = urls.map(|(called, variable)| (variable.clone(), url(called)));
        let own = service.env.iter();
        let own = own.map(|(name, value)| (name.clone(), value.clone()));
        let process = ServiceProcess {
            service: service.local.clone(),
            directory: directory.canonicalize().map_err(|error| UpError::Absent {
                part: service.name.clone(),
                what: format!("directory {} ({error})", directory.display()),
            })?,
            path: context.path.clone(),
            values: values.clone(),
            variables: urls.chain(own).collect(),
        };
        Ok(process.with([
            ("service", service.name.clone()),
            (
                "instance",
                format!("{}-{}", service.name, context.owned.environment()),
            ),
        ]))
    }

    /// Returns it with other values.
    pub fn with<const N: usize>(mut self, values: [(&'static str, String); N]) -> Self {
        self.values.extend(values);
        self
    }

    /// Describes its process on these ports: for users, and for its metrics.
    pub fn program(&self, child: Program, ports: [u16; 2]) -> Result<Program, UpError> {
        let values = self.values_on(ports);
        let child = Program {
            environment: variables(self.environment(&values)),
            ..child
        };
        let path = self.path.as_deref();
        running(child, &self.service.run, &self.directory, &values, path)
    }

    /// Adds the arguments and the environment on these ports to its container.
    pub fn container(
        &self,
        container: ContainerRequest<GenericImage>,
        ports: [u16; 2],
    ) -> ContainerRequest<GenericImage> {
        let values = self.values_on(ports);
        let args = self.service.args.iter().map(|it| render(it, &values));
        let container = container.with_cmd(args);
        let environment = self.environment(&values);
        environment.fold(container, |container, (name, value)| {
            container.with_env_var(name, value)
        })
    }

    /// The last value of a variable counts.
    fn environment(&self, values: &Values) -> impl Iterator<Item = (String, String)> {
        let local = self.service.env.iter();
        let local = local.map(|(name, text)| (name.clone(), render(text, values)));
        self.variables.iter().cloned().chain(local)
    }

    /// Returns the addresses of its process on these ports.
    pub fn listening(&self, [port, metrics_port]: [u16; 2]) -> Listening {
        Listening {
            address: address(port),
            metrics: self.has_metrics().then(|| address(metrics_port)),
        }
    }

    /// Returns whether it gets a port for its metrics.
    pub fn has_metrics(&self) -> bool {
        self.service.has_metrics
    }

    /// Returns the URL that answers 2xx once its process on these ports is ready, if it has one.
    pub fn ready_url(&self, ports: [u16; 2]) -> Option<String> {
        let ready = self.service.ready.as_ref()?;
        Some(render(ready, &self.values_on(ports)))
    }

    fn values_on(&self, [port, metrics_port]: [u16; 2]) -> Values {
        let mut values = self.values.clone();
        values.insert("port", port.to_string());
        values.insert("metrics_port", metrics_port.to_string());
        values
    }
}

/// Makes a child run a command in a directory. Without a value of its own, `path` is its PATH.
pub(super) fn running(
    child: Program,
    command: &[String],
    directory: &Path,
    values: &Values,
    path: Option<&OsStr>,
) -> Result<Program, UpError> {
    let mut words = command.iter().map(|word| render(word, values));
    let program = words.next().unwrap_or_default();
    // `run-bound` would report a missing program only in the log.
    let found = which::which_in(&program, path, directory);
    let inherited = path.map(|path| ("PATH".into(), path.to_owned()));
    Ok(Program {
        environment: inherited.into_iter().chain(child.environment).collect(),
        path: found.map_err(|_| UpError::Absent {
            part: child.name.clone(),
            what: format!("program {program:?}"),
        })?,
        arguments: words.map(Into::into).collect(),
        directory: Some(directory.to_owned()),
        ..child
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::Signal;

    fn child() -> Program {
        Program {
            name: "shop".into(),
            path: PathBuf::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            user: None,
            log: "shop.log".into(),
            stop_signal: Signal::SIGTERM,
            stop_reaches: base::process::Reach::Group,
            death_signal: Signal::SIGKILL,
            answer: None,
        }
    }

    fn service(run: &[&str], env: &[(&str, &str)]) -> ServiceProcess {
        let service = LocalService {
            run: run.iter().map(|&it| it.to_owned()).collect(),
            image: None,
            args: Vec::new(),
            ready: Some("http://127.0.0.1:{port}/health".into()),
            has_metrics: false,
            directory: None,
            env: env
                .iter()
                .map(|&(name, text)| (name.to_owned(), text.to_owned()))
                .collect(),
        };
        let process = ServiceProcess {
            service,
            directory: "/".into(),
            path: std::env::var_os("PATH"),
            values: Values::new(),
            variables: vec![
                ("API_URL".into(), "http://127.0.0.1:7".into()),
                ("LOG".into(), "on every target".into()),
            ],
        };
        process.with([("redis_url", "redis://:secret@127.0.0.1:6/".into())])
    }

    #[test]
    fn the_command_and_the_environment_get_the_ports_and_secrets() {
        let env = [("LOG", "here"), ("REDIS", "{redis_url}")];
        let process = service(&["sh", "--port={port}"], &env);
        let program = process.program(child(), [8, 9]).unwrap();
        assert!(program.path.is_absolute() && program.path.ends_with("sh"));
        assert_eq!(program.arguments, ["--port=8"]);
        assert_eq!(program.directory.as_deref(), Some(Path::new("/")));
        let path = std::env::var("PATH").unwrap();
        let expected = [
            ("PATH", path.as_str()),
            ("API_URL", "http://127.0.0.1:7"),
            ("LOG", "on every target"),
            ("LOG", "here"),
            ("REDIS", "redis://:secret@127.0.0.1:6/"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(program.environment, variables(expected));
        let url = process.ready_url([8, 9]);
        assert_eq!(url.as_deref(), Some("http://127.0.0.1:8/health"));
    }

    #[test]
    fn a_container_gets_its_arguments_and_the_environment_without_path() {
        let mut process = service(&[], &[("LOG", "here"), ("REDIS", "{redis_url}")]);
        process.service.args = vec!["--port={port}".into()];
        let request = process.container(GenericImage::new("shop", "1").into(), [8, 9]);
        assert_eq!(request.cmd().collect::<Vec<_>>(), ["--port=8"]);
        let mut environment: Vec<_> = request
            .env_vars()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        environment.sort();
        let expected = [
            ("API_URL", "http://127.0.0.1:7"),
            ("LOG", "here"),
            ("REDIS", "redis://:secret@127.0.0.1:6/"),
        ];
        assert_eq!(
            environment,
            expected.map(|(name, value)| (name.into(), value.into()))
        );
    }

    #[test]
    fn only_a_service_that_gets_a_port_for_metrics_has_metrics() {
        let without = service(&["sh"], &[]);
        let mut with = without.clone();
        with.service.has_metrics = true;
        assert_eq!(with.listening([8, 9]).metrics, Some(address(9)));
        assert_eq!(without.listening([8, 9]).metrics, None);
        assert_eq!(without.listening([8, 9]).address, address(8));
    }

    #[test]
    fn a_missing_program_is_named() {
        let process = service(&["no-such-program", "{port}"], &[]);
        let error = process.program(child(), [8, 9]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "shop cannot start: there is no program \"no-such-program\""
        );
    }
}
