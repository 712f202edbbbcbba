//! What the schema refuses, and in which words.

use super::helm::Render;

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    let refused = [
        "service.replicas=3",
        "services.api-gateway.replica=3",
        "services.payments.replicas=1",
        "services.api-gateway.replicas=two",
        "services.api-gateway.servicePort=70000",
        "services.frontend-app.containerPort=80",
        "services.frontend-app.resources.limits.memory=1GB",
        "services.frontend-app.env.JWT_SECRET=x",
        "services.frontend-app.env.LOG_LEVEL=loud",
        "services.frontend-app.secrets[0]=GRAFANA_PASSWORD",
        "services.frontend-app.calls[0]=payments",
        "services.frontend-app.ingress.paths[0].host=site,services.frontend-app.ingress.paths[0].path=/a(b)",
        "services.api-gateway.autoscaling.enabled=true",
        "global.imageTag=1234567",
        "global.imageRegistry=https://registry.example",
        "podSecurityPolicy.enabled=true",
        "postgresql.enabled=true",
        "networkPolicy.database.cidrs[0]=postgres",
    ];
    let said: Vec<String> = refused
        .into_iter()
        .map(
            |assignment| match Render::default().set(assignment).text() {
                Ok(_) => format!("{assignment}: accepted"),
                Err(error) => {
                    let reasons = error.lines().filter(|line| line.starts_with("- "));
                    let reasons: Vec<&str> = reasons.collect();
                    format!("{assignment}\n  {}", reasons.join("\n  "))
                }
            },
        )
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}

/// `latest` names another image tomorrow, and a node that has one does not ask again.
#[test]
fn a_tag_that_moves_is_refused() {
    let error = Render::default()
        .set("global.imageTag=latest")
        .text()
        .unwrap_err();
    assert!(
        error.contains("image tag latest: name a version"),
        "{error}"
    );
}

#[test]
fn a_minimum_above_the_maximum_is_refused() {
    let error = Render::default()
        .set("services.market-data-service.autoscaling.minReplicas=11")
        .text()
        .unwrap_err();
    assert!(
        error.contains("minReplicas 11 is more than maxReplicas 10"),
        "{error}"
    );
}
