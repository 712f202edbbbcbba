//! The complete rendering. Read its difference when the chart changes.

use super::helm::Render;

#[test]
fn what_is_installed_on_a_local_cluster() {
    insta::assert_snapshot!(Render::of("local").text().unwrap());
}
