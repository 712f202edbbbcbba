//! The images of the pods.

use serde::Serialize;

use crate::objects::Workload;

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundImage {
    /// Its name, as pods have it.
    pub name: String,
    /// The workloads with it.
    pub used_by: Vec<String>,
}

pub(super) fn find(workloads: &[Workload]) -> Vec<FoundImage> {
    let mut images: Vec<FoundImage> = Vec::new();
    for workload in workloads {
        let of_workload = format!("{} {}", workload.kind, workload.name);
        for name in names(workload) {
            let known = images.iter_mut().find(|it| it.name == name);
            match known {
                Some(image) if image.used_by.contains(&of_workload) => {}
                Some(image) => image.used_by.push(of_workload.clone()),
                None => images.push(FoundImage {
                    name: name.to_owned(),
                    used_by: vec![of_workload.clone()],
                }),
            }
        }
    }
    images
}

fn names(workload: &Workload) -> impl Iterator<Item = &str> {
    let pod = workload.template.spec.iter();
    let containers =
        pod.flat_map(|pod| pod.init_containers.iter().flatten().chain(&pod.containers));
    containers.filter_map(|it| it.image.as_deref())
}

impl FoundImage {
    /// Returns the last part of the repository: `app` of `example.com/team/app:v1`.
    pub fn short_name(&self) -> &str {
        short_name(&self.name)
    }

    /// Returns the name with a tag. A name without tag and digest means `latest`.
    pub fn with_tag(&self) -> String {
        match tag(&self.name).is_some() || self.name.contains('@') {
            true => self.name.clone(),
            false => format!("{}:latest", self.name),
        }
    }
}

/// The last part of a repository.
pub(super) fn short_name(image: &str) -> &str {
    let repository = image.split('@').next().unwrap_or_default();
    let last = repository.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

/// The tag of an image. The port of a registry is none.
pub(super) fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next()?;
    let (_, tag) = name.rsplit('/').next()?.split_once(':')?;
    Some(tag)
}
