use std::collections::BTreeMap;

use helm::render::RenderedObject;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::{KindTarget, Target};

/// A platform that fits what its chart renders.
const PLATFORM: &str = r#"schema = 1

[targets.kind]
kind = "kind"
kubernetes = "1.37"
namespace = "shop"

[platform]
name = "shop"
version = "v1"
site_host = "shop.example"
tls_secret = "shop-tls"

[backing_services.postgres]

[images.app]
name = "shop/app:{version}"

[secrets.database]
url = "{database_url}"

[[releases]]
name = "shop"
chart = "charts/shop"

[services.web]

[services.api]
"#;

const CHART: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, labels: {app: api}}
spec: {selector: {app: api}, ports: [{name: http, port: 8080}, {name: metrics, port: 9090, targetPort: metrics}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {labels: {app: web, tier: front}}
    spec:
      imagePullSecrets: [{name: registry}]
      containers:
        - name: web
          image: shop/app:v1
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {port: http}}
          livenessProbe: {tcpSocket: {port: 8080}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: api}
spec:
  template:
    metadata: {labels: {app: api}}
    spec:
      initContainers:
        - name: migrate
          image: shop/app:v1
          env: [{name: URL, valueFrom: {secretKeyRef: {name: database, key: url}}}]
      containers:
        - name: api
          image: shop/app:v1
          ports: [{name: metrics, containerPort: 9090}]
          envFrom: [{secretRef: {name: own}}, {secretRef: {name: extra, optional: true}}]
      volumes:
        - {name: keys, secret: {secretName: own, items: [{key: private, path: key}]}}
---
apiVersion: v1
kind: Secret
metadata: {name: own}
stringData: {private: x}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  tls: [{secretName: shop-tls}]
  rules:
    - http:
        paths:
          - backend: {service: {name: web, port: {number: 80}}}
          - backend: {service: {name: api, port: {name: http}}}
";

/// The chart's objects. Each is from the file of its kind.
fn objects(chart: &str) -> Vec<RenderedObject> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(chart).unwrap();
    let objects = objects.into_iter();
    objects
        .map(|object| {
            let folder = match object["kind"] == "CustomResourceDefinition" {
                true => "crds",
                false => "templates",
            };
            let kind = object["kind"].as_str().unwrap().to_lowercase();
            RenderedObject {
                file: format!("shop/{folder}/{kind}.yaml"),
                object,
            }
        })
        .collect()
}

fn config(platform: &str) -> Config {
    Config::parse(Path::new("harness.toml"), platform).unwrap()
}

fn kind_target(config: &Config) -> &KindTarget {
    let Target::Kind(target) = &config.targets["kind"] else {
        panic!("it is a kind target");
    };
    target
}

/// Compares each chart, as one release of the configuration.
fn compared(
    config: &Config,
    charts: &[Vec<RenderedObject>],
    contents: &ClusterContents,
) -> Result<Vec<String>, ChartCheckError> {
    let releases = config.releases.iter().zip(charts);
    let releases: Vec<RenderedRelease<'_>> = releases
        .map(|(release, objects)| RenderedRelease {
            release,
            objects: objects.clone(),
        })
        .collect();
    let namespace = "shop";
    let destination = Destination {
        namespace,
        contents,
    };
    compare(config, "v1", &releases, &destination).map(|fit| fit.notes)
}

/// Compares on a new kind cluster without manifests.
fn on_kind(platform: &str, chart: &str) -> Result<Vec<String>, ChartCheckError> {
    let config = config(platform);
    let contents = ClusterContents::of_new(&config, kind_target(&config), &[]);
    compared(&config, &[objects(chart)], &contents)
}

