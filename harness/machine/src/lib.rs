//! This machine: the container engine, images, tools, what is missing and how it is installed.

pub mod command_tools;
pub mod containers;
pub mod doctor;
pub mod engine;
pub mod images;
pub mod provision;
pub mod removal;
pub mod tools;
