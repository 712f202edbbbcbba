//! The ingress answers the same requests as the router of the local target.

use super::scenarios::shared;
use crate::requests;

#[test]
fn the_ingress_answers_as_the_router() {
    let unexpected = requests::unexpected_answers(&shared().typed_environment());
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
}