fn refusals(result: Result<Vec<String>, ChartCheckError>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(ChartCheckError::Refused { refusals }) => {
            let each = refusals.iter().map(|it| {
                let help = it.help().map(|help| help.to_string());
                format!("{it}\n  help: {}", help.unwrap_or_default())
            });
            each.collect()
        }
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn but(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not there");
    text.replacen(from, to, 1)
}

#[test]
fn a_platform_that_fits_its_chart_is_not_refused() {
    assert_eq!(refusals(on_kind(PLATFORM, CHART)), [""; 0]);
    assert_eq!(on_kind(PLATFORM, CHART).unwrap(), [""; 0]);
}

#[test]
fn every_fault_names_its_line_and_what_was_found_instead() {
    let of_platform = [
        ("[services.web]", "[services.webb]"),
        ("[services.web]", "[services.accounts]"),
        ("shop/app:{version}", "shop/ap:{version}"),
        ("shop/app:{version}", "quotes:{version}"),
        ("[secrets.database]", "[secrets.databases]"),
        ("url = \"", "uri = \""),
        ("tls_secret = \"shop-tls\"", ""),
        (
            "[services.api]",
            "[services.api]\n[rolling]\nprobes = [\"http://web:80/\", \"http://web:8080/\"]",
        ),
    ];
    let of_chart = [
        ("selector: {app: web}", "selector: {app: site}"),
        ("targetPort: http", "targetPort: htp"),
        (
            "readinessProbe: {httpGet: {port: http}}",
            "readinessProbe: {httpGet: {port: metrics}}",
        ),
        (
            "{name: web, port: {number: 80}}",
            "{name: wbe, port: {number: 80}}",
        ),
        ("port: {number: 80}", "port: {number: 81}"),
        ("port: {name: http}", "port: {name: https}"),
        ("key: private", "key: public"),
        (
            "metadata: {name: own}",
            "metadata: {name: own, namespace: elsewhere}",
        ),
        ("image: shop/app:v1", "image: shop/other:v1"),
        (
            "apiVersion: networking.k8s.io/v1",
            "apiVersion: extensions/v1beta1",
        ),
        (
            "apiVersion: v1\nkind: Secret",
            "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: {name: shop}\n\
             ---\napiVersion: v1\nkind: Secret",
        ),
    ];
    let of_platform = of_platform.map(|(from, to)| (to, but(PLATFORM, from, to), CHART.to_owned()));
    let of_chart = of_chart.map(|(from, to)| (to, PLATFORM.to_owned(), but(CHART, from, to)));
    let cases = of_platform.into_iter().chain(of_chart);
    let messages: Vec<String> = cases
        .map(|(change, platform, chart)| {
            let refused = refusals(on_kind(&platform, &chart));
            assert!(!refused.is_empty(), "{change:?} is not refused");
            format!("{change}\n{}\n", refused.join("\n"))
        })
        .collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn the_port_of_a_monitor_is_one_of_what_it_selects() {
    let monitor = |kind: &str, endpoints: &str, port: &str| {
        format!(
            "{CHART}---\napiVersion: monitoring.coreos.com/v1\nkind: {kind}\nmetadata: {{name: shop}}\n\
             spec: {{selector: {{matchLabels: {{app: api}}}}, {endpoints}: [{{port: {port}}}]}}\n"
        )
    };
    let config = config(PLATFORM);
    let mut contents = ClusterContents::of_new(&config, kind_target(&config), &[]);
    for kind in ["ServiceMonitor", "PodMonitor"] {
        contents
            .kinds
            .insert(("monitoring.coreos.com/v1".into(), kind.into()));
    }
    let refused = |chart: String| refusals(compared(&config, &[objects(&chart)], &contents));
    for (kind, endpoints) in [
        ("ServiceMonitor", "endpoints"),
        ("PodMonitor", "podMetricsEndpoints"),
    ] {
        assert_eq!(refused(monitor(kind, endpoints, "metrics")), [""; 0]);
        let refused = refused(monitor(kind, endpoints, "metric"));
        assert!(
            refused[0].contains("scrapes the port \"metric\""),
            "{refused:?}"
        );
        assert!(
            refused[0].contains("did you mean \"metrics\"?"),
            "{refused:?}"
        );
    }
}

#[test]
fn what_may_not_be_read_is_not_judged() {
    let platform = but(PLATFORM, "[services.web]", "[services.webb]");
    let chart = but(CHART, "name: database", "name: db");
    let chart = but(
        &chart,
        "{name: web, port: {number: 80}}",
        "{name: wbe, port: {number: 80}}",
    );
    assert_eq!(refusals(on_kind(&platform, &chart)).len(), 3);
    let config = config(&platform);
    let contents = ClusterContents {
        is_ours: false,
        services: None,
        secrets: None,
        ..ClusterContents::of_new(&config, kind_target(&config), &[])
    };
    assert_eq!(
        refusals(compared(&config, &[objects(&chart)], &contents)),
        [""; 0]
    );
}

#[test]
fn what_a_manifest_supplies_is_there() {
    let platform = but(PLATFORM, "[secrets.database]\nurl = \"{database_url}\"", "");
    let platform = but(
        &platform,
        "[services.web]",
        "[services.old]\n\n[services.web]",
    );
    assert_eq!(refusals(on_kind(&platform, CHART)).len(), 2);
    let config = config(&platform);
    let manifests: Vec<Value> = serde_saphyr::from_multiple(
        "kind: Secret\nmetadata: {name: database}\ndata: {url: eA==}\n---\n\
         kind: Service\nmetadata: {name: old, namespace: shop}\nspec: {ports: [{port: 80}]}\n",
    )
    .unwrap();
    let contents = ClusterContents::of_new(&config, kind_target(&config), &manifests);
    assert_eq!(
        refusals(compared(&config, &[objects(CHART)], &contents)),
        [""; 0]
    );
}

#[test]
fn a_secret_that_is_made_later_is_not_missed() {
    let platform = but(PLATFORM, "[secrets.database]\nurl = \"{database_url}\"", "");
    let missing = refusals(on_kind(&platform, CHART));
    assert!(missing[0].contains("\"database\""), "{missing:?}");
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: certificates}\nspec: {template: {spec: {containers: \
        [{name: a, image: 'shop/app:v1', args: [--secret-name=database]}]}}}";
    assert_eq!(
        refusals(on_kind(&platform, &format!("{CHART}---\n{job}\n"))),
        [""; 0]
    );
    let by_csi = but(
        CHART,
        "      volumes:",
        "      volumes:\n        - {name: store, csi: {driver: secrets-store.csi.k8s.io}}",
    );
    assert_eq!(refusals(on_kind(&platform, &by_csi)), [""; 0]);
    let certificate = but(PLATFORM, "tls_secret = \"shop-tls\"", "");
    let by_cert_manager = but(
        CHART,
        "kind: Ingress\nmetadata: {",
        "kind: Ingress\nmetadata: {annotations: {cert-manager.io/cluster-issuer: a}, ",
    );
    assert_eq!(refusals(on_kind(&certificate, &by_cert_manager)), [""; 0]);
    let external = "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: a}\n\
        spec: {target: {name: database}}";
    let refused = refusals(on_kind(&platform, &format!("{CHART}---\n{external}\n")));
    assert_eq!(refused.len(), 1);
    assert!(refused[0].contains("ExternalSecret"), "{refused:?}");
}

#[test]
fn a_kind_is_there_once_its_definition_was_applied_before() {
    const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
        metadata: {name: things.example.com}\nspec: {group: example.com, names: {kind: Thing}, \
        versions: [{name: v1, served: true}, {name: v1alpha1, served: false}]}\n";
    const THING: &str = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}\n";
    let two = format!("{PLATFORM}\n[[releases]]\nname = \"second\"\nchart = \"charts/second\"\n");
    let config = config(&two);
    let contents = ClusterContents::of_new(&config, kind_target(&config), &[]);
    let refused = |first: Vec<RenderedObject>, second: Vec<RenderedObject>| {
        let first = [objects(CHART), first].concat();
        refusals(compared(&config, &[first, second], &contents))
    };
    let (definition, thing) = (objects(DEFINITION), objects(THING));
    let in_templates = vec![RenderedObject {
        file: "shop/templates/all.yaml".into(),
        ..definition[0].clone()
    }];
    let both = |one: &Vec<RenderedObject>, other: &Vec<RenderedObject>| [&one[..], other].concat();
    assert_eq!(refused(both(&definition, &thing), vec![]), [""; 0]);
    assert_eq!(refused(in_templates.clone(), thing.clone()), [""; 0]);
    assert_eq!(refused(both(&in_templates, &thing), vec![]).len(), 1);
    assert_eq!(refused(thing, definition.clone()).len(), 1);
    let alpha = objects(&but(THING, "v1", "v1alpha1"));
    let refused = refused(definition, alpha);
    assert!(
        refused[0].contains("serves Thing of example.com/v1"),
        "{refused:?}"
    );
}

