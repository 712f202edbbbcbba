//! Loads an image into a cluster's node, by the harness and by `kind load docker-image`.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use base::process;
use machine::images::{self, ForNodes};

use super::{COMMAND_TIMEOUT, KindBench, Loaded};
use crate::bench::error::BenchError;
use crate::bench::scratch::Scratch;
use crate::bench::series::millis_since;

/// The repository of all images that are built here, by which those of a killed benchmark are
/// found.
const REPOSITORY: &str = "trii-rehearsal-bench";

/// The size of an incompressible layer, about that of a service's image.
const BYTES: u64 = 64 << 20;

pub struct Loading<'a> {
    bench: &'a KindBench,
    cluster: String,
    /// The folder from which images are built.
    folder: PathBuf,
}

impl<'a> Loading<'a> {
    pub fn new(bench: &'a KindBench, cluster: &str, scratch: &Scratch) -> Loading<'a> {
        Loading {
            bench,
            cluster: cluster.to_owned(),
            folder: scratch.root().join("loading"),
        }
    }

    /// Loads two new images of the same size into the node, one each way, then each again. The
    /// order changes with every round.
    pub async fn round(&self, round: u32) -> Result<Loaded, BenchError> {
        let one = self.fresh(round, "one").await?;
        let other = self.fresh(round, "other").await?;
        let (ours, kinds) = match round % 2 {
            0 => (self.ours(&one).await?, self.kinds(&other).await?),
            _ => {
                let kinds = self.kinds(&other).await?;
                (self.ours(&one).await?, kinds)
            }
        };
        let loaded = Loaded {
            ours,
            kinds,
            ours_again: self.ours(&one).await?,
            kinds_again: self.kinds(&other).await?,
        };
        remove_images(self.bench).await?;
        Ok(loaded)
    }

    async fn ours(&self, image: &str) -> Result<f64, BenchError> {
        let wanted = [ForNodes {
            image: image.to_owned(),
            known_as: image.to_owned(),
        }];
        let started = Instant::now();
        images::load(&self.bench.engine, &self.cluster, &wanted, &|_| ()).await?;
        Ok(millis_since(started))
    }

    async fn kinds(&self, image: &str) -> Result<f64, BenchError> {
        let (kind, cluster) = (self.bench.kind.display().to_string(), &self.cluster);
        let words = [&kind, "load", "docker-image", image, "--name", cluster];
        let command = self.bench.command(&words);
        let started = Instant::now();
        process::run(&command, COMMAND_TIMEOUT, &|_| ()).await?;
        Ok(millis_since(started))
    }

    /// Builds a new image. Returns its reference.
    async fn fresh(&self, round: u32, which: &str) -> Result<String, BenchError> {
        let image = format!("{REPOSITORY}:{round}-{which}");
        std::fs::create_dir_all(&self.folder).map_err(BenchError::file("create", &self.folder))?;
        let dockerfile = self.folder.join("Dockerfile");
        std::fs::write(&dockerfile, "FROM scratch\nCOPY random /random\n")
            .map_err(BenchError::file("write", &dockerfile))?;
        let random = self.folder.join("random");
        let written = || {
            let mut noise = File::open("/dev/urandom")?.take(BYTES);
            std::io::copy(&mut noise, &mut File::create(&random)?)
        };
        written().map_err(BenchError::file("write", &random))?;
        let folder = self.folder.display().to_string();
        let build = ["docker", "build", "--quiet", "--tag", &image, &folder];
        let build = self.bench.command(&build);
        process::run(&build, COMMAND_TIMEOUT, &|_| ()).await?;
        Ok(image)
    }
}

/// Removes the images that were built here, also by a killed benchmark.
pub async fn remove_images(bench: &KindBench) -> Result<(), BenchError> {
    let filter = format!("reference={REPOSITORY}");
    let list = ["docker", "image", "ls", "--quiet", "--filter", &filter];
    let here = std::path::Path::new(".");
    let listed = process::output_in(here, &bench.command(&list), COMMAND_TIMEOUT).await?;
    let ids: Vec<&str> = listed.split_whitespace().collect();
    if ids.is_empty() {
        return Ok(());
    }
    let remove = [&["docker", "image", "rm", "--force"], &ids[..]].concat();
    Ok(process::run(&bench.command(&remove), COMMAND_TIMEOUT, &|_| ()).await?)
}
