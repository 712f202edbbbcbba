//! Services that are released blue-green, in their first installation.

use std::collections::BTreeSet;

use super::helm::{Render, every_environment};
use super::manifests::{Manifests, Object, labels};

/// Returns the services with two colours.
fn blue_green_services(manifests: &Manifests) -> BTreeSet<&str> {
    let deployments = manifests.of("Deployment");
    let colours =
        deployments.filter(|deployment| deployment.pod_labels()["trii.co/track"] != "stable");
    colours.map(Object::service).collect()
}

/// Returns a rendering in which every service is released blue-green.
fn every_service() -> Render {
    let services = [
        "market-data-service",
        "portfolio-manager-service",
        "analysis-engine-service",
        "ml-prediction-service",
        "api-gateway",
        "frontend-app",
    ];
    services.into_iter().fold(Render::of("local"), |all, name| {
        all.set(&format!("services.{name}.blueGreen.enabled=true"))
    })
}

#[test]
fn market_data_is_released_blue_green_and_any_service_can_be() {
    for (environment, manifests) in every_environment() {
        let expected = BTreeSet::from(["market-data-service"]);
        assert_eq!(blue_green_services(&manifests), expected, "{environment}");
    }
    assert_eq!(blue_green_services(&every_service().manifests()).len(), 6);
}

#[test]
fn blue_serves_at_first_and_green_has_no_pods() {
    let manifests = every_service().manifests();
    for service in blue_green_services(&manifests) {
        let colour = |colour: &str| {
            let name = format!("{service}-{colour}");
            manifests.get("Deployment", &name).unwrap()
        };
        let (blue, green) = (colour("blue"), colour("green"));
        let (least, _) = blue.replicas(&manifests);
        assert_eq!(blue.at("/spec/replicas").as_u64(), Some(least), "{service}");
        assert_eq!(green.at("/spec/replicas"), 0, "{service}");
        assert_eq!(blue.annotation("trii.co/live"), Some("true"), "{service}");
        assert_eq!(green.annotation("trii.co/live"), None, "{service}");
        assert!(manifests.get("Deployment", service).is_none());

        let of = |name: &str, role: &str| {
            let service = manifests.get("Service", name).unwrap();
            assert_eq!(
                labels(service.at("/metadata/labels"))["trii.co/blue-green"],
                role
            );
            let [selected] = manifests.selected(&labels(service.at("/spec/selector")))[..] else {
                panic!("{name} does not select one colour");
            };
            selected.name()
        };
        assert_eq!(of(service, "active"), blue.name());
        assert_eq!(of(&format!("{service}-preview"), "preview"), green.name());
    }
}

/// Both colours have the same pods, and without blue-green the Deployment is the same, too.
#[test]
fn colours_differ_only_in_their_colour() {
    let stable = Render::of("local").set("services.market-data-service.blueGreen.enabled=false");
    let (stable, coloured) = (stable.manifests(), Render::of("local").manifests());
    let of_colour = |manifests: &Manifests, name: &str, track: &str| {
        let deployment = manifests.get("Deployment", name).unwrap();
        let text = deployment.0["spec"]["template"].to_string();
        let coloured = format!("\"trii.co/track\":\"{track}\"");
        assert!(text.contains(&coloured), "{text}");
        text.replace(&coloured, "")
    };
    let blue = of_colour(&coloured, "market-data-service-blue", "blue");
    let green = of_colour(&coloured, "market-data-service-green", "green");
    assert_eq!(green, blue);
    // The stable ConfigMap changes with the values. That of a colour never changes.
    let stable = of_colour(&stable, "market-data-service", "stable");
    let own = |name: &str| format!("{{\"configMapRef\":{{\"name\":\"{name}\"}}}}");
    let blue = blue.replace(&own(&configuration(&coloured)), &own("market-data-service"));
    let deployment = coloured
        .get("Deployment", "market-data-service-blue")
        .unwrap();
    let hash = deployment.at("/spec/template/metadata/annotations/trii.co~1configuration");
    assert!(hash.is_string());
    let blue = blue.replace(&format!(",\"trii.co/configuration\":{hash}"), "");
    assert_eq!(stable, blue);
}

/// Returns the name of the ConfigMap with the environment of both colours.
fn configuration(manifests: &Manifests) -> String {
    let [blue, green] = ["blue", "green"].map(|colour| {
        let name = format!("market-data-service-{colour}");
        let deployment = manifests.get("Deployment", &name).unwrap();
        let from = &deployment.container()["envFrom"][0]["configMapRef"]["name"];
        from.as_str().unwrap().to_owned()
    });
    assert_eq!(blue, green);
    blue
}

#[test]
fn a_colours_configuration_is_named_by_its_content_and_never_changes() {
    let render = |level: &str| Render::of("local").set(&format!("env.LOG_LEVEL={level}"));
    let [info, debug] = ["INFO", "DEBUG"].map(|level| render(level).manifests());
    for manifests in [&info, &debug] {
        let config_map = manifests.get("ConfigMap", &configuration(manifests));
        assert_eq!(config_map.unwrap().at("/immutable"), true);
    }
    assert_ne!(configuration(&info), configuration(&debug));
    let again = render("INFO").manifests();
    assert_eq!(configuration(&info), configuration(&again));
    let of_a_rolling_service = info.get("ConfigMap", "api-gateway").unwrap();
    assert!(of_a_rolling_service.at("/immutable").is_null());
}

/// The tag of a blue-green service stays at the live version. The schema has the platform's.
#[test]
fn the_migration_does_not_wait_for_a_blue_green_release() {
    let service = "services.market-data-service";
    for (enabled, version) in [(true, "v3.0.0"), (false, "v2.0.0")] {
        let manifests = Render::of("local")
            .set("global.imageTag=v3.0.0")
            .set(&format!("{service}.image.tag=v2.0.0"))
            .set(&format!("{service}.blueGreen.enabled={enabled}"))
            .manifests();
        let image = &manifests.get("Job", "migration").unwrap().container()["image"];
        assert_eq!(*image, format!("trii/platform:{version}"));
    }
}
