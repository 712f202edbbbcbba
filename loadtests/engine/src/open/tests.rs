mod faults;
mod over_the_wire;
mod server;
mod simulated;
