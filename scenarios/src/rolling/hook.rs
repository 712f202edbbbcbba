//! A copy of a chart with one more hook, which helm waits for before it applies anything.
//! <https://helm.sh/docs/topics/charts_hooks/>

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use helm::Release;
use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;
use kubernetes::Cluster;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Setup;
use crate::Mismatch;

/// The name of the hook's Job.
pub const NAME: &str = "rehearsal-hook";

/// The behaviour of the hook.
#[derive(Clone, Copy)]
pub enum Hook<'a> {
    /// Its container cannot start.
    Fails {
        /// An image on the nodes.
        image: &'a str,
    },
    /// It is suspended, so helm waits for it until its timeout.
    Waits,
}

/// A release with a hook that its chart does not have.
pub struct ChartWithHook {
    /// The release, with the copy of the chart.
    pub release: Release,
    _folder: TempDir,
}

impl ChartWithHook {
    /// Copies the chart of `release`, and adds the hook. The copy is a folder beside the kubeconfig:
    /// after a kill, a cleanup of the environment finds it there.
    ///
    /// # Errors
    /// The chart cannot be copied.
    pub async fn of(
        setup: &Setup<'_>,
        release: &Release,
        hook: Hook<'_>,
    ) -> Result<ChartWithHook, Mismatch> {
        let beside = setup.cluster.kubeconfig.parent();
        let copied = ChartWithHook::in_folder(beside.unwrap_or(Path::new(".")), release, hook);
        let failed = |error| setup.mismatch("a copy of the chart", error);
        copied.await.map_err(failed)
    }

    async fn in_folder(
        folder: &Path,
        release: &Release,
        hook: Hook<'_>,
    ) -> io::Result<ChartWithHook> {
        let folder = tempfile::Builder::new()
            .prefix("chart-")
            .tempdir_in(folder)?;
        let chart = match release.chart.is_file() {
            true => unpack(&release.chart, folder.path()).await?,
            false => {
                // helm's messages name the chart by its folder.
                let name = release.chart.file_name().unwrap_or("chart".as_ref());
                let (from, to) = (release.chart.clone(), folder.path().join(name));
                let copy = tokio::task::spawn_blocking(move || copy(&from, &to).map(|()| to));
                copy.await.map_err(io::Error::other)??
            }
        };
        std::fs::create_dir_all(chart.join("templates"))?;
        // YAML is a superset of JSON.
        let manifest = manifest(hook).to_string();
        std::fs::write(chart.join("templates/rehearsal-hook.yaml"), manifest)?;
        Ok(ChartWithHook {
            release: Release {
                chart,
                ..release.clone()
            },
            _folder: folder,
        })
    }
}

/// Unpacks a packaged chart. Returns the one folder that it has.
async fn unpack(chart: &Path, into: &Path) -> io::Result<PathBuf> {
    let mut tar = Vec::new();
    GzDecoder::new(File::open(chart)?).read_to_end(&mut tar)?;
    tokio_tar::Archive::new(&tar[..]).unpack(into).await?;
    let mut entries = std::fs::read_dir(into)?;
    let folder = entries.next().transpose()?;
    folder.map(|it| it.path()).ok_or_else(|| {
        let reason = format!("{} is empty", chart.display());
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to)?,
            false => std::fs::copy(entry.path(), to).map(drop)?,
        }
    }
    Ok(())
}

/// Its pod is admitted by the Pod Security Standard `restricted`, and by quotas.
fn manifest(hook: Hook<'_>) -> Value {
    let (image, suspend) = match hook {
        Hook::Fails { image } => (image, false),
        Hook::Waits => (NAME, true),
    };
    let resources = json!({"cpu": "10m", "memory": "32Mi"});
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": NAME, "annotations": {
            "helm.sh/hook": "pre-upgrade",
            "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
        }},
        "spec": {"backoffLimit": 0, "suspend": suspend, "template": {"spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "hook",
                "image": image,
                "command": ["/no-such-program"],
                "resources": {"requests": resources, "limits": resources},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        }}},
    })
}

/// Deletes the hook's Job and its pods. A helm that was stopped has left it.
pub async fn remove(cluster: &Cluster) {
    let jobs = cluster.api::<Job>();
    // It is not there if helm has deleted it.
    let _ = jobs.delete(NAME, &DeleteParams::background()).await;
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn release(chart: &Path) -> Release {
        Release {
            name: "shop".to_owned(),
            version: "v1".to_owned(),
            chart: chart.to_owned(),
            values_files: Vec::new(),
            overrides: json!({}),
        }
    }

    #[tokio::test]
    async fn the_copy_has_the_whole_chart_and_the_hook() {
        let folder = tempfile::tempdir().unwrap();
        let chart = folder.path().join("shop");
        std::fs::create_dir_all(chart.join("charts/redis/templates")).unwrap();
        std::fs::write(chart.join("charts/redis/templates/a.yaml"), "a: 1").unwrap();
        std::fs::write(chart.join("Chart.yaml"), "name: shop").unwrap();

        let copy = ChartWithHook::in_folder(folder.path(), &release(&chart), Hook::Waits)
            .await
            .unwrap();
        let read = |file: &str| std::fs::read_to_string(copy.release.chart.join(file)).unwrap();
        assert_eq!(read("Chart.yaml"), "name: shop");
        assert_eq!(read("charts/redis/templates/a.yaml"), "a: 1");
        let hook: Value = serde_json::from_str(&read("templates/rehearsal-hook.yaml")).unwrap();
        assert_eq!(hook["spec"]["suspend"], true);
        assert!(!chart.join("templates").exists());
    }

    #[tokio::test]
    async fn a_packaged_chart_is_unpacked_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut tar = tokio_tar::Builder::new(Vec::new());
        let mut header = tokio_tar::Header::new_gnu();
        let content = "name: shop";
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let file = tar.append_data(&mut header, "shop/Chart.yaml", content.as_bytes());
        file.await.unwrap();
        let chart = folder.path().join("shop-1.2.3.tgz");
        let mut packaged = GzEncoder::new(File::create(&chart).unwrap(), Compression::fast());
        packaged
            .write_all(&tar.into_inner().await.unwrap())
            .unwrap();
        packaged.finish().unwrap();

        let copy = ChartWithHook::in_folder(folder.path(), &release(&chart), Hook::Waits)
            .await
            .unwrap();
        let copied = &copy.release.chart;
        assert!(copied.ends_with("shop"), "{copied:?}");
        let text = std::fs::read_to_string(copied.join("Chart.yaml")).unwrap();
        assert_eq!(text, content);
        assert!(copied.join("templates/rehearsal-hook.yaml").is_file());
    }

    #[tokio::test]
    async fn a_chart_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = release(&folder.path().join("nowhere"));
        let copied = ChartWithHook::in_folder(folder.path(), &nowhere, Hook::Waits).await;
        assert_eq!(copied.err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