#[test]
fn pods_of_an_operator_are_not_missed() {
    let chart = but(CHART, "selector: {app: web}", "selector: {app: site}");
    assert_eq!(refusals(on_kind(PLATFORM, &chart)).len(), 1);
    let chart =
        format!("{chart}---\napiVersion: example.com/v1\nkind: Site\nmetadata: {{name: site}}\n");
    let config = config(PLATFORM);
    let mut contents = ClusterContents::of_new(&config, kind_target(&config), &[]);
    contents
        .kinds
        .insert(("example.com/v1".into(), "Site".into()));
    assert_eq!(
        refusals(compared(&config, &[objects(&chart)], &contents)),
        [""; 0]
    );
}

#[test]
fn what_the_nodes_pull_is_noted_and_then_needs_its_pull_secret() {
    let chart = format!(
        "{CHART}---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: report}}\nspec: {{jobTemplate: {{spec: \
         {{template: {{spec: {{containers: [{{name: a, image: 'reports:2'}}]}}}}}}}}}}\n"
    );
    let chart = but(
        &chart,
        "image: shop/app:v1",
        "image: shop/app:v1\n          imagePullPolicy: Always",
    );
    insta::assert_snapshot!(on_kind(PLATFORM, &chart).unwrap().join("\n"));
    let pulled = but(CHART, "image: shop/app:v1", "image: shop/other:v1");
    let refused = refusals(on_kind(PLATFORM, &pulled));
    assert!(
        refused[0].contains("needs the Secret \"registry\""),
        "{refused:?}"
    );
}

