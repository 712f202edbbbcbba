//! `[targets]`.

use super::quoted;
use crate::draft::Draft;
use crate::hosts::Hosts;
use crate::origin::{Origin, Place};
use helm::KUBERNETES;

pub(super) fn kind(draft: &mut Draft, origin: &Origin) {
    draft.blank();
    draft.comment("A kind cluster on this machine: docs/cluster.md.");
    draft.raw(&format!(
        "[targets.kind]\nkind = \"kind\"\nkubernetes = {}\nnodes = 1\nnamespace = {}\n",
        quoted(KUBERNETES),
        quoted(&origin.namespace)
    ));
}

pub(super) fn local(draft: &mut Draft) {
    draft.blank();
    draft.comment(
        "The services as processes of this machine. Each needs the program that runs it. Then \
         default_target = \"auto\" takes kind where a container engine answers, else local.",
    );
    draft.example(
        "[targets.local]\nkind = \"local\"\n\n\
         [services.NAME.local]\nrun = [\"PROGRAM\", \"--port={port}\"]\n\
         ready = \"http://127.0.0.1:{port}/ready\"\n",
    );
}

/// The cluster that the objects were read from.
pub(super) fn remote(draft: &mut Draft, origin: &Origin, hosts: &Hosts, tls: bool) {
    let Place::Cluster {
        context, server, ..
    } = &origin.place
    else {
        return;
    };
    let name = origin.target();
    let scheme = if tls { "https" } else { "http" };
    draft.blank();
    draft.comment("The cluster that this was read from: docs/remote.md.");
    draft.add_to_do(
        "if no real users use it: production = false, and what may be done there in allow",
    );
    draft.table(&format!(
        "[targets.{name}]\nkind = \"remote\"\ncontext = {}\nserver = {}\nnamespace = {}\nvalues = []\n\
         site_url = {}\napi_url = {}\nproduction = true\nallow = []\n",
        quoted(context),
        quoted(server),
        quoted(&origin.namespace),
        quoted(&format!("{scheme}://{}", hosts.site)),
        quoted(&format!("{scheme}://{}", hosts.api)),
    ));
}
