//! The cluster that these tests share, and a namespace for each test.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use base::home::Home;
use environments::config::{Config, KindTarget, Target};
use environments::environment::{
    ClusterPlace, Environment, EnvironmentFolder, TEST_ENVIRONMENT, TEST_HOME,
};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::DeleteParams;
use kubernetes::Cluster;
use machine::engine::{Engine, TIMEOUT};

use crate::chart::helm::workspace;

/// The Secrets that the chart's pods name.
const SECRETS: [&str; 3] = [
    "database-credentials",
    "redis-credentials",
    "jwt-credentials",
];

/// The tier's environment.
pub struct Shared {
    pub environment: Environment,
    pub config: Config,
    pub engine: Engine,
}

impl Shared {
    pub async fn find() -> Shared {
        base::tls::use_ring();
        let variable = |name| {
            std::env::var(name)
                .unwrap_or_else(|_| panic!("run it by `cargo xtask test --tier cluster`: {name}"))
        };
        let home = Home::new(variable(TEST_HOME));
        let name = variable(TEST_ENVIRONMENT).parse().unwrap();
        let folder = EnvironmentFolder::of(&home, &name);
        Shared {
            environment: folder.read(&name).unwrap(),
            config: Config::read(&workspace().join("harness.toml")).unwrap(),
            engine: Engine::find(TIMEOUT).await.unwrap(),
        }
    }

    pub fn place(&self) -> &ClusterPlace {
        self.environment.cluster.as_ref().unwrap()
    }

    pub fn target(&self) -> &KindTarget {
        match &self.config.targets[&self.environment.target] {
            Target::Kind(target) => target,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the cluster, for work in `namespace`.
    pub async fn cluster(&self, namespace: &str) -> Cluster {
        self.place().open_in(namespace).await.unwrap()
    }

    /// Calls `test` with its own namespace, which has the platform's Secrets and is deleted
    /// afterwards.
    pub async fn in_own_namespace(&self, label: &str, test: impl AsyncFnOnce(&Cluster)) {
        let namespace = format!("{label}-{}", std::process::id());
        let cluster = self.cluster(&namespace).await;
        let manifest = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: \
             {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
        );
        cluster.apply(&manifest).await.unwrap();
        let tested = AssertUnwindSafe(async {
            for name in SECRETS {
                let values = self.secret(name).await;
                cluster.apply_secret(name, values).await.unwrap();
            }
            test(&cluster).await;
        });
        let tested = tested.catch_unwind().await;
        let namespaces: Api<Namespace> = Api::all(cluster.client().clone());
        let now = DeleteParams::background();
        namespaces.delete(&namespace, &now).await.unwrap();
        if let Err(panic) = tested {
            std::panic::resume_unwind(panic);
        }
    }

    async fn secret(&self, name: &str) -> BTreeMap<String, String> {
        let platform = self.cluster(&self.place().namespace).await;
        let api: Api<Secret> = Api::namespaced(platform.client().clone(), &platform.namespace);
        let data = api.get(name).await.unwrap().data.unwrap();
        data.into_iter()
            .map(|(key, value)| (key, String::from_utf8(value.0).unwrap()))
            .collect()
    }
}

/// Returns the program that `cargo xtask test` puts on PATH.
pub fn helm() -> PathBuf {
    machine::tools::on_path("helm").unwrap()
}
