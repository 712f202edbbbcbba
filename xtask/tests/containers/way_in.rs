//! The router answers the same requests as the ingress of the kind target.

use crate::requests;
use crate::rig::Rig;

#[test]
fn the_router_answers_as_the_ingress() {
    let rig = Rig::new();
    rig.up();
    let unexpected = requests::unexpected_answers(&rig.typed_environment());
    rig.run(&["down"]).expect_code(0);
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
}
