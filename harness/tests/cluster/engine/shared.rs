//! The cluster that these tests share, and a namespace of one's own on it.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use futures::FutureExt;
use harness::cluster::Cluster;
use harness::config::{Config, KindTarget, Target};
use harness::engine::{Engine, PATIENCE};
use harness::environment::{ClusterPlace, Environment, EnvironmentFolder};
use harness::home::Home;
use harness::tiers::ground;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::DeleteParams;

use crate::chart::helm::workspace;

/// The Secrets that the chart's pods name.
pub const SECRETS: [&str; 3] = [
    "database-credentials",
    "redis-credentials",
    "jwt-credentials",
];

/// The environment that is up.
pub struct Shared {
    pub environment: Environment,
    pub config: Config,
    pub engine: Engine,
}

impl Shared {
    pub async fn find() -> Shared {
        harness::tls::use_ring();
        let variable = |name| {
            std::env::var(name)
                .unwrap_or_else(|_| panic!("run it by `cargo xtask test --tier cluster`: {name}"))
        };
        let home = Home::new(variable(ground::HOME));
        let name = variable(ground::ENVIRONMENT).parse().unwrap();
        let folder = EnvironmentFolder::of(&home, &name);
        Shared {
            environment: folder.read(&name).unwrap(),
            config: Config::read(&workspace().join("harness.toml")).unwrap(),
            engine: Engine::find(PATIENCE).await.unwrap(),
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

    /// The cluster, with `namespace` as the one to work in.
    pub async fn cluster(&self, namespace: &str) -> Cluster {
        self.place().open_in(namespace).await.unwrap()
    }

    /// Does `test` in a namespace of its own, which has the platform's Secrets and is gone
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

    async fn secret(&self, name: &'static str) -> BTreeMap<&'static str, String> {
        let platform = self.cluster(&self.place().namespace).await;
        let api: Api<Secret> = Api::namespaced(platform.client().clone(), &platform.namespace);
        let data = api.get(name).await.unwrap().data.unwrap();
        let known = |key: String| -> &'static str {
            let keys = ["url", "secret", "demo-password"];
            keys.into_iter().find(|known| *known == key).unwrap()
        };
        data.into_iter()
            .map(|(key, value)| (known(key), String::from_utf8(value.0).unwrap()))
            .collect()
    }
}

/// The program that `cargo xtask test` puts on PATH.
pub fn helm() -> PathBuf {
    harness::tools::on_path("helm").unwrap()
}