#[test]
fn a_refusal_is_one_failure_with_every_line() {
    let platform = but(PLATFORM, "[services.web]", "[services.webb]");
    let platform = but(&platform, "[services.api]", "[services.apis]");
    let error = on_kind(&platform, CHART).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage);
    assert!(error.to_string().ends_with("2 faults"), "{error}");
    let failure = error.failure();
    for line in ["harness.toml:26: ", "harness.toml:28: "] {
        assert!(failure.seen.contains(line), "{}", failure.seen);
    }
}

#[test]
fn each_refusal_is_at_its_own_line() {
    let lines: BTreeMap<&str, &str> = [
        ("name = \"shop/app:{version}\"", "name = \"none:{version}\""),
        ("[services.api]", "[services.quotes]"),
    ]
    .into();
    for (from, to) in lines {
        let platform = but(PLATFORM, from, to);
        let line = platform.lines().position(|line| line == to).unwrap() + 1;
        let refused = refusals(on_kind(&platform, CHART));
        let expected = format!("harness.toml:{line}: ");
        assert!(refused[0].starts_with(&expected), "{refused:?}");
    }
}

proptest! {
    /// For any services of the file and of the chart, exactly those that are not rendered are refused.
    #[test]
    fn exactly_the_services_that_are_not_rendered_are_refused(
        wanted in prop::collection::btree_set("[a-z]{1,6}", 1..6),
        rendered in prop::collection::btree_set("[a-z]{1,6}", 0..6),
    ) {
        let tables: String = wanted.iter().map(|it| format!("[services.x{it}]\n")).collect();
        let platform = but(PLATFORM, "[services.web]\n\n[services.api]\n", &tables);
        let services: String = rendered
            .iter()
            .map(|it| format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: x{it}}}\nspec: {{}}\n"))
            .collect();
        let refused = refusals(on_kind(&platform, &format!("{CHART}{services}")));
        prop_assert_eq!(refused.len(), wanted.difference(&rendered).count());
        for name in wanted.difference(&rendered) {
            let named = format!("a Service called \"x{name}\";");
            prop_assert!(refused.iter().any(|it| it.contains(&named)));
        }
    }
}
