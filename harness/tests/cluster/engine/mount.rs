//! With engines that a test brings up for itself.

mod registry;
