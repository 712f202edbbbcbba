//! The router answers as the ingress of the kind target does: the same table is asked of both.

use harness::environment::Environment;

use crate::requests;
use crate::rig::Rig;

#[test]
fn the_router_answers_as_the_ingress() {
    let rig = Rig::new();
    let environment: Environment = serde_json::from_value(rig.up()).unwrap();
    let otherwise = requests::answered_otherwise(&environment);
    rig.run(&["down"]).expect_code(0);
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n"));
}
