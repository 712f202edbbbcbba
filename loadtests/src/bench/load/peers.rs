//! oha (<https://github.com/hatoo/oha>) and k6 (<https://k6.io>): installed ones, or compiled into
//! the harness's tools. Without one, the figures that need it are not measured, with the reason.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base::process;
use machine::tools::{OLDEST_GO, go, own_or_on_path};

use crate::bench::Progress;

const OHA_VERSION: &str = "1.16.0";
const K6: &str = "go.k6.io/k6@v1.8.1";

/// The timeout of a compilation, which takes minutes on two cores.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// A program, or why there is none.
pub type Peer = Result<PathBuf, String>;

/// oha from the tools or PATH, else by `cargo install`.
pub async fn oha(tools_dir: &Path, progress: Progress<'_>) -> Peer {
    let root = tools_dir.join("oha");
    let find = || own_or_on_path(&root, "oha");
    if let Some(program) = find() {
        return Ok(program);
    }
    progress("load: compiles oha: minutes");
    let root = root.display().to_string();
    let install = ["cargo", "install", "--quiet", "--locked", "oha"];
    let which = ["--version", OHA_VERSION, "--root", &root];
    compile(&[&install[..], &which].concat()).await?;
    find().ok_or_else(|| format!("cargo install left no oha in {root}"))
}

/// k6 from the tools or PATH, else by `go install`.
pub async fn k6(tools_dir: &Path, progress: Progress<'_>) -> Peer {
    let find = || own_or_on_path(tools_dir, "k6");
    if let Some(program) = find() {
        return Ok(program);
    }
    let no_go = || {
        format!(
            "there is no k6, and no Go {OLDEST_GO} to compile it: `cargo xtask doctor --provision` gets Go"
        )
    };
    let go = go(tools_dir, OLDEST_GO).await.ok_or_else(no_go)?;
    progress("load: compiles k6: minutes");
    let bin = format!("GOBIN={}", tools_dir.join("bin").display());
    let go = go.display().to_string();
    compile(&["env", "CGO_ENABLED=0", "GOFLAGS=", &bin, &go, "install", K6]).await?;
    find().ok_or_else(|| "go install left no k6".to_owned())
}

async fn compile(words: &[&str]) -> Result<(), String> {
    let argv: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let compiled = process::run(&argv, COMPILE_TIMEOUT, &|_| ()).await;
    compiled.map_err(|error| error.to_string())
}
