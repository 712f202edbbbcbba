use std::ops::ControlFlow;

use super::Progress;

mod faults;
mod late;
mod over_the_wire;
mod simulated;
mod test_server;

fn keep_running(_: Progress<'_>) -> ControlFlow<String> {
    ControlFlow::Continue(())
}
