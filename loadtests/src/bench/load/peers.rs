//! oha (<https://github.com/hatoo/oha>) and k6 (<https://k6.io>), each had as this project has
//! its tools: one's own, else compiled into the harness's tools. Where one cannot be had, the
//! figures beside it are not measured, and say why.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::provision::OLDEST_GO;
use harness::subprocess;
use harness::tools::{go, own_or_on_path};

use crate::bench::Progress;

const OHA_VERSION: &str = "1.16.0";
const K6: &str = "go.k6.io/k6@v1.8.1";

/// Each takes minutes on two cores.
const COMPILE: Duration = Duration::from_secs(30 * 60);

/// A program, or why there is none.
pub type Peer = Result<PathBuf, String>;

/// oha: of the tools or of PATH, else by `cargo install`.
pub async fn oha(tools_dir: &Path, progress: Progress<'_>) -> Peer {
    let root = tools_dir.join("oha");
    let look = || own_or_on_path(&root, "oha");
    if let Some(program) = look() {
        return Ok(program);
    }
    progress("load: compiles oha: minutes");
    let root = root.display().to_string();
    let install = ["cargo", "install", "--quiet", "--locked", "oha"];
    let which = ["--version", OHA_VERSION, "--root", &root];
    compile(&[&install[..], &which].concat()).await?;
    look().ok_or_else(|| format!("cargo install left no oha in {root}"))
}

/// k6: of the tools or of PATH, else by `go install`.
pub async fn k6(tools_dir: &Path, progress: Progress<'_>) -> Peer {
    let look = || own_or_on_path(tools_dir, "k6");
    if let Some(program) = look() {
        return Ok(program);
    }
    let go = go(tools_dir, OLDEST_GO).await;
    let go = go.ok_or_else(|| {
        format!(
            "there is no k6, and no Go {OLDEST_GO} to compile it: `cargo xtask doctor --provision` gets Go"
        )
    })?;
    progress("load: compiles k6: minutes");
    let bin = format!("GOBIN={}", tools_dir.join("bin").display());
    let go = go.display().to_string();
    compile(&["env", "CGO_ENABLED=0", "GOFLAGS=", &bin, &go, "install", K6]).await?;
    look().ok_or_else(|| "go install left no k6".to_owned())
}

async fn compile(words: &[&str]) -> Result<(), String> {
    let argv: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let compiled = subprocess::run(&argv, COMPILE, &|_| ()).await;
    compiled.map_err(|error| error.to_string())
}
