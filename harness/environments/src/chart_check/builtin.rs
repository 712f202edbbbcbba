//! The kinds that Kubernetes serves by itself.

use super::definitions::Kinds;

/// By `apiVersion`: the kinds that can be created, without alpha and beta versions, which are not
/// served by default. From `api/discovery` of Kubernetes 1.37.
const KINDS: [(&str, &[&str]); 23] = [
    (
        "v1",
        &[
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    (
        "admissionregistration.k8s.io/v1",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io/v1", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io/v1", &["APIService"]),
    (
        "apps/v1",
        &[
            "ControllerRevision",
            "DaemonSet",
            "Deployment",
            "ReplicaSet",
            "StatefulSet",
        ],
    ),
    (
        "authentication.k8s.io/v1",
        &["SelfSubjectReview", "TokenReview"],
    ),
    (
        "authorization.k8s.io/v1",
        &[
            "LocalSubjectAccessReview",
            "SelfSubjectAccessReview",
            "SelfSubjectRulesReview",
            "SubjectAccessReview",
        ],
    ),
    ("autoscaling/v1", &["HorizontalPodAutoscaler"]),
    ("autoscaling/v2", &["HorizontalPodAutoscaler"]),
    ("batch/v1", &["CronJob", "Job"]),
    (
        "certificates.k8s.io/v1",
        &[
            "CertificateSigningRequest",
            "ClusterTrustBundle",
            "PodCertificateRequest",
        ],
    ),
    ("coordination.k8s.io/v1", &["Lease"]),
    ("discovery.k8s.io/v1", &["EndpointSlice"]),
    ("events.k8s.io/v1", &["Event"]),
    (
        "flowcontrol.apiserver.k8s.io/v1",
        &["FlowSchema", "PriorityLevelConfiguration"],
    ),
    (
        "networking.k8s.io/v1",
        &[
            "IPAddress",
            "Ingress",
            "IngressClass",
            "NetworkPolicy",
            "ServiceCIDR",
        ],
    ),
    ("node.k8s.io/v1", &["RuntimeClass"]),
    ("policy/v1", &["PodDisruptionBudget"]),
    (
        "rbac.authorization.k8s.io/v1",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
    ),
    (
        "resource.k8s.io/v1",
        &[
            "DeviceClass",
            "DeviceTaintRule",
            "ResourceClaim",
            "ResourceClaimTemplate",
            "ResourceSlice",
        ],
    ),
    ("scheduling.k8s.io/v1", &["PriorityClass"]),
    (
        "storage.k8s.io/v1",
        &[
            "CSIDriver",
            "CSINode",
            "CSIStorageCapacity",
            "StorageClass",
            "VolumeAttachment",
            "VolumeAttributesClass",
        ],
    ),
    ("storagemigration.k8s.io/v1", &["StorageVersionMigration"]),
];

/// The kinds that are newer than the oldest supported version, with the minor version that first
/// served them. From `zz_generated.prerelease-lifecycle.go` of `k8s.io/api` 0.37.
const SINCE: [(&str, &str, u16); 15] = [
    (
        "admissionregistration.k8s.io/v1",
        "MutatingAdmissionPolicy",
        36,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingAdmissionPolicyBinding",
        36,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        30,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        30,
    ),
    ("certificates.k8s.io/v1", "ClusterTrustBundle", 37),
    ("certificates.k8s.io/v1", "PodCertificateRequest", 37),
    ("networking.k8s.io/v1", "IPAddress", 33),
    ("networking.k8s.io/v1", "ServiceCIDR", 33),
    ("resource.k8s.io/v1", "DeviceClass", 34),
    ("resource.k8s.io/v1", "DeviceTaintRule", 37),
    ("resource.k8s.io/v1", "ResourceClaim", 34),
    ("resource.k8s.io/v1", "ResourceClaimTemplate", 34),
    ("resource.k8s.io/v1", "ResourceSlice", 34),
    ("storage.k8s.io/v1", "VolumeAttributesClass", 34),
    ("storagemigration.k8s.io/v1", "StorageVersionMigration", 37),
];

/// Returns the kinds that Kubernetes of a minor version, such as `1.37`, serves by itself.
pub(super) fn kinds(kubernetes: &str) -> Kinds {
    let minor = kubernetes.split('.').nth(1);
    // Of an unknown version, the newest kinds.
    let minor = minor.and_then(|it| it.parse().ok()).unwrap_or(u16::MAX);
    let all = KINDS
        .iter()
        .flat_map(|(api_version, kinds)| kinds.iter().map(|kind| (*api_version, *kind)));
    let is_served = |(api_version, kind): &(&str, &str)| {
        let mut newer = SINCE.iter();
        let since = newer.find(|it| (it.0, it.1) == (*api_version, *kind));
        since.is_none_or(|(_, _, since)| *since <= minor)
    };
    let served = all.filter(is_served);
    served
        .map(|(api_version, kind)| (api_version.to_owned(), kind.to_owned()))
        .collect()
}

/// Whether an `apiVersion` is of a group of Kubernetes itself, in any version.
pub(super) fn is_builtin(api_version: &str) -> bool {
    // Those without a group, and the groups of the first years, have no domain.
    let group = |api_version: &str| match api_version.split_once('/') {
        Some((group, _)) => group.to_owned(),
        None => String::new(),
    };
    let wanted = group(api_version);
    KINDS.iter().any(|(version, _)| group(version) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_kinds() {
        let serves = |kubernetes: &str, api_version: &str, kind: &str| {
            kinds(kubernetes).contains(&(api_version.to_owned(), kind.to_owned()))
        };
        assert!(serves("1.37", "apps/v1", "Deployment"));
        assert!(serves("1.34", "resource.k8s.io/v1", "DeviceClass"));
        assert!(!serves("1.33", "resource.k8s.io/v1", "DeviceClass"));
        assert!(!serves("1.37", "policy/v1beta1", "PodDisruptionBudget"));
        assert!(!serves("1.37", "apps/v1", "Ingress"));
    }

    #[test]
    fn kinds_that_are_newer_are_kinds() {
        let newest = kinds("1.37");
        for (api_version, kind, _) in SINCE {
            assert!(
                newest.contains(&(api_version.to_owned(), kind.to_owned())),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_group_is_built_in_in_every_version() {
        assert!(is_builtin("v1") && is_builtin("policy/v1beta1"));
        assert!(!is_builtin("monitoring.coreos.com/v1"));
    }
}
