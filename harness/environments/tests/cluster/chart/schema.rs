//! The values that the schema refuses, and its messages.

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
    let messages: Vec<String> = refused
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
    insta::assert_snapshot!(messages.join("\n"));
}

/// Checks that a value is refused with this message.
#[track_caller]
fn refuses(assignment: &str, message: &str) {
    let error = Render::default().set(assignment).text().unwrap_err();
    assert!(error.contains(message), "{error}");
}

/// `latest` can be another image tomorrow, and a node that has one does not pull again.
#[test]
fn a_tag_that_moves_is_refused() {
    refuses("global.imageTag=latest", "image tag latest: name a version");
}

#[test]
fn a_minimum_above_the_maximum_is_refused() {
    let minimum = "services.market-data-service.autoscaling.minReplicas=11";
    refuses(minimum, "minReplicas 11 is more than maxReplicas 10");
}
