//! Errors of images.

use bollard::errors::Error as DockerError;

use super::RecipeError;
use crate::tools::{OLDEST_GO, SETUP_COMMAND};
use base::ledger::LedgerError;
use base::process::CommandError;
use base::wait::WaitError;

/// An image is not available.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ImageError {
    /// Its recipe cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Recipe(#[from] RecipeError),
    /// A request to the engine failed.
    #[error("the engine cannot {what}: {source}")]
    #[diagnostic(code(images::engine), help("is it still there? `docker version`"))]
    Engine {
        /// The request.
        what: String,
        /// The engine's error.
        source: DockerError,
    },
    /// Only a pull was allowed, and it failed.
    #[error("cannot pull {reference}: {why}")]
    #[diagnostic(
        code(images::pull),
        help("{help}; or `--images auto`, which builds what cannot be pulled")
    )]
    Pull {
        /// The image's reference.
        reference: String,
        /// The engine's error.
        why: String,
        /// The remedy.
        help: String,
    },
    /// The engine neither has an image nor can pull it, and no recipe makes it.
    #[error("the engine does not have the image {reference}, and cannot pull it: {why}")]
    #[diagnostic(
        code(images::no_image),
        help("{help}; or build it first, or give it a recipe: [images.RECIPE] in harness.toml")
    )]
    NoImage {
        /// The image's reference.
        reference: String,
        /// The engine's error.
        why: String,
        /// The remedy.
        help: String,
    },
    /// The builder is not installed.
    #[error("cannot build the image `{name}`: mmdebstrap is not on PATH")]
    #[diagnostic(
        code(images::no_builder),
        help("{SETUP_COMMAND} installs it on Debian and Ubuntu; elsewhere use `--images pull`")
    )]
    NoBuilder {
        /// The image.
        name: String,
    },
    /// mmdebstrap failed.
    #[error("cannot build the image `{name}`: {source}")]
    #[diagnostic(
        code(images::bootstrap),
        help("do the package mirrors answer? `apt-get update`")
    )]
    Bootstrap {
        /// The image.
        name: String,
        /// The cause.
        source: CommandError,
    },
    /// A step of a Dockerfile failed.
    #[error("cannot build the image `{name}`: {why}; the build's last lines:\n{last_lines}")]
    #[diagnostic(code(images::build), help("its recipe is fixtures/images/{name}"))]
    Build {
        /// The image.
        name: String,
        /// The engine's error.
        why: String,
        /// The last lines of the build.
        last_lines: String,
    },
    /// No registry has it, and only a pull was allowed.
    #[error("cannot pull the image `{name}`: no registry has it")]
    #[diagnostic(
        code(images::in_no_registry),
        help("`--images auto` builds what cannot be pulled")
    )]
    InNoRegistry {
        /// The image.
        name: String,
    },
    /// Go is not installed, or too old.
    #[error("cannot build the image `{name}`: Go {OLDEST_GO} or newer is not here")]
    #[diagnostic(code(images::no_go), help("{SETUP_COMMAND} gets it"))]
    NoGo {
        /// The image.
        name: String,
    },
    /// Programs for containers are compiled on Linux only.
    #[error("cannot build the image `{name}`: its program is compiled on Linux only")]
    #[diagnostic(
        code(images::needs_linux),
        help("build it in a Linux virtual machine; `--target local` needs no images")
    )]
    NeedsLinux {
        /// The image.
        name: String,
    },
    /// A compiler failed.
    #[error("cannot build the image `{name}`: {source}")]
    #[diagnostic(
        code(images::compile),
        help("do the package mirrors answer? Its recipe is fixtures/images/{name}")
    )]
    Compile {
        /// The image.
        name: String,
        /// The cause.
        source: CommandError,
    },
    /// The engine cannot run privileged containers, such as kind nodes.
    #[error("the engine cannot run {image} privileged: {source}")]
    #[diagnostic(
        code(images::privileged),
        help(
            "a machine that lacks capabilities needs a runtime that leaves them out: {SETUP_COMMAND}"
        )
    )]
    Privileged {
        /// The image.
        image: String,
        /// The engine's error.
        source: DockerError,
    },
    /// A command in a container failed.
    #[error("`{command}` failed in {container} (exit code {}): {stderr}",
        .code.map_or_else(|| "unknown".to_owned(), |code| code.to_string()))]
    #[diagnostic(code(images::in_container))]
    InContainer {
        /// The container.
        container: String,
        /// The command.
        command: String,
        /// Its exit code, if it has exited.
        code: Option<i64>,
        /// Its standard error.
        stderr: String,
    },
    /// A node's containerd did not start.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Node(WaitError),
    /// The engine runs no such cluster.
    #[error("the engine runs no node of a kind cluster called `{cluster}`")]
    #[diagnostic(
        code(images::no_nodes),
        help("`kind get clusters` lists those there are")
    )]
    NoNodes {
        /// The cluster.
        cluster: String,
    },
    /// A node does not have an image that was loaded.
    #[error("the image {image} was loaded and is not on the node {node}")]
    #[diagnostic(
        code(images::not_on_node),
        help("is the node's disk full? `docker exec {node} df -h /var`")
    )]
    NotOnNode {
        /// The image.
        image: String,
        /// The node.
        node: String,
    },
    /// The resource cannot be recorded in the ledger, so it is not created.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ledger(#[from] LedgerError),
    /// An operation on a file failed.
    #[error("cannot {what}: {source}")]
    #[diagnostic(code(images::io))]
    Io {
        /// The operation.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
}

impl ImageError {
    /// Returns a function that wraps an error of the operation `what`.
    pub(super) fn io(what: &str) -> impl Fn(std::io::Error) -> ImageError + use<> {
        let what = what.to_owned();
        move |source| ImageError::Io {
            what: what.clone(),
            source,
        }
    }
}
