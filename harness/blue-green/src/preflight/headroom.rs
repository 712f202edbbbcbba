//! Checks that a namespace's quotas have room for a second colour.
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

/// Returns a message for each quota that has no room for `pods` more pods of this Deployment.
pub(super) fn lacking(quotas: &[ResourceQuota], deployment: &Deployment, pods: i32) -> Vec<String> {
    let mut messages = Vec::new();
    for quota in quotas {
        let status = quota.status.clone().unwrap_or_default();
        let used = status.used.unwrap_or_default();
        for (resource, hard) in status.hard.unwrap_or_default() {
            let each = requested_by_a_pod(deployment, &resource);
            let Some((each, limit)) = each.zip(number(&hard)) else {
                continue;
            };
            let remaining = limit - used.get(&resource).and_then(number).unwrap_or(0.0);
            let requested = each * f64::from(pods);
            if requested > remaining + 1e-9 {
                messages.push(format!(
                    "quota {}: {resource}: {pods} pods need {}, {} is left of {}",
                    quota.name_any(),
                    rounded(requested),
                    rounded(remaining.max(0.0)),
                    hard.0
                ));
            }
        }
    }
    messages
}

/// Returns how much of a quota's resource a pod uses; none if pods do not use it.
fn requested_by_a_pod(deployment: &Deployment, resource: &str) -> Option<f64> {
    let (limits, name) = match resource {
        "pods" | "count/pods" => return Some(1.0),
        "cpu" | "memory" => (false, resource),
        _ => match resource.split_once('.')? {
            ("requests", name) => (false, name),
            ("limits", name) => (true, name),
            _ => return None,
        },
    };
    let pod = deployment.spec.template.spec.as_ref()?;
    let of = |resources: &ResourceRequirements| {
        let stated = match limits {
            true => resources.limits.as_ref(),
            // "If requests are omitted, they default to limits".
            false => resources.requests.as_ref().or(resources.limits.as_ref()),
        };
        number(stated?.get(name)?)
    };
    let containers = pod.containers.iter();
    let stated = containers.filter_map(|it| it.resources.as_ref());
    Some(stated.filter_map(of).sum())
}

/// Returns a quantity as a number of cores, bytes or objects.
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
fn number(quantity: &Quantity) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 16] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("", 1.0),
    ];
    SUFFIXES.into_iter().find_map(|(suffix, factor)| {
        let digits = quantity.0.strip_suffix(suffix)?;
        Some(digits.parse::<f64>().ok()? * factor)
    })
}

/// Formats bytes as MiB, and cores with three decimal places.
fn rounded(number: f64) -> String {
    match number >= 1_048_576.0 {
        true => format!("{:.0}Mi", number / 1_048_576.0),
        false => format!("{}", (number * 1000.0).round() / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> Deployment {
        serde_json::from_value(json!({"spec": {"selector": {}, "template": {"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}}},
            {"name": "b", "resources": {"limits": {"cpu": "500m"}}},
        ]}}}}))
        .unwrap()
    }

    fn quota(hard: serde_json::Value, used: serde_json::Value) -> Vec<ResourceQuota> {
        let quota = json!({"metadata": {"name": "q"}, "status": {"hard": hard, "used": used}});
        vec![serde_json::from_value(quota).unwrap()]
    }

    #[test]
    fn an_exact_fit_is_enough() {
        let exact = quota(
            json!({"requests.cpu": "2", "limits.cpu": "4", "requests.memory": "1Gi", "services": "3"}),
            json!({"requests.cpu": "900m", "limits.cpu": "1", "requests.memory": "896Mi", "services": "3"}),
        );
        assert_eq!(lacking(&exact, &deployment(), 2), Vec::<String>::new());
        let short = lacking(&exact, &deployment(), 3);
        assert_eq!(
            short,
            [
                "quota q: limits.cpu: 3 pods need 4.5, 3 is left of 4",
                "quota q: requests.cpu: 3 pods need 1.65, 1.1 is left of 2",
                "quota q: requests.memory: 3 pods need 192Mi, 128Mi is left of 1Gi",
            ]
        );
    }

    #[test]
    fn pods_are_counted_too() {
        let full = quota(json!({"pods": "10"}), json!({"pods": "9"}));
        assert_eq!(lacking(&full, &deployment(), 1), Vec::<String>::new());
        assert_eq!(
            lacking(&full, &deployment(), 2),
            ["quota q: pods: 2 pods need 2, 1 is left of 10"]
        );
    }

    #[test]
    fn quantities_are_read_with_every_suffix() {
        for (text, value) in [
            ("100m", 0.1),
            ("1e3", 1000.0),
            ("2k", 2000.0),
            ("1.5Gi", 1_610_612_736.0),
            ("3", 3.0),
        ] {
            assert_eq!(number(&Quantity(text.to_owned())), Some(value), "{text}");
        }
        assert_eq!(number(&Quantity("many".to_owned())), None);
    }
}
