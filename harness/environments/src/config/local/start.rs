//! What a service starts on the local target: a program, or a container of an image.

use toml::Spanned;

use super::{LocalService, validate_command};
use crate::config::Fault;
use crate::config::placeholders::names_in;
use crate::config::schema::{ServiceTable, SpannedCommand};
use crate::config::shared_rules::fault;
use machine::images::validate_reference;

/// What a table starts.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// `run`.
    Program(&'a SpannedCommand),
    /// `image`.
    Image(&'a Spanned<String>),
}

impl<'a> Start<'a> {
    /// Returns what a table with these keys starts.
    pub fn of(
        run: Option<&'a SpannedCommand>,
        image: Option<&'a Spanned<String>>,
    ) -> Result<Option<Start<'a>>, Fault> {
        match (run, image) {
            (Some(_), Some(image)) => Err(fault(
                image,
                "run and image both start the service".to_owned(),
                "keep one of them: a process, or a container of the image",
            )),
            (Some(run), None) => Ok(Some(Start::Program(run))),
            (None, Some(image)) => Ok(Some(Start::Image(image))),
            (None, None) => Ok(None),
        }
    }

    /// Returns the program and its arguments, or the image.
    pub fn validate(self) -> Result<(Vec<String>, Option<String>), Fault> {
        match self {
            Start::Program(run) => Ok((validate_command(Some(run))?, None)),
            Start::Image(image) => Ok((Vec::new(), Some(validate_image(image)?))),
        }
    }

    /// Refuses what the service cannot be or have.
    pub fn validate_service(
        self,
        name: &str,
        table: &ServiceTable,
        service: &LocalService,
    ) -> Result<(), Fault> {
        match self {
            Start::Program(run) => validate_program(name, table, service, run),
            Start::Image(image) => validate_container(name, table, service, image),
        }
    }
}

/// Refuses arguments of an image that `start` does not have.
pub(super) fn validate_args(
    args: Option<&SpannedCommand>,
    start: Option<Start<'_>>,
) -> Result<(), Fault> {
    match (args, start) {
        (None, _) | (Some(_), Some(Start::Image(_))) => Ok(()),
        (Some(args), _) => Err(fault(
            args,
            "args are those of a container, and no image is set".to_owned(),
            "set image, or write the arguments after the program of run",
        )),
    }
}

fn validate_image(image: &Spanned<String>) -> Result<String, Fault> {
    let text = image.get_ref();
    if let Some(unknown) = names_in(text).find(|it| *it != "version") {
        return Err(fault(
            image,
            format!("no placeholder of an image's name is called {{{unknown}}}"),
            "{version} is the only one",
        ));
    }
    match validate_reference(&text.replace("{version}", "v1")) {
        Ok(()) => Ok(text.clone()),
        Err(reason) => Err(fault(image, reason, "e.g. \"example/app:{version}\"")),
    }
}

fn validate_program(
    name: &str,
    table: &ServiceTable,
    service: &LocalService,
    run: &SpannedCommand,
) -> Result<(), Fault> {
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

fn validate_container(
    name: &str,
    table: &ServiceTable,
    service: &LocalService,
    image: &Spanned<String>,
) -> Result<(), Fault> {
    let refuse = |message: String, help: &str| Err(fault(image, message, help));
    if table.blue_green {
        return refuse(
            format!("a version is a program: {name} is blue-green, and is a container of an image"),
            "run a program: run = [\"{program}\", ...]; or leave blue_green out",
        );
    }
    if service.directory.is_some() {
        return refuse(
            format!("{name} is a container, and directory is where a process runs"),
            "leave directory out: the image says where its program runs",
        );
    }
    if service.uses("program") {
        return refuse(
            format!(
                "{{program}} is a file of this machine, which the container of {name} does not have"
            ),
            "leave {program} out of args and env, or use run",
        );
    }
    match service.uses("port") {
        true => Ok(()),
        false => refuse(
            format!("{name} does not learn its port"),
            "use {port} in args or in env: the harness chooses the port",
        ),
    }
}
