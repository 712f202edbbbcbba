//! What needs helm, and in time a cluster.

mod chart;
