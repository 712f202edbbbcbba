//! The tools that the commands of a platform may need: `platform.local.tools` of `harness.toml`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::provision::Need;
use crate::tools::{self, OLDEST_GO};

/// A tool that `--provision` installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandTool {
    /// Its program.
    pub name: &'static str,
    /// What installs it.
    pub need: Need,
}

impl CommandTool {
    /// Every tool.
    pub const ALL: [CommandTool; 4] = [
        CommandTool::of("docker", Need::DockerCli),
        CommandTool::of("go", Need::Go),
        CommandTool::of("helm", Need::Helm),
        CommandTool::of("kind", Need::Kind),
    ];

    const fn of(name: &'static str, need: Need) -> CommandTool {
        CommandTool { name, need }
    }

    /// Returns the tool with this program.
    pub fn named(name: &str) -> Option<CommandTool> {
        CommandTool::ALL.into_iter().find(|tool| tool.name == name)
    }

    /// Returns its program: the project's own, otherwise the one on PATH. Go must be of version
    /// [`OLDEST_GO`] or newer.
    pub async fn program(self, tools_dir: &Path) -> Option<PathBuf> {
        match self.need {
            Need::Go => tools::go(tools_dir, OLDEST_GO).await,
            _ => tools::own_or_on_path(tools_dir, self.name),
        }
    }
}

/// Returns those that this machine lacks.
pub async fn missing(all: &[CommandTool], tools_dir: &Path) -> Vec<CommandTool> {
    let mut missing = Vec::new();
    for tool in all {
        if tool.program(tools_dir).await.is_none() {
            missing.push(*tool);
        }
    }
    missing
}

/// Returns PATH with the folders of these tools first, if they are the project's own. The other
/// tools are on it already.
pub async fn path(all: &[CommandTool], tools_dir: &Path) -> Option<OsString> {
    let path = std::env::var_os("PATH");
    let mut folders = Vec::new();
    for tool in all {
        let own = tool.program(tools_dir).await;
        let own = own.filter(|program| program.starts_with(tools_dir));
        folders.extend(own.and_then(|program| Some(program.parent()?.to_owned())));
    }
    if folders.is_empty() {
        return path;
    }
    folders.extend(path.iter().flat_map(std::env::split_paths));
    // A folder with a colon in its name cannot be joined: PATH then stays as it is.
    std::env::join_paths(folders).ok().or(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn executable(path: &Path, script: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn the_projects_own_tools_come_first_on_path() {
        let folder = tempfile::TempDir::new().unwrap();
        let tools_dir = folder.path();
        let tools = ["go", "helm"].map(|name| CommandTool::named(name).unwrap());
        executable(&tools_dir.join("go/go/bin/go"), "echo go version go1.99.1");
        executable(&tools_dir.join("bin/helm"), "");
        assert_eq!(missing(&tools, tools_dir).await, []);
        let found = path(&tools, tools_dir).await.unwrap();
        let found: Vec<PathBuf> = std::env::split_paths(&found).collect();
        let own = [tools_dir.join("go/go/bin"), tools_dir.join("bin")];
        assert_eq!(found[..2], own);
        let inherited = std::env::var_os("PATH").unwrap();
        let inherited: Vec<PathBuf> = std::env::split_paths(&inherited).collect();
        assert_eq!(found[2..], inherited);
        assert_eq!(path(&[], tools_dir).await, std::env::var_os("PATH"));
    }

    #[tokio::test]
    async fn a_go_that_is_too_old_is_missing() {
        let folder = tempfile::TempDir::new().unwrap();
        let go = CommandTool::named("go").unwrap();
        executable(&folder.path().join("go/go/bin/go"), "echo go version go1.2");
        let own = go.program(folder.path()).await;
        assert!(own.is_none_or(|program| !program.starts_with(folder.path())));
    }

    #[test]
    fn only_tools_that_are_installed_here_are_known() {
        assert!(
            CommandTool::ALL
                .iter()
                .all(|tool| CommandTool::named(tool.name) == Some(*tool))
        );
        assert_eq!(CommandTool::named("node"), None);
    }
}
