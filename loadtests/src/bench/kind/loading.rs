//! One image into the node of a cluster, by the harness and by `kind load docker-image`.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use harness::images::{self, ForNodes};
use harness::subprocess;

use super::{Bench, LONGEST_COMMAND, Loaded};
use crate::bench::error::BenchError;
use crate::bench::scratch::Scratch;

/// Of every image that is made here; what a killed benchmark left is found by it.
const REPOSITORY: &str = "trii-rehearsal-bench";

/// Of one layer that does not compress: a service's image is about as large.
const BYTES: u64 = 64 << 20;

/// Images into one cluster.
pub struct Loading<'a> {
    bench: &'a Bench,
    cluster: String,
    /// What images are built from.
    room: PathBuf,
}

impl<'a> Loading<'a> {
    /// Images into the cluster of this name.
    pub fn new(bench: &'a Bench, cluster: &str, scratch: &Scratch) -> Loading<'a> {
        Loading {
            bench,
            cluster: cluster.to_owned(),
            room: scratch.root().join("loading"),
        }
    }

    /// Brings two images of the same size, which nobody has seen before, to the node: one
    /// each way, then each again. Who is first changes with every round.
    pub async fn round(&self, round: u32) -> Result<Loaded, BenchError> {
        let (one, other) = (
            self.fresh(round, "one").await?,
            self.fresh(round, "other").await?,
        );
        let (ours, kinds) = match round % 2 {
            0 => {
                let ours = self.ours(&one).await?;
                (ours, self.kinds(&other).await?)
            }
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
        let begun = Instant::now();
        images::load(&self.bench.engine, &self.cluster, &wanted, &|_| ()).await?;
        Ok(begun.elapsed().as_secs_f64() * 1000.0)
    }

    async fn kinds(&self, image: &str) -> Result<f64, BenchError> {
        let kind = self.bench.kind.display().to_string();
        let words = [
            &kind,
            "load",
            "docker-image",
            image,
            "--name",
            &self.cluster,
        ];
        let command = self.bench.command(&words);
        let begun = Instant::now();
        subprocess::run(&command, LONGEST_COMMAND, &|_| ()).await?;
        Ok(begun.elapsed().as_secs_f64() * 1000.0)
    }

    async fn fresh(&self, round: u32, which: &str) -> Result<String, BenchError> {
        let image = format!("{REPOSITORY}:{round}-{which}");
        std::fs::create_dir_all(&self.room).map_err(BenchError::file("make", &self.room))?;
        let dockerfile = self.room.join("Dockerfile");
        std::fs::write(&dockerfile, "FROM scratch\nCOPY random /random\n")
            .map_err(BenchError::file("write", &dockerfile))?;
        let random = self.room.join("random");
        let written = || {
            let mut noise = File::open("/dev/urandom")?.take(BYTES);
            std::io::copy(&mut noise, &mut File::create(&random)?)
        };
        written().map_err(BenchError::file("write", &random))?;
        let room = self.room.display().to_string();
        let build = ["docker", "build", "--quiet", "--tag", &image, &room];
        let build = self.bench.command(&build);
        subprocess::run(&build, LONGEST_COMMAND, &|_| ()).await?;
        Ok(image)
    }
}

/// Removes what was built here, this time or by a benchmark that was killed.
pub async fn remove_images(bench: &Bench) -> Result<(), BenchError> {
    let filter = format!("reference={REPOSITORY}");
    let list = ["docker", "image", "ls", "--quiet", "--filter", &filter];
    let here = std::path::Path::new(".");
    let listed = subprocess::output_in(here, &bench.command(&list), LONGEST_COMMAND).await?;
    let ids: Vec<&str> = listed.split_whitespace().collect();
    if ids.is_empty() {
        return Ok(());
    }
    let remove = [&["docker", "image", "rm", "--force"], &ids[..]].concat();
    Ok(subprocess::run(&bench.command(&remove), LONGEST_COMMAND, &|_| ()).await?)
}
