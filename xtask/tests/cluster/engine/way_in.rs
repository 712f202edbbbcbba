//! The ingress answers as the router of the local target does: the same table is asked of both.

use harness::environment::Environment;

use super::scenarios::shared;
use crate::requests;

#[test]
fn the_ingress_answers_as_the_router() {
    let environment: Environment = serde_json::from_value(shared().environment().unwrap()).unwrap();
    let otherwise = requests::answered_otherwise(&environment);
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n"));
}
